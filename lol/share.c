/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starting diod, and its walls.
 *
 * The server resolves paths as strings, so a hostile guest that exchanges a directory for a symbolic link at the right
 * moment could lead it anywhere. Where the host permits user namespaces, there is nothing else to be led to: the directory
 * becomes its root. This is how, for a program that needs its own libraries and cannot be started in there:
 *
 *   monitor  --clone-->  keeper (fresh namespaces, process 1)  --fork-->  diod
 *
 *   keeper   binds the directory to a place (without device nodes, read-only if asked for; what the kernel shows of itself,
 *            /proc and its like, is covered), starts diod
 *   monitor  does the first exchange of the protocol with it, so all of diod is loaded: "go"
 *   keeper   makes the directory the root of all processes in its mount namespace (pivot_root(2) does that to those
 *            whose root was the old one), lets go of the old root, and waits for diod's end
 *
 * Only now does the guest's first message go to diod. Where there are no user namespaces (or a security module takes their
 * rights away) Landlock does it less strictly: nothing but the directory can be opened, and system libraries read. Without
 * both, nothing is shared, except the whole of "/".
 */
#include "share.h"

#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
#define START_MS 20000
#define SERVER_FD 3

/* What keeper and monitor say to each other, a byte each. */
enum { SAY_STARTED = 's', SAY_NO_WALLS = 'n', SAY_GO = 'g', SAY_DONE = 'd', SAY_FAILED = 'f' };

static const char *find_server(void)
{
	static const char *const places[] = {"/usr/sbin/diod", "/usr/local/sbin/diod", "/usr/bin/diod", "/sbin/diod"};

	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (access(places[i], X_OK) == 0)
			return places[i];
	return NULL;
}

/* ---- the directory at a place of its own ---- */

static bool is_kernels_own(const char *type)
{
	static const char *const types[] = {"proc",     "sysfs",   "devtmpfs", "devpts",      "cgroup",    "cgroup2",
					    "debugfs",  "tracefs", "configfs", "securityfs",  "bpf",       "pstore",
					    "efivarfs", "fusectl", "mqueue",   "binfmt_misc", "hugetlbfs", "autofs"};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

/* "\040" of mountinfo is a space. */
void share_unescape(char *s)
{
	char *out = s;

	for (; *s; s++)
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	*out = 0;
}

/* Empty folders over /proc and its like below place: their links lead out of any root. */
static bool cover_kernels_own(const char *place)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	size_t len = strlen(place), size = 0;
	char *line = NULL, *where = NULL, *type = NULL;
	bool ok = file != NULL;

	while (ok && getline(&line, &size, file) > 0) {
		char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %*s %ms", &where) != 1 || sscanf(dash, " - %ms", &type) != 1) {
			ok = false;
			break;
		}
		share_unescape(where);
		if (!strncmp(where, place, len) && (where[len] == '/' || !where[len]) && is_kernels_own(type) &&
		    mount("none", where, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,mode=555"))
			ok = errno == ENOENT || errno == ENOTDIR; /* covered with the one above it */
		free(where);
		free(type);
		where = type = NULL;
	}
	free(where);
	free(type);
	free(line);
	if (file)
		fclose(file);
	return ok;
}

/* Where the directory appears: on a small file system of its own, so that no older mount has a name like it. */
static const char *bind_directory(const char *dir, bool ro)
{
	static const char *const bases[] = {"/sys", "/mnt", "/tmp", "/dev"};
	static char place[32];
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | (ro ? MOUNT_ATTR_RDONLY : 0)};
	size_t i = 0;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return NULL;
	while (i < ARRAY_LEN(bases) && (!strncmp(dir, bases[i], strlen(bases[i])) ||
					mount("none", bases[i], "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=700")))
		i++;
	if (i == ARRAY_LEN(bases))
		return NULL;
	snprintf(place, sizeof(place), "%s/lol-share", bases[i]);
	if (mkdir(place, 0700) || mount(dir, place, NULL, MS_BIND | MS_REC, NULL))
		return NULL;
	/* Linux 5.12; before that `ro` stands on the monitor's check of the messages alone. */
	if (syscall(SYS_mount_setattr, AT_FDCWD, place, AT_RECURSIVE, &attr, sizeof(attr)) && errno != ENOSYS)
		return NULL;
	return place;
}

/* ---- Landlock ---- */

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ull << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif
#define LANDLOCK_V1 ((1ull << 13) - 1)
#define LANDLOCK_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE)
#define LANDLOCK_DEVICES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

static bool allow_path(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr attr = {.allowed_access = access,
						  .parent_fd = open(path, O_PATH | O_CLOEXEC)};
	struct stat st;

	if (attr.parent_fd < 0)
		return false;
	if (fstat(attr.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
		attr.allowed_access &=
			LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE;
	bool ok = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &attr, 0) == 0;
	close(attr.parent_fd);
	return ok;
}

/* From here on this process opens only the directory, and what starting the server takes. */
static bool landlock(const char *server, const char *dir, bool ro)
{
	static const char *const libraries[] = {"/lib",       "/lib64",         "/usr/lib",
						"/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	uint64_t all =
		LANDLOCK_V1 | (abi >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0) | (abi >= 3 ? LANDLOCK_ACCESS_FS_TRUNCATE : 0);
	struct landlock_ruleset_attr attr = {.handled_access_fs = all};

	if (abi < 1)
		return false;
	int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(libraries); i++)
		allow_path(rules, libraries[i], LANDLOCK_READ);
	allow_path(rules, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
	bool ok = allow_path(rules, server, LANDLOCK_READ) &&
		  allow_path(rules, dir,
			     ro ? LANDLOCK_READ & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE
				: all & ~(uint64_t)LANDLOCK_DEVICES) &&
		  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_landlock_restrict_self, rules, 0) == 0;
	close(rules);
	return ok;
}

/* ---- diod ---- */

/* In the child that becomes it. export is the directory by the name that it has there. */
static void __attribute__((noreturn)) run_server(const char *server, const char *export, int fd)
{
	char *argv[] = {"diod",
			"--foreground",
			"--config-file",
			"/dev/null",
			"--no-auth",
			"--no-userdb",
			"--nwthreads",
			"8",
			"--export",
			(char *)export,
			"--logdest",
			"stderr",
			"--rfdno",
			"3",
			"--wfdno",
			"3",
			NULL};
	char *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	struct rlimit files, none = {0, 0};
	int null = open("/dev/null", O_RDWR);

	/* Every file that the guest has open is one of its. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* It may crash at its end (its threads outlive its tables, diod issue 99): no core in what the user shares. */
	setrlimit(RLIMIT_CORE, &none);
	umask(0); /* the guest's kernel has applied the guest's */
	if (null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2 &&
	    dup2(fd, SERVER_FD) == SERVER_FD && close_range(SERVER_FD + 1, ~0u, 0) == 0 && chdir("/") == 0)
		execve(server, argv, env);
	_exit(127);
}

static int start_server(const char *server, const char *export, int fd)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent && getppid() != 0)
		_exit(127);
	run_server(server, export, fd);
}

/* ---- the keeper ---- */

static void say(int ctl, char what)
{
	if (send(ctl, &what, 1, MSG_NOSIGNAL) < 0)
		_exit(1);
}

/* Descriptors that the monitor had open and this process has no use for; a and b become 3 and 4. */
static void keep_only(int *a, int *b)
{
	*a = fcntl(*a, F_DUPFD_CLOEXEC, 64);
	*b = fcntl(*b, F_DUPFD_CLOEXEC, 64);
	if (*a < 0 || *b < 0 || dup2(*a, 3) < 0 || dup2(*b, 4) < 0)
		_exit(1);
	*a = 3;
	*b = 4;
	if (close_range(5, ~0u, 0))
		for (int fd = 5; fd < 1024; fd++)
			close(fd);
}

static void __attribute__((noreturn))
keeper(const char *server, const char *dir, bool ro, int fd, int ctl, uid_t uid, gid_t gid)
{
	char go;

	child_begin();
	keep_only(&fd, &ctl);
	/* The user's own ids, so that the server is nobody special in there either. */
	const char *place = child_map_ids(uid, gid, uid, gid) ? bind_directory(dir, ro) : NULL;
	if (!place || !cover_kernels_own(place)) {
		say(ctl, SAY_NO_WALLS);
		_exit(1);
	}
	if (start_server(server, "/", fd) < 0) {
		say(ctl, SAY_FAILED);
		_exit(1);
	}
	close(fd);
	say(ctl, SAY_STARTED);
	if (recv(ctl, &go, 1, 0) != 1 || go != SAY_GO)
		_exit(1);
	if (chdir(place) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) {
		say(ctl, SAY_FAILED);
		_exit(1);
	}
	say(ctl, SAY_DONE);
	close(0);
	close(1);
	close(2);
	/* As process 1 it takes the server along when it is killed. */
	while (wait(NULL) > 0 || errno == EINTR)
		;
	_exit(0);
}

/* Without namespaces there is no keeper; the whole of "/" needs no walls. */
static void __attribute__((noreturn)) landlocked_server(const char *server, const char *dir, bool ro, int fd, int ctl)
{
	child_begin();
	keep_only(&fd, &ctl);
	if (!landlock(server, dir, ro) && strcmp(dir, "/")) {
		say(ctl, SAY_NO_WALLS);
		_exit(1);
	}
	say(ctl, SAY_STARTED);
	run_server(server, dir, fd);
}

/* ---- the monitor's side ---- */

static char hear(int ctl)
{
	struct pollfd p = {.fd = ctl, .events = POLLIN};
	char what;

	while (poll(&p, 1, START_MS) < 0 && errno == EINTR)
		;
	return p.revents & POLLIN && recv(ctl, &what, 1, MSG_DONTWAIT) == 1 ? what : 0;
}

/* The first exchange: all of the server is there when it answers. */
static bool greet(int fd)
{
	static const uint8_t hello[] = {21, 0, 0,   0,   100, 0xff, 0xff, 0,   0,   1,  0,
					8,  0, '9', 'P', '2', '0',  '0',  '0', '.', 'L'};
	uint8_t answer[sizeof(hello)];
	size_t got = 0;

	if (send(fd, hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello))
		return false;
	while (got < sizeof(answer)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, START_MS);
		ssize_t n = ready > 0 ? recv(fd, answer + got, sizeof(answer) - got, MSG_DONTWAIT) : -1;
		if (n <= 0 && !(ready < 0 && errno == EINTR))
			return false;
		got += n > 0 ? (size_t)n : 0;
	}
	return answer[4] == 101 && !memcmp(answer + 13, hello + 13, 8);
}

/* One attempt. 0, -EPERM when there are no walls of this kind, or another negative errno. */
static int try_start(struct share_server *s, const char *server, const char *dir, bool ro, bool namespaces)
{
	int conn[2], ctl[2], ret = -EPROTO;
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, conn))
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ctl)) {
		ret = -errno;
		close(conn[0]);
		close(conn[1]);
		return ret;
	}
	s->pid = (int)syscall(SYS_clone, (namespaces ? NAMESPACES : 0) | SIGCHLD, 0, 0, 0, 0);
	if (s->pid == 0) {
		if (namespaces)
			keeper(server, dir, ro, conn[1], ctl[1], uid, gid);
		landlocked_server(server, dir, ro, conn[1], ctl[1]);
	}
	if (s->pid < 0)
		ret = errno == EAGAIN || errno == ENOMEM ? -errno : -EPERM;
	close(conn[1]);
	close(ctl[1]);
	if (s->pid > 0) {
		char what = hear(ctl[0]), go = SAY_GO;
		if (what == SAY_STARTED && greet(conn[0])) {
			if (!namespaces)
				ret = 0;
			else if (send(ctl[0], &go, 1, MSG_NOSIGNAL) == 1)
				ret = hear(ctl[0]) == SAY_DONE ? 0 : -EPERM;
		} else if (what == SAY_NO_WALLS) {
			ret = -EPERM;
		}
	}
	close(ctl[0]);
	s->fd = conn[0];
	if (ret)
		share_stop(s);
	return ret;
}

int share_start(struct share_server *s, const char *dir, bool ro, struct lol_error *err)
{
	const char *server = find_server();
	int ret;

	*s = (struct share_server){.pid = -1, .fd = -1};
	if (!server)
		return lol_error(err, -ENOENT,
				 "share %.600s: the file server diod is missing; install it: apt-get install diod",
				 dir);
	if (strlen(dir) >= sizeof(s->root))
		return lol_error(err, -ENAMETOOLONG, "share %.600s: the path is too long; use a shorter one", dir);
	ret = try_start(s, server, dir, ro, true);
	if (ret == -EPERM) {
		ret = try_start(s, server, dir, ro, false);
		if (!ret && strcmp(dir, "/"))
			strcpy(s->root, dir);
	}
	if (ret == -EPERM)
		return lol_error(
			err, ret,
			"share %.600s: the host has neither user namespaces nor Landlock to keep the guest in it; allow one of them",
			dir);
	if (ret)
		return lol_error(
			err, ret,
			"share %.600s: its server %s does not start: %s; is the limit of processes (ulimit -u) reached?",
			dir, server, strerror(-ret));
	return 0;
}

void share_stop(struct share_server *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	s->pid = -1;
}
