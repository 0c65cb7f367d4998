/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The directory of the control sockets: NAME.sock for each VM of this user. Both lol-run and lolctl come here.
 *
 *   $XDG_RUNTIME_DIR/lol   where that is a directory of the user's own
 *   /run/user/UID/lol      likewise
 *   /tmp/lol-UID           else
 *
 * It belongs to the user and nobody else may write to it, or it is not used. What a killed VM has left there is a
 * socket that nobody listens at: it counts as nothing, and whoever meets it removes it. A lock on the directory itself
 * makes looking and acting one step.
 */
#ifndef LOL_CONTROL_DIR_H
#define LOL_CONTROL_DIR_H

#include "error.h"
#include "types.h"

#include <sys/stat.h>

/* A VM's place there. */
struct control_place {
	int fd;     /* listening, non-blocking; -1: none */
	char *path; /* of the socket */
	char *link; /* where a pty is linked: NAME.pty; whoever makes it */
	struct stat st;
};

bool control_name_ok(const char *name);

/* The directory, to be freed; made where it is missing. NULL: *err says why. */
char *control_dir(struct lol_error *err);

/* Be NAME: -EADDRINUSE where another VM is. */
int control_listen(const char *name, struct control_place *place, struct lol_error *err);
void control_unlisten(
	struct control_place *place); /* also of one that control_listen() has not filled, but zeroed with fd -1 */

/* A connection to NAME (blocking) or a negative errno: -ENOENT there is no such VM. */
int control_connect(const char *name, struct lol_error *err);

/* All names, sorted; live or not. NULL-terminated, to be freed with control_free_names(). */
char **control_names(struct lol_error *err);
void control_free_names(char **names);

#endif
