/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One client of the gdb remote protocol (GDB manual, appendix E): all-stop, the vCPUs are threads 1 to n in the order of
 * their numbers.  Knows packets and a struct gdb_target; sockets and the machine are server.c's.
 *
 * The session begins with the guest at rest. Bytes from the client go in by gdb_session_input(); what is to be sent
 * piles up in s->out, which the caller empties.
 */
#ifndef LOL_GDB_SESSION_H
#define LOL_GDB_SESSION_H

#include "gdb/packet.h"
#include "gdb/target.h"

enum gdb_why {
	WHY_ASKED,
	WHY_STEPPED,
	WHY_BREAKPOINT,
	WHY_HARDWARE,
	WHY_WATCH_WRITE,
	WHY_WATCH_READ,
	WHY_WATCH_ACCESS
};

struct gdb_session {
	const struct gdb_target *t;
	struct gdb_in in;
	struct gdb_out out;  /* to the client */
	struct gdb_out last; /* the last packet, framed, in case it is to be sent again */
	bool quiet;          /* QStartNoAckMode */
	bool swbreak;        /* the client knows the word */
	bool physical;       /* Qqemu.PhyMemMode */
	bool running;
	bool over;        /* the client has detached, or asked for the VM's end */
	unsigned cpu;     /* of Hg */
	unsigned listed;  /* threads of qfThreadInfo that have been told */
	enum gdb_why why; /* of the last stop */
	uint64_t why_addr;
	unsigned why_cpu;
};

struct gdb_session *gdb_session_create(const struct gdb_target *t); /* NULL: out of memory */
void gdb_session_destroy(struct gdb_session *s);
void gdb_session_input(struct gdb_session *s, const void *bytes, size_t n);
void gdb_session_stopped(struct gdb_session *s, unsigned cpu, enum gdb_why why, uint64_t addr);
void gdb_session_ended(struct gdb_session *s, unsigned status); /* the VM is gone */

#endif
