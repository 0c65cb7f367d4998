/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Console of the monitor on the user's terminal. See terminal.h.
 *
 * Input that the guest does not take waits in `pending`. A pipe is not read meanwhile; a terminal is, because Ctrl-A x must
 * work with a guest that hangs: what does not fit then is dropped with a bell, as a terminal's own line buffer does.
 * While the control prompt is open, output of the guest is not taken, so it waits on the guest's side.
 */
#include "terminal.h"
#include "outstream.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE CTRL('A')
#define PENDING_BYTES 4096
#define LINE_BYTES 256

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static const int mode_signals[] = {SIGTSTP, SIGCONT, SIGWINCH};

struct terminal {
	struct loop *loop;
	int in_fd, out_fd;
	bool watches_keys; /* a terminal with Ctrl-A */
	const struct terminal_ops *ops;
	void *ctx;
	struct outstream *out;
	bool escaped; /* the last key was Ctrl-A */
	bool prompting;
	bool held_output;      /* a write was refused because of the prompt */
	bool ended;            /* of the input */
	char line[LINE_BYTES]; /* at the prompt */
	size_t line_len;
	size_t npending;
	uint8_t pending[PENDING_BYTES];
};

/* The one terminal whose mode we have changed; also read from signal handlers and at exit. */
static struct termios saved_mode;
static int raw_fd = -1;
static volatile sig_atomic_t is_raw;

void terminal_restore(void)
{
	if (!is_raw)
		return;
	is_raw = 0;
	tcsetattr(raw_fd, TCSANOW, &saved_mode);
}

static void make_raw(int fd)
{
	/* A process group in the background that changes the mode is stopped (SIGTTOU): wait for its SIGCONT instead. */
	if (is_raw || tcgetpgrp(fd) != getpgrp() || tcgetattr(fd, &saved_mode))
		return;
	struct termios raw = saved_mode;
	cfmakeraw(&raw);
	raw_fd = fd;
	if (tcsetattr(fd, TCSANOW, &raw) == 0)
		is_raw = 1;
}

/* ---- messages ---- */

static void put(struct terminal *t, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n' && is_raw)
			outstream_write(t->out, "\r", 1);
		outstream_write(t->out, text, 1);
	}
}

void terminal_message(struct terminal *t, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put(t, text);
}

static void key_help(struct terminal *t)
{
	put(t, "\nCtrl-A x       end the VM\n"
	       "Ctrl-A c       control prompt\n"
	       "Ctrl-A Ctrl-A  send Ctrl-A to the guest\n"
	       "Ctrl-A h       this help\n");
}

/* ---- the control prompt ---- */

static void prompt_open(struct terminal *t)
{
	t->prompting = true;
	t->line_len = 0;
	put(t, "\n(lol) ");
}

static void prompt_close(struct terminal *t)
{
	t->prompting = false;
	if (t->held_output && t->ops->output_changed)
		t->ops->output_changed(t->ctx);
	t->held_output = false;
}

static void quit(struct terminal *t)
{
	if (t->ops->quit)
		t->ops->quit(t->ctx);
	else
		loop_stop(t->loop, 0);
}

static void prompt_help(struct terminal *t)
{
	put(t, "help             this list\n"
	       "continue         leave the prompt (also Ctrl-D)\n"
	       "quit             end the VM at once\n");
	if (t->ops->command)
		t->ops->command(t->ctx, "help");
}

static void prompt_line(struct terminal *t)
{
	t->line[t->line_len] = 0;
	t->line_len = 0;
	put(t, "\n");
	if (!strcmp(t->line, "continue") || !strcmp(t->line, "c")) {
		prompt_close(t);
		return;
	}
	if (!strcmp(t->line, "quit") || !strcmp(t->line, "q"))
		quit(t);
	else if (!strcmp(t->line, "help") || !strcmp(t->line, "?"))
		prompt_help(t);
	else if (t->line[0] && !(t->ops->command && t->ops->command(t->ctx, t->line)))
		terminal_message(t, "no command '%s': try help\n", t->line);
	put(t, "(lol) ");
}

static void prompt_key(struct terminal *t, uint8_t key)
{
	switch (key) {
	case '\r':
	case '\n':
		prompt_line(t);
		break;
	case CTRL('D'):
		put(t, "\n");
		prompt_close(t);
		break;
	case CTRL('C'):
	case CTRL('U'):
		t->line_len = 0;
		put(t, "\n(lol) ");
		break;
	case 0x7f:
	case CTRL('H'):
		if (t->line_len) {
			t->line_len--;
			put(t, "\b \b");
		}
		break;
	default:
		if (key >= 0x20 && t->line_len < LINE_BYTES - 1) {
			t->line[t->line_len++] = (char)key;
			outstream_write(t->out, &key, 1);
		}
	}
}

/* ---- input ---- */

static void deliver(struct terminal *t)
{
	size_t n = t->npending;
	if (n && t->ops->input)
		n = t->ops->input(t->ctx, t->pending, t->npending);
	t->npending -= n;
	memmove(t->pending, t->pending + n, t->npending);
	if (t->ended) {
		if (!t->npending && t->in_fd >= 0) {
			t->in_fd = -1;
			if (t->ops->input_end)
				t->ops->input_end(t->ctx);
		}
	} else {
		loop_mod_fd(t->loop, t->in_fd, t->watches_keys || t->npending < PENDING_BYTES ? EPOLLIN : 0);
	}
}

static void to_guest(struct terminal *t, uint8_t byte)
{
	if (t->npending == PENDING_BYTES)
		deliver(t);
	if (t->npending < PENDING_BYTES)
		t->pending[t->npending++] = byte;
	else
		outstream_write(t->out, "\a", 1);
}

static void after_escape(struct terminal *t, uint8_t key)
{
	switch (key) {
	case 'x':
	case 'X':
		quit(t);
		break;
	case 'c':
	case 'C':
		prompt_open(t);
		break;
	case 'h':
	case 'H':
	case '?':
		key_help(t);
		break;
	case ESCAPE:
		to_guest(t, ESCAPE);
		break;
	}
}

static void key_pressed(struct terminal *t, uint8_t key)
{
	if (t->escaped) {
		t->escaped = false;
		after_escape(t, key);
	} else if (key == ESCAPE) {
		t->escaped = true;
	} else if (t->prompting) {
		prompt_key(t, key);
	} else {
		to_guest(t, key);
	}
}

static void input_ended(struct terminal *t)
{
	loop_del_fd(t->loop, t->in_fd);
	t->ended = true;
	deliver(t);
}

static bool in_background(const struct terminal *t)
{
	pid_t foreground = tcgetpgrp(t->in_fd);
	return foreground > 0 && foreground != getpgrp();
}

static void readable(void *arg, uint32_t events)
{
	struct terminal *t = arg;
	uint8_t keys[512] = {0};
	(void)events;
	ssize_t n;
	if (in_background(t)) {
		loop_mod_fd(t->loop, t->in_fd, 0); /* reading would stop us (SIGTTIN); SIGCONT looks again */
		return;
	}
	if (t->watches_keys)
		n = read(t->in_fd, keys, sizeof(keys));
	else
		n = read(t->in_fd, t->pending + t->npending, PENDING_BYTES - t->npending);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		input_ended(t); /* also EIO: the terminal has gone, or we are an orphan in the background */
		return;
	}
	if (t->watches_keys)
		for (ssize_t i = 0; i < n; i++)
			key_pressed(t, keys[i]);
	else
		t->npending += (size_t)n;
	deliver(t);
}

void terminal_input_resume(struct terminal *t)
{
	if (t->in_fd >= 0)
		deliver(t);
}

bool terminal_input_ended(const struct terminal *t)
{
	return t->in_fd < 0;
}

/* ---- output ---- */

static void output_changed(void *arg)
{
	struct terminal *t = arg;
	if (!t->prompting && t->ops->output_changed)
		t->ops->output_changed(t->ctx);
}

size_t terminal_write(struct terminal *t, const uint8_t *bytes, size_t len)
{
	if (t->prompting) {
		t->held_output = true;
		return 0;
	}
	return outstream_write(t->out, bytes, len);
}

bool terminal_output_empty(const struct terminal *t)
{
	return outstream_empty(t->out);
}

int terminal_output_error(const struct terminal *t)
{
	return outstream_error(t->out);
}

bool terminal_size(const struct terminal *t, uint16_t *rows, uint16_t *cols)
{
	struct winsize ws;
	if (ioctl(t->out_fd, TIOCGWINSZ, &ws))
		return false;
	*rows = ws.ws_row;
	*cols = ws.ws_col;
	return true;
}

/* ---- signals ---- */

static void mode_signal(void *arg, int signo)
{
	struct terminal *t = arg;
	uint16_t rows, cols;
	if (signo == SIGTSTP) {
		terminal_restore();
		kill(getpid(), SIGSTOP);
		/* Here somebody has continued us. */
	}
	if (signo != SIGWINCH && !t->ended) {
		if (t->watches_keys)
			make_raw(t->in_fd);
		terminal_input_resume(t);
	}
	if (t->ops->resized && terminal_size(t, &rows, &cols))
		t->ops->resized(t->ctx, rows, cols);
}

static void ending_signal(void *arg, int signo)
{
	struct terminal *t = arg;
	if (t->ops->signalled)
		t->ops->signalled(t->ctx, signo);
	else
		loop_stop(t->loop, 128 + signo);
}

static int watch_signals(struct terminal *t)
{
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++) {
		/* nohup and shells' background jobs have some ignored; a signalfd would still get them. */
		struct sigaction sa;
		if (sigaction(ending_signals[i], NULL, &sa) == 0 && sa.sa_handler == SIG_IGN)
			continue;
		int r = loop_add_signal(t->loop, ending_signals[i], ending_signal, t);
		if (r)
			return r;
	}
	for (size_t i = 0; i < ARRAY_LEN(mode_signals); i++) {
		int r = loop_add_signal(t->loop, mode_signals[i], mode_signal, t);
		if (r)
			return r;
	}
	return 0;
}

static void unwatch_signals(struct terminal *t)
{
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++)
		loop_del_signal(t->loop, ending_signals[i], ending_signal, t);
	for (size_t i = 0; i < ARRAY_LEN(mode_signals); i++)
		loop_del_signal(t->loop, mode_signals[i], mode_signal, t);
}

/* ---- life ---- */

static int start(struct terminal *t, const struct terminal_config *config)
{
	t->out = outstream_create(t->loop, t->out_fd, output_changed, t);
	if (!t->out)
		return -errno;
	int r = watch_signals(t);
	if (!r && t->in_fd >= 0)
		r = loop_add_fd(t->loop, t->in_fd, EPOLLIN, readable, t);
	if (r)
		return r;
	t->watches_keys = config->raw && t->in_fd >= 0 && isatty(t->in_fd);
	if (t->watches_keys) {
		static bool at_exit;
		if (!at_exit)
			at_exit = !atexit(terminal_restore);
		make_raw(t->in_fd);
	}
	return 0;
}

struct terminal *terminal_create(const struct terminal_config *config)
{
	struct terminal *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->loop = config->loop;
	t->in_fd = config->in_fd;
	t->out_fd = config->out_fd;
	t->ops = config->ops;
	t->ctx = config->ctx;
	int r = start(t, config);
	if (!r)
		return t;
	terminal_destroy(t);
	errno = -r;
	return NULL;
}

bool terminal_flush(struct terminal *t)
{
	t->prompting = false;
	if (t->watches_keys)
		terminal_restore();
	return outstream_flush(t->out);
}

void terminal_destroy(struct terminal *t)
{
	if (!t)
		return;
	if (t->watches_keys)
		terminal_restore();
	if (t->in_fd >= 0 && !t->ended)
		loop_del_fd(t->loop, t->in_fd);
	unwatch_signals(t);
	if (t->out) {
		terminal_flush(t);
		outstream_destroy(t->out);
	}
	free(t);
}
