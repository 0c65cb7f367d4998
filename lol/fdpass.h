/* SPDX-License-Identifier: BSD-2-Clause */
/* A message with a descriptor over a Unix socket (SCM_RIGHTS, unix(7)). */
#ifndef LOL_FDPASS_H
#define LOL_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

/* fd goes along unless it is -1. Bytes sent, or -1 with errno. */
ssize_t fd_send(int sock, const void *data, size_t size, int fd);

/* flags: of recvmsg(2). *fd: what came along, close-on-exec and the caller's from now on, or -1. Bytes received, or -1 with errno. */
ssize_t fd_receive(int sock, void *data, size_t size, int flags, int *fd);

#endif
