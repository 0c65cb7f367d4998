/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The far end of the guest's console where that is not the user's terminal: --console pty, file=PATH, unix=PATH, null.
 *
 * At a pty and at a socket somebody is there or not, and comes and goes. While nobody is there output is dropped, as on a
 * serial line without a terminal. While somebody is, nothing gets lost: a reader that does not read holds the guest's
 * console up (and not the monitor).
 *
 * It stays over restarts of the guest, which come with a new loop: console_port_set_loop().
 */
#ifndef LOL_CONSOLE_PORT_H
#define LOL_CONSOLE_PORT_H

#include "error.h"
#include "loop.h"
#include "options.h"

struct console_port;

struct console_end_ops {
	size_t (*input)(void *ctx, const uint8_t *bytes,
			size_t len); /* bytes taken; after less than all: console_port_resume() */
	void (*changed)(void *ctx);  /* there is room again after a short write */
};

/* link: where a symbolic link to the pty goes, or NULL. NULL: *err. */
struct console_port *console_port_create(const struct lol_console *config, const char *link,
					 const struct console_end_ops *ops, struct lol_error *err);
void console_port_destroy(struct console_port *p);

/* Work in this loop, or (NULL) in none: what is queued is written first, as long as the reader goes on reading. */
int console_port_set_loop(struct console_port *p, struct loop *loop, void *ctx);

size_t console_port_write(struct console_port *p, const uint8_t *bytes, size_t len); /* bytes taken */
void console_port_resume(struct console_port *p);                                    /* there is room for input */
const char *console_port_pty(const struct console_port *p);                          /* "/dev/pts/N", NULL: is no pty */

#endif
