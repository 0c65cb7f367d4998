// SPDX-License-Identifier: GPL-2.0
/*
 * A field that somebody overwrites: now and then box.limit is not what it was set to. A timer's handler fills the label
 * in front of it, and is wrong by one.
 */
#include <linux/module.h>
#include <linux/timer.h>

static struct box {
	char label[8];
	unsigned long limit;
} box = {.limit = 1000};

static struct timer_list relabel_timer;
static unsigned int round_number;

static noinline void relabel(struct box *b, unsigned int n)
{
	unsigned int i, length = 8;
	char *p = b->label;

	if (n % 4 == 3)
		length++;
	OPTIMIZER_HIDE_VAR(p); /* else the compiler knows that this is wrong, too */
	for (i = 0; i < length; i++)
		p[i] = 'A' + n % 26;
}

static void relabel_tick(struct timer_list *t)
{
	relabel(&box, round_number++);
	mod_timer(t, jiffies + HZ / 10);
}

static int __init corrupt_init(void)
{
	timer_setup(&relabel_timer, relabel_tick, 0);
	mod_timer(&relabel_timer, jiffies + HZ / 10);
	return 0;
}

static void __exit corrupt_exit(void)
{
	timer_shutdown_sync(&relabel_timer);
}

module_init(corrupt_init);
module_exit(corrupt_exit);
MODULE_DESCRIPTION("A field that is overwritten, to be found with gdb");
MODULE_LICENSE("GPL");
