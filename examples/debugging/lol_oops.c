// SPDX-License-Identifier: GPL-2.0
/*
 * A NULL dereference: a list of items, counted by name. Write a name to /proc/lol_oops. Nobody thought of names that
 * are not in the list.
 */
#include <linux/list.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/string.h>
#include <linux/uaccess.h>

struct item {
	struct list_head list;
	char name[16];
	unsigned long uses;
};

static struct item apple = {.name = "apple"}, pear = {.name = "pear"};
static LIST_HEAD(items);

static noinline struct item *find_item(const char *name)
{
	struct item *item;

	list_for_each_entry(item, &items, list) if (!strcmp(item->name, name)) return item;
	return NULL;
}

static noinline void use_item(const char *name)
{
	struct item *item = find_item(name);

	item->uses++;
}

static ssize_t items_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	char name[16] = "";

	if (count >= sizeof(name) || copy_from_user(name, buf, count))
		return -EINVAL;
	use_item(strim(name));
	return count;
}

static const struct proc_ops items_ops = {.proc_write = items_write};

static int __init items_init(void)
{
	list_add(&apple.list, &items);
	list_add(&pear.list, &items);
	return proc_create("lol_oops", 0200, NULL, &items_ops) ? 0 : -ENOMEM;
}

static void __exit items_exit(void)
{
	remove_proc_entry("lol_oops", NULL);
}

module_init(items_init);
module_exit(items_exit);
MODULE_DESCRIPTION("A NULL dereference to be found with gdb");
MODULE_LICENSE("GPL");
