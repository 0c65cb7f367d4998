/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the protocol (session.c) needs of the machine (server.c), so that it can be tested and fuzzed without one.
 * Everything but stop() is called only while the guest rests. cpu counts from 0 and is below ncpus.
 */
#ifndef LOL_GDB_TARGET_H
#define LOL_GDB_TARGET_H

#include "gdb/packet.h"
#include "kctl.h"

enum gdb_point { POINT_SOFTWARE, POINT_HARDWARE, POINT_WRITE, POINT_READ, POINT_ACCESS }; /* the digit of Z packets */
enum gdb_go { GO_STAY, GO_ON, GO_STEP };

struct gdb_range { /* a step goes on while rip is in [start, end); 0, 0: one instruction */
	uint64_t start, end;
};

struct gdb_target {
	void *ctx;
	unsigned ncpus;
	/* The whole of [addr, addr + n) or false. */
	bool (*read)(void *ctx, unsigned cpu, bool physical, uint64_t addr, void *buf, size_t n);
	bool (*write)(void *ctx, unsigned cpu, bool physical, uint64_t addr, const void *buf, size_t n);
	struct vcpu_state *(*state)(void *ctx, unsigned cpu);    /* NULL: not started */
	void (*changed)(void *ctx, unsigned cpu, uint32_t what); /* PARK_CHANGED*: *state() was written to */
	/* Condition: agent bytecode of n bytes, 0: none. 0, or an error number and a text why. */
	int (*insert)(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size, const uint8_t *agent,
		      size_t n, const char **why);
	int (*remove)(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size);
	void (*stop)(void *ctx); /* gdb_session_stopped() will be called */
	void (*go)(void *ctx, const enum gdb_go *how, const struct gdb_range *range); /* ncpus entries each */
	void (*monitor)(void *ctx, unsigned cpu, char *line, struct gdb_out *out);
	const char *(*describe)(void *ctx, unsigned cpu); /* a few words about a vCPU */
	void (*detach)(void *ctx);                        /* the client takes its leave: the guest goes on */
	void (*end)(void *ctx);                           /* the client wants the VM to end */
	uint64_t text_segment, data_segment; /* where the first two loadable segments of vmlinux are; 0, 0: not known */
};

#endif
