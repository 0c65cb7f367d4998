/* SPDX-License-Identifier: BSD-2-Clause */
/* What the processes that the monitor forks have in common at their beginning. To be called in the child. */
#ifndef LOL_CHILD_H
#define LOL_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* It ends with the monitor, hears no signal of the terminal, and takes signals as a new program does. */
void child_begin(void);

/* In a fresh user namespace: its only ids are uid and gid, of the parent's outside_uid and outside_gid. False with errno. */
bool child_map_ids(uid_t uid, gid_t gid, uid_t outside_uid, gid_t outside_gid);

#endif
