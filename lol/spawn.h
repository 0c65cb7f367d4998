/* SPDX-License-Identifier: BSD-2-Clause */
/* Starting the processes of a VM: the zygote (lol-u), and through it K and the U's. */
#ifndef LOL_SPAWN_H
#define LOL_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"
#include "ram.h"

struct spawn {
	pid_t zygote;
	int monitor_sock; /* messages of the zygote */
	int messages;     /* what all of them write to their standard error; the caller closes it */
	bool isolated;    /* in namespaces of their own */
};

/*
 * ram, ctl, ushare: memfds; doorbell: eventfd; pmem: files, -1 for none.  Returns 0 with *s filled, or a negative errno with *err.
 * The caller keeps its descriptors.
 */
int spawn_start(struct spawn *s, int ram, int ctl, int ushare, int doorbell, const int pmem[RAM_PMEM_MAX],
		struct lol_error *err);

/* End all of them, wait for the zygote. */
void spawn_stop(struct spawn *s);

#endif
