/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hardware breakpoints and watchpoints: the host's debug registers, for K's threads.
 *
 * ptrace needs no privilege here: the monitor is an ancestor of K, which Yama's default asks for.  It is attached only
 * while the registers are set: they stay when it lets go, and a hit is a SIGTRAP in the thread itself, so a watched
 * kernel runs at full speed.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#undef PAGE_SIZE /* sys/user.h has its own */
#undef PAGE_MASK

#include "gdb/server_int.h"

#define DR(n) (offsetof(struct user, u_debugreg) + (n) * sizeof(((struct user *)0)->u_debugreg[0]))

/* Is p in user code's memory? Its threads are not ours to stop by the host's registers: they come and go. */
static bool is_user(const struct gdb_server *g, const struct hard_point *p)
{
	return p->addr < K_USER_END && !gmem_kernel_root(&g->mem, p->addr);
}

/* DR7 (SDM vol. 3, 18.2.4). */
static unsigned long control(const struct gdb_server *g)
{
	static const uint8_t length[9] = {0, 0, 1, 0, 3, 0, 0, 0, 2};
	unsigned long dr7 = 0;

	for (unsigned i = 0; i < ARRAY_LEN(g->hard); i++) {
		const struct hard_point *p = &g->hard[i];
		if (!p->used || is_user(g, p))
			continue;
		unsigned long kind = p->kind == POINT_HARDWARE ? 0 : p->kind == POINT_WRITE ? 1 : 3;
		dr7 |= 1ul << 2 * i | (kind | (unsigned long)length[p->size] << 2) << (16 + 4 * i);
	}
	return dr7;
}

/* Attached and stopped; 0 or an errno. */
static int seize(pid_t tid, int *signo)
{
	int status;

	*signo = 0;

	if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0)
		return errno;
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
		return errno;
	while (waitpid(tid, &status, __WALL) < 0)
		if (errno != EINTR)
			return errno;
	if (!WIFSTOPPED(status))
		return ESRCH;
	if (status >> 16 != PTRACE_EVENT_STOP)
		*signo = WSTOPSIG(status);
	return 0;
}

/* Let go, with the signal that we have come across instead of our own stop. */
static void release(pid_t tid, int signo)
{
	ptrace(PTRACE_DETACH, tid, 0, (long)signo);
}

static gva_t host_address(struct gdb_server *g, const struct hard_point *p)
{
	const struct gmem_site *s = p->kind == POINT_HARDWARE ? gmem_site(&g->mem, p->addr) : NULL;

	return s ? s->start : p->addr;
}

static int set_thread(struct gdb_server *g, pid_t tid)
{
	int signo, err = seize(tid, &signo);

	if (err)
		return err;
	/* Off first, so that no half-written combination is refused or hit. */
	if (ptrace(PTRACE_POKEUSER, tid, DR(7), 0) < 0)
		err = errno;
	for (unsigned i = 0; !err && i < ARRAY_LEN(g->hard); i++)
		if (g->hard[i].used && !is_user(g, &g->hard[i]) &&
		    ptrace(PTRACE_POKEUSER, tid, DR(i), host_address(g, &g->hard[i])) < 0)
			err = errno;
	if (!err && ptrace(PTRACE_POKEUSER, tid, DR(6), 0) < 0)
		err = errno;
	if (!err && ptrace(PTRACE_POKEUSER, tid, DR(7), control(g)) < 0)
		err = errno;
	release(tid, signo);
	return err;
}

/* K's process as the monitor's own PID namespace numbers it. */
static pid_t k_pid(struct machine *m)
{
	char path[64], line[128];
	int pid = -1;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", m->k_pidfd);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Pid: %d", &pid) == 1)
			break;
	if (f)
		fclose(f);
	return pid;
}

static int each_thread(struct gdb_server *g, int (*fn)(struct gdb_server *, pid_t))
{
	char path[64];
	pid_t pid = k_pid(g->m);
	int err = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *d = pid > 0 ? opendir(path) : NULL;
	if (!d)
		return ESRCH;
	for (struct dirent *e; !err && (e = readdir(d));)
		if (e->d_name[0] != '.')
			err = fn(g, atoi(e->d_name));
	closedir(d);
	return err;
}

int hw_apply(struct gdb_server *g, const char **why)
{
	struct kdebug *d = &g->m->ctl->debug;
	uint32_t user = 0;

	for (unsigned i = 0; i < ARRAY_LEN(g->hard); i++) {
		const struct hard_point *p = &g->hard[i];
		if (!p->used || !is_user(g, p))
			continue;
		d->watch[i].va = p->addr;
		d->watch[i].kind = p->kind == POINT_HARDWARE ? 0 : p->kind == POINT_WRITE ? 1 : 3;
		d->watch[i].size = p->size;
		user |= 1u << i;
	}
	d->watching_user = user;
	d->text_changed++;
	unsigned long dr7 = control(g);
	if (!dr7 && !g->hw_set)
		return 0;
	g->hw_set = dr7;
	int err = each_thread(g, set_thread);
	if (err == EPERM)
		*why = "the host forbids ptrace (kernel.yama.ptrace_scope above 1, or another debugger has the process of the "
		       "guest kernel)";
	else if (err == ENOSPC || err == EINVAL)
		*why = "the host has no debug register for it";
	else if (err)
		*why = "the host does not let the debug registers be set";
	return err;
}

static long hit_bits;

static int read_hit(struct gdb_server *g, pid_t tid)
{
	int signo;

	(void)g;
	if (seize(tid, &signo))
		return 0;
	errno = 0;
	long dr6 = ptrace(PTRACE_PEEKUSER, tid, DR(6), 0);
	if (!errno) {
		hit_bits |= dr6 & 15;
		ptrace(PTRACE_POKEUSER, tid, DR(6), 0);
	}
	release(tid, signo);
	return 0;
}

int hw_hit(struct gdb_server *g, unsigned cpu)
{
	(void)cpu; /* vCPUs are told apart by who stopped; the bits say which register */
	hit_bits = 0;
	each_thread(g, read_hit);
	for (int i = 0; i < 4; i++)
		if (hit_bits >> i & 1 && g->hard[i].used)
			return i;
	return -1;
}
