/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file server of a shared directory: diod, one process for each share, started with the rights of the user and walled
 * in. It ends with the monitor, however that ends.
 */
#ifndef LOL_SHARE_H
#define LOL_SHARE_H

#include "error.h"
#include "types.h"

struct share_server {
	int pid;         /* of its keeper, -1: none */
	int fd;          /* 9P2000.L, a stream socket; the caller's to take (set it to -1) */
	char root[4096]; /* what the server calls the directory: "" for "/" */
};

/* dir is an absolute path without links (realpath). Negative errno with err filled. */
int share_start(struct share_server *s, const char *dir, bool ro, struct lol_error *err);
void share_stop(struct share_server *s);

/* A path of /proc/self/mountinfo, in place: white space and backslashes stand there as three octal digits (proc_pid_mountinfo(5)). */
void share_unescape(char *s);

#endif
