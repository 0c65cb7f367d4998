/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor's event loop: one thread, one epoll set. Every device back-end, the terminal and the control socket hang
 * on it, so none of them needs a lock. Nothing here may be called from another thread or from a signal handler: a
 * thread that has something to report writes an eventfd that is registered here.
 *
 * Callbacks may add, change and delete any source, their own too; an event that was already fetched for a deleted
 * source is dropped. All functions that return int give 0 (or a small id) on success and a negative errno.
 */
#ifndef LOL_LOOP_H
#define LOL_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

struct loop;

typedef void (*loop_fd_fn)(void *arg, uint32_t events); /* events: EPOLLIN, EPOLLOUT, EPOLLHUP... */
typedef void (*loop_timer_fn)(void *arg);
typedef void (*loop_signal_fn)(void *arg, int signo);

struct loop *loop_create(void); /* NULL with errno set */
void loop_destroy(struct loop *loop);

/*
 * Watch fd. A file that epoll cannot watch (a regular file: always ready) is called back once per turn of the loop as
 * long as its events are not 0. With events 0 nothing at all is reported, not even EPOLLHUP, which epoll would repeat
 * for ever: that is how back-pressure is expressed.
 */
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn cb, void *arg);
int loop_mod_fd(struct loop *loop, int fd, uint32_t events);
int loop_del_fd(struct loop *loop, int fd); /* before fd is closed */

/* A timer on CLOCK_MONOTONIC; interval_ns 0 makes it fire once (it stays for loop_mod_timer_ns). Returns its id >= 0. */
int loop_add_timer_ns(struct loop *loop, uint64_t first_ns, uint64_t interval_ns, loop_timer_fn cb, void *arg);
int loop_mod_timer_ns(struct loop *loop, int timer, uint64_t first_ns, uint64_t interval_ns); /* first_ns 0: stop it */
void loop_del_timer(struct loop *loop, int timer);

/*
 * Have cb called in every turn of the loop, before it waits: for a library that wants to say anew each time what it waits
 * for. It may add, change and delete sources, and its own registration. Called in the order of their registration.
 */
int loop_add_prepare(struct loop *loop, loop_timer_fn cb, void *arg);
void loop_del_prepare(struct loop *loop, loop_timer_fn cb, void *arg);

/*
 * Take signal signo out of the ordinary delivery and hand it to cb inside the loop; several callbacks per signal are
 * called in the order of their registration. The signal is blocked in the calling thread, so threads and processes
 * started later inherit the block: a child that wants its signals resets the mask first. loop_destroy() restores it.
 */
int loop_add_signal(struct loop *loop, int signo, loop_signal_fn cb, void *arg);
void loop_del_signal(struct loop *loop, int signo, loop_signal_fn cb, void *arg);

int loop_run(struct loop *loop);             /* the code given to loop_stop(), or -errno where epoll itself fails */
void loop_stop(struct loop *loop, int code); /* the first call in a run decides */
int loop_turn(struct loop *loop, int timeout_ms); /* one turn only (tests); 1 when stopped, else 0 or -errno */

#endif
