// SPDX-License-Identifier: BSD-2-Clause
/*
 * Finding the ports. Each has a folder /sys/class/virtio-ports/vportNpM with its name in a file, and a node of the same
 * name in /dev. They appear one by one, out of a work queue of the driver, some time after init has started.
 *
 * A port that the host has not opened looks like one that it has closed (reads give 0). So the host announces
 * VIRTIO_CONSOLE_PORT_OPEN before VIRTIO_CONSOLE_PORT_NAME, and a port with a name is an open one.
 */
#include "lol-init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 5000
#define STEP_MS 2
#define CLASS_DIR "/sys/class/virtio-ports"
#define DRIVER_DIR "/sys/bus/virtio/drivers/virtio_console"
#define MULTIPORT_BIT 1 /* VIRTIO_CONSOLE_F_MULTIPORT: index into the text of the `features` file */

static const char *const port_names[PORTS] = {"lol.ctl", "lol.stdin", "lol.stdout", "lol.stderr"};

/* Read DIR/ENTRY/FILE into text without its newline; false where that fails. */
static bool read_attr(const char *dir, const char *entry, const char *file, char *text, size_t size)
{
	char path[512];

	if (strlen(dir) + strlen(entry) + strlen(file) + 3 > sizeof(path))
		return false;
	strcpy(path, dir);
	strcat(path, "/");
	strcat(path, entry);
	strcat(path, "/");
	strcat(path, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return false;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	return true;
}

/* Is there any console device that can have named ports? Only then it is worth waiting for them. */
static bool multiport_device(void)
{
	DIR *dir = opendir(DRIVER_DIR);
	struct dirent *e;
	bool found = false;
	char text[128];

	if (!dir)
		return false;
	while (!found && (e = readdir(dir)))
		found = strncmp(e->d_name, "virtio", 6) == 0 &&
			read_attr(DRIVER_DIR, e->d_name, "features", text, sizeof(text)) &&
			strlen(text) > MULTIPORT_BIT && text[MULTIPORT_BIT] == '1';
	closedir(dir);
	return found;
}

/* Open the port of this folder of sysfs, if it is one of ours. */
static void try_entry(const char *entry, int fd[PORTS])
{
	char name[64], path[300] = "/dev/";

	if (!read_attr(CLASS_DIR, entry, "name", name, sizeof(name)))
		return;
	for (int i = 0; i < PORTS; i++) {
		if (fd[i] >= 0 || strcmp(name, port_names[i]) != 0)
			continue;
		strcat(path, entry);
		fd[i] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		return;
	}
}

int ports_open(int fd[PORTS])
{
	for (int i = 0; i < PORTS; i++)
		fd[i] = -1;
	if (!multiport_device())
		return -ENODEV;
	for (int ms = 0; ms < WAIT_MS; ms += STEP_MS) {
		DIR *dir = opendir(CLASS_DIR);
		struct dirent *e;

		while (dir && (e = readdir(dir)))
			if (e->d_name[0] != '.')
				try_entry(e->d_name, fd);
		if (dir)
			closedir(dir);
		bool all = true;
		for (int i = 0; i < PORTS; i++)
			all = all && fd[i] >= 0;
		if (all)
			return 0;
		nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000l}, NULL);
	}
	for (int i = 0; i < PORTS; i++)
		close_fd(&fd[i]);
	return -ENODEV;
}
