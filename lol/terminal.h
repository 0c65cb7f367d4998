/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The user's side of a console: an input and an output of the monitor, usually stdin and stdout.
 *
 * Where the input is a terminal (and raw is asked for), it is put into raw mode while the VM runs: every key goes to the
 * guest but Ctrl-A and the key after it:
 *
 *   Ctrl-A x        end the VM             Ctrl-A h        help
 *   Ctrl-A c        control prompt         Ctrl-A Ctrl-A   send Ctrl-A
 *
 * The mode is restored on terminal_destroy(), at exit, and around SIGTSTP; a handler of deadly signals calls
 * terminal_restore(). One terminal in raw mode per process.
 *
 * Where it is anything else (a pipe, a file), bytes go through unchanged, with back-pressure, and its end is reported.
 */
#ifndef LOL_TERMINAL_H
#define LOL_TERMINAL_H

#include "loop.h"
#include "types.h"

struct terminal;

/* All may be NULL. */
struct terminal_ops {
	/* Bytes for the guest; returns how many were taken. After less than all: terminal_input_resume(). */
	size_t (*input)(void *ctx, const uint8_t *bytes, size_t len);
	void (*input_end)(void *ctx); /* no input will come any more, and all that came was taken */
	/* terminal_write() has room again after a short write, or all output is out, or the output has broken. */
	void (*output_changed)(void *ctx);
	void (*resized)(void *ctx, uint16_t rows, uint16_t cols);
	void (*quit)(void *ctx); /* Ctrl-A x; NULL: loop_stop(loop, 0) */
	/*
	 * A line at the control prompt other than continue and quit; answer with terminal_message(). "help": what else there
	 * is. False: there is no such command.
	 */
	bool (*command)(void *ctx, const char *line);
	/* SIGINT, SIGTERM, SIGHUP or SIGQUIT to the monitor; NULL: loop_stop(loop, 128 + signo). */
	void (*signalled)(void *ctx, int signo);
};

struct terminal_config {
	struct loop *loop;
	int in_fd;  /* -1: none */
	int out_fd; /* may be the same as in_fd (a pty, a socket) */
	bool raw;   /* put in_fd into raw mode and watch for Ctrl-A, where it is a terminal */
	const struct terminal_ops *ops;
	void *ctx;
};

struct terminal *terminal_create(const struct terminal_config *config); /* NULL with errno set */
/* As terminal_flush(); leaves the fds open. */
void terminal_destroy(struct terminal *t);

size_t terminal_write(struct terminal *t, const uint8_t *bytes,
		      size_t len); /* bytes taken; a broken output takes all */
bool terminal_output_empty(const struct terminal *t);
/*
 * The VM is over: leave prompt and raw mode, wait until what is queued is written. A reader may take its time, and the user
 * may lose patience. False: a signal that ends programs is pending, not all is written.
 */
bool terminal_flush(struct terminal *t);
int terminal_output_error(const struct terminal *t); /* 0, or the errno that broke the output */
void terminal_input_resume(struct terminal *t);
bool terminal_input_ended(const struct terminal *t);                          /* or there never was any */
bool terminal_size(const struct terminal *t, uint16_t *rows, uint16_t *cols); /* false: the output is no terminal */
/* A line for the user; "\n" becomes what the mode of the terminal needs. */
void terminal_message(struct terminal *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Put the terminal back into the mode it had, if it is in raw mode. Async-signal-safe. */
void terminal_restore(void);

#endif
