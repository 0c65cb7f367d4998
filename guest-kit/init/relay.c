// SPDX-License-Identifier: BSD-2-Clause
/*
 * While the command runs: its output goes to the ports lol.stdout and lol.stderr, lol.stdin to its input, until it ends.
 *
 *   - stdin: when the host has closed its end, the command reads an end of file (on a pty: VEOF).
 *   - stdout, stderr: when the host has closed its end, our end of the pipe is closed, so that the command gets SIGPIPE.
 *   - The job ends with the command itself, as in a container: what it has left in the background gets SIGTERM, a second
 *     later SIGKILL. Then no writer is left and every pipe ends, and only then is all output known to be handed over.
 */
#include "lol-init.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536
#define TERM_MS 1000 /* between SIGTERM and SIGKILL */
#define KILL_MS 5000 /* a process that even SIGKILL does not end hangs in the kernel */
#define STUCK_MS 200 /* ... and keeps its pipes open: output ends when none comes for so long */

enum shutdown shutdown_wanted;

/* One direction of bytes. A closed end is -1; without a source and without bytes left it is done. */
struct flow {
	int *from, *to;
	size_t at, len; /* bytes buf[at, len) still have to go out */
	char buf[CHUNK];
};

enum phase { RUNNING, TERMINATING, KILLING, DRAINING };

/* ---- flows ---- */

static void flow_stop(struct flow *f)
{
	f->at = f->len = 0;
	if (f->from)
		close_fd(f->from);
}

/* Move what can be moved now; stops after one chunk, so that all flows and the control port get their turn. */
static void flow_move(struct flow *f)
{
	if (*f->from >= 0 && f->at == f->len) {
		ssize_t n = read(*f->from, f->buf, CHUNK);

		if (n > 0) {
			f->at = 0;
			f->len = (size_t)n;
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			close_fd(f->from); /* end of file, or EIO of a pty whose last user has gone */
		}
	}
	while (f->at < f->len) {
		ssize_t n = write(*f->to, f->buf + f->at, f->len - f->at);

		if (n > 0) {
			f->at += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || errno != EAGAIN)
			flow_stop(f); /* nobody reads this any more */
		return;
	}
}

static bool flow_done(const struct flow *f)
{
	return *f->from < 0 && f->at == f->len;
}

/* ---- processes ---- */

static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* Collect ended processes. Sets *status, where it is still -1, when pid is among them. Returns false when there is no process left. */
static bool reap(pid_t pid, int *status)
{
	int st;

	for (;;) {
		pid_t got = waitpid(-1, &st, WNOHANG);

		if (got == 0)
			return true;
		if (got < 0)
			return errno == EINTR ? true : false;
		if (got == pid && *status < 0)
			*status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
	}
}

static int open_signals(void)
{
	static const int numbers[] = {SIGCHLD, SIGUSR1, SIGUSR2, SIGTERM, SIGINT};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		sigaddset(&set, numbers[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void read_signals(int fd)
{
	struct signalfd_siginfo si;

	while (read(fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGUSR1)
			shutdown_wanted = SHUTDOWN_HALT;
		else if (si.ssi_signo == SIGUSR2)
			shutdown_wanted = SHUTDOWN_OFF;
		else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
			shutdown_wanted = SHUTDOWN_REBOOT;
	}
}

/* ---- the loop ---- */

struct run {
	struct job *job;
	struct ctl *ctl;
	int *port;
	int signals;
	int status;
	enum phase phase;
	long long deadline; /* of the phase, ms */
	bool stuck;         /* a process has survived SIGKILL */
};

static struct flow in, out, err; /* 192 KiB: not on the stack */

static void next_phase(struct run *r, bool processes)
{
	if (r->phase == RUNNING && (r->status >= 0 || shutdown_wanted != SHUTDOWN_NONE)) {
		if (r->status < 0)
			r->status = 0; /* the command has asked for the power-off itself */
		kill(-1, SIGTERM);
		kill(-1, SIGCONT);
		r->phase = TERMINATING;
		r->deadline = now_ms() + TERM_MS;
	}
	if (r->phase == TERMINATING && processes && now_ms() >= r->deadline) {
		kill(-1, SIGKILL);
		r->phase = KILLING;
		r->deadline = now_ms() + KILL_MS;
	}
	if (r->phase != RUNNING && r->phase != DRAINING &&
	    (!processes || (r->phase == KILLING && now_ms() >= r->deadline))) {
		r->phase = DRAINING;
		r->stuck = processes;
		if (in.to)
			flow_stop(&in);
	}
}

static int timeout_ms(const struct run *r)
{
	long long left = r->deadline - now_ms();

	if (r->phase == DRAINING && r->stuck)
		return STUCK_MS;
	if (r->phase != TERMINATING && r->phase != KILLING)
		return -1;
	return left > 0 ? (int)left : 0;
}

/* A pollfd for each end that a flow waits for now. A port's hang-up is reported in any case, a pipe's as well. */
static void flow_poll(const struct flow *f, struct pollfd *from, struct pollfd *to)
{
	bool full = f->at < f->len;

	*from = (struct pollfd){.fd = full ? -1 : *f->from, .events = POLLIN};
	*to = (struct pollfd){.fd = full || *f->from >= 0 ? *f->to : -1, .events = full ? POLLOUT : 0};
}

/* The command's input has ended. */
static void end_input(struct job *job)
{
	cc_t eof = 4;
	struct termios t;

	if (job->to_in >= 0) {
		close_fd(&job->to_in);
	} else if (job->master >= 0) {
		if (tcgetattr(job->master, &t) == 0)
			eof = t.c_cc[VEOF];
		(void)!write(job->master, &eof, 1);
	}
}

static void serve_input(struct run *r, const struct pollfd *from, const struct pollfd *to)
{
	if (to->revents & (POLLERR | POLLHUP | POLLNVAL)) { /* the command has closed its input */
		flow_stop(&in);
		close_fd(&r->job->to_in);
		return;
	}
	if (!(from->revents | to->revents))
		return;
	flow_move(&in);
	if (flow_done(&in))
		end_input(r->job);
}

static void serve_output(struct flow *f, const struct pollfd *from, const struct pollfd *to)
{
	if (to->revents & (POLLERR | POLLHUP | POLLNVAL))
		flow_stop(f);
	else if (from->revents | to->revents)
		flow_move(f);
}

enum { P_SIGNALS, P_CTL, P_IN_FROM, P_IN_TO, P_OUT_FROM, P_OUT_TO, P_ERR_FROM, P_ERR_TO, P_COUNT };

/* Returns false when a time-out has passed without any event. */
static bool poll_once(struct run *r)
{
	struct pollfd p[P_COUNT];

	p[P_SIGNALS] = (struct pollfd){.fd = r->signals, .events = POLLIN};
	p[P_CTL] = (struct pollfd){.fd = r->ctl ? r->ctl->fd : -1, .events = POLLIN};
	for (int i = P_IN_FROM; i < P_COUNT; i++)
		p[i] = (struct pollfd){.fd = -1};
	if (r->port) {
		flow_poll(&in, &p[P_IN_FROM], &p[P_IN_TO]);
		flow_poll(&out, &p[P_OUT_FROM], &p[P_OUT_TO]);
		flow_poll(&err, &p[P_ERR_FROM], &p[P_ERR_TO]);
	}
	if (poll(p, P_COUNT, timeout_ms(r)) <= 0)
		return false;
	if (p[P_SIGNALS].revents)
		read_signals(r->signals);
	if (p[P_CTL].revents && ctl_serve(r->ctl, r->job))
		close_fd(&r->ctl->fd);
	if (!r->port)
		return true;
	serve_input(r, &p[P_IN_FROM], &p[P_IN_TO]);
	serve_output(&out, &p[P_OUT_FROM], &p[P_OUT_TO]);
	serve_output(&err, &p[P_ERR_FROM], &p[P_ERR_TO]);
	return true;
}

static void connect_flows(struct job *job, int port[PORTS])
{
	static int none_from = -1; /* stderr of a job whose stdout and stderr are one pty */

	in = (struct flow){.from = &port[PORT_STDIN], .to = job->to_in >= 0 ? &job->to_in : &job->master};
	out = (struct flow){.from = job->from_out >= 0 ? &job->from_out : &job->master, .to = &port[PORT_STDOUT]};
	err = (struct flow){.from = job->from_err >= 0 ? &job->from_err : &none_from, .to = &port[PORT_STDERR]};
	/* stdout is a pipe and stderr the terminal: `... > file`. */
	if (job->tty && job->from_out >= 0 && job->from_err < 0)
		err.from = &job->master;
}

int relay_run(struct job *job, struct ctl *ctl, int port[PORTS])
{
	struct run r = {.job = job, .ctl = ctl, .port = port, .signals = open_signals(), .status = -1};

	if (port)
		connect_flows(job, port);
	for (;;) {
		next_phase(&r, reap(job->pid, &r.status));
		if (r.phase == DRAINING && (!port || (flow_done(&out) && flow_done(&err))))
			break;
		if (!poll_once(&r) && r.phase == DRAINING && r.stuck)
			break;
	}
	close_fd(&r.signals);
	return r.status;
}
