/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-u: the zygote of a VM.  Runs as process 1 of the VM's own PID namespace where
 * the host permits one.  It starts K, then makes U processes on K's request and
 * reports deaths: a dead U to K (flag in its slice), a dead K to the monitor.
 *
 * It is small and keeps no secrets, so that a fork of it is cheap (41 us) and has
 * nothing to hide from guest user code.  With it everything of the VM ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kctl.h"
#include "mmu/usandbox.h"
#include "mmu/zygote.h"

static uint8_t *ushare;    /* all slices */
static pid_t u_pid[MAX_U]; /* 0: free */
static pid_t k_pid;

/* Tell the monitor in one message what happened; pidfd >= 0 goes along. */
static void tell_fds(int sock, const struct zygote_msg *m, const int *fds, unsigned nfds)
{
	struct iovec iov = {(void *)m, sizeof(*m)};
	union {
		char buf[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} c = {0};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		mh.msg_control = c.buf;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	while (sendmsg(sock, &mh, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

static void tell(int sock, const struct zygote_msg *m, int pidfd)
{
	tell_fds(sock, m, &pidfd, pidfd >= 0);
}

static void die(const char *what)
{
	struct zygote_msg m = {.what = ZYG_ERROR, .err = errno};
	snprintf(m.text, sizeof(m.text), "%s", what);
	tell(FD_MONITOR, &m, -1);
	_exit(127);
}

/* The host's own layout of sigaction, to name a restorer. */
struct ksigaction {
	uint64_t handler, flags, restorer;
	uint64_t mask;
};
#define SA_RESTORER_ 0x04000000ul

/* In the child: become U number r->slot.  Never returns. */
static void become_u(const struct u_request *r, pid_t zygote_pid, int batch_pipe, int tokens)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, U_SIG_KICK};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != zygote_pid)
		_exit(1);
	void *slice = mmap((void *)USHARE_BASE, USHARE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, FD_USHARE,
			   (off_t)r->slot * USHARE_SIZE);
	void *bells = mmap((void *)UBELLS_BASE, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, FD_USHARE,
			   UBELLS_OFFSET);
	void *low = mmap((void *)USHARE_LOW, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, FD_USHARE,
			 (off_t)r->slot * USHARE_SIZE);
	if (slice == MAP_FAILED || bells == MAP_FAILED || low == MAP_FAILED)
		_exit(2);
	stack_t ss = {.ss_sp = (void *)(USHARE_BASE + USHARE_ALTSTACK), .ss_size = USHARE_ALTSTACK_SIZE};
	if (sigaltstack(&ss, NULL) < 0)
		_exit(3);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++) {
		struct ksigaction sa = {stub_table[STUB_HANDLER], SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTORER_,
					stub_table[STUB_RESTORER], 0};
		if (syscall(SYS_rt_sigaction, signals[i], &sa, NULL, 8) < 0)
			_exit(4);
	}
	if (r->cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET((unsigned)r->cpu, &set);
		sched_setaffinity(0, sizeof(set), &set); /* a wish: cpusets may forbid it */
	}
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_Static_assert(U_FD_RAM == FD_RAM && U_FD_PMEM == FD_PMEM && U_PMEM_MAX == RAM_PMEM_MAX, "fd");
	if (dup2(batch_pipe, U_FD_BATCH) < 0 || dup2(tokens, U_FD_TOKEN) < 0)
		_exit(5);
	for (int fd = FD_RAM + 1; fd < FD_PMEM; fd++)
		close(fd);
	if (close_range(FD_PMEM + RAM_PMEM_MAX, ~0u, 0) < 0)
		for (int fd = FD_PMEM + RAM_PMEM_MAX; fd < 64; fd++)
			close(fd);
	_Static_assert(U_FD_BATCH == 0 && U_FD_TOKEN == 1, "fd");
	for (int fd = 2; fd < FD_RAM; fd++)
		close(fd);
	struct sock_fprog *prog = (void *)(USHARE_BASE + USHARE_XAREA);
	prog->filter = (void *)(prog + 1);
	prog->len = (unsigned short)usandbox_filter(prog->filter, r->slot, r->secret);
	((void (*)(void))stub_table[STUB_START])();
}

static int pidfd_of(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void serve_request(void)
{
	struct u_request r;
	struct zygote_msg m = {.what = ZYG_U};
	pid_t self = getpid();

	ssize_t n = recv(FD_ZYGOTE, &r, sizeof(r), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(r) || r.slot >= MAX_U || u_pid[r.slot]) {
		m.err = EINVAL;
		tell(FD_ZYGOTE, &m, -1);
		return;
	}
	int batch[2] = {-1, -1}, tokens = -1;
	pid_t pid = -1;
	if (pipe2(batch, O_CLOEXEC | O_NONBLOCK) == 0 && (tokens = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0)
		pid = fork();
	if (pid == 0)
		become_u(&r, self, batch[0], tokens);
	m.err = errno;
	explicit_bzero(&r.secret, sizeof(r.secret));
	if (batch[0] >= 0)
		close(batch[0]);
	if (pid < 0) {
		tell(FD_ZYGOTE, &m, -1);
		if (batch[1] >= 0)
			close(batch[1]);
		if (tokens >= 0)
			close(tokens);
		return;
	}
	u_pid[r.slot] = pid;
	int fd = pidfd_of(pid), fds[3] = {fd, batch[1], tokens};
	m.err = fd < 0 ? errno : 0;
	m.status = pid; /* K is in the same PID namespace */
	tell_fds(FD_ZYGOTE, &m, fds, fd >= 0 ? 3 : 0);
	if (fd >= 0)
		close(fd);
	close(batch[1]);
	close(tokens);
}

static void u_died(unsigned slot)
{
	struct ushare *s = (void *)(ushare + (size_t)slot * USHARE_SIZE);

	u_pid[slot] = 0;
	atomic_store(&s->dead, 1);
	atomic_store(&s->turn, TURN_K);
	syscall(SYS_futex, &s->turn, FUTEX_WAKE, 64, NULL, NULL, 0);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k_pid) {
			struct zygote_msg m = {.what = ZYG_K_DIED, .status = status};
			tell(FD_MONITOR, &m, -1);
			_exit(0);
		}
		for (unsigned i = 0; i < MAX_U; i++)
			if (u_pid[i] == pid)
				u_died(i);
	}
}

/* The host kernel writes to the rseq area of a thread whenever it was switched out; a U has no such memory. */
static void drop_rseq(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	if (__rseq_size)
		syscall(SYS_rseq, area, MAX(__rseq_size, 32u), 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIG);
}

static void start_k(char **argv)
{
	pid_t self = getpid();

	k_pid = fork();
	if (k_pid < 0)
		die("cannot start the guest-kernel process");
	if (k_pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != self)
			_exit(1);
		char *kargv[] = {argv[1], NULL}, *kenv[] = {NULL};
		fcntl(FD_K_EXE, F_SETFD, FD_CLOEXEC);
		dup2(FD_K_SOCK, FD_ZYGOTE);
		close(FD_K_SOCK);
		fcntl(FD_MONITOR, F_SETFD, FD_CLOEXEC);
		fexecve(FD_K_EXE, kargv, kenv);
		die("cannot execute lol-k");
	}
	struct zygote_msg m = {.what = ZYG_K_STARTED};
	int fd = pidfd_of(k_pid);
	if (fd < 0)
		die("pidfd_open");
	tell(FD_MONITOR, &m, fd);
	close(fd);
}

int main(int argc, char **argv)
{
	struct rlimit nocore = {0, 0};
	sigset_t chld;

	if (argc < 2 || fcntl(FD_MONITOR, F_GETFD) < 0) {
		fprintf(stderr, "lol-u: started by lol-run only\n");
		return 125;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	drop_rseq();
	setrlimit(RLIMIT_CORE, &nocore);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_SETMASK, &chld, NULL);
	int sfd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	ushare = mmap(NULL, (size_t)MAX_U * USHARE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, FD_USHARE, 0);
	if (sfd < 0 || ushare == MAP_FAILED)
		die("cannot set up the zygote");
	start_k(argv);
	close(FD_K_EXE);
	close(FD_K_SOCK);
	for (;;) {
		struct pollfd p[3] = {{sfd, POLLIN, 0}, {FD_ZYGOTE, POLLIN, 0}, {FD_MONITOR, POLLIN, 0}};
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			die("poll");
		if (p[0].revents) {
			struct signalfd_siginfo si;
			while (read(sfd, &si, sizeof(si)) == sizeof(si))
				;
			reap();
		}
		if (p[1].revents & POLLIN)
			serve_request();
		if (p[2].revents & (POLLHUP | POLLERR))
			_exit(0); /* the monitor is gone */
	}
}
