/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The serial port's far end and the virtio-console.
 *
 * The 8250 itself is in K (lol/devices/serial8250.c); bytes travel in two rings in the
 * shared control page.  Without COMMAND the port is the user's terminal.  With COMMAND the
 * terminal belongs to COMMAND, and what the guest says on the serial port is kept for a
 * post-mortem only (with --verbose it goes to stderr).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine_int.h"

static void remember(struct machine *m, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		m->tail[m->tail_at++ % TAIL_SIZE] = (char)bytes[i];
}

static size_t show(struct machine *m, const uint8_t *bytes, size_t n)
{
	if (m->terminal)
		return terminal_write(m->terminal, bytes, n);
	if (m->session->port)
		return console_port_write(m->session->port, bytes, n);
	if (m->command && m->opts->verbosity > 0) {
		ssize_t w = write(2, bytes, n);
		return w < 0 ? (errno == EAGAIN || errno == EINTR ? 0 : n) : (size_t)w;
	}
	return n;
}

/*
 * At most a ring of bytes: K can say that there are 4 GiB, or go on putting bytes in, and the loop has others to serve. What is
 * left is seen when the loop comes round to the doorbell again.
 */
void console_drain(struct machine *m)
{
	uint8_t buf[4096];
	bool any = false;
	size_t left = KCTL_UART_RING;

	if (!m->uart_tx.ring)
		return;
	for (;;) {
		size_t n = byte_ring_used(&m->uart_tx), done;
		if (n > sizeof(buf))
			n = sizeof(buf);
		if (!n)
			break;
		if (!left) {
			atomic_store(&m->ctl->uart_tx_bell, 1);
			(void)!write(m->doorbell, &(uint64_t){1}, 8); /* no room: it rings already */
			break;
		}
		n = byte_ring_peek(&m->uart_tx, buf, MIN(n, left));
		left -= n;
		done = show(m, buf, n);
		byte_ring_consume(&m->uart_tx, (uint32_t)done);
		remember(m, buf, done);
		for (unsigned i = 0; i < ARRAY_LEN(m->watchers); i++)
			if (m->watchers[i])
				control_stream_write(m->watchers[i], buf, done);
		any |= done > 0;
		if (done < n) /* the terminal is full: wait for it */
			break;
	}
	if (any) {
		atomic_fetch_add(&m->ctl->uart_tx_wait, 1);
		syscall(SYS_futex, &m->ctl->uart_tx_wait, FUTEX_WAKE, 64, NULL, NULL, 0);
		if (atomic_exchange(&m->ctl->uart_tx_held, 0))
			machine_kick(m);
	}
}

void console_show_tail(struct machine *m)
{
	size_t n = m->tail_at < TAIL_SIZE ? m->tail_at : TAIL_SIZE, start = m->tail_at - n;

	if (m->terminal && !m->command) /* it has been seen */
		return;
	for (size_t i = 0; i < n; i++)
		fputc(m->tail[(start + i) % TAIL_SIZE], stderr);
	fputc('\n', stderr);
}

bool console_tail_has(struct machine *m, const char *text)
{
	char copy[TAIL_SIZE];
	size_t n = m->tail_at < TAIL_SIZE ? m->tail_at : TAIL_SIZE, start = m->tail_at - n;

	for (size_t i = 0; i < n; i++)
		copy[i] = m->tail[(start + i) % TAIL_SIZE];
	return memmem(copy, n, text, strlen(text)) != NULL;
}

/* ---- lolctl console ---- */

void console_watch(struct machine *m, struct control_client *c, bool history)
{
	size_t n = m->tail_at < TAIL_SIZE ? m->tail_at : TAIL_SIZE, start = (m->tail_at - n) % TAIL_SIZE;
	unsigned i = 0;

	while (m->watchers[i]) /* there are as many places as clients */
		i++;
	m->watchers[i] = c;
	if (history) {
		control_stream_write(c, (uint8_t *)m->tail + start, MIN(n, TAIL_SIZE - start));
		control_stream_write(c, (uint8_t *)m->tail, n - MIN(n, TAIL_SIZE - start));
	}
}

void console_unwatch(struct machine *m, struct control_client *c)
{
	for (unsigned i = 0; i < ARRAY_LEN(m->watchers); i++)
		if (m->watchers[i] == c)
			m->watchers[i] = NULL;
}

/* ---- input ---- */

size_t console_input(struct machine *m, const uint8_t *bytes, size_t len)
{
	size_t n = byte_ring_write(&m->uart_rx, bytes, len);

	if (n)
		machine_kick(m);
	if (n < len)
		loop_mod_timer_ns(m->loop, m->rx_timer, 10000000, 0);
	return n;
}

static size_t on_input(void *ctx, const uint8_t *bytes, size_t len)
{
	return console_input(ctx, bytes, len);
}

static void on_rx_timer(void *arg)
{
	struct machine *m = arg;

	machine_kick(m);
	if (m->terminal)
		terminal_input_resume(m->terminal);
	if (m->session->port)
		console_port_resume(m->session->port);
	for (unsigned i = 0; i < ARRAY_LEN(m->watchers); i++)
		if (m->watchers[i])
			control_stream_resume(m->watchers[i]);
}

static void on_output_changed(void *ctx)
{
	console_drain(ctx);
}

static void on_quit(void *ctx)
{
	loop_stop(((struct machine *)ctx)->loop, RUN_STATUS);
}

static bool on_prompt(void *ctx, const char *line)
{
	struct machine *m = ctx;

	return machine_prompt(m, m->terminal ? m->terminal : command_terminal(m->command), line);
}

static void on_signal(void *ctx, int signo)
{
	loop_stop(((struct machine *)ctx)->loop, RUN_STATUS + LOL_EXIT_SIGNAL + signo);
}

static const struct terminal_ops terminal_ops = {
	.input = on_input,
	.output_changed = on_output_changed,
	.quit = on_quit,
	.command = on_prompt,
	.signalled = on_signal,
};

const struct console_end_ops machine_console_ops = {.input = on_input, .changed = on_output_changed};

static void on_loop_signal(void *arg, int signo)
{
	on_signal(arg, signo);
}

static int open_terminal(struct machine *m, struct lol_error *err)
{
	const struct lol_console *c = &m->opts->console;

	if (c->kind != CONSOLE_STDIO) {
		static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
		for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
			loop_add_signal(m->loop, signals[i], on_loop_signal, m);
		return 0;
	}
	struct terminal_config tc = {m->loop, 0, 1, true, &terminal_ops, m};
	m->terminal = terminal_create(&tc);
	if (!m->terminal)
		return lol_error(err, -errno, "standard input: %s; use --console null or file=PATH", strerror(errno));
	return 0;
}

/* ---- COMMAND ---- */

static void on_done(void *ctx, int status, const char *error)
{
	struct machine *m = ctx;

	if (error)
		lol_fail(0, "guest: %s", error);
	m->command_result = status >= 0 ? status : LOL_EXIT_BUG;
	loop_stop(m->loop, RUN_POWEROFF);
}

static bool on_command_prompt(void *ctx, const char *line)
{
	return on_prompt(ctx, line);
}

static const struct command_ops command_ops = {
	.done = on_done,
	.quit = on_quit,
	.prompt = on_command_prompt,
	.interrupted = on_signal,
};

int command_status(struct machine *m)
{
	if (!m->opts->command)
		return LOL_EXIT_OK;
	if (m->command_result < 0)
		command_guest_stopped(m->command);
	if (m->command_result >= 0)
		return m->command_result;
	console_show_tail(m);
	return lol_fail(LOL_EXIT_BUG, "guest: stopped before COMMAND had ended; its last lines are above");
}

int console_create(struct machine *m, struct lol_error *err)
{
	struct console_port_config ports[COMMAND_PORTS] = {{0}};
	unsigned nports = 1;
	char why[DEVICE_ERR] = "";
	int ret;

	m->command_result = -1;
	byte_ring_attach(&m->uart_tx, &m->ctl->uart_tx, m->ctl->uart_tx_bytes, KCTL_UART_RING);
	byte_ring_attach(&m->uart_rx, &m->ctl->uart_rx, m->ctl->uart_rx_bytes, KCTL_UART_RING);
	m->rx_timer = loop_add_timer_ns(m->loop, 0, 0, on_rx_timer, m);
	if (m->session->port && (ret = console_port_set_loop(m->session->port, m->loop, m)))
		return lol_error(err, ret, "--console: %s; close some files or raise ulimit -n", strerror(-ret));
	if (m->opts->command) {
		struct command_config cc = {.loop = m->loop,
					    .argv = m->opts->command,
					    .in_fd = 0,
					    .out_fd = 1,
					    .err_fd = 2,
					    .ops = &command_ops,
					    .ctx = m};
		m->command = command_create(&cc, why);
		if (!m->command)
			return lol_error(err, -EINVAL, "%s", why);
		command_ports(m->command, ports);
		nports = COMMAND_PORTS;
	} else if ((ret = open_terminal(m, err))) {
		return ret;
	}
	struct virtio_env env = machine_device_env(m);
	struct virtio_dev *dev = virtio_console_create(&env, ports, nports, why);
	if ((ret = machine_attach(m, dev, why, err)))
		return ret;
	if (m->command)
		command_set_console(m->command, dev);
	return 0;
}

void console_destroy(struct machine *m)
{
	if (m->command)
		command_destroy(m->command);
	if (m->terminal)
		terminal_destroy(m->terminal);
	if (m->session->port)
		console_port_set_loop(m->session->port, NULL, NULL);
}
