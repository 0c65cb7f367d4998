/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Breakpoints and watchpoints.  A software breakpoint is an int3 in guest RAM, wherever its page is mapped; K is told by the
 * table in the control page, and knows what to do when it is met (lol/cpu/debug.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gdb/server_int.h"

#define INT3 0xcc

static void tell_k(struct gdb_server *g)
{
	struct kdebug *d = &g->m->ctl->debug;
	uint32_t n = 0, agent = 0;

	for (unsigned i = 0; i < KBREAK_MAX; i++) {
		const struct soft_point *p = &g->soft[i];
		struct kbreak b = {0};
		if (p->used) {
			b = (struct kbreak){.va = p->va,
					    .report = p->addr,
					    .gpa = p->gpa,
					    .generation = p->generation,
					    .original = p->original};
			if (p->agent_len <= KAGENT_BYTES - agent) {
				b.agent = agent;
				b.agent_len = (uint32_t)p->agent_len;
				if (p->agent_len)
					memcpy(d->agent + agent, p->agent, p->agent_len);
				agent += b.agent_len;
			}
			n = i + 1;
		}
		d->breaks[i] = b;
	}
	d->nbreaks = n;
	d->text_changed++;
}

static struct soft_point *find(struct gdb_server *g, gva_t addr)
{
	for (unsigned i = 0; i < KBREAK_MAX; i++)
		if (g->soft[i].used && g->soft[i].addr == addr)
			return &g->soft[i];
	return NULL;
}

bool points_at(struct gdb_server *g, gva_t addr)
{
	return find(g, addr);
}

static bool set_agent(struct soft_point *p, const uint8_t *agent, size_t n)
{
	free(p->agent);
	p->agent = NULL;
	p->agent_len = 0;
	if (!n)
		return true;
	p->agent = malloc(n);
	if (!p->agent)
		return false;
	memcpy(p->agent, agent, n);
	p->agent_len = n;
	return true;
}

static int soft_insert(struct gdb_server *g, unsigned cpu, gva_t addr, const uint8_t *agent, size_t n, const char **why)
{
	struct soft_point *p = find(g, addr);
	gva_t va = addr, end;

	if (p) { /* another condition */
		bool ok = set_agent(p, agent, n);
		tell_k(g);
		return ok ? 0 : ENOMEM;
	}
	for (unsigned i = 0; i < KBREAK_MAX && !p; i++)
		if (!g->soft[i].used)
			p = &g->soft[i];
	if (!p) {
		*why = "there are too many breakpoints; delete some";
		return ENOSPC;
	}
	const struct gmem_site *s = gmem_site(&g->mem, addr);
	if (s && g->mem.low == LOW_KERNEL) {
		if (addr != s->start && addr != s->start + s->off) {
			*why = "this is in the padding of a rewritten instruction, where nothing runs; use the instruction's address";
			return EINVAL;
		}
		va = s->start;
	}
	*p = (struct soft_point){.addr = addr, .va = va, .generation = ++g->generation};
	if (!gmem_translate(&g->mem, server_cr3(g, cpu), va, &p->gpa, &end)) {
		*why = "nothing is mapped there now";
		return EFAULT;
	}
	uint8_t *byte = ram_ptr(&g->m->ram, p->gpa, 1);
	if (!byte) {
		*why = "there is no memory there, but a device or nothing";
		return EFAULT;
	}
	p->original = *byte;
	for (unsigned i = 0; i < KBREAK_MAX; i++) /* the same byte by another address */
		if (g->soft[i].used && g->soft[i].gpa == p->gpa)
			p->original = g->soft[i].original;
	if (!set_agent(p, agent, n))
		return ENOMEM;
	*byte = INT3;
	p->used = true;
	tell_k(g);
	return 0;
}

static void take_out(struct gdb_server *g, struct soft_point *p)
{
	uint8_t *byte = ram_ptr(&g->m->ram, p->gpa, 1);
	bool shared = false;

	p->used = false;
	set_agent(p, NULL, 0);
	for (unsigned i = 0; i < KBREAK_MAX; i++)
		shared |= g->soft[i].used && g->soft[i].gpa == p->gpa;
	/* Not when the guest has put something else there: the page may have become another one. */
	if (!shared && byte && *byte == INT3)
		*byte = p->original;
}

static bool same_hard(const struct hard_point *p, enum gdb_point kind, gva_t addr, unsigned size)
{
	return p->used && p->kind == kind && p->asked == addr && p->asked_size == size;
}

static bool remove_hard(struct gdb_server *g, enum gdb_point kind, gva_t addr, unsigned size)
{
	bool any = false;

	for (unsigned i = 0; i < ARRAY_LEN(g->hard); i++) {
		if (!same_hard(&g->hard[i], kind, addr, size))
			continue;
		g->hard[i].used = false;
		any = true;
	}
	return any;
}

static struct hard_point *free_hard(struct gdb_server *g)
{
	for (unsigned i = 0; i < ARRAY_LEN(g->hard); i++)
		if (!g->hard[i].used)
			return &g->hard[i];
	return NULL;
}

/* A register watches 1, 2, 4 or 8 bytes at a multiple of that: others take several. */
static int hard_insert(struct gdb_server *g, enum gdb_point kind, gva_t addr, unsigned size, const char **why)
{
	const struct gmem_site *s = gmem_site(&g->mem, addr);
	const char *dummy;
	int ret = 0;

	for (unsigned i = 0; i < ARRAY_LEN(g->hard); i++)
		if (same_hard(&g->hard[i], kind, addr, size))
			return 0;
	if (kind == POINT_HARDWARE && s && addr != s->start && addr != s->start + s->off) {
		*why = "this is in the padding of a rewritten instruction, where nothing runs; use the instruction's address";
		return EINVAL;
	}
	gva_t at = addr, end = addr + (kind == POINT_HARDWARE ? 1 : size);
	while (at < end && !ret) {
		unsigned part = 8;
		while (at % part || part > end - at)
			part /= 2;
		struct hard_point *p = free_hard(g);
		if (p)
			*p = (struct hard_point){true, at, addr, kind, part, size};
		else
			ret = ENOSPC;
		at += part;
	}
	if (ret)
		*why = "the four debug registers do not suffice";
	else
		ret = hw_apply(g, why);
	if (ret) {
		remove_hard(g, kind, addr, size);
		hw_apply(g, &dummy);
	}
	return ret;
}

int points_insert(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size, const uint8_t *agent,
		  size_t n, const char **why)
{
	struct gdb_server *g = ctx;

	return kind == POINT_SOFTWARE ? soft_insert(g, cpu, addr, agent, n, why)
				      : hard_insert(g, kind, addr, size, why);
}

int points_remove(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size)
{
	struct gdb_server *g = ctx;
	const char *why;

	(void)cpu;
	if (kind == POINT_SOFTWARE) {
		struct soft_point *p = find(g, addr);
		if (!p)
			return ENOENT;
		take_out(g, p);
		tell_k(g);
		return 0;
	}
	return remove_hard(g, kind, addr, size) ? hw_apply(g, &why) : ENOENT;
}

void points_remove_all(struct gdb_server *g)
{
	const char *why;
	bool hard = false;

	for (unsigned i = 0; i < KBREAK_MAX; i++)
		if (g->soft[i].used)
			take_out(g, &g->soft[i]);
	tell_k(g);
	for (unsigned i = 0; i < ARRAY_LEN(g->hard); i++) {
		hard |= g->hard[i].used;
		g->hard[i].used = false;
	}
	if (hard)
		hw_apply(g, &why);
}

/* Offset of p's byte in [addr, addr + n), or n. */
static uint64_t offset_of(struct gdb_server *g, const struct soft_point *p, gpa_t cr3, bool physical, uint64_t addr,
			  size_t n)
{
	gpa_t gpa;
	gva_t end;

	if (physical)
		return p->gpa - addr < n ? p->gpa - addr : n;
	if (p->va - addr < n && gmem_translate(&g->mem, cr3, p->va, &gpa, &end) && gpa == p->gpa)
		return p->va - addr;
	/* By another address: the direct map, another process. */
	for (gva_t at = addr; at - addr < n && gmem_translate(&g->mem, cr3, at, &gpa, &end); at = end)
		if (p->gpa >= gpa && p->gpa - gpa < end - at)
			return MIN(p->gpa - gpa + (at - addr), (uint64_t)n);
	return n;
}

void points_show(struct gdb_server *g, gpa_t cr3, bool physical, uint64_t addr, uint8_t *buf, size_t n)
{
	for (unsigned i = 0; i < KBREAK_MAX; i++) {
		const struct soft_point *p = &g->soft[i];
		uint64_t at = p->used ? offset_of(g, p, cr3, physical, addr, n) : n;
		if (at < n && buf[at] == INT3)
			buf[at] = p->original;
	}
}

void points_keep(struct gdb_server *g, gpa_t cr3, bool physical, uint64_t addr, size_t n)
{
	for (unsigned i = 0; i < KBREAK_MAX; i++) {
		struct soft_point *p = &g->soft[i];
		uint8_t *byte =
			p->used && offset_of(g, p, cr3, physical, addr, n) < n ? ram_ptr(&g->m->ram, p->gpa, 1) : NULL;
		if (byte && *byte != INT3) {
			p->original = *byte;
			*byte = INT3;
			p->generation = ++g->generation;
		}
	}
	tell_k(g);
}
