/* SPDX-License-Identifier: BSD-2-Clause */
/* See command.h. All in the loop's thread. */
#include "command.h"
#include "outstream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 4096
#define GRACE_NS 10000000000ull /* between passing SIGTERM or SIGHUP on and giving up on the guest */

enum { PORT_CTL = 1, PORT_STDIN, PORT_STDOUT, PORT_STDERR };

/* Bytes for lol.ctl that the guest has not taken yet. */
struct text {
	char *bytes;
	size_t len, cap, sent;
};

struct command {
	struct loop *loop;
	const struct command_ops *ops;
	void *ctx;
	struct virtio_dev *console;
	struct terminal *terminal; /* stdin and stdout */
	struct outstream *err;
	bool tty, err_tty;
	struct text job; /* what answers `ready` */
	struct text ctl;
	bool running; /* the job was sent */
	bool over;    /* exit, error, or the guest has gone */
	bool told;    /* done() was called */
	bool finishing;
	int status;
	char *error;
	bool signalled; /* the first signal was passed on */
	int grace_signal, grace_timer;
	size_t line_len;
	char line[LINE_BYTES];
};

/* ---- lol.ctl, to the guest ---- */

static void text_add(struct text *t, const char *bytes, size_t len)
{
	if (t->cap - t->len < len) {
		size_t cap = (t->len + len) * 2;
		char *p = realloc(t->bytes, cap);
		if (!p) {
			device_report(REPORT_WARNING, "out of memory for a message to the guest's agent");
			return;
		}
		t->bytes = p;
		t->cap = cap;
	}
	memcpy(t->bytes + t->len, bytes, len);
	t->len += len;
}

static void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void text_printf(struct text *t, const char *fmt, ...)
{
	char line[64];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	text_add(t, line, MIN((size_t)n, sizeof(line) - 1));
}

static void text_item(struct text *t, const char *verb, const char *value)
{
	text_printf(t, "%s ", verb);
	for (; *value; value++) {
		unsigned char byte = (unsigned char)*value;
		if (byte <= 0x20 || byte == '%' || byte >= 0x7f)
			text_printf(t, "%%%02X", byte);
		else
			text_add(t, value, 1);
	}
	text_add(t, "\n", 1);
}

static void ctl_flush(struct command *c)
{
	struct text *t = &c->ctl;
	if (c->console && t->sent < t->len)
		t->sent += virtio_console_send(c->console, PORT_CTL, (uint8_t *)t->bytes + t->sent, t->len - t->sent);
	if (t->sent == t->len)
		t->sent = t->len = 0;
}

static void ctl_send_job(struct command *c)
{
	uint16_t rows, cols;
	if (c->running)
		return; /* the guest has rebooted: a command is run once */
	c->running = true;
	text_add(&c->ctl, c->job.bytes, c->job.len);
	if (c->tty && terminal_size(c->terminal, &rows, &cols)) {
		text_printf(&c->ctl, "tty %u %u\n", rows, cols);
		if (!c->err_tty)
			text_printf(&c->ctl, "pipe 2\n");
	}
	text_printf(&c->ctl, "run\n");
	ctl_flush(c);
}

/* ---- the end ---- */

/* Tell the machine, once the guest's output is through. */
static void finish_if_written(struct command *c)
{
	if (!c->over || c->told || c->finishing)
		return;
	c->finishing = true; /* draining calls us again */
	bool drained = !c->console ||
		       (virtio_console_drain(c->console, PORT_STDOUT) && virtio_console_drain(c->console, PORT_STDERR));
	c->finishing = false;
	if (!drained || !terminal_output_empty(c->terminal) || !outstream_empty(c->err))
		return;
	c->told = true;
	c->ops->done(c->ctx, c->status, c->error);
}

static void end(struct command *c, int status, const char *error)
{
	if (c->over)
		return;
	c->over = true;
	c->status = status;
	c->error = error ? strdup(error) : NULL;
	finish_if_written(c);
}

void command_guest_stopped(struct command *c)
{
	/* The last line of lol.ctl may still be in its queue. */
	if (c->console && !c->over)
		virtio_console_drain(c->console, PORT_CTL);
	end(c, -1, NULL);
	while (!c->told) { /* each round moves what fits into the queues of our outputs */
		bool written = terminal_flush(c->terminal) && outstream_flush(c->err);
		finish_if_written(c);
		if (!written && !c->told) {
			c->told = true; /* the user has lost patience */
			c->ops->done(c->ctx, c->status, c->error);
		}
	}
}

/* ---- lol.ctl, from the guest ---- */

static int hex(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	ch |= 0x20;
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* Decode in place; what a terminal could take for a command becomes a question mark. */
static void decode_clean(char *s)
{
	char *out = s;
	for (; *s; s++) {
		int byte = (unsigned char)*s;
		int high = byte == '%' ? hex(s[1]) : -1;
		int low = high >= 0 ? hex(s[2]) : -1;
		if (low >= 0) {
			byte = high << 4 | low;
			s += 2;
		}
		*out++ = byte < 0x20 || byte == 0x7f || (byte >= 0x80 && byte < 0xa0) ? '?' : (char)byte;
	}
	*out = 0;
}

static void guest_line(struct command *c, char *line)
{
	unsigned status;
	char rest;
	if (!strcmp(line, "ready")) {
		ctl_send_job(c);
	} else if (sscanf(line, "exit %3u%c", &status, &rest) == 1 && status <= 255) {
		end(c, (int)status, NULL);
	} else if (!strncmp(line, "error ", 6)) {
		decode_clean(line + 6);
		end(c, -1, line + 6);
	}
	/* Else it is something newer than we are. */
}

static size_t ctl_output(void *ctx, const uint8_t *bytes, size_t len)
{
	struct command *c = ctx;
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '\n') {
			c->line[MIN(c->line_len, (size_t)LINE_BYTES - 1)] = 0;
			if (c->line_len < LINE_BYTES) /* a longer one is dropped whole */
				guest_line(c, c->line);
			c->line_len = 0;
		} else if (c->line_len < LINE_BYTES) {
			if (c->line_len < LINE_BYTES - 1)
				c->line[c->line_len] = (char)bytes[i];
			c->line_len++;
		}
	}
	return len;
}

static void ctl_room(void *ctx)
{
	ctl_flush(ctx);
}

static void ctl_opened(void *ctx, bool open)
{
	struct command *c = ctx;
	c->line_len = 0;
	if (!open)
		c->ctl.sent = c->ctl.len = 0;
}

/* ---- the streams ---- */

static size_t stdin_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
	struct command *c = ctx;
	return c->console ? virtio_console_send(c->console, PORT_STDIN, bytes, len) : 0;
}

static void stdin_end(void *ctx)
{
	struct command *c = ctx;
	if (c->console)
		virtio_console_set_open(c->console, PORT_STDIN, false);
}

static void stdin_room(void *ctx)
{
	struct command *c = ctx;
	terminal_input_resume(c->terminal);
}

/* An output of ours has broken: close its port, so that COMMAND learns of it as it would natively. */
static void check_broken(struct command *c, unsigned port, int error, const char *name)
{
	if (!error || !c->console || !virtio_console_is_open(c->console, port))
		return;
	if (error != EPIPE)
		device_report(REPORT_WARNING, "%s: %s: the rest of COMMAND's output is lost", name, strerror(error));
	virtio_console_set_open(c->console, port, false);
}

static size_t stdout_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
	struct command *c = ctx;
	size_t n = terminal_write(c->terminal, bytes, len);
	check_broken(c, PORT_STDOUT, terminal_output_error(c->terminal), "stdout");
	return n;
}

static size_t stderr_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
	struct command *c = ctx;
	size_t n = outstream_write(c->err, bytes, len);
	check_broken(c, PORT_STDERR, outstream_error(c->err), "stderr");
	return n;
}

static void stream_drained(void *ctx)
{
	finish_if_written(ctx);
}

static void stdout_changed(void *ctx)
{
	struct command *c = ctx;
	if (!c->console)
		return;
	check_broken(c, PORT_STDOUT, terminal_output_error(c->terminal), "stdout");
	virtio_console_resume(c->console, PORT_STDOUT);
	finish_if_written(c);
}

static void stderr_changed(void *ctx)
{
	struct command *c = ctx;
	if (!c->console)
		return;
	check_broken(c, PORT_STDERR, outstream_error(c->err), "stderr");
	virtio_console_resume(c->console, PORT_STDERR);
	finish_if_written(c);
}

/* ---- the terminal ---- */

static void resized(void *ctx, uint16_t rows, uint16_t cols)
{
	struct command *c = ctx;
	if (!c->running || !c->tty)
		return;
	text_printf(&c->ctl, "winsize %u %u\n", rows, cols);
	ctl_flush(c);
}

static void interrupted(struct command *c, int signo)
{
	if (c->ops->interrupted)
		c->ops->interrupted(c->ctx, signo);
	else
		loop_stop(c->loop, 128 + signo);
}

static void grace_over(void *arg)
{
	struct command *c = arg;
	interrupted(c, c->grace_signal);
}

/* The first signal is COMMAND's, if it runs; a second one, or a SIGTERM that changes nothing, ends the VM. */
static void signalled(void *ctx, int signo)
{
	struct command *c = ctx;
	if (!c->running || c->over || c->signalled) {
		interrupted(c, signo);
		return;
	}
	c->signalled = true;
	text_printf(&c->ctl, "signal %d\n", signo);
	ctl_flush(c);
	if (signo == SIGTERM || signo == SIGHUP) {
		c->grace_signal = signo;
		c->grace_timer = loop_add_timer_ns(c->loop, GRACE_NS, 0, grace_over, c);
	}
}

static void quit(void *ctx)
{
	struct command *c = ctx;
	if (c->ops->quit)
		c->ops->quit(c->ctx);
	else
		loop_stop(c->loop, 0);
}

static bool prompt(void *ctx, const char *line)
{
	struct command *c = ctx;
	return c->ops->prompt && c->ops->prompt(c->ctx, line);
}

static const struct terminal_ops terminal_ops = {
	.input = stdin_bytes,
	.input_end = stdin_end,
	.output_changed = stdout_changed,
	.resized = resized,
	.quit = quit,
	.command = prompt,
	.signalled = signalled,
};

/* ---- life ---- */

static void write_job(struct command *c, const struct command_config *config)
{
	const char *term = getenv("TERM");
	for (char *const *arg = config->argv; *arg; arg++)
		text_item(&c->job, "arg", *arg);
	if (c->tty && term) {
		char env[256];
		snprintf(env, sizeof(env), "TERM=%s", term);
		text_item(&c->job, "env", env);
	}
	for (const char *const *env = config->env; env && *env; env++)
		text_item(&c->job, "env", *env);
	if (config->cwd)
		text_item(&c->job, "cwd", config->cwd);
}

static bool start(struct command *c, const struct command_config *config, char err[DEVICE_ERR])
{
	int in = fcntl(config->in_fd, F_GETFD) < 0 ? -1 : config->in_fd; /* `<&-` */
	c->tty = in >= 0 && isatty(in) && isatty(config->out_fd);
	c->err_tty = isatty(config->err_fd);
	write_job(c, config);
	struct terminal_config t = {
		.loop = c->loop, .in_fd = in, .out_fd = config->out_fd, .raw = c->tty, .ops = &terminal_ops, .ctx = c};
	c->terminal = terminal_create(&t);
	if (!c->terminal) {
		device_error(err, "stdin or stdout: %s; give the program open descriptors", strerror(errno));
		return false;
	}
	c->err = outstream_create(c->loop, config->err_fd, stderr_changed, c);
	if (!c->err) {
		device_error(err, "stderr: %s; give the program open descriptors", strerror(errno));
		return false;
	}
	return true;
}

struct command *command_create(const struct command_config *config, char err[DEVICE_ERR])
{
	struct command *c = calloc(1, sizeof(*c));
	if (!c) {
		device_error(err, "out of memory");
		return NULL;
	}
	c->loop = config->loop;
	c->ops = config->ops;
	c->ctx = config->ctx;
	c->grace_timer = -1;
	if (start(c, config, err))
		return c;
	command_destroy(c);
	return NULL;
}

void command_destroy(struct command *c)
{
	if (!c)
		return;
	if (c->grace_timer >= 0)
		loop_del_timer(c->loop, c->grace_timer);
	c->console = NULL;
	terminal_destroy(c->terminal);
	outstream_destroy(c->err);
	free(c->job.bytes);
	free(c->ctl.bytes);
	free(c->error);
	free(c);
}

void command_ports(struct command *c, struct console_port_config ports[COMMAND_PORTS])
{
	static const struct console_port_ops ctl = {.output = ctl_output, .input_room = ctl_room, .opened = ctl_opened};
	static const struct console_port_ops in = {.input_room = stdin_room};
	static const struct console_port_ops out = {.output = stdout_bytes, .drained = stream_drained};
	static const struct console_port_ops err = {.output = stderr_bytes, .drained = stream_drained};
	ports[PORT_CTL] = (struct console_port_config){.name = "lol.ctl", .ops = &ctl, .ctx = c};
	ports[PORT_STDIN] = (struct console_port_config){.name = "lol.stdin", .ops = &in, .ctx = c};
	ports[PORT_STDOUT] = (struct console_port_config){.name = "lol.stdout", .ops = &out, .ctx = c};
	ports[PORT_STDERR] = (struct console_port_config){.name = "lol.stderr", .ops = &err, .ctx = c};
}

void command_set_console(struct command *c, struct virtio_dev *console)
{
	c->console = console;
	/* `<&-`, or an input that ended before there was a console. */
	if (console && terminal_input_ended(c->terminal))
		stdin_end(c);
}

void command_signal(struct command *c, int signo)
{
	signalled(c, signo);
}

struct terminal *command_terminal(struct command *c)
{
	return c->terminal;
}
