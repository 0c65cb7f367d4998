// SPDX-License-Identifier: BSD-2-Clause
/*
 * deny WHAT[,WHAT...] COMMAND [ARG]...: run a command on a host that forbids something, with what such a host answers.
 *
 *   io_uring   io_uring_setup: EPERM, as with kernel.io_uring_disabled
 *   userns     unshare and clone with CLONE_NEWUSER: EPERM, as with user.max_user_namespaces=0; clone3: ENOSYS
 *   seccomp    no further filters: EINVAL, as on a kernel without them
 *   memfd      memfd_create: ENOSYS
 *   mount      mount: EACCES, as where user namespaces can be made but have no rights (Ubuntu 24.04)
 *   docker     what the default seccomp profile of Docker and Podman refuses to containers without capabilities: EPERM; clone3: ENOSYS
 *   landlock   landlock_create_ruleset: EOPNOTSUPP, as on a kernel that has it switched off
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define ANY 0xffffffffu

/* clang-format off */
static const struct rule {
	const char *what;
	unsigned int nr, flag; /* flag: a bit of the first argument (value: prctl's first argument), or ANY */
	int equal, err;
} rules[] = {
	{"io_uring", SYS_io_uring_setup, ANY, 0, EPERM}, {"userns", SYS_unshare, CLONE_NEWUSER, 0, EPERM},
	{"userns", SYS_clone, CLONE_NEWUSER, 0, EPERM},  {"userns", SYS_clone3, ANY, 0, ENOSYS},
	{"seccomp", SYS_seccomp, ANY, 0, EINVAL},        {"seccomp", SYS_prctl, PR_SET_SECCOMP, 1, EINVAL},
	{"memfd", SYS_memfd_create, ANY, 0, ENOSYS},     {"mount", SYS_mount, ANY, 0, EACCES},
	{"landlock", SYS_landlock_create_ruleset, ANY, 0, EOPNOTSUPP},
#define DOCKER(call) {"docker", SYS_##call, ANY, 0, EPERM}
	DOCKER(acct), DOCKER(add_key), DOCKER(bpf), DOCKER(clock_adjtime), DOCKER(clock_settime),
	DOCKER(create_module), DOCKER(delete_module), DOCKER(fanotify_init), DOCKER(finit_module), DOCKER(fsconfig),
	DOCKER(fsmount), DOCKER(fsopen), DOCKER(fspick), DOCKER(get_kernel_syms), DOCKER(get_mempolicy),
	DOCKER(init_module), DOCKER(io_uring_setup), DOCKER(io_uring_enter), DOCKER(io_uring_register),
	DOCKER(ioperm), DOCKER(iopl), DOCKER(kexec_file_load), DOCKER(kexec_load), DOCKER(keyctl),
	DOCKER(lookup_dcookie), DOCKER(mbind), DOCKER(mount), DOCKER(mount_setattr), DOCKER(move_mount),
	DOCKER(move_pages), DOCKER(name_to_handle_at), DOCKER(nfsservctl), DOCKER(open_by_handle_at),
	DOCKER(open_tree), DOCKER(perf_event_open), DOCKER(pivot_root), DOCKER(query_module), DOCKER(quotactl),
	DOCKER(reboot), DOCKER(request_key), DOCKER(set_mempolicy), DOCKER(setns), DOCKER(settimeofday),
	DOCKER(swapoff), DOCKER(swapon), DOCKER(sysfs), DOCKER(syslog), DOCKER(umount2), DOCKER(unshare),
	DOCKER(userfaultfd), DOCKER(ustat), DOCKER(vhangup),
	{"docker", SYS_clone, CLONE_NEWUSER, 0, EPERM},	 {"docker", SYS_clone3, ANY, 0, ENOSYS},
};
/* clang-format on */

int main(int argc, char **argv)
{
	struct sock_filter code[8 * ARRAY_LEN(rules) + 1];
	unsigned short n = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: deny WHAT[,WHAT...] COMMAND [ARG]...\n");
		return 125;
	}
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		const struct rule *r = &rules[i];
		if (!strstr(argv[1], r->what))
			continue;
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
		if (r->flag == ANY) {
			code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->nr, 0, 1);
		} else {
			code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->nr, 0, 3);
			code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
								 offsetof(struct seccomp_data, args[0]));
			code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | (r->equal ? BPF_JEQ : BPF_JSET) | BPF_K,
								 r->flag, 0, 1);
		}
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)r->err);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){n, code})) {
		perror("deny: seccomp");
		return 125;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 125;
}
