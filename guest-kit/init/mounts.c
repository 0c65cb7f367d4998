// SPDX-License-Identifier: BSD-2-Clause
/*
 * File systems of the guest: what every program expects, and the root file system of
 *
 *   lol.root=DEV           a block device (/dev/vda, once it appears), or the tag of a share with lol.rootfstype=9p or virtiofs
 *   lol.rootfstype=TYPE    default: every type that the kernel knows, in its order
 *   lol.rootflags=OPTIONS  as after mount -o
 *   lol.overlay            changes stay in the guest's memory, the root file system below is mounted read-only
 *   lol.rootwait           wait a minute for the device, not a second
 *   ro                     mount it read-only
 */
#include "lol-init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 1000       /* for a disk: it is there when init starts, unless its driver still looks for it */
#define LONG_WAIT_MS 60000 /* with lol.rootwait */
#define STEP_MS 2
#define NEW_ROOT "/.lol-root"
#define OVERLAY "/.lol-overlay"

static char error_text[512];

const char *mounts_error(void)
{
	return error_text;
}

static int fail(int err, const char *what, const char *why)
{
	size_t room = sizeof(error_text) - 1;

	error_text[0] = '\0';
	strncat(error_text, what, room / 2);
	strncat(error_text, ": ", room - strlen(error_text));
	strncat(error_text, why ? why : strerror(-err), room - strlen(error_text));
	return err;
}

/* A file system in a folder that is made where it is missing. */
static int mount_at(const char *type, const char *dir, unsigned long flags, const char *data)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, flags, data) == 0 || errno == EBUSY)
		return 0;
	return -errno;
}

int mounts_early(void)
{
	static const struct {
		const char *type, *dir, *data;
		unsigned long flags;
	} early[] = {
		{"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"devtmpfs", "/dev", "mode=0755", MS_NOSUID},
	};

	for (size_t i = 0; i < ARRAY_LEN(early); i++) {
		int err = mount_at(early[i].type, early[i].dir, early[i].flags, early[i].data);

		if (err)
			return fail(err, early[i].dir, NULL);
	}
	return 0;
}

void mounts_late(void)
{
	struct stat st, parent;

	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 01777);
	mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
	mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
	/* /tmp is a file system of its own only where programs could not write into it otherwise. */
	mkdir("/tmp", 01777);
	if (stat("/", &parent) == 0 && stat("/tmp", &st) == 0 && st.st_dev == parent.st_dev &&
	    access("/tmp", W_OK) != 0)
		mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	if (stat("/tmp", &st) == 0 && (st.st_mode & 07777) != 01777)
		chmod("/tmp", 01777);
	/* The home of a root who was somebody else's. */
	mkdir("/root", 0700);
	DIR *home = opendir("/root");
	if (home)
		closedir(home);
	else if (errno == EACCES || errno == EPERM)
		mount("tmpfs", "/root", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700");
	/* Failures are fine: udev and devtmpfs make some of these. */
	(void)!symlink("/proc/self/fd", "/dev/fd");
	(void)!symlink("/proc/self/fd/0", "/dev/stdin");
	(void)!symlink("/proc/self/fd/1", "/dev/stdout");
	(void)!symlink("/proc/self/fd/2", "/dev/stderr");
}

/* ---- the root file system ---- */

/* Split "noatime,data=ordered" into the kernel's flags and the file system's own text. */
static unsigned long parse_options(char *options, char *data, size_t size)
{
	static const struct {
		const char *name;
		unsigned long set, clear;
	} known[] = {
		{"ro", MS_RDONLY, 0},
		{"rw", 0, MS_RDONLY},
		{"defaults", 0, 0},
		{"noatime", MS_NOATIME, 0},
		{"nodiratime", MS_NODIRATIME, 0},
		{"relatime", MS_RELATIME, 0},
		{"strictatime", MS_STRICTATIME, 0},
		{"lazytime", MS_LAZYTIME, 0},
		{"nodev", MS_NODEV, 0},
		{"nosuid", MS_NOSUID, 0},
		{"noexec", MS_NOEXEC, 0},
		{"sync", MS_SYNCHRONOUS, 0},
		{"dirsync", MS_DIRSYNC, 0},
	};
	unsigned long flags = 0;
	char *state = NULL;

	data[0] = '\0';
	for (char *o = strtok_r(options, ",", &state); o; o = strtok_r(NULL, ",", &state)) {
		size_t i = 0;

		while (i < ARRAY_LEN(known) && strcmp(known[i].name, o) != 0)
			i++;
		if (i < ARRAY_LEN(known)) {
			flags = (flags | known[i].set) & ~known[i].clear;
		} else if (strlen(data) + strlen(o) + 2 <= size) {
			if (data[0])
				strcat(data, ",");
			strcat(data, o);
		}
	}
	return flags;
}

/* Mount with the first type of /proc/filesystems that takes the device. */
static int mount_any(const char *dev, const char *dir, unsigned long flags, const char *data)
{
	static char text[8192];
	char *state = NULL;
	int err = -ENODEV, fd = open("/proc/filesystems", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		if (line[0] != '\t') /* "nodev\tTYPE" */
			continue;
		if (mount(dev, dir, line + 1, flags, data) == 0)
			return 0;
		if (errno != EINVAL || err == -ENODEV)
			err = -errno;
		if (errno != EINVAL && errno != ENODEV && errno != ENOTBLK)
			break;
	}
	return err;
}

static int wait_for_block_device(const char *dev)
{
	struct stat st;

	for (int ms = cmdline_get("lol.rootwait") ? LONG_WAIT_MS : WAIT_MS; ms > 0; ms -= STEP_MS) {
		if (stat(dev, &st) == 0)
			return S_ISBLK(st.st_mode) ? 0 : fail(-ENOTBLK, dev, "lol.root= is no block device");
		nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000l}, NULL);
	}
	return fail(-ENODEV, dev, "no such device for lol.root=; does lol-run have its --disk?");
}

/* The file system below is at OVERLAY/lower; put the writable view of it at NEW_ROOT. */
static int mount_overlay(void)
{
	if (mount_at("tmpfs", OVERLAY "/memory", 0, "mode=0755"))
		return -errno;
	mkdir(OVERLAY "/memory/upper", 0755);
	mkdir(OVERLAY "/memory/work", 0755);
	if (mount("overlay", NEW_ROOT, "overlay", 0,
		  "lowerdir=" OVERLAY "/lower,upperdir=" OVERLAY "/memory/upper,workdir=" OVERLAY "/memory/work") == 0)
		return 0;
	return fail(-errno, "lol.overlay", errno == ENODEV ? "this kernel has no CONFIG_OVERLAY_FS" : NULL);
}

/* mkdir -p */
static void make_dirs(const char *path)
{
	char dir[4096];

	if (strlen(path) >= sizeof(dir))
		return;
	strcpy(dir, path);
	for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(dir, 0755);
		*slash = '/';
	}
	mkdir(dir, 0755);
}

/*
 * What the host has mounted below its root comes as shares of their own. A failure is no reason to stop: the directory stays
 * empty, as it would for a user who may not see it.
 */
static void mount_root_below(const char *dev, const struct share *shares, unsigned long flags, const char *data,
			     bool overlay)
{
	char target[4096 + 16], lower[64], upper[64], work[64], layers[256];
	int n = 0;

	for (const struct share *s = shares; s; s = s->next) {
		if (!s->parent || strcmp(s->parent, dev) != 0 || strlen(s->path) + sizeof(NEW_ROOT) > sizeof(target))
			continue;
		strcpy(target, NEW_ROOT);
		strcat(target, s->path);
		if (!overlay) {
			mount(s->tag, target, "9p", flags, data);
			continue;
		}
		n++;
		snprintf(lower, sizeof(lower), OVERLAY "/lower.%d", n);
		snprintf(upper, sizeof(upper), OVERLAY "/memory/upper.%d", n);
		snprintf(work, sizeof(work), OVERLAY "/memory/work.%d", n);
		mkdir(lower, 0755);
		mkdir(upper, 0755);
		mkdir(work, 0755);
		snprintf(layers, sizeof(layers), "lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
		if (mount(s->tag, lower, "9p", flags, data) == 0)
			mount("overlay", target, "overlay", 0, layers);
	}
}

static int mount_once(const char *dev, const char *dir, const char *type, unsigned long flags, const char *data)
{
	if (!type)
		return mount_any(dev, dir, flags, data);
	return mount(dev, dir, type, flags, data) ? -errno : 0;
}

/* Persistent memory's pages are to be the file's own, where the file system can do that. */
static int mount_device(const char *dev, const char *dir, const char *type, unsigned long flags, const char *data)
{
	char dax[1100];

	if (strncmp(dev, "/dev/pmem", 9) == 0 && !strstr(data, "dax")) {
		snprintf(dax, sizeof(dax), "%s%sdax", data, *data ? "," : "");
		int err = mount_once(dev, dir, type, flags, dax);
		if (err != -EINVAL && err != -EOPNOTSUPP)
			return err;
	}
	return mount_once(dev, dir, type, flags, data);
}

static int mount_root_device(const char *dev, const struct share *shares)
{
	const char *type = cmdline_get("lol.rootfstype"), *given = cmdline_get("lol.rootflags");
	bool overlay = cmdline_get("lol.overlay") != NULL;
	bool tag = type && (strcmp(type, "9p") == 0 || strcmp(type, "virtiofs") == 0);
	const char *dir = overlay ? OVERLAY "/lower" : NEW_ROOT;
	char *options = strdup(given ? given : ""), data[1024];
	unsigned long flags = options ? parse_options(options, data, sizeof(data)) : 0;
	int err = tag ? 0 : wait_for_block_device(dev);

	free(options);
	if (err)
		return err;
	if (overlay || cmdline_get("ro"))
		flags |= MS_RDONLY;
	mkdir(NEW_ROOT, 0755);
	mkdir(OVERLAY, 0755);
	mkdir(dir, 0755);
	err = mount_device(dev, dir, type, flags, data);
	if (err == -EROFS || err == -EACCES) /* a disk given with ",ro" */
		err = mount_device(dev, dir, type, flags | MS_RDONLY, data);
	if (err == -EINVAL || err == -ENODEV)
		return fail(err, dev, "no file system that this kernel can mount");
	if (err)
		return fail(err, dev, NULL);
	if (overlay)
		err = mount_overlay();
	if (!err && tag)
		mount_root_below(dev, shares, flags, data, overlay);
	return err;
}

/* NEW_ROOT becomes /, and /dev, /proc, /sys come along. */
static int enter_new_root(void)
{
	static const char *const dirs[] = {"/dev", "/proc", "/sys"};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		char to[64] = NEW_ROOT;

		strcat(to, dirs[i]);
		mkdir(to, 0755);
		if (mount(dirs[i], to, NULL, MS_MOVE, NULL))
			return fail(-errno, to + strlen(NEW_ROOT), "missing in the root file system");
	}
	if (chdir(NEW_ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return fail(-errno, "entering the root file system", NULL);
	return 0;
}

int mounts_root(const struct share *shares)
{
	const char *dev = cmdline_get("lol.root");
	int err;

	if (!dev || !*dev)
		return 0;
	err = mount_root_device(dev, shares);
	return err ? err : enter_new_root();
}

/* ---- shares ---- */

/* Fresh from the host at every read; writes and mmap go through. A share's set-uid bits are those of another machine. */
#define SHARE_OPTIONS "trans=virtio,version=9p2000.L,msize=65536,cache=mmap,access=any"

void mounts_shares(const struct share *shares)
{
	const struct share *parent = NULL;
	char target[8192];

	for (const struct share *s = shares; s; s = s->next) {
		if (!s->parent)
			parent = s;
		else if (!parent || strcmp(parent->tag, s->parent) != 0) /* one of the root's */
			continue;
		if (strlen(parent->path) + strlen(s->path) >= sizeof(target))
			continue;
		strcpy(target, parent->path);
		if (s->parent)
			strcat(target, s->path);
		else
			make_dirs(target);
		if (mount(s->tag, target, "9p", MS_NOSUID | MS_NODEV | (parent->ro ? MS_RDONLY : 0), SHARE_OPTIONS) &&
		    !s->parent)
			say(STDERR_FILENO, "share ", s->tag, " at ", target, ": ", strerror(errno), NULL);
	}
}

/* ---- the end ---- */

void mounts_end(void)
{
	static char text[32768];
	char *mount_points[256];
	size_t n = 0, len = 0;
	int fd = open("/proc/self/mounts", O_RDONLY | O_CLOEXEC);

	sync();
	if (fd < 0)
		return;
	for (ssize_t got; len < sizeof(text) - 1 && (got = read(fd, text + len, sizeof(text) - 1 - len)) > 0;)
		len += (size_t)got;
	close(fd);
	text[len] = '\0';
	for (char *line = text, *next; *line && n < ARRAY_LEN(mount_points); line = next) {
		char *end = strchr(line, '\n'), *from = strchr(line, ' ');

		next = end ? end + 1 : line + strlen(line);
		if (!from || !end || from > end)
			break;
		mount_points[n++] = from + 1;
		*strchr(from + 1, ' ') = '\0';
	}
	while (n-- > 0) {
		char *dir = mount_points[n], *out = dir;

		for (char *s = dir; *s; s++) { /* "\040" is a space */
			if (s[0] == '\\' && s[1] && s[2] && s[3]) {
				*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
				s += 3;
			} else {
				*out++ = *s;
			}
		}
		*out = '\0';
		if (strcmp(dir, "/proc") == 0 || strcmp(dir, "/dev") == 0 || strcmp(dir, "/sys") == 0)
			continue;
		if (strcmp(dir, "/") == 0 || umount(dir))
			mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	}
	sync();
}
