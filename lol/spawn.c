/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The zygote is made by clone into fresh user, PID, mount, network, IPC and UTS namespaces
 * where the host lets an ordinary user have them; where it does not, the seccomp filters
 * and the parent-death signals stand alone. Everything of the VM is below the zygote: in
 * its PID namespace the host ends it with process 1, elsewhere by the death signals.
 */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "kctl.h"
#include "paths.h"

#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* Put the descriptors at the numbers that lol-u and lol-k expect; source i goes to FD_RAM + i. */
static int place_fds(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if ((fds[i] = fcntl(fds[i], F_DUPFD, 64)) < 0)
			return -1;
	for (unsigned i = 0; i < n; i++)
		if (dup2(fds[i], FD_RAM + (int)i) < 0)
			return -1;
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return -1;
	if (close_range(FD_RAM + n, ~0u, 0) < 0)
		for (unsigned fd = FD_RAM + n; fd < 1024; fd++)
			close((int)fd);
	return 0;
}

static void child(const char *zygote, const char *k, int *fds, unsigned n, int messages, bool mapped, uid_t uid,
		  gid_t gid)
{
	char *argv[] = {(char *)zygote, (char *)k, NULL}, *env[] = {NULL};

	child_begin();
	if (mapped)
		child_map_ids(uid, gid, uid, gid); /* else they read as nobody's; nothing in the VM looks at them */
	if (dup2(messages, 2) == 2 && place_fds(fds, n) == 0)
		execve(zygote, argv, env);
	_exit(127);
}

int spawn_start(struct spawn *s, int ram, int ctl, int ushare, int doorbell, const int pmem[RAM_PMEM_MAX],
		struct lol_error *err)
{
	char *zygote = paths_helper("lol-u"), *k = paths_helper("lol-k");
	int kz[2] = {-1, -1}, mon[2] = {-1, -1}, messages[2] = {-1, -1}, exe = -1, null = -1, ret = 0;
	uid_t uid = getuid();
	gid_t gid = getgid();

	*s = (struct spawn){.zygote = -1, .monitor_sock = -1, .messages = -1};
	if (!zygote || !k || (exe = open(k, O_RDONLY | O_CLOEXEC)) < 0 || access(zygote, X_OK) < 0) {
		ret = lol_error(err, -ENOENT, "%s: cannot be used: %s; install LoL again", k ? k : "lol-k",
				strerror(errno));
		goto out;
	}
	if ((null = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) {
		ret = lol_error(err, -errno, "/dev/null: %s; close some files or raise ulimit -n", strerror(errno));
		goto out;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, kz) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, mon) < 0) {
		ret = lol_error(err, -errno, "socketpair: %s; close some files or raise ulimit -n", strerror(errno));
		goto out;
	}
	if (pipe2(messages, O_CLOEXEC) < 0 || fcntl(messages[0], F_SETFL, O_NONBLOCK) < 0) {
		ret = lol_error(err, -errno, "pipe: %s; close some files or raise ulimit -n", strerror(errno));
		goto out;
	}
	/*
	 * K's end of kz and the zygote's own end share the number FD_ZYGOTE: the zygote gets its end, and passes K's on under the
	 * same number when it starts K (FD_K_SOCK).
	 */
	int fds[FD_PMEM - FD_RAM + RAM_PMEM_MAX] = {ram, ctl, ushare, doorbell, kz[0], mon[1], exe, kz[1]};
	/* A number that is not used must not become another descriptor: U's may map what is there. */
	for (unsigned i = 0; i < RAM_PMEM_MAX; i++)
		fds[FD_PMEM - FD_RAM + i] = pmem[i] >= 0 ? pmem[i] : null;
	for (int flags = NAMESPACES;; flags = 0) {
		pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			child(zygote, k, fds, ARRAY_LEN(fds), messages[1], flags != 0, uid, gid);
		if (pid < 0 && flags)
			continue; /* user namespaces are switched off: go on without */
		if (pid < 0) {
			ret = lol_error(err, -errno, "fork: %s; is the limit of processes (ulimit -u) reached?",
					strerror(errno));
			goto out;
		}
		s->zygote = pid;
		s->isolated = flags != 0;
		break;
	}
	s->monitor_sock = mon[0];
	s->messages = messages[0];
	mon[0] = messages[0] = -1;
out:
	for (int i = 0; i < 2; i++) {
		if (kz[i] >= 0)
			close(kz[i]);
		if (mon[i] >= 0)
			close(mon[i]);
		if (messages[i] >= 0)
			close(messages[i]);
	}
	if (exe >= 0)
		close(exe);
	if (null >= 0)
		close(null);
	free(zygote);
	free(k);
	return ret;
}

void spawn_stop(struct spawn *s)
{
	if (s->zygote > 0) {
		kill(s->zygote, SIGKILL);
		while (waitpid(s->zygote, NULL, 0) < 0 && errno == EINTR)
			;
	}
	s->zygote = -1;
	if (s->monitor_sock >= 0)
		close(s->monitor_sock);
	s->monitor_sock = -1;
}
