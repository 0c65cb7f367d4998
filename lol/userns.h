/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LOL_USERNS_H
#define LOL_USERNS_H

#include <sys/types.h>

/* In a new user namespace: uid and gid are what they were outside. Where the host refuses that they read as nobody's. */
void userns_map_ids(uid_t uid, gid_t gid);

#endif
