// SPDX-License-Identifier: GPL-2.0
/* A deadlock: two threads take the same two mutexes, in different orders, and give each other time to do it. */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>

static DEFINE_MUTEX(accounts);
static DEFINE_MUTEX(journal);

static noinline void book(void)
{
	mutex_lock(&accounts);
	msleep(100);
	mutex_lock(&journal);
	mutex_unlock(&journal);
	mutex_unlock(&accounts);
}

static noinline void replay(void)
{
	mutex_lock(&journal);
	msleep(100);
	mutex_lock(&accounts);
	mutex_unlock(&accounts);
	mutex_unlock(&journal);
}

static int booker(void *unused)
{
	book();
	return 0;
}

static int replayer(void *unused)
{
	replay();
	return 0;
}

static int __init deadlock_init(void)
{
	kthread_run(booker, NULL, "lol-booker");
	kthread_run(replayer, NULL, "lol-replayer");
	return 0;
}

module_init(deadlock_init);
MODULE_DESCRIPTION("A deadlock to be found with gdb");
MODULE_LICENSE("GPL");
