/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images of other formats than raw: qemu-storage-daemon serves one over NBD, a process for each disk, started with the
 * rights of the user. It ends with the monitor, however that ends; what the guest has flushed is in the image.
 */
#ifndef LOL_STORAGE_H
#define LOL_STORAGE_H

#include "error.h"
#include "options.h"

#define STORAGE_EXPORT "disk"
#define STORAGE_EXPORT_ID "e"
#define STORAGE_NODE "top"

struct storage {
	int pid;    /* -1: none */
	int fd;     /* NBD, a connected stream socket; the caller's to take (set it to -1) */
	int errors; /* what the server says before it ends */
	int qmp;    /* its control connection */
	int socket; /* the file of the socket at which it listens, without a name */
	bool greeted;
	unsigned orders; /* given over qmp, which numbers them: a late answer is nobody's */
};

#define STORAGE_NONE ((struct storage){.pid = -1, .fd = -1, .errors = -1, .qmp = -1, .socket = -1})

/* Does the disk need one? */
bool storage_needed(const struct lol_disk *disk);
/*
 * Makes the file of cow= where it is missing, and starts the server. The server's own refusal is known only when the
 * handshake on fd fails: then storage_error() says why.
 */
int storage_start(struct storage *s, const struct lol_disk *disk, struct lol_error *err);
int storage_error(struct storage *s, const struct lol_disk *disk, const char *otherwise, struct lol_error *err);
/* Does it take orders? To be asked before storage_resize(). *err of both is a reason alone, without what and whose. */
int storage_greet(struct storage *s, struct lol_error *err);
/*
 * Another size for the image, which is neither read-only nor a snapshot. The NBD connection has been closed; fd is a new one
 * afterwards, also where the image refuses, or -1 when all is lost.
 */
int storage_resize(struct storage *s, uint64_t bytes, struct lol_error *err);
void storage_stop(struct storage *s); /* its NBD connection has been closed */

#endif
