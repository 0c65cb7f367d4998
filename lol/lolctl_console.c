/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lolctl console: the terminal, or the pipes, against the guest's console. Ctrl-A x detaches, Ctrl-A Ctrl-A sends Ctrl-A;
 * where the input is no terminal, its end does not detach: what the guest says comes until the VM ends.
 */
#include "lolctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE 1 /* Ctrl-A */

static struct termios saved;
static bool is_raw;

static void restore(void)
{
	if (is_raw)
		tcsetattr(0, TCSANOW, &saved);
	is_raw = false;
}

static void ended(int signo)
{
	restore();
	signal(signo, SIG_DFL);
	raise(signo);
}

static void make_raw(void)
{
	struct termios raw;

	if (!isatty(0) || tcgetattr(0, &saved))
		return;
	raw = saved;
	cfmakeraw(&raw);
	is_raw = tcsetattr(0, TCSANOW, &raw) == 0;
	signal(SIGTERM, ended);
	signal(SIGHUP, ended);
	signal(SIGINT, ended);
}

static bool write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = fd < 0 ? -1 : write(fd, bytes, len);
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		if (n < 0 && errno == EAGAIN && poll(&p, 1, -1) >= 0)
			continue;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/* Keys without the escapes in place; false: detach. */
static bool take_keys(char *keys, ssize_t *n)
{
	static bool escaped;
	ssize_t kept = 0;

	for (ssize_t i = 0; i < *n; i++) {
		if (escaped) {
			escaped = false;
			if (keys[i] == 'x' || keys[i] == 'X' || keys[i] == 'd') {
				*n = kept;
				return false;
			}
			if (keys[i] == ESCAPE)
				keys[kept++] = ESCAPE;
		} else if (keys[i] == ESCAPE) {
			escaped = true;
		} else {
			keys[kept++] = keys[i];
		}
	}
	*n = kept;
	return true;
}

/* 1: detached, 0: the VM has ended, -1: our output is broken. */
static int relay(int fd)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
	char bytes[4096];

	for (;;) {
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (p[0].revents) {
			ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
			if (n <= 0)
				return 0;
			if (!write_all(1, bytes, (size_t)n))
				return -1;
		}
		if (p[1].revents) {
			ssize_t n = read(0, bytes, sizeof(bytes));
			bool stay = true;
			if (n <= 0)
				p[1].fd = -1; /* no more input */
			else if (is_raw)
				stay = take_keys(bytes, &n);
			if (n > 0 && !write_all(fd, bytes, (size_t)n))
				return 0;
			if (!stay)
				return 1;
		}
	}
}

int lolctl_console(const char *name, int fd)
{
	make_raw();
	if (is_raw)
		fprintf(stderr, "%s: Ctrl-A x detaches\r\n", name);
	int how = relay(fd);
	restore();
	if (how < 0)
		return lol_fail(1, "standard output: cannot be written; is it full or closed?");
	if (isatty(0))
		fprintf(stderr, "\n%s: %s\n", name, how ? "detached" : "the VM has ended");
	return LOL_EXIT_OK;
}
