/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor's event loop. See loop.h.
 *
 * A source lives in a table indexed by its fd. epoll's user data is the fd with a generation number above it: an event
 * whose generation is not the table's belongs to a source that a callback of the same turn has deleted (perhaps the fd
 * number has a new owner already), and is dropped.
 */
#include "loop.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define EVENTS_PER_TURN 64
#define NS_PER_S 1000000000ull

struct source {
	loop_fd_fn cb;
	void *arg;
	uint32_t events;
	uint32_t generation;    /* 0: no source */
	bool always_ready;      /* a regular file: epoll refuses it */
	loop_timer_fn timer_cb; /* the fd is a timer of ours */
};

struct signal_entry {
	struct signal_entry *next;
	int signo;
	bool dead; /* deleted while signals were being handed out */
	loop_signal_fn cb;
	void *arg;
};

struct prepare_entry {
	struct prepare_entry *next;
	loop_timer_fn cb;
	void *arg;
};

struct loop {
	int epfd;
	int sigfd;
	struct source *sources; /* indexed by fd */
	int nsources;
	uint32_t generation;
	int nalways; /* sources that are always ready and want events */
	struct prepare_entry *prepares;
	struct signal_entry *signals;
	sigset_t watched, old_mask;
	bool stopped;
	int code;
};

struct loop *loop_create(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return NULL;
	loop->sigfd = -1;
	sigemptyset(&loop->watched);
	pthread_sigmask(SIG_SETMASK, NULL, &loop->old_mask);
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0) {
		free(loop);
		return NULL;
	}
	return loop;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	for (int fd = 0; fd < loop->nsources; fd++)
		if (loop->sources[fd].generation && loop->sources[fd].timer_cb)
			close(fd);
	for (struct signal_entry *s = loop->signals, *next; s; s = next) {
		next = s->next;
		free(s);
	}
	while (loop->prepares)
		loop_del_prepare(loop, loop->prepares->cb, loop->prepares->arg);
	if (loop->sigfd >= 0)
		close(loop->sigfd);
	pthread_sigmask(SIG_SETMASK, &loop->old_mask, NULL);
	close(loop->epfd);
	free(loop->sources);
	free(loop);
}

static struct source *source_of(struct loop *loop, int fd)
{
	if (fd < 0 || fd >= loop->nsources || !loop->sources[fd].generation)
		return NULL;
	return &loop->sources[fd];
}

static int grow_table(struct loop *loop, int fd)
{
	if (fd < loop->nsources)
		return 0;
	int n = fd + 32;
	struct source *s = realloc(loop->sources, (size_t)n * sizeof(*s));
	if (!s)
		return -ENOMEM;
	memset(s + loop->nsources, 0, (size_t)(n - loop->nsources) * sizeof(*s));
	loop->sources = s;
	loop->nsources = n;
	return 0;
}

static int epoll_set(struct loop *loop, int op, int fd, const struct source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)s->generation << 32 | (uint32_t)fd};
	return epoll_ctl(loop->epfd, op, fd, &ev) ? -errno : 0;
}

/* Bring the epoll set from s->events to events; a source without events is not in the set at all. */
static int source_watch(struct loop *loop, int fd, struct source *s, uint32_t events)
{
	if (s->always_ready) {
		loop->nalways += !!events - !!s->events;
		s->events = events;
		return 0;
	}
	int r = 0;
	if (events && !s->events)
		r = epoll_set(loop, EPOLL_CTL_ADD, fd, s, events);
	else if (!events && s->events)
		r = epoll_set(loop, EPOLL_CTL_DEL, fd, s, 0);
	else if (events != s->events)
		r = epoll_set(loop, EPOLL_CTL_MOD, fd, s, events);
	if (r == -EPERM && !s->events) {
		s->always_ready = true;
		return source_watch(loop, fd, s, events);
	}
	if (!r)
		s->events = events;
	return r;
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn cb, void *arg)
{
	if (fd < 0 || !cb)
		return -EINVAL;
	if (source_of(loop, fd))
		return -EEXIST;
	int r = grow_table(loop, fd);
	if (r)
		return r;
	struct source *s = &loop->sources[fd];
	if (!++loop->generation)
		loop->generation = 1;
	*s = (struct source){.cb = cb, .arg = arg, .generation = loop->generation};
	r = source_watch(loop, fd, s, events);
	if (r)
		s->generation = 0;
	return r;
}

int loop_mod_fd(struct loop *loop, int fd, uint32_t events)
{
	struct source *s = source_of(loop, fd);
	return s ? source_watch(loop, fd, s, events) : -ENOENT;
}

int loop_del_fd(struct loop *loop, int fd)
{
	struct source *s = source_of(loop, fd);
	if (!s)
		return -ENOENT;
	source_watch(loop, fd, s, 0);
	memset(s, 0, sizeof(*s));
	return 0;
}

/* Timers: one timerfd each; a monitor has a handful. */

static int timer_set(int fd, uint64_t first_ns, uint64_t interval_ns)
{
	struct itimerspec its = {
		.it_value = {.tv_sec = (time_t)(first_ns / NS_PER_S), .tv_nsec = (long)(first_ns % NS_PER_S)},
		.it_interval = {.tv_sec = (time_t)(interval_ns / NS_PER_S), .tv_nsec = (long)(interval_ns % NS_PER_S)},
	};
	return timerfd_settime(fd, 0, &its, NULL) ? -errno : 0;
}

static void timer_placeholder(void *arg, uint32_t events)
{
	(void)arg;
	(void)events;
}

int loop_add_timer_ns(struct loop *loop, uint64_t first_ns, uint64_t interval_ns, loop_timer_fn cb, void *arg)
{
	if (!cb)
		return -EINVAL;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = loop_add_fd(loop, fd, EPOLLIN, timer_placeholder, arg);
	if (r) {
		close(fd);
		return r;
	}
	loop->sources[fd].timer_cb = cb;
	r = timer_set(fd, first_ns, interval_ns);
	if (r) {
		loop_del_timer(loop, fd);
		return r;
	}
	return fd;
}

int loop_mod_timer_ns(struct loop *loop, int timer, uint64_t first_ns, uint64_t interval_ns)
{
	struct source *s = source_of(loop, timer);
	return s && s->timer_cb ? timer_set(timer, first_ns, interval_ns) : -ENOENT;
}

void loop_del_timer(struct loop *loop, int timer)
{
	struct source *s = source_of(loop, timer);
	if (!s || !s->timer_cb)
		return;
	loop_del_fd(loop, timer);
	close(timer);
}

int loop_add_prepare(struct loop *loop, loop_timer_fn cb, void *arg)
{
	struct prepare_entry *e = malloc(sizeof(*e)), **p = &loop->prepares;
	if (!e)
		return -ENOMEM;
	*e = (struct prepare_entry){.cb = cb, .arg = arg};
	while (*p)
		p = &(*p)->next;
	*p = e;
	return 0;
}

void loop_del_prepare(struct loop *loop, loop_timer_fn cb, void *arg)
{
	for (struct prepare_entry **p = &loop->prepares, *e; (e = *p); p = &e->next)
		if (e->cb == cb && e->arg == arg) {
			*p = e->next;
			free(e);
			return;
		}
}

/* Signals: one signalfd for all of them. */

static void signal_sweep(struct loop *loop)
{
	for (struct signal_entry **p = &loop->signals; *p;) {
		struct signal_entry *s = *p;
		if (s->dead) {
			*p = s->next;
			free(s);
		} else {
			p = &s->next;
		}
	}
}

static void signal_event(void *arg, uint32_t events)
{
	struct loop *loop = arg;
	struct signalfd_siginfo info;
	(void)events;
	while (read(loop->sigfd, &info, sizeof(info)) == sizeof(info))
		for (struct signal_entry *s = loop->signals; s; s = s->next)
			if (!s->dead && s->signo == (int)info.ssi_signo)
				s->cb(s->arg, s->signo);
	signal_sweep(loop);
}

int loop_add_signal(struct loop *loop, int signo, loop_signal_fn cb, void *arg)
{
	struct signal_entry *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct signal_entry){.signo = signo, .cb = cb, .arg = arg};

	sigset_t one;
	sigemptyset(&one);
	if (!cb || sigaddset(&one, signo) || sigaddset(&loop->watched, signo)) {
		free(s);
		return -EINVAL;
	}
	pthread_sigmask(SIG_BLOCK, &one, NULL);
	int fd = signalfd(loop->sigfd, &loop->watched, SFD_NONBLOCK | SFD_CLOEXEC);
	int r = fd < 0 ? -errno : 0;
	if (!r && loop->sigfd < 0) {
		loop->sigfd = fd;
		r = loop_add_fd(loop, fd, EPOLLIN, signal_event, loop);
	}
	if (r) {
		free(s);
		return r;
	}
	struct signal_entry **p = &loop->signals;
	while (*p)
		p = &(*p)->next;
	*p = s;
	return 0;
}

void loop_del_signal(struct loop *loop, int signo, loop_signal_fn cb, void *arg)
{
	for (struct signal_entry *s = loop->signals; s; s = s->next)
		if (s->signo == signo && s->cb == cb && s->arg == arg)
			s->dead = true; /* freed by the next sweep: a hand-out may be standing on it */
}

/* The loop itself. */

static void dispatch(struct loop *loop, int fd, uint32_t generation, uint32_t events)
{
	struct source *s = source_of(loop, fd);
	if (!s || s->generation != generation || !s->events)
		return;
	if (s->timer_cb) {
		uint64_t expirations;
		if (read(fd, &expirations, sizeof(expirations)) == sizeof(expirations))
			s->timer_cb(s->arg);
		return;
	}
	s->cb(s->arg, events);
}

static void dispatch_always_ready(struct loop *loop)
{
	for (int fd = 0; fd < loop->nsources && !loop->stopped; fd++) {
		struct source *s = &loop->sources[fd];
		if (s->generation && s->always_ready && s->events)
			s->cb(s->arg, s->events & (EPOLLIN | EPOLLOUT));
	}
}

int loop_turn(struct loop *loop, int timeout_ms)
{
	struct epoll_event ev[EVENTS_PER_TURN];
	for (struct prepare_entry *p = loop->prepares, *next; p; p = next) {
		next = p->next; /* it may delete itself, but no other */
		p->cb(p->arg);
	}
	int n = epoll_wait(loop->epfd, ev, EVENTS_PER_TURN, loop->nalways ? 0 : timeout_ms);
	if (n < 0 && errno != EINTR)
		return -errno;
	for (int i = 0; i < n && !loop->stopped; i++)
		dispatch(loop, (int)(uint32_t)ev[i].data.u64, (uint32_t)(ev[i].data.u64 >> 32), ev[i].events);
	if (loop->nalways && !loop->stopped)
		dispatch_always_ready(loop);
	return loop->stopped;
}

int loop_run(struct loop *loop)
{
	int r = 0;
	while (!loop->stopped && !r)
		r = loop_turn(loop, -1);
	if (loop->stopped)
		r = loop->code;
	loop->stopped = false;
	return r;
}

void loop_stop(struct loop *loop, int code)
{
	if (!loop->stopped)
		loop->code = code;
	loop->stopped = true;
}
