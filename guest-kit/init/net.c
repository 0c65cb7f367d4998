// SPDX-License-Identifier: BSD-2-Clause
/*
 * Name resolution for COMMAND. Where lol-run gives the guest a network, the kernel has asked for an address by DHCP
 * (ip=dhcp) and tells in /proc/net/pnp what else it has heard. What is on a disk stays as it is: its /etc/resolv.conf gets
 * ours mounted over it.
 */
#include "lol-init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FROM "/proc/net/pnp"
#define OURS "/run/lol/resolv.conf"
#define THEIRS "/etc/resolv.conf"

/* The name servers of FROM as lines of a resolv.conf; 0: there are none. */
static size_t name_servers(char *out, size_t size)
{
	static const char key[] = "nameserver ";
	char text[1024];
	size_t len = 0;
	int fd = open(FROM, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (char *line = text; *line;) {
		size_t line_len = strcspn(line, "\n") + 1;

		if (!line[line_len - 1])
			break;
		if (strncmp(line, key, sizeof(key) - 1) == 0 && len + line_len < size) {
			memcpy(out + len, line, line_len);
			len += line_len;
		}
		line += line_len;
	}
	return len;
}

static int write_text(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, len);
	close(fd);
	return n == (ssize_t)len ? 0 : -EIO;
}

/* Make the folders of a path. */
static void make_folders(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
}

/* THEIRS is a link to a file that a running system would have made, as systemd-resolved does. */
static void fill_link(const char *text, size_t len)
{
	char target[PATH_MAX] = "/etc/";
	ssize_t n = readlink(THEIRS, target + 5, sizeof(target) - 6);

	if (n <= 0)
		return;
	target[5 + n] = '\0';
	char *path = target[5] == '/' ? target + 5 : target;
	if (strstr(path, "/run/"))
		path = strstr(path, "/run/"); /* ../run/... */
	if (strncmp(path, "/run/", 5) != 0)
		return;
	make_folders(path);
	write_text(path, text, len);
}

void net_names(void)
{
	char text[512];
	struct stat st;
	size_t len = name_servers(text, sizeof(text));

	if (!len)
		return;
	if (stat(THEIRS, &st) == 0) {
		mkdir("/run/lol", 0755);
		if (write_text(OURS, text, len) == 0)
			mount(OURS, THEIRS, NULL, MS_BIND, NULL);
	} else if (lstat(THEIRS, &st) == 0) {
		fill_link(text, len);
	} else {
		mkdir("/etc", 0755);
		write_text(THEIRS, text, len);
	}
}
