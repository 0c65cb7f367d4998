/* SPDX-License-Identifier: BSD-2-Clause */
#include "console_port.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "outstream.h"

#define LOOK_NS 200000000ull /* how often we look whether somebody has opened a pty: nothing tells us */
#define IN_BYTES 4096

struct console_port {
	enum console_kind kind;
	const struct console_end_ops *ops;
	void *ctx;
	struct loop *loop;
	int listen_fd;         /* unix */
	int fd;                /* file, pty master, connection; -1: nobody is there */
	struct outstream *out; /* somebody is there */
	int timer;             /* pty: look again */
	char *path, *link;     /* to be removed */
	char pty[64];
	struct stat st; /* of the socket at path */
	size_t in_len;
	uint8_t in[IN_BYTES];
};

/* ---- somebody comes and goes ---- */

static void on_readable(void *arg, uint32_t events);
static void on_out_changed(void *arg);

static void arrived(struct console_port *p)
{
	p->in_len = 0;
	p->out = outstream_create(p->loop, p->fd, on_out_changed, p);
	if (p->out && p->kind != CONSOLE_FILE)
		loop_add_fd(p->loop, p->fd, EPOLLIN, on_readable, p);
}

/* What the one who has left has not read is not for the next. Only the slave's side can forget it. */
static void flush_pty(const struct console_port *p)
{
	int slave = open(p->pty, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (slave < 0)
		return;
	tcflush(slave, TCIOFLUSH);
	close(slave);
}

static void left(struct console_port *p)
{
	if (!p->out)
		return;
	if (p->kind != CONSOLE_FILE)
		loop_del_fd(p->loop, p->fd);
	outstream_destroy(p->out);
	p->out = NULL;
	if (p->kind == CONSOLE_UNIX) {
		close(p->fd);
		p->fd = -1;
	} else if (p->kind == CONSOLE_PTY) {
		flush_pty(p);
		loop_mod_timer_ns(p->loop, p->timer, LOOK_NS, LOOK_NS);
	}
	p->ops->changed(p->ctx); /* what was held back can be dropped */
}

static bool pty_is_open(const struct console_port *p)
{
	struct pollfd poll_fd = {.fd = p->fd, .events = POLLIN};

	return poll(&poll_fd, 1, 0) >= 0 && !(poll_fd.revents & POLLHUP);
}

static void on_look(void *arg)
{
	struct console_port *p = arg;

	if (p->out || !pty_is_open(p))
		return;
	loop_mod_timer_ns(p->loop, p->timer, 0, 0);
	arrived(p);
}

static void on_accept(void *arg, uint32_t events)
{
	struct console_port *p = arg;
	int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (p->out) {
		static const char busy[] = "lol-run: somebody else is at this console\r\n";
		send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	p->fd = fd;
	arrived(p);
}

/* ---- bytes ---- */

static void on_out_changed(void *arg)
{
	struct console_port *p = arg;

	p->ops->changed(p->ctx);
}

void console_port_resume(struct console_port *p)
{
	if (!p->out || p->kind == CONSOLE_FILE)
		return;
	if (p->in_len) {
		size_t n = p->ops->input(p->ctx, p->in, p->in_len);
		p->in_len -= MIN(n, p->in_len);
		memmove(p->in, p->in + n, p->in_len);
	}
	loop_mod_fd(p->loop, p->fd, p->in_len < IN_BYTES ? EPOLLIN : 0);
}

static void on_readable(void *arg, uint32_t events)
{
	struct console_port *p = arg;
	ssize_t n = 0;

	if (p->in_len < IN_BYTES)
		n = read(p->fd, p->in + p->in_len, IN_BYTES - p->in_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(events & (EPOLLHUP | EPOLLERR)))
		return;
	if (n <= 0) {
		left(p);
		return;
	}
	p->in_len += (size_t)n;
	console_port_resume(p);
}

size_t console_port_write(struct console_port *p, const uint8_t *bytes, size_t len)
{
	if (!p->out)
		return len;
	bool broken = outstream_error(p->out);
	size_t n = outstream_write(p->out, bytes, len);
	if (!broken && outstream_error(p->out) && p->kind == CONSOLE_FILE)
		lol_fail(0, "--console file=%s: %s; the rest of the console is lost", p->path,
			 strerror(outstream_error(p->out)));
	return n;
}

const char *console_port_pty(const struct console_port *p)
{
	return p->kind == CONSOLE_PTY ? p->pty : NULL;
}

/* ---- life ---- */

static int open_file(struct console_port *p, struct lol_error *err)
{
	p->fd = open(p->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
	if (p->fd < 0)
		return lol_error(err, -errno, "%s: %s; name a file that can be written", p->path, strerror(errno));
	return 0;
}

static int open_pty(struct console_port *p, struct lol_error *err)
{
	struct termios raw;
	int slave = -1;

	p->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (p->fd >= 0 && grantpt(p->fd) == 0 && unlockpt(p->fd) == 0 && ptsname_r(p->fd, p->pty, sizeof(p->pty)) == 0)
		slave = open(p->pty, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return lol_error(err, -errno, "--console pty: %s; use another console", strerror(errno));
	if (tcgetattr(slave, &raw) ==
	    0) { /* stays as long as the master is open; echo and the like are the guest's business */
		cfmakeraw(&raw);
		tcsetattr(slave, TCSANOW, &raw);
	}
	close(slave);
	if (p->link) {
		unlink(p->link);
		if (symlink(p->pty, p->link)) {
			free(p->link);
			p->link = NULL;
		}
	}
	fprintf(stderr, "lol-run: console: %s\n", p->pty);
	return 0;
}

static int open_unix(struct console_port *p, struct lol_error *err)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	mode_t mask;
	int ret;

	if (strlen(p->path) >= sizeof(un.sun_path))
		return lol_error(
			err, -ENAMETOOLONG,
			"--console unix=%s: the path has %zu bytes, a socket's can have %zu; use a shorter one",
			p->path, strlen(p->path), sizeof(un.sun_path) - 1);
	strcpy(un.sun_path, p->path);
	p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->listen_fd >= 0 && lstat(p->path, &p->st) == 0 && S_ISSOCK(p->st.st_mode)) {
		int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(probe, (struct sockaddr *)&un, sizeof(un)) < 0 && errno == ECONNREFUSED)
			unlink(p->path); /* of a VM that was killed */
		close(probe);
	}
	mask = umask(0177);
	ret = p->listen_fd < 0 || bind(p->listen_fd, (struct sockaddr *)&un, sizeof(un)) ? -errno : 0;
	umask(mask);
	if (ret) {
		if (p->listen_fd >= 0)
			close(p->listen_fd);
		p->listen_fd = -1;
	} else if (listen(p->listen_fd, 4) || lstat(p->path, &p->st)) {
		ret = -errno;
	}
	return ret ? lol_error(err, ret, "--console unix=%s: %s; name a new file in a directory that can be written",
			       p->path, strerror(-ret))
		   : 0;
}

struct console_port *console_port_create(const struct lol_console *config, const char *link,
					 const struct console_end_ops *ops, struct lol_error *err)
{
	struct console_port *p = calloc(1, sizeof(*p));
	int ret = 0;

	if (p) {
		*p = (struct console_port){.kind = config->kind, .ops = ops, .listen_fd = -1, .fd = -1, .timer = -1};
		p->path = config->path ? strdup(config->path) : NULL;
		p->link = link && config->kind == CONSOLE_PTY ? strdup(link) : NULL;
	}
	if (!p || (!p->path && (config->path || config->kind == CONSOLE_FILE || config->kind == CONSOLE_UNIX))) {
		free(p);
		lol_error(err, -ENOMEM, "--console: out of memory; end other programs");
		return NULL;
	}
	if (p->kind == CONSOLE_FILE)
		ret = open_file(p, err);
	else if (p->kind == CONSOLE_PTY)
		ret = open_pty(p, err);
	else if (p->kind == CONSOLE_UNIX)
		ret = open_unix(p, err);
	if (!ret)
		return p;
	console_port_destroy(p);
	return NULL;
}

#define FLUSH_PATIENCE_MS 2000

static void leave_loop(struct console_port *p)
{
	if (p->out)
		outstream_flush_for(p->out, FLUSH_PATIENCE_MS);
	if (p->out && p->kind != CONSOLE_FILE)
		loop_del_fd(p->loop, p->fd);
	outstream_destroy(p->out);
	p->out = NULL;
	if (p->listen_fd >= 0)
		loop_del_fd(p->loop, p->listen_fd);
	if (p->timer >= 0)
		loop_del_timer(p->loop, p->timer);
	p->timer = -1;
	p->loop = NULL;
}

int console_port_set_loop(struct console_port *p, struct loop *loop, void *ctx)
{
	if (p->loop)
		leave_loop(p);
	p->ctx = ctx;
	p->loop = loop;
	if (!loop)
		return 0;
	if (p->listen_fd >= 0)
		loop_add_fd(loop, p->listen_fd, EPOLLIN, on_accept, p);
	if (p->kind == CONSOLE_PTY) {
		p->timer = loop_add_timer_ns(loop, LOOK_NS, LOOK_NS, on_look, p);
		if (p->timer < 0)
			return p->timer;
	} else if (p->fd >= 0) {
		arrived(p);
		return p->out ? 0 : -errno;
	}
	return 0;
}

/* With the master a pty's content goes, read or not: give a reader the time to take it. */
static void drain_pty(const struct console_port *p)
{
	int slave = p->fd >= 0 && p->pty[0] && pty_is_open(p)
			    ? open(p->pty, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
			    : -1;
	int n = 0, before = -1;

	for (int ms = 0; slave >= 0 && ms < FLUSH_PATIENCE_MS && ioctl(slave, FIONREAD, &n) == 0 && n > 0; ms += 10) {
		if (n != before)
			ms = 0;
		before = n;
		usleep(10000);
	}
	if (slave >= 0)
		close(slave);
}

void console_port_destroy(struct console_port *p)
{
	struct stat st;

	if (!p)
		return;
	if (p->loop)
		leave_loop(p);
	if (p->kind == CONSOLE_PTY)
		drain_pty(p);
	if (p->fd >= 0)
		close(p->fd);
	if (p->listen_fd >= 0) {
		close(p->listen_fd);
		if (lstat(p->path, &st) == 0 && st.st_ino == p->st.st_ino && st.st_dev == p->st.st_dev)
			unlink(p->path);
	}
	if (p->link)
		unlink(p->link);
	free(p->path);
	free(p->link);
	free(p);
}
