/* SPDX-License-Identifier: BSD-2-Clause */
/* lol-run never works as root: whoever starts it so gets a VM that runs as an ordinary user. */
#ifndef LOL_DROP_ROOT_H
#define LOL_DROP_ROOT_H

#include "error.h"

#define NOBODY_ID 65534

/*
 * To be called before anything is opened. Started by root: become the user who called sudo (SUDO_UID, SUDO_GID), else
 * nobody (65534), for good and without extra groups; HOME is set to that user's. Started through a set-uid file: become
 * the caller. Started by the root of a user namespace in which nobody else exists: give up all capabilities. For anybody else: does nothing. 0 or a negative errno with *err filled: then the program must end.
 */
int drop_root(struct lol_error *err);

#endif
