/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How an error reaches the user: one line on stderr,
 *
 *   PROGRAM: WHAT: WHY; HINT
 *
 * what failed, why, and what to do. A unit that can fail fills a struct lol_error with "WHAT: WHY; HINT" and returns a
 * negative errno; whoever ends the program prints it. Nothing but main and the machine prints errors.
 */
#ifndef LOL_ERROR_H
#define LOL_ERROR_H

/* Exit status of lol-run; 0 to 124 are the guest's COMMAND's own. */
enum lol_exit {
	LOL_EXIT_OK = 0,       /* the guest powered off by itself */
	LOL_EXIT_USAGE = 125,  /* could not start, or the arguments are wrong */
	LOL_EXIT_PANIC = 126,  /* the guest kernel panicked */
	LOL_EXIT_BUG = 127,    /* lol-run itself failed */
	LOL_EXIT_SIGNAL = 128, /* + N: ended by signal N */
};

#define LOL_ERROR_MAX 1024 /* bytes with the final NUL; longer texts are cut and end in "..." */

struct lol_error {
	char text[LOL_ERROR_MAX]; /* one line, no control characters, without the program's name */
};

/* Fill *err and return code, so that a caller can write: return lol_error(err, -EINVAL, ...). */
int lol_error(struct lol_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "PREFIX: " in front of the text that is already there; returns code. prefix may not point into *err. */
int lol_error_prefix(struct lol_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

extern const char *lol_program; /* at most 20 characters */

/* Print one line to stderr in one write and return status, so that main can write: return lol_fail(125, ...). */
int lol_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
