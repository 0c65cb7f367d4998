// SPDX-License-Identifier: BSD-2-Clause
/*
 * The protocol on the port lol.ctl: one item a line, a verb and words, separated by single spaces; a TEXT is
 * percent-encoded (%XX for bytes up to 0x20, for % and from 0x7f on), so it is one word and may be empty.
 *
 *   guest: ready                        at the start
 *   host:  arg TEXT                     one more word of the command; the first names the program
 *          env NAME=VALUE               (TEXT) added to or replacing the default environment
 *          cwd TEXT                     where it starts; default /
 *          tty ROWS COLS                the host's side is a terminal: use a pty
 *          pipe N                       with tty: descriptor N (0, 1, 2) is no terminal on the host, use a pipe for it (not both
 *                                       1 and 2: that is no tty)
 *          run                          start it
 *          winsize ROWS COLS            later: the terminal has a new size
 *          signal N                     later: send signal N to the command's process group
 *   guest: error TEXT                   the command could not be started for a reason of the machine's; power-off follows
 *          exit N                       0-255 (128+signal). All output is in the queues of the ports before this line is
 *                                       in its queue: the host empties those first. Power-off follows.
 */
#include "lol-init.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LINE_MAX_BYTES (8u << 20) /* Linux takes a word of 128 KiB and 6 MiB in all */

static void *must(void *p)
{
	if (!p) {
		say(STDERR_FILENO, "out of memory", NULL);
		_exit(1); /* PID 1: the kernel panics and tells the host so */
	}
	return p;
}

void list_add(char ***list, const char *text)
{
	size_t n = 0;

	while (*list && (*list)[n])
		n++;
	*list = must(realloc(*list, (n + 2) * sizeof(char *)));
	(*list)[n] = must(strdup(text));
	(*list)[n + 1] = NULL;
}

static void env_set(char ***env, const char *text)
{
	const char *eq = strchr(text, '=');
	size_t len = eq ? (size_t)(eq - text) + 1 : 0;

	for (size_t i = 0; len && *env && (*env)[i]; i++) {
		if (strncmp((*env)[i], text, len) == 0) {
			free((*env)[i]);
			(*env)[i] = must(strdup(text));
			return;
		}
	}
	list_add(env, text);
}

void job_default(struct job *job)
{
	static const char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
					  "HOME=/root",
					  "USER=root",
					  "LOGNAME=root",
					  "SHELL=/bin/sh",
					  "TERM=linux"};

	*job = (struct job){.cwd = "/", .to_in = -1, .from_out = -1, .from_err = -1, .master = -1};
	for (size_t i = 0; i < ARRAY_LEN(env); i++)
		list_add(&job->envp, env[i]);
}

/* ---- sending ---- */

static void send_bytes(struct ctl *ctl, const char *s, size_t len)
{
	while (ctl->fd >= 0 && len) {
		ssize_t n = write(ctl->fd, s, len);

		if (n > 0) {
			s += n;
			len -= (size_t)n;
			continue;
		}
		struct pollfd p = {.fd = ctl->fd, .events = POLLOUT};
		if (errno == EAGAIN)
			poll(&p, 1, -1);
		if ((errno != EAGAIN && errno != EINTR) || (p.revents & (POLLHUP | POLLERR)))
			return; /* nobody reads any more */
	}
}

void ctl_send(struct ctl *ctl, const char *verb, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	char line[1024];
	size_t n = strlen(verb);

	memcpy(line, verb, n);
	if (text)
		line[n++] = ' ';
	for (; text && *text && n < sizeof(line) - 4; text++) {
		unsigned char c = (unsigned char)*text;

		if (c > 0x20 && c < 0x7f && c != '%') {
			line[n++] = (char)c;
			continue;
		}
		line[n++] = '%';
		line[n++] = hex[c >> 4];
		line[n++] = hex[c & 15];
	}
	line[n++] = '\n';
	send_bytes(ctl, line, n);
}

/* ---- receiving ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; false for a broken escape or a NUL byte. */
bool text_decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		int hi, lo;

		if (*s != '%') {
			*out++ = *s;
			continue;
		}
		hi = hex_digit(s[1]);
		lo = hi < 0 ? -1 : hex_digit(s[2]);
		if (lo < 0 || (hi | lo) == 0)
			return false;
		*out++ = (char)(hi << 4 | lo);
		s += 2;
	}
	*out = '\0';
	return true;
}

/* Up to max numbers from 0 to 65535; returns how many there were, -1 if there is anything else. */
static int numbers(const char *s, long *value, int max)
{
	int n = 0;

	while (*s) {
		char *end;

		if (n == max || *s < '0' || *s > '9')
			return -1;
		value[n++] = strtol(s, &end, 10);
		if (value[n - 1] > 65535 || (*end && *end != ' '))
			return -1;
		s = *end ? end + 1 : end;
	}
	return n;
}

static const char *set_winsize(struct job *job, const char *text)
{
	long v[2];

	if (numbers(text, v, 2) != 2)
		return "bad size of the terminal";
	job->rows = (unsigned short)v[0];
	job->cols = (unsigned short)v[1];
	if (job->master >= 0)
		ioctl(job->master, TIOCSWINSZ, &(struct winsize){.ws_row = job->rows, .ws_col = job->cols});
	return NULL;
}

const char *job_item(struct job *job, const char *verb, char *text)
{
	long n;

	if (strcmp(verb, "arg") == 0 || strcmp(verb, "env") == 0 || strcmp(verb, "cwd") == 0) {
		if (!text_decode(text))
			return "bad encoding";
		if (verb[0] == 'a')
			list_add(&job->argv, text);
		else if (verb[0] == 'e')
			env_set(&job->envp, text);
		else
			job->cwd = must(strdup(text));
		return NULL;
	}
	if (strcmp(verb, "tty") == 0 || strcmp(verb, "winsize") == 0) {
		job->tty = job->tty || verb[0] == 't';
		return set_winsize(job, text);
	}
	if (strcmp(verb, "pipe") == 0) {
		if (numbers(text, &n, 1) != 1 || n > 2)
			return "bad descriptor";
		job->pipe[n] = true;
		return NULL;
	}
	if (strcmp(verb, "signal") == 0) {
		if (numbers(text, &n, 1) != 1 || n < 1 || n > SIGRTMAX)
			return "bad signal";
		if (job->pid > 0)
			kill(-job->pid, (int)n);
		return NULL;
	}
	return "unknown item";
}

/*
 * Take what has arrived, act on whole lines. Returns 1 after `run`, 0 when there is no more for now, or a negative errno:
 * -EPIPE the host has closed the port, -EPROTO it has sent nonsense, which it has been told.
 */
static int ctl_take(struct ctl *ctl, struct job *job)
{
	for (;;) {
		char *end = ctl->len ? memchr(ctl->line, '\n', ctl->len) : NULL;

		if (!end) {
			if (ctl->cap - ctl->len < 4096) {
				ctl->cap = ctl->cap * 2 + 8192;
				ctl->line = must(realloc(ctl->line, ctl->cap));
			}
			ssize_t n = ctl->len > LINE_MAX_BYTES
					    ? 0
					    : read(ctl->fd, ctl->line + ctl->len, ctl->cap - ctl->len);
			if (n > 0) {
				ctl->len += (size_t)n;
				continue;
			}
			if (n < 0 && errno == EINTR)
				continue;
			return n < 0 && errno == EAGAIN ? 0 : -EPIPE;
		}
		*end = '\0';
		char *space = strchr(ctl->line, ' ');
		char *text = space ? space + 1 : end;
		if (space)
			*space = '\0';
		bool run = strcmp(ctl->line, "run") == 0;
		const char *wrong = run ? NULL : job_item(job, ctl->line, text);
		if (wrong)
			ctl_send(ctl, "error", wrong);
		ctl->len -= (size_t)(end + 1 - ctl->line);
		memmove(ctl->line, end + 1, ctl->len);
		if (wrong)
			return -EPROTO;
		if (run)
			return 1;
	}
}

int ctl_receive_job(struct ctl *ctl, struct job *job)
{
	ctl_send(ctl, "ready", NULL);
	for (;;) {
		struct pollfd p = {.fd = ctl->fd, .events = POLLIN};
		int err;

		poll(&p, 1, -1);
		err = ctl_take(ctl, job);
		if (err < 0)
			return err;
		if (err == 0)
			continue;
		if (job->argv && job->argv[0][0])
			return 0;
		ctl_send(ctl, "error", "no command");
		return -EPROTO;
	}
}

int ctl_serve(struct ctl *ctl, struct job *job)
{
	int err = ctl_take(ctl, job);

	return err == -EPIPE ? err : 0;
}
