/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file for guest RAM whose pages the host takes in pieces of 2 MiB.
 *
 * Mapping and unmapping is what LoL does all day, and for a piece it takes 2 us where 512 pages take 90; K's view of guest RAM
 * needs 512 times fewer entries of the TLB. Hosts give memfds small pages (shmem_enabled is "never" by default), but a tmpfs of
 * one's own may have "huge=always" (the host's transhuge.rst), and an ordinary user may have one in a user namespace of his own.
 * So a child goes there, makes a file, sends it back and ends; the mount is nobody's place and lives as long as the file is open.
 */
#include "ram_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "fdpass.h"

#define NAME "memfd:lol-ram" /* as a memfd of that name is called in /proc and by perf */

static int new_file(uint64_t size)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "huge", "always", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "0", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	int root = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	int fd = root < 0 ? -1 : openat(root, NAME, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

	return fd >= 0 && unlinkat(root, NAME, 0) == 0 && ftruncate(fd, (off_t)size) == 0 ? fd : -1;
}

int ram_file_create(uint64_t size)
{
	uid_t uid = getuid();
	gid_t gid = getgid();
	int pair[2], fd = -1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		child_begin();
		if (child_map_ids(uid, gid, uid, gid) && (fd = new_file(size)) >= 0)
			fd_send(pair[1], "", 1, fd);
		_exit(0);
	}
	close(pair[1]);
	if (pid > 0) {
		char byte;
		fd_receive(pair[0], &byte, 1, 0, &fd);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(pair[0]);
	return fd;
}
