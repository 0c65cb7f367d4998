/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What K may ask of the host.  A hostile guest kernel has every instruction of this
 * process, so this list is the wall: no file is opened, no process started, no socket
 * made; descriptors can be used, not created (but for pidfds of U's, from the zygote).
 */
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/k.h"

const char *ksandbox_enter(void);

/* The declarations of K's sources (K_ALLOW in k.h), collected by the build, become rules. */
static int add_rules(scmp_filter_ctx c)
{
	int err = 0;

#undef K_ALLOW
#undef K_ALLOW_EACH
#define K_ALLOW(call, ...) \
	do { \
		const struct scmp_arg_cmp when[] = { \
			{0}, __VA_ARGS__}; /* the first is not looked at: there may be no others */ \
		err |= seccomp_rule_add_array(c, SCMP_ACT_ALLOW, SCMP_SYS(call), sizeof(when) / sizeof(when[0]) - 1, \
					      when + 1); \
	} while (0)
#define K_ALLOW_EACH(i, more, call, ...) \
	for (unsigned i = 0; more; i++) \
	K_ALLOW(call, __VA_ARGS__)
#include "k-allow.inc"
	return err;
}

const char *ksandbox_enter(void)
{
	scmp_filter_ctx c = seccomp_init(SCMP_ACT_TRAP);
	int err = c ? add_rules(c) : -1;

	err |= seccomp_syscall_priority(c, SCMP_SYS(write),
					255); /* looked at first; the rest is either plain, which is cheap, or rare */
	err |= seccomp_attr_set(c, SCMP_FLTATR_CTL_TSYNC, 1); /* all vCPUs' threads */
	err |= seccomp_attr_set(c, SCMP_FLTATR_ACT_BADARCH,
				SCMP_ACT_TRAP); /* int 0x80, x32: the end of K, not of one thread */
	if (err == 0)
		err = seccomp_load(c);
	if (c)
		seccomp_release(c);
	return err ? "the host forbids seccomp filters; LoL runs guest code only behind one (see lol(7), section SANDBOX)"
		   : NULL;
}
