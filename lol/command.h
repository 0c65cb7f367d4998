/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's side of `lol-run ... -- COMMAND`: the guest's agent, lol-init, runs COMMAND; its three streams and its status
 * come over named ports of the virtio-console.
 *
 *   port 0  the console hvc0, not used here
 *   port 1  lol.ctl     the protocol below
 *   port 2  lol.stdin   bytes for COMMAND; closed (PORT_OPEN 0) after the last byte at the end of our stdin
 *   port 3  lol.stdout  bytes from COMMAND; closed by us when our reader has gone, so that COMMAND gets SIGPIPE
 *   port 4  lol.stderr  likewise
 *
 * On lol.ctl one item is a line: a verb and words, separated by single spaces. A TEXT is percent-encoded: %XX for bytes up
 * to 0x20, for % and from 0x7f on. After `ready` the host sends the job:
 *
 *   guest: ready
 *   host:  arg TEXT          one word of COMMAND, the program first; as often as needed
 *          env NAME=VALUE    (encoded) an addition to the agent's environment; TERM only by default, and only with tty
 *          cwd TEXT          where to start; the agent's default is /
 *          tty ROWS COLS     our stdin and stdout are terminals: give COMMAND a pty
 *          pipe N            with tty: our descriptor N is no terminal, so COMMAND's is to be a pipe
 *          run
 *          winsize ROWS COLS later, when the terminal's size has changed
 *          signal N          later: send signal N to COMMAND
 *   guest: exit N            COMMAND has ended: 0-255, 128+N by signal N; its output is in the queues before this line
 *          error TEXT        COMMAND could not be run
 *
 * What comes from the guest is hostile: lines are bounded, texts are cleaned of control characters.
 */
#ifndef LOL_COMMAND_H
#define LOL_COMMAND_H

#include "devices/virtio-console.h"
#include "loop.h"
#include "terminal.h"

#define COMMAND_PORTS 5u /* with the console's */

struct command;

struct command_ops {
	/*
	 * COMMAND is over and all its output is written. status: 0-255, error NULL; or status -1 and why it has none: the
	 * agent's words, or NULL where the guest has stopped without any.
	 */
	void (*done)(void *ctx, int status, const char *error);
	/* As in struct terminal_ops; NULL: loop_stop(loop, 0), no command, loop_stop(loop, 128 + signo). */
	void (*quit)(void *ctx);
	bool (*prompt)(void *ctx, const char *line);
	void (*interrupted)(void *ctx, int signo); /* by a signal that COMMAND did not get or did not end of */
};

struct command_config {
	struct loop *loop;
	char *const *argv;      /* NULL-terminated */
	const char *const *env; /* additional NAME=VALUE, NULL-terminated; or NULL */
	const char *cwd;        /* or NULL */
	int in_fd, out_fd, err_fd;
	const struct command_ops *ops;
	void *ctx;
};

/* NULL with one line in err. argv, env and cwd need not outlive the call. */
struct command *command_create(const struct command_config *config, char err[DEVICE_ERR]);
/* Before command_destroy() the console device must be gone or the ports attached to something else. */
void command_destroy(struct command *c);

/* Fill ports[1] to ports[4] for virtio_console_create(); ports[0] stays the caller's. Then say what device it became. */
void command_ports(struct command *c, struct console_port_config ports[COMMAND_PORTS]);
void command_set_console(struct command *c, struct virtio_dev *console);

/*
 * The guest has powered off or is gone; outside of loop_run(). What it has sent is still written, however slow our reader
 * is (signals have their default effect meanwhile), then done() is called, unless it was before.
 */
void command_guest_stopped(struct command *c);

/* As if lol-run had got this signal: the first is passed on to COMMAND. */
void command_signal(struct command *c, int signo);

struct terminal *command_terminal(struct command *c); /* for terminal_message() */

#endif
