/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The walls around a share's server, without the monitor's check of the messages in front of it: whatever is asked of the
 * server itself, nothing outside of the directory can be opened. Once with namespaces, once with Landlock alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static char top[4096], inside[4200], outside[4200];
static struct share_server server;
static struct lol_error err;
static uint8_t msg[70000];
static uint32_t len;

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[8192];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void link_to(const char *target, const char *name)
{
	char path[8192];
	snprintf(path, sizeof(path), "%s/%s", inside, name);
	assert_int_equal(symlink(target, path), 0);
}

/* A device node that the server's user may open, where root runs this test: /dev/zero by another name. */
static char device[64];

static void make_device(void)
{
	char dir[] = "/var/tmp/lol-test-share-device-XXXXXX";
	if (getuid() || !mkdtemp(dir))
		return;
	snprintf(device, sizeof(device), "%s/zero", dir);
	if (chown(dir, 65534, 65534) || mknod(device, S_IFCHR | 0600, makedev(1, 5)) || chown(device, 65534, 65534))
		device[0] = 0;
}

static void remove_device(void)
{
	char *slash = strrchr(device, '/');
	if (!slash)
		return;
	unlink(device);
	*slash = 0;
	rmdir(device);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(top, "/var/tmp/lol-test-share-XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(inside, sizeof(inside), "%s/in", top);
	snprintf(outside, sizeof(outside), "%s/out", top);
	assert_int_equal(mkdir(inside, 0755) | mkdir(outside, 0755), 0);
	write_text(inside, "file", "inside");
	write_text(outside, "secret", "outside");
	link_to(outside, "absolute");
	link_to("../out", "relative");
	link_to("../out/secret", "tofile");
	link_to("/proc/self/root", "magic");
	char path[8192];
	snprintf(path, sizeof(path), "%s/device", inside);
	if (device[0])
		assert_int_equal(link(device, path), 0);
	return 0;
}

static int tear_down(void **state)
{
	char command[4300];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	return system(command);
}

/* ---- a client without manners ---- */

static void put(uint64_t value, unsigned bytes)
{
	while (bytes--) {
		msg[len++] = (uint8_t)value;
		value >>= 8;
	}
}

static void put_string(const char *s)
{
	put(strlen(s), 2);
	memcpy(msg + len, s, strlen(s));
	len += (uint32_t)strlen(s);
}

static void begin(uint8_t type)
{
	len = 4;
	put(type, 1);
	put(1, 2);
}

/* Send it, get the answer into msg. 0 or the server's errno. */
static int exchange(void)
{
	uint32_t size = len;
	memcpy(msg, &size, 4);
	assert_int_equal(send(server.fd, msg, len, MSG_NOSIGNAL), len);
	assert_int_equal(recv(server.fd, msg, 4, MSG_WAITALL), 4);
	memcpy(&size, msg, 4);
	assert_true(size >= 7 && size <= sizeof(msg));
	assert_int_equal(recv(server.fd, msg + 4, size - 4, MSG_WAITALL), size - 4);
	memcpy(&size, msg + 7, 4);
	return msg[4] == 7 ? (int)size : 0;
}

static int attach(uint32_t fid, const char *name)
{
	begin(104);
	put(fid, 4);
	put(UINT32_MAX, 4);
	put_string("");
	put_string(name);
	put(getuid(), 4);
	return exchange();
}

/* newfid is `path` from fid, component by component; how many could be walked. */
static unsigned walk(uint32_t fid, uint32_t newfid, const char *const *path)
{
	unsigned n = 0;
	while (path[n])
		n++;
	begin(110);
	put(fid, 4);
	put(newfid, 4);
	put(n, 2);
	for (unsigned i = 0; i < n; i++)
		put_string(path[i]);
	if (exchange())
		return 0;
	return (unsigned)(msg[7] | msg[8] << 8);
}

static int open_fid(uint32_t fid, uint32_t flags)
{
	begin(12);
	put(fid, 4);
	put(flags, 4);
	return exchange();
}

static void start(bool ro)
{
	int ret = share_start(&server, inside, ro, &err);
	if (ret == -ENOENT && strstr(err.text, "apt-get install diod"))
		skip();
	if (ret)
		fail_msg("%s", err.text);
	begin(100);
	put(65536, 4);
	put_string("9P2000.L");
	assert_int_equal(exchange(), 0);
	assert_int_equal(attach(1, *server.root ? server.root : "/"), 0);
}

static void expect_walls(void)
{
	static const char *const paths[][6] = {
		{"absolute", "secret"},
		{"relative", "secret"},
		{"tofile"},
		{"..", "out", "secret"},
		{"..", "..", "..", "etc", "hostname"},
		{"../out/secret"},
		{"/etc/passwd"},
		{"magic", "etc", "passwd"},
	};
	static const char *const file[] = {"file", NULL};

	assert_int_equal(walk(1, 2, file), 1);
	assert_int_equal(open_fid(2, 0), 0);
	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		unsigned n = 0;
		while (n < 6 && paths[i][n])
			n++;
		const char *words[7] = {0};
		memcpy(words, paths[i], n * sizeof(words[0]));
		if (walk(1, 10 + i, words) == n && !open_fid(10 + i, 0))
			fail_msg("path %u leads out", i);
	}
	/* A parent that becomes a link after it was walked. */
	char path[8192], other[8192];
	snprintf(path, sizeof(path), "%s/dir", inside);
	snprintf(other, sizeof(other), "%s/dir.old", inside);
	assert_int_equal(mkdir(path, 0755), 0);
	write_text(path, "secret", "inside");
	static const char *const in_dir[] = {"dir", "secret", NULL};
	assert_int_equal(walk(1, 40, in_dir), 2);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(outside, path), 0);
	assert_int_not_equal(open_fid(40, 0), 0);
	/* Attaching anywhere else. */
	if (!attach(50, outside)) {
		static const char *const secret[] = {"secret", NULL};
		assert_false(walk(50, 51, secret) == 1 && open_fid(51, 0) == 0);
	}
	if (!attach(52, "/etc")) {
		static const char *const passwd[] = {"passwd", NULL};
		assert_false(walk(52, 53, passwd) == 1 && open_fid(53, 0) == 0);
	}
}

static int make_link(uint32_t fid, const char *name)
{
	begin(70);
	put(1, 4);
	put(fid, 4);
	put_string(name);
	return exchange();
}

static int make_node(const char *name, uint32_t mode)
{
	begin(18);
	put(1, 4);
	put_string(name);
	put(mode, 4);
	put(1, 4);
	put(5, 4);
	put(getgid(), 4);
	return exchange();
}

/* Hard links to what is outside, or made there; device nodes, new ones and one that is there already. */
static void expect_no_links_or_devices(bool nodev)
{
	static const char *const file[] = {"file", NULL}, *const tofile[] = {"tofile", NULL},
				 *const hard[] = {"hard", NULL}, *const zero[] = {"device", NULL},
				 *const absolute[] = {"absolute", NULL};
	static const char *const nodes[] = {"node", "../out/node"};
	char path[8192];
	struct stat st;

	/* Of a symbolic link: if it can be made at all, then of the link itself. */
	assert_int_equal(walk(1, 60, tofile), 1);
	make_link(60, "hard");
	if (walk(1, 61, hard) == 1)
		assert_int_not_equal(open_fid(61, 0), 0);
	snprintf(path, sizeof(path), "%s/secret", outside);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_nlink, 1);
	/* Into the outside: by a name that the monitor would not let through, and by a link as directory. */
	assert_int_equal(walk(1, 62, file), 1);
	assert_int_not_equal(make_link(62, "../out/hard"), 0);
	assert_int_equal(walk(1, 63, absolute), 1);
	begin(70);
	put(63, 4);
	put(62, 4);
	put_string("hard");
	assert_int_not_equal(exchange(), 0);
	snprintf(path, sizeof(path), "%s/hard", outside);
	assert_int_equal(lstat(path, &st), -1);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_not_equal(make_node(nodes[i], S_IFCHR | 0666), 0);
		assert_int_not_equal(make_node(nodes[i], S_IFBLK | 0666), 0);
	}
	if (device[0] && nodev) {
		assert_int_equal(walk(1, 64, zero), 1);
		assert_int_not_equal(open_fid(64, 0), 0);
	}
	/* Such links are no crime by themselves. */
	assert_int_equal(make_link(62, "second"), 0);
}

static void stop(void)
{
	int pid = server.pid;
	share_stop(&server);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void test_walls(void **state)
{
	(void)state;
	start(false);
	expect_walls();
	expect_no_links_or_devices(!*server.root);
	stop();
}

static void test_read_only(void **state)
{
	static const char *const file[] = {"file", NULL};
	(void)state;
	start(true);
	assert_int_equal(walk(1, 2, file), 1);
	assert_int_not_equal(open_fid(2, 1), 0);
	begin(72); /* mkdir */
	put(1, 4);
	put_string("new");
	put(0755, 4);
	put(0, 4);
	assert_int_not_equal(exchange(), 0);
	stop();
}

/* What a monitor that is killed leaves behind: nothing. */
static void test_end_with_monitor(void **state)
{
	int fd[2], keeper;
	(void)state;
	assert_int_equal(pipe(fd), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int ret = share_start(&server, inside, false, &err);
		keeper = ret ? -1 : server.pid;
		if (write(fd[1], &keeper, sizeof(keeper)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(fd[0], &keeper, sizeof(keeper)), sizeof(keeper));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd[0]);
	close(fd[1]);
	if (keeper < 0)
		skip();
	for (int i = 0; i < 1000 && kill(keeper, 0) == 0; i++) {
		char path[64], text[256] = "";
		snprintf(path, sizeof(path), "/proc/%d/stat", keeper);
		FILE *f = fopen(path, "r"); /* where nobody reaps orphans it stays as a zombie */
		size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
		if (f)
			fclose(f);
		char *after = n ? strrchr(text, ')') : NULL;
		if (after && after[2] == 'Z')
			return;
		usleep(10000);
	}
	assert_int_equal(kill(keeper, 0), -1);
}

/* No namespaces from here on, as with user.max_user_namespaces=0. */
static void refuse_namespaces(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};
	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static void test_landlock_alone(void **state)
{
	(void)state;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1)
		skip();
	refuse_namespaces();
	start(false);
	assert_string_equal(server.root, inside);
	expect_walls();
	expect_no_links_or_devices(false);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_walls, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_with_monitor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_landlock_alone, set_up, tear_down),
	};
	make_device();
	/* lol-run is never root, and root walks through walls. */
	if (!getuid() && (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
		return 77;
	prctl(PR_SET_DUMPABLE, 1); /* or /proc/self of what we fork would be root's */
	int failed = cmocka_run_group_tests_name("share servers", tests, NULL, NULL);
	remove_device();
	return failed;
}
