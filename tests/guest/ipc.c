// SPDX-License-Identifier: BSD-2-Clause
/* Bytes between processes: pipes, sockets, message queues, splices, events; whole, in order, at every size. */
#include "guest-test.h"

#include <arpa/inet.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rnd(&seed) >> 11);
}

/* Send total bytes of a known stream in pieces of odd sizes. */
static void send_stream(int fd, size_t total, uint64_t seed)
{
	static uint8_t buf[70000];
	uint64_t sizes = 77;

	for (size_t done = 0; done < total;) {
		size_t n = 1 + rnd(&sizes) % sizeof(buf);
		if (n > total - done)
			n = total - done;
		for (size_t i = 0; i < n; i++)
			buf[i] = (uint8_t)(rnd(&seed) >> 11);
		for (size_t at = 0; at < n;) {
			ssize_t w = write(fd, buf + at, n - at);
			CHECK(w > 0);
			at += (size_t)w;
		}
		done += n;
	}
}

static void expect_stream(int fd, size_t total, uint64_t seed)
{
	static uint8_t buf[50000];
	size_t got = 0;

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));
		CHECK(n >= 0);
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			CHECK_EQ(buf[i], (uint8_t)(rnd(&seed) >> 11));
		got += (size_t)n;
	}
	CHECK_EQ(got, total);
}

static void stream_through(int from_fd, int to_fd, size_t total)
{
	pid_t pid = fork_ok();

	if (pid == 0) {
		close(from_fd);
		send_stream(to_fd, total, 5);
		_exit(0);
	}
	close(to_fd);
	expect_stream(from_fd, total, 5);
	wait_ok(pid);
}

TEST_LIMIT(pipe_stream, 120)
{
	int fd[2];

	CHECK(pipe(fd) == 0);
	stream_through(fd[0], fd[1], 8 << 20);
}

TEST_LIMIT(unix_socket_stream, 120)
{
	int fd[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
	stream_through(fd[0], fd[1], 8 << 20);
}

static int tcp_pair(int fd[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&a, len) || listen(listener, 5) ||
	    getsockname(listener, (struct sockaddr *)&a, &len))
		return -1;
	fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd[1], (struct sockaddr *)&a, len))
		return -1;
	fd[0] = accept(listener, NULL, NULL);
	close(listener);
	return fd[0] < 0 ? -1 : 0;
}

TEST_LIMIT(tcp_stream, 120)
{
	int fd[2];

	if (tcp_pair(fd))
		SKIP("no network over lo");
	stream_through(fd[0], fd[1], 8 << 20);
}

TEST(tcp_many_connections)
{
	for (int i = 0; i < 200; i++) {
		int fd[2], value = 0;
		if (tcp_pair(fd))
			SKIP("no network over lo");
		CHECK_EQ(send(fd[1], &i, sizeof(i), 0), sizeof(i));
		CHECK_EQ(recv(fd[0], &value, sizeof(value), MSG_WAITALL), sizeof(value));
		CHECK_EQ(value, i);
		close(fd[0]);
		close(fd[1]);
	}
}

TEST(datagrams_and_descriptors)
{
	int fd[2], p[2], passed;
	char data[4] = "abc", control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {data, sizeof(data)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd) == 0 && pipe(p) == 0);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(c), &p[1], sizeof(int));
	pid_t pid = fork_ok();
	if (pid == 0) {
		close(p[1]);
		memset(control, 0, sizeof(control));
		CHECK_EQ(recvmsg(fd[0], &m, 0), sizeof(data));
		memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
		CHECK_EQ(write(passed, "through", 7), 7);
		_exit(0);
	}
	CHECK_EQ(sendmsg(fd[1], &m, 0), sizeof(data));
	close(p[1]);
	char got[8] = "";
	CHECK_EQ(read(p[0], got, 7), 7);
	CHECK(strcmp(got, "through") == 0);
	wait_ok(pid);
}

TEST(scattered_io)
{
	/* readv and writev with pieces across page borders and an empty one. */
	int fd[2];
	uint8_t *a = map_rw(16 * PAGE), *b = map_rw(16 * PAGE);

	CHECK(pipe(fd) == 0);
	fill(a, 16 * PAGE, 3);
	for (int i = 0; i < 50; i++) {
		struct iovec out[5] = {{a + PAGE - 3, 6},
				       {a + 5, 0},
				       {a + 3 * PAGE - 1, 2000},
				       {a + 7, 1},
				       {a + 8 * PAGE - 100, 5000}};
		struct iovec in[3] = {{b + PAGE - 1, 2}, {b + 2 * PAGE - 7, 3001}, {b + 5 * PAGE - 2, 4004}};
		CHECK_EQ(writev(fd[1], out, 5), 7007);
		CHECK_EQ(readv(fd[0], in, 3), 7007);
		uint8_t flat[7007], got[7007];
		memcpy(flat, a + PAGE - 3, 6);
		memcpy(flat + 6, a + 3 * PAGE - 1, 2000);
		flat[2006] = a[7];
		memcpy(flat + 2007, a + 8 * PAGE - 100, 5000);
		memcpy(got, b + PAGE - 1, 2);
		memcpy(got + 2, b + 2 * PAGE - 7, 3001);
		memcpy(got + 3003, b + 5 * PAGE - 2, 4004);
		CHECK(memcmp(flat, got, sizeof(flat)) == 0);
	}
}

TEST(partial_faults)
{
	/* A buffer that ends in the middle: what was copied before the hole counts. */
	int fd = memfd_create("partial", 0);
	char *p = map_rw(2 * PAGE), got[200];

	CHECK(fd >= 0);
	munmap(p + PAGE, PAGE);
	memset(p, 'q', PAGE);
	struct iovec v[2] = {{p, 100}, {p + PAGE - 50, 100}};
	ssize_t n = writev(fd, v, 2);
	CHECK(n >= 100 && n <= 150);
	CHECK_EQ(pread(fd, got, sizeof(got), 0), n);
	for (ssize_t i = 0; i < n; i++)
		CHECK_EQ(got[i], 'q');
}

TEST(file_contents)
{
	char path[] = "/tmp/ipc-file-XXXXXX";
	int fd = mkstemp(path), fd2;
	uint8_t *a = malloc(1 << 20), *b = malloc(1 << 20);

	CHECK(fd >= 0);
	fill(a, 1 << 20, 9);
	uint64_t r = 4;
	for (size_t at = 0; at < 1 << 20;) {
		size_t n = 1 + rnd(&r) % 9000;
		if (n > (1 << 20) - at)
			n = (1 << 20) - at;
		CHECK_EQ(write(fd, a + at, n), n);
		at += n;
	}
	CHECK(fsync(fd) == 0);
	fd2 = open(path, O_RDONLY);
	CHECK(fd2 >= 0);
	for (int i = 0; i < 300; i++) {
		size_t at = rnd(&r) % (1 << 20), n = 1 + rnd(&r) % 9000;
		ssize_t expect = (ssize_t)(n > (1 << 20) - at ? (1 << 20) - at : n);
		CHECK_EQ(pread(fd2, b, n, (off_t)at), expect);
		CHECK(memcmp(a + at, b, (size_t)expect) == 0);
	}
	int out = memfd_create("copy", 0);
	CHECK(lseek(fd2, 0, SEEK_SET) == 0);
	for (size_t done = 0; done < 1 << 20;) {
		ssize_t n = sendfile(out, fd2, NULL, (1 << 20) - done);
		CHECK(n > 0);
		done += (size_t)n;
	}
	CHECK_EQ(pread(out, b, 1 << 20, 0), 1 << 20);
	CHECK(memcmp(a, b, 1 << 20) == 0);
	unlink(path);
}

TEST(splice_and_tee)
{
	int a[2], b[2], fd = memfd_create("s", 0);
	char buf[5000], got[5000];

	CHECK(pipe(a) == 0 && pipe(b) == 0 && fd >= 0);
	fill((uint8_t *)buf, sizeof(buf), 8);
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(write(a[1], buf, sizeof(buf)), sizeof(buf));
		CHECK_EQ(tee(a[0], b[1], sizeof(buf), 0), sizeof(buf));
		CHECK_EQ(read(b[0], got, sizeof(got)), sizeof(got));
		CHECK(memcmp(buf, got, sizeof(buf)) == 0);
		off_t at = i * 100;
		CHECK_EQ(splice(a[0], NULL, fd, &at, sizeof(buf), 0), sizeof(buf));
		CHECK_EQ(pread(fd, got, sizeof(got), i * 100), sizeof(got));
		CHECK(memcmp(buf, got, sizeof(buf)) == 0);
		struct iovec v = {buf, sizeof(buf)};
		CHECK_EQ(vmsplice(a[1], &v, 1, 0), sizeof(buf));
		CHECK_EQ(read(a[0], got, sizeof(got)), sizeof(got));
		CHECK(memcmp(buf, got, sizeof(buf)) == 0);
	}
}

TEST(epoll_and_eventfd)
{
	int ep = epoll_create1(0), ev[20];
	struct epoll_event e, got[20];
	uint64_t one = 1, value;

	for (int i = 0; i < 20; i++) {
		ev[i] = eventfd(0, EFD_NONBLOCK);
		e = (struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)i};
		CHECK(ev[i] >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, ev[i], &e) == 0);
	}
	CHECK_EQ(epoll_wait(ep, got, 20, 0), 0);
	pid_t pid = fork_ok();
	if (pid == 0) {
		for (int r = 0; r < 100; r++) {
			CHECK_EQ(write(ev[r % 20], &one, 8), 8);
			sched_yield();
		}
		_exit(0);
	}
	uint64_t total = 0;
	while (total < 100) {
		int n = epoll_wait(ep, got, 20, 10000);
		CHECK(n > 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(read(ev[got[i].data.u32], &value, 8), 8);
			total += value;
		}
	}
	CHECK_EQ(total, 100);
	wait_ok(pid);
}

TEST(message_queue)
{
	struct mq_attr attr = {.mq_maxmsg = 8, .mq_msgsize = 100};
	mqd_t q = mq_open("/guest-test", O_CREAT | O_RDWR, 0600, &attr);
	char buf[100];
	unsigned int prio;

	if (q == (mqd_t)-1 && (errno == ENOSYS || errno == ENOENT || errno == EACCES))
		SKIP("no POSIX message queues here");
	CHECK(q != (mqd_t)-1);
	mq_unlink("/guest-test");
	pid_t pid = fork_ok();
	if (pid == 0) {
		for (int i = 0; i < 300; i++) {
			snprintf(buf, sizeof(buf), "message %d", i);
			CHECK(mq_send(q, buf, strlen(buf) + 1, 0) == 0);
		}
		_exit(0);
	}
	for (int i = 0; i < 300; i++) {
		char want[100];
		snprintf(want, sizeof(want), "message %d", i);
		CHECK(mq_receive(q, buf, sizeof(buf), &prio) > 0);
		CHECK(strcmp(buf, want) == 0);
	}
	wait_ok(pid);
}

TEST(inotify)
{
	char dir[] = "/tmp/ipc-dir-XXXXXX", path[64];
	char buf[4096] __attribute__((aligned(8)));

	CHECK(mkdtemp(dir));
	int in = inotify_init();
	if (in < 0 && errno == ENOSYS)
		SKIP("no inotify in this kernel");
	CHECK(inotify_add_watch(in, dir, IN_CREATE | IN_DELETE) >= 0);
	for (int i = 0; i < 10; i++) {
		snprintf(path, sizeof(path), "%s/f%d", dir, i);
		close(open(path, O_CREAT | O_WRONLY, 0600));
		struct inotify_event *e = (struct inotify_event *)buf;
		CHECK(read(in, buf, sizeof(buf)) > 0);
		CHECK(e->mask & IN_CREATE);
		CHECK(strcmp(e->name, path + strlen(dir) + 1) == 0);
		unlink(path);
		CHECK(read(in, buf, sizeof(buf)) > 0);
		CHECK(e->mask & IN_DELETE);
	}
	rmdir(dir);
}

TEST(locks_and_leases)
{
	char path[] = "/tmp/ipc-lock-XXXXXX";
	int fd = mkstemp(path), n = 0;

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, &n, sizeof(n)), sizeof(n));
	for (int i = 0; i < 4; i++) {
		if (fork_ok() == 0) {
			for (int r = 0; r < 100; r++) {
				struct flock l = {.l_type = F_WRLCK};
				CHECK(fcntl(fd, F_SETLKW, &l) == 0);
				CHECK_EQ(pread(fd, &n, sizeof(n), 0), sizeof(n));
				n++;
				if (r % 10 == 0)
					sched_yield();
				CHECK_EQ(pwrite(fd, &n, sizeof(n), 0), sizeof(n));
				l.l_type = F_UNLCK;
				CHECK(fcntl(fd, F_SETLK, &l) == 0);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		int st;
		CHECK(wait(&st) > 0 && st == 0);
	}
	CHECK_EQ(pread(fd, &n, sizeof(n), 0), sizeof(n));
	CHECK_EQ(n, 400);
	unlink(path);
}

/* A terminal passes on what it has: with several CPUs, a reader may come in the middle of it. */
static ssize_t read_all(int fd, char *buf, size_t want)
{
	size_t have = 0;
	ssize_t n;

	while (have < want && (n = read(fd, buf + have, want - have)) > 0)
		have += (size_t)n;
	return (ssize_t)have;
}

TEST(terminal_pair)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY);
	char buf[100];

	if (m < 0)
		SKIP("no /dev/ptmx");
	CHECK(grantpt(m) == 0 && unlockpt(m) == 0);
	int s = open(ptsname(m), O_RDWR | O_NOCTTY);
	if (s < 0)
		SKIP("no /dev/pts");
	CHECK_EQ(write(m, "line\n", 5), 5);
	CHECK_EQ(read(s, buf, sizeof(buf)), 5);
	CHECK(memcmp(buf, "line\n", 5) == 0);
	CHECK_EQ(read_all(m, buf, 6), 6); /* the echo */
	CHECK_EQ(write(s, "out\n", 4), 4);
	CHECK_EQ(read_all(m, buf, 5), 5);
	CHECK(memcmp(buf, "out\r\n", 5) == 0);
	int ready[2];
	CHECK(pipe(ready) == 0);
	pid_t pid = fork_ok();
	if (pid == 0) {
		setsid();
		CHECK(ioctl(s, TIOCSCTTY, 0) == 0);
		CHECK_EQ(write(ready[1], "r", 1), 1);
		for (;;)
			pause();
	}
	CHECK_EQ(read(ready[0], buf, 1), 1);
	CHECK_EQ(write(m, "\003", 1), 1);
	int st;
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGINT);
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
