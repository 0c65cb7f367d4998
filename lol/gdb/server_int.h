/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the server share: server.c sockets and stops, points.c breakpoints, hw.c debug registers, monitor.c commands. */
#ifndef LOL_GDB_SERVER_INT_H
#define LOL_GDB_SERVER_INT_H

#include "gdb/session.h"
#include "gmem.h"
#include "machine_int.h"

struct soft_point {
	bool used;
	gva_t addr, va; /* as asked for; where the int3 is */
	gpa_t gpa;
	uint8_t original;
	uint8_t *agent;
	size_t agent_len;
	uint32_t generation;
};

struct hard_point {
	bool used;
	gva_t addr, asked; /* of this register; what the debugger wanted, maybe with several */
	enum gdb_point kind;
	unsigned size, asked_size;
};

struct gdb_server {
	struct machine *m;
	int listen_fd, client_fd;
	const char *unlink_path;
	struct gdb_session *session;
	struct gdb_target target;
	struct gmem mem;
	size_t sent;                /* bytes of session->out */
	int again;                  /* timer: report what another vCPU has met, see target_go() */
	uint64_t went;              /* bit n: vCPU n went on last time; only such may stop */
	bool unreported[MAX_VCPUS]; /* stopped on its own account at the same time as another */
	struct soft_point soft[KBREAK_MAX];
	struct hard_point hard[4];
	unsigned long hw_set; /* DR7 of K's threads */
	uint32_t generation;
};

struct vcpu_state *server_state(struct gdb_server *g, unsigned cpu);
gpa_t server_cr3(struct gdb_server *g, unsigned cpu);

/* points.c */
int points_insert(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size, const uint8_t *agent,
		  size_t n, const char **why);
int points_remove(void *ctx, unsigned cpu, enum gdb_point kind, uint64_t addr, unsigned size);
void points_remove_all(struct gdb_server *g);
bool points_at(struct gdb_server *g, gva_t addr);
void points_show(struct gdb_server *g, gpa_t cr3, bool physical, uint64_t addr, uint8_t *buf,
		 size_t n); /* hide the int3's */
void points_keep(struct gdb_server *g, gpa_t cr3, bool physical, uint64_t addr,
		 size_t n); /* after a write: put them back */

/* hw.c: the host debug registers of K's threads are set to what g->hard says. 0, or an errno with a text. */
int hw_apply(struct gdb_server *g, const char **why);
/* Which of them the vCPU's thread has hit last; -1: none. */
int hw_hit(struct gdb_server *g, unsigned cpu);

/* monitor.c */
void monitor_command(void *ctx, unsigned cpu, char *line, struct gdb_out *out);

#endif
