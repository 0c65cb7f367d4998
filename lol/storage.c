/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server listens on a socket in a private directory, which is gone again as soon as we are connected, before anything
 * could be left behind: nobody else can connect, whoever may guess the name.
 */
#include "storage.h"

#include "child.h"
#include "types.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVER "qemu-storage-daemon"
#define IMAGE_TOOL "qemu-img"
#define PACKAGES "qemu-system-common qemu-utils"
#define LISTEN_FD 3
#define QMP_FD 4
#define STOP_MS 10000

bool storage_needed(const struct lol_disk *disk)
{
	return disk->format != DISK_RAW || disk->cow;
}

/* ---- programs ---- */

/* In a child: stdin and stdout are nothing, stderr is errors, keep (if any) are LISTEN_FD and QMP_FD, and that is all. */
static void __attribute__((noreturn)) run(char *const argv[], int errors, const int keep[2])
{
	int null = open("/dev/null", O_RDWR);
	unsigned first = LISTEN_FD;

	errors = fcntl(errors, F_DUPFD, 64);
	if (keep) {
		int listening = fcntl(keep[0], F_DUPFD, 64), qmp = fcntl(keep[1], F_DUPFD, 64);
		if (dup2(listening, LISTEN_FD) < 0 || dup2(qmp, QMP_FD) < 0)
			_exit(127);
		first = QMP_FD + 1;
	}
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(errors, 2) < 0)
		_exit(127);
	if (close_range(first, ~0u, 0))
		for (int fd = (int)first; fd < 1024; fd++)
			close(fd);
	execvp(argv[0], argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 126 : 127);
}

static int spawn(char *const argv[], const int keep[2], int *errors)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		child_begin();
		if (getppid() != parent)
			_exit(127);
		run(argv, fd[1], keep);
	}
	int error = errno;
	close(fd[1]);
	if (pid < 0) {
		close(fd[0]);
		return -error;
	}
	*errors = fd[0];
	return pid;
}

/* What a program has said until its end, its last line at the end of text. */
static void read_all(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, text + len, size - 1 - len)) > 0 || (n < 0 && errno == EINTR)) {
		len += n > 0 ? (size_t)n : 0;
		if (len == size - 1) { /* keep the end */
			memmove(text, text + size / 2, len - size / 2);
			len -= size / 2;
		}
	}
	text[len] = 0;
}

/* "qemu-img: F: Could not open 'F': why" is all of it but the program's name and its arguments. */
static const char *essence(char *text)
{
	size_t len = strlen(text);

	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = 0;
	char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	if (!strncmp(line, SERVER ": ", strlen(SERVER ": ")))
		line += strlen(SERVER ": ");
	else if (!strncmp(line, IMAGE_TOOL ": ", strlen(IMAGE_TOOL ": ")))
		line += strlen(IMAGE_TOOL ": ");
	if (!strncmp(line, "--", 2)) { /* "--blockdev {...}: why" */
		char *end = strstr(line, "}: ");
		if (end)
			line = end + 3;
	}
	return line;
}

static int wait_for(int pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* The hint that fits. */
static int explain(const struct lol_disk *disk, const char *why, struct lol_error *err)
{
	const char *path = disk->cow ? disk->cow : disk->path;
	const char *hint = "'qemu-img check' and 'qemu-img info' tell more about an image";

	if (strstr(why, "lock") || strstr(why, "another process"))
		return lol_error(
			err, -EBUSY,
			"disk %.300s: in use by another process; stop that VM, or add ',ro' or ',snapshot' to both",
			path);
	if (strstr(why, "not in qcow2 format"))
		hint = "leave format=qcow2 out if it is a raw image";
	else if (strstr(why, "backing file"))
		hint = "put the backing file where it was, or tell the image with 'qemu-img rebase'";
	else if (strstr(why, "Permission denied") || strstr(why, "Read-only"))
		hint = "add ',ro' or ',snapshot', or get write permission";
	return lol_error(err, -EINVAL, "disk %.300s: %.400s; %s", path, why, hint);
}

/* ---- cow=FILE ---- */

static int make_overlay(const struct lol_disk *disk, struct lol_error *err)
{
	char text[2048], *base = realpath(disk->path, NULL), *file = NULL;
	int errors, ret = 0;

	/* What has a colon in it before any slash would be taken for a protocol. */
	if (asprintf(&file, "%s%s", disk->cow[0] == '/' ? "" : "./", disk->cow) < 0)
		file = NULL;
	if (!base || !file)
		ret = lol_error(err, -errno, "disk %.600s: %s; name the image that the changes are to", disk->path,
				strerror(errno));
	if (ret)
		goto out;
	char *argv[] = {IMAGE_TOOL, "create", "-q", "-f", "qcow2", "-F", disk->format == DISK_RAW ? "raw" : "qcow2",
			"-b",       base,     file, NULL};
	int pid = spawn(argv, NULL, &errors);
	if (pid < 0) {
		ret = lol_error(err, pid, "disk %.600s: cannot start %s: %s; is the limit of processes reached?",
				disk->cow, IMAGE_TOOL, strerror(-pid));
	} else {
		read_all(errors, text, sizeof(text));
		close(errors);
		int status = wait_for(pid);
		if (status == 126)
			ret = lol_error(err, -ENOENT,
					"disk %.600s: cow= needs %s; install it: apt-get install " PACKAGES, disk->cow,
					IMAGE_TOOL);
		else if (status)
			ret = lol_error(err, -EIO,
					"disk %.300s: cannot be made: %.400s; name a file that can be written",
					disk->cow, essence(text));
	}
out:
	free(base);
	free(file);
	return ret;
}

/* ---- the server ---- */

/* A text in a JSON string. */
static void put_json(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

/* {"driver":"qcow2","node-name":NODE,"file":{"driver":"file","filename":PATH,...},...} */
static char *blockdev(const char *node, const char *path, bool raw, bool ro, const char *backing)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct stat st;
	const char *protocol = stat(path, &st) == 0 && S_ISBLK(st.st_mode) ? "host_device" : "file";

	if (!out)
		return NULL;
	fprintf(out, "{\"driver\":\"%s\",\"node-name\":\"%s\",\"read-only\":%s,\"discard\":\"unmap\",",
		raw ? "raw" : "qcow2", node, ro ? "true" : "false");
	if (backing)
		fprintf(out, "\"backing\":\"%s\",", backing);
	fprintf(out, "\"file\":{\"driver\":\"%s\",\"read-only\":%s,\"discard\":\"unmap\",\"filename\":", protocol,
		ro ? "true" : "false");
	put_json(out, path);
	fputs("}}", out);
	fclose(out);
	return text;
}

/* The server's listening socket, one of ours that is connected to it, and the file of the first, by which more can be. */
static int make_socket(int *listening, int *ours, int *file)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path) - 8];
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int ret = 0;

	*ours = *file = -1;
	*listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*listening < 0)
		return -errno;
	if (!runtime || snprintf(dir, sizeof(dir), "%s/lol-nbd-XXXXXX", runtime) >= (int)sizeof(dir) || !mkdtemp(dir)) {
		strcpy(dir, "/tmp/lol-nbd-XXXXXX");
		if (!mkdtemp(dir))
			ret = -errno;
	}
	if (!ret) {
		snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s", dir);
		*ours = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (*ours < 0 || bind(*listening, (struct sockaddr *)&addr, sizeof(addr)) || listen(*listening, 1) ||
		    connect(*ours, (struct sockaddr *)&addr, sizeof(addr)) ||
		    (*file = open(addr.sun_path, O_PATH | O_CLOEXEC)) < 0)
			ret = -errno;
		unlink(addr.sun_path);
		rmdir(dir);
	}
	if (ret) {
		close(*listening);
		if (*ours >= 0)
			close(*ours);
		*listening = *ours = -1;
	}
	return ret;
}

static int start_server(struct storage *s, const struct lol_disk *disk, struct lol_error *err)
{
	bool ro = disk->ro || disk->snapshot, cow = disk->cow;
	char *base = blockdev(cow ? "base" : STORAGE_NODE, disk->path, disk->format == DISK_RAW, cow || ro, NULL);
	char *top = cow ? blockdev(STORAGE_NODE, disk->cow, false, ro, "base") : NULL;
	char export[64];
	int keep[2], qmp[2], ret = make_socket(&keep[0], &s->fd, &s->socket);

	if (!ret && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp)) {
		ret = -errno;
		close(keep[0]);
	}
	if (ret)
		return lol_error(err, ret,
				 "disk %.600s: no socket for its server: %s; close some files or raise ulimit -n",
				 disk->path, strerror(-ret));
	snprintf(export, sizeof(export),
		 "type=nbd,id=" STORAGE_EXPORT_ID ",node-name=" STORAGE_NODE ",name=%s,writable=%s", STORAGE_EXPORT,
		 ro ? "off" : "on");
	s->qmp = qmp[0];
	keep[1] = qmp[1];
	char *argv[16] = {SERVER, "--chardev", "socket,id=q,fd=4", "--monitor", "chardev=q", "--blockdev", base};
	unsigned n = 7;
	if (cow) {
		argv[n++] = "--blockdev";
		argv[n++] = top;
	}
	argv[n++] = "--nbd-server";
	argv[n++] = "addr.type=fd,addr.str=3,max-connections=1";
	argv[n++] = "--export";
	argv[n++] = export;
	ret = base && (top || !cow) ? spawn(argv, keep, &s->errors) : -ENOMEM;
	close(keep[0]);
	close(keep[1]);
	free(base);
	free(top);
	if (ret < 0)
		return lol_error(err, ret,
				 "disk %.600s: cannot start %s: %s; is the limit of processes (ulimit -u) reached?",
				 disk->path, SERVER, strerror(-ret));
	s->pid = ret;
	return 0;
}

int storage_start(struct storage *s, const struct lol_disk *disk, struct lol_error *err)
{
	int ret = 0;

	*s = STORAGE_NONE;
	if (disk->cow && access(disk->cow, F_OK))
		ret = make_overlay(disk, err);
	if (!ret)
		ret = start_server(s, disk, err);
	if (ret)
		storage_stop(s);
	return ret;
}

int storage_error(struct storage *s, const struct lol_disk *disk, const char *otherwise, struct lol_error *err)
{
	struct pollfd p = {.fd = s->errors, .events = POLLIN};
	char text[2048] = "";

	/* It has ended, or else it would not have hung up. */
	if (poll(&p, 1, STOP_MS) > 0)
		read_all(s->errors, text, sizeof(text));
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		int status = wait_for(s->pid);
		s->pid = -1;
		if (status == 126)
			return lol_error(err, -ENOENT,
					 "disk %.600s: this format needs %s; install it: apt-get install " PACKAGES,
					 disk->path, SERVER);
	}
	const char *why = essence(text);
	return explain(disk, *why ? why : otherwise, err);
}

void storage_stop(struct storage *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->pid > 0) {
		/* In its own time, so that it writes out what it has cached; then by force. */
		kill(s->pid, SIGTERM);
		for (int ms = 0; ms < STOP_MS && waitpid(s->pid, NULL, WNOHANG) == 0; ms += 2)
			usleep(2000);
		if (waitpid(s->pid, NULL, WNOHANG) == 0) {
			kill(s->pid, SIGKILL);
			wait_for(s->pid);
		}
	}
	if (s->errors >= 0)
		close(s->errors);
	if (s->qmp >= 0)
		close(s->qmp);
	if (s->socket >= 0)
		close(s->socket);
	*s = STORAGE_NONE;
}
