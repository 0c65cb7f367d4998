/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The gdb server of a VM: sockets, and the machine behind a session.  All in the loop's thread; nothing waits but the few
 * microseconds of ptrace for hardware breakpoints (hw.c).
 */
#ifndef LOL_GDB_SERVER_H
#define LOL_GDB_SERVER_H

#include "error.h"

struct machine;
struct gdb_server;

/* After the machine's memory, before K starts; nothing without --gdb. 0 or a negative errno with *err filled. */
int gdb_create(struct machine *m, struct lol_error *err);
void gdb_destroy(struct machine *m, unsigned status); /* the client is told that the VM is gone */
void gdb_panicked(struct machine *m); /* it is held for gdb: a client that waits is told, at the vCPU that panicked */
void gdb_doorbell(struct machine *m); /* a vCPU may rest on its own account */

#endif
