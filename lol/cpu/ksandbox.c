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

static int allow(scmp_filter_ctx c, int nr)
{
	return seccomp_rule_add(c, SCMP_ACT_ALLOW, nr, 0);
}

const char *ksandbox_enter(void)
{
	/* restart_syscall: the host itself goes on so with a wait that has a time-out, after a stop (job control, tracer, freezer). */
	static const int plain[] = {SCMP_SYS(munmap), SCMP_SYS(mprotect), SCMP_SYS(futex), SCMP_SYS(timer_settime), SCMP_SYS(rt_sigreturn),
				    SCMP_SYS(pidfd_send_signal), SCMP_SYS(close), SCMP_SYS(getrandom), SCMP_SYS(exit_group),
				    SCMP_SYS(exit), SCMP_SYS(getpid), SCMP_SYS(sched_yield), SCMP_SYS(restart_syscall),
				    SCMP_SYS(clock_gettime)};
	scmp_filter_ctx c = seccomp_init(SCMP_ACT_TRAP);
	int err = c ? 0 : -1;

	for (unsigned i = 0; i < ARRAY_LEN(plain); i++)
		err |= allow(c, plain[i]);
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A3(SCMP_CMP_EQ, MAP_SHARED | MAP_FIXED), SCMP_A4(SCMP_CMP_EQ, FD_RAM));
	for (unsigned i = 0; i < RAM_PMEM_MAX; i++)
		err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A3(SCMP_CMP_EQ, MAP_SHARED | MAP_FIXED),
					SCMP_A4(SCMP_CMP_EQ, FD_PMEM + i));
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(write), 1, SCMP_A0(SCMP_CMP_EQ, FD_DOORBELL));
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(write), 1, SCMP_A0(SCMP_CMP_EQ, 2));
	/* The pipes of U's, which come from the zygote, get numbers that K starts without; pmem it may write anyway. */
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(write), 1, SCMP_A0(SCMP_CMP_GE, FD_MONITOR));
	err |= seccomp_syscall_priority(c, SCMP_SYS(write), 255); /* looked at first; the rest is either plain, which is cheap, or rare */
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(sendto), 2, SCMP_A0(SCMP_CMP_EQ, FD_ZYGOTE), SCMP_A4(SCMP_CMP_EQ, 0));
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(recvmsg), 1, SCMP_A0(SCMP_CMP_EQ, FD_ZYGOTE));
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	for (unsigned i = 0; i < MAX_VCPUS && vcpus[i]; i++)
		if (vcpus[i]->handoff.schedstat >= 0)
			err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(pread64), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)vcpus[i]->handoff.schedstat));
	err |= seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(sched_setaffinity), 1, SCMP_A0(SCMP_CMP_EQ, 0));
	err |= seccomp_attr_set(c, SCMP_FLTATR_CTL_TSYNC, 1); /* all vCPUs' threads */
	err |= seccomp_attr_set(c, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP); /* int 0x80, x32: the end of K, not of one thread */
	if (err == 0)
		err = seccomp_load(c);
	if (c)
		seccomp_release(c);
	return err ? "the host forbids seccomp filters; LoL runs guest code only behind one (see lol(7), section SANDBOX)" : NULL;
}
