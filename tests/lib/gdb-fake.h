/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest of two vCPUs and 64 KiB at 0x10000 behind a gdb session, for its unit test and its fuzz target. */
#ifndef LOL_GDB_FAKE_H
#define LOL_GDB_FAKE_H

#include <string.h>

#include "gdb/session.h"

#define FAKE_BASE 0x10000u
#define FAKE_SIZE 0x10000u
#define FAKE_CPUS 2u

struct fake {
	uint8_t memory[FAKE_SIZE];
	struct vcpu_state state[FAKE_CPUS];
	uint32_t changed[FAKE_CPUS];
	enum gdb_go how[FAKE_CPUS];
	struct gdb_range range[FAKE_CPUS];
	unsigned goes, stops, points, ends, detaches;
	uint8_t agent[64];
	size_t agent_len;
};

static bool fake_in(uint64_t addr, size_t n)
{
	return addr >= FAKE_BASE && n <= FAKE_SIZE && addr - FAKE_BASE <= FAKE_SIZE - n;
}

static bool fake_read(void *ctx, unsigned cpu, bool physical, uint64_t addr, void *buf, size_t n)
{
	struct fake *f = ctx;

	(void)cpu;
	addr += physical ? FAKE_BASE : 0;
	if (!fake_in(addr, n))
		return false;
	memcpy(buf, f->memory + (addr - FAKE_BASE), n);
	return true;
}

static bool fake_write(void *ctx, unsigned cpu, bool physical, uint64_t addr, const void *buf, size_t n)
{
	struct fake *f = ctx;

	(void)cpu;
	addr += physical ? FAKE_BASE : 0;
	if (!fake_in(addr, n))
		return false;
	memcpy(f->memory + (addr - FAKE_BASE), buf, n);
	return true;
}

static struct vcpu_state *fake_state(void *ctx, unsigned cpu)
{
	return &((struct fake *)ctx)->state[cpu];
}

static void fake_changed(void *ctx, unsigned cpu, uint32_t what)
{
	((struct fake *)ctx)->changed[cpu] |= what;
}

static int fake_insert(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size, const uint8_t *agent,
		       size_t n, const char **why)
{
	struct fake *f = ctx;

	(void)cpu, (void)kind, (void)size;
	if (!fake_in(addr, 1)) {
		*why = "nothing is mapped there now";
		return 14;
	}
	f->points++;
	f->agent_len = n < sizeof(f->agent) ? n : sizeof(f->agent);
	memcpy(f->agent, agent, f->agent_len);
	return 0;
}

static int fake_remove(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size)
{
	struct fake *f = ctx;

	(void)cpu, (void)kind, (void)addr, (void)size;
	if (!f->points)
		return 2;
	f->points--;
	return 0;
}

static void fake_stop(void *ctx)
{
	((struct fake *)ctx)->stops++;
}

static void fake_go(void *ctx, const enum gdb_go *how, const struct gdb_range *range)
{
	struct fake *f = ctx;

	memcpy(f->how, how, sizeof(f->how));
	memcpy(f->range, range, sizeof(f->range));
	f->goes++;
}

static void fake_monitor(void *ctx, unsigned cpu, char *line, struct gdb_out *out)
{
	(void)ctx;
	gdb_out_format(out, "CPU %u: %s\n", cpu, line);
}

static const char *fake_describe(void *ctx, unsigned cpu)
{
	(void)ctx;
	return cpu ? "user" : "kernel";
}

static void fake_detach(void *ctx)
{
	((struct fake *)ctx)->detaches++;
}

static void fake_end(void *ctx)
{
	((struct fake *)ctx)->ends++;
}

static struct gdb_target fake_target(struct fake *f)
{
	return (struct gdb_target){.ctx = f,
				   .ncpus = FAKE_CPUS,
				   .read = fake_read,
				   .write = fake_write,
				   .state = fake_state,
				   .changed = fake_changed,
				   .insert = fake_insert,
				   .remove = fake_remove,
				   .stop = fake_stop,
				   .go = fake_go,
				   .monitor = fake_monitor,
				   .describe = fake_describe,
				   .detach = fake_detach,
				   .end = fake_end,
				   .text_segment = 0,
				   .data_segment = 0x1000000};
}

#endif
