/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of a session share: session.c framing, stop and go; state.c registers, memory, breakpoints; query.c queries. */
#ifndef LOL_GDB_SESSION_INT_H
#define LOL_GDB_SESSION_INT_H

#include "gdb/session.h"

#define E_SYNTAX "E16" /* EINVAL in hex, as others number it */
#define E_MEMORY "E0e"

void session_frame(struct gdb_session *s, const void *payload, size_t n);
void session_reply_hex(struct gdb_session *s, const void *bytes, size_t n);
void session_reply(struct gdb_session *s, const char *text);
void session_reply_out(struct gdb_session *s, struct gdb_out *o); /* frees o */

const char *session_after(const char *p, const char *prefix); /* what is behind prefix, NULL: p does not begin so */
/* A thread: -1 all and 0 any become *cpu = ncpus and the current one. */
bool session_thread(struct gdb_session *s, const char **p, unsigned *cpu);
bool session_addr_len(const char **p, uint64_t *addr, uint64_t *len);

/* Commands; p is what follows the letter, but for queries, which are whole. */
void session_read_all(struct gdb_session *s);
void session_write_all(struct gdb_session *s, const char *p);
void session_read_one(struct gdb_session *s, const char *p);
void session_write_one(struct gdb_session *s, const char *p);
void session_read_memory(struct gdb_session *s, const char *p, bool binary);
void session_write_memory(struct gdb_session *s, const char *p, bool binary);
void session_point(struct gdb_session *s, const char *p, bool insert);
void session_query(struct gdb_session *s, const char *p);

#endif
