/* SPDX-License-Identifier: BSD-2-Clause */
/* The monitor's threads beside its loop. */
#ifndef LOL_THREAD_H
#define LOL_THREAD_H

#include <pthread.h>
#include <signal.h>

/* pthread_create(), and its errors, for a thread that gets no signals: they belong to the loop. */
static inline int thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int ret = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

#endif
