/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * --share and --rootfs: a file server and a virtio-9p device each, and what lol-init is told about them, in a file /lol-setup
 * of its archive (guest-kit/init/setup.c reads it). The texts of its items are percent-encoded as those of the port lol.ctl.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "machine_int.h"

#define SUBMOUNTS_MAX 6u    /* of a share */
#define DEVICES_RESERVED 4u /* for what is made behind the shares */

static void put_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c <= 0x20 || c == '%' || c >= 0x7f)
			fprintf(out, "%%%02X", c);
		else
			fputc(c, out);
	}
}

static void put_item(FILE *out, const char *verb, const char *text)
{
	fprintf(out, "%s ", verb);
	put_text(out, text);
	fputc('\n', out);
}

/* path is dir or below it: what comes behind dir ("" for dir itself), else NULL. */
static const char *below(const char *dir, const char *path)
{
	size_t len = strcmp(dir, "/") ? strlen(dir) : 0;

	return !strncmp(dir, path, len) && (!path[len] || path[len] == '/') ? path + len : NULL;
}

/* ---- mounts ---- */

/* File systems with files of people's: not what a kernel shows of itself, and not what a guest makes anew. */
static bool worth_mounting(const char *type, const char *path)
{
	static const char *const types[] = {
		"ext2",   "ext3",  "ext4",    "xfs", "btrfs", "zfs",     "f2fs",  "bcachefs", "jfs",      "reiserfs",
		"nilfs2", "tmpfs", "overlay", "nfs", "nfs4",  "cifs",    "smb3",  "9p",       "virtiofs", "vfat",
		"exfat",  "ntfs3", "iso9660", "udf", "ceph",  "fuseblk", "erofs", "nullfs"};
	static const char *const dirs[] = {"/proc", "/sys", "/dev", "/run"};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (below(dirs[i], path))
			return false;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

/* Does the user's own work lie below path? */
static bool is_wanted_most(const char *path)
{
	const char *home = getenv("HOME");
	char *cwd = getcwd(NULL, 0);
	bool wanted = (cwd && below(path, cwd)) || (home && below(path, home));

	free(cwd);
	return wanted;
}

/* Mount points below dir, the ones to have first in front. */
static unsigned find_submounts(const char *dir, char *found[SUBMOUNTS_MAX])
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *where = NULL, *type = NULL;
	size_t size = 0;
	unsigned n = 0, first = 0;

	while (file && getline(&line, &size, file) > 0) {
		char *dash = strstr(line, " - ");
		struct stat st;
		if (dash && sscanf(line, "%*s %*s %*s %*s %ms", &where) == 1 && sscanf(dash, " - %ms", &type) == 1) {
			share_unescape(where);
			const char *rest = below(dir, where);
			bool most = is_wanted_most(where);
			if (rest && rest[0] && rest[1] && worth_mounting(type, where) && stat(where, &st) == 0 &&
			    S_ISDIR(st.st_mode) && access(where, R_OK | X_OK) == 0 &&
			    (n < SUBMOUNTS_MAX || (most && first < n))) {
				if (n == SUBMOUNTS_MAX)
					free(found[--n]);
				found[n++] = where;
				where = NULL;
				if (most) { /* in their order, so that what is below another comes behind it */
					char *this = found[n - 1];
					memmove(&found[first + 1], &found[first], (n - 1 - first) * sizeof(found[0]));
					found[first++] = this;
				}
			}
		}
		free(where);
		free(type);
		where = type = NULL;
	}
	free(line);
	if (file)
		fclose(file);
	return n;
}

static void put_words(FILE *out, const char *verb, const char *tag, const char *word, const char *path)
{
	fprintf(out, "%s ", verb);
	put_text(out, tag);
	fputc(' ', out);
	put_text(out, word);
	fputc(' ', out);
	put_text(out, path);
	fputc('\n', out);
}

static int share_one(struct machine *m, const char *dir, const char *tag, bool ro, struct lol_error *err);

/*
 * diod does not go from one file system into another, and a channel of virtio-9p carries one mount. So what is mounted below
 * dir has a server of its own, as far as there are devices for it. Failing is no reason to stop: an empty folder is left.
 */
static void share_submounts(struct machine *m, FILE *out, const char *dir, const char *tag, bool ro)
{
	char *found[SUBMOUNTS_MAX];
	unsigned n = find_submounts(dir, found);

	for (unsigned i = 0; i < n; i++) {
		char name[LOL_TAG_MAX + 16];
		struct lol_error err;
		snprintf(name, sizeof(name), "%s.%u", tag, i + 1);
		if (m->ndevices + DEVICES_RESERVED + m->opts->nnets + m->opts->nshares < MAX_VIRTIO &&
		    !share_one(m, found[i], name, ro, &err))
			put_words(out, "submount", tag, name, below(dir, found[i]));
		else if (m->opts->verbosity > 0)
			fprintf(stderr,
				"lol-run: %s: is a file system of its own and stays empty in the guest; share it by itself\n",
				found[i]);
		free(found[i]);
	}
}

/* ---- what COMMAND or the shell find ---- */

static void put_environment(FILE *out)
{
	static const char *const names[] = {"TERM",       "LANG",       "LANGUAGE", "TZ",       "EDITOR",
					    "PAGER",      "COLORTERM",  "LC_ALL",   "LC_CTYPE", "LC_MESSAGES",
					    "LC_COLLATE", "LC_NUMERIC", "LC_TIME",  "SHELL",    "HOME"};
	const char *path = getenv("PATH");
	char text[8192];

	/* An ordinary user's has no sbin in it, and in the guest everybody is root. */
	snprintf(text, sizeof(text), "PATH=%s%s/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		 path ? path : "", path ? ":" : "");
	put_item(out, "env", text);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *value = getenv(names[i]);
		if (!value || !*value || snprintf(text, sizeof(text), "%s=%s", names[i], value) >= (int)sizeof(text))
			continue;
		/* Of no use where the user cannot use them: a service account's shell and home. */
		if (!strcmp(names[i], "SHELL") &&
		    (access(value, X_OK) || strstr(value, "nologin") || strstr(value, "/false")))
			continue;
		if (!strcmp(names[i], "HOME") && (access(value, R_OK | X_OK) || !strcmp(value, "/")))
			continue;
		put_item(out, "env", text);
	}
}

/* Where lol-run was started, if that is a place of the guest's too. */
static void put_directory(FILE *out, const char *rootfs)
{
	char *cwd = getcwd(NULL, 0);
	const char *rest = cwd ? below(rootfs, cwd) : NULL;

	if (rest)
		put_item(out, "cwd", *rest ? rest : "/");
	free(cwd);
}

/* For the guest's clock to be the host's to less than a second. */
static void put_clock(FILE *out)
{
	struct timespec t;
	uint64_t tsc = __builtin_ia32_rdtsc();

	clock_gettime(CLOCK_REALTIME, &t);
	fprintf(out, "clock %llu %llu\n", (unsigned long long)tsc,
		(unsigned long long)t.tv_sec * 1000000000 + (unsigned long long)t.tv_nsec);
}

static void put_terminal(FILE *out)
{
	struct winsize ws;

	if (isatty(0) && ioctl(0, TIOCGWINSZ, &ws) == 0 && ws.ws_row && ws.ws_col)
		fprintf(out, "winsize %u %u\n", ws.ws_row, ws.ws_col);
}

/* ---- one directory ---- */

static int share_one(struct machine *m, const char *dir, const char *tag, bool ro, struct lol_error *err)
{
	struct share_server *server = &m->shares[m->nshares];
	char why[DEVICE_ERR] = "";
	int ret = m->nshares == ARRAY_LEN(m->shares)
			  ? lol_error(err, -ENOSPC, "share %.600s: there are too many; leave some out", dir)
			  : share_start(server, dir, ro, err);

	if (ret)
		return ret;
	m->nshares++;
	struct p9_config c = {
		.dir = dir, .tag = tag, .fd = server->fd, .policy = {ro, getuid(), getgid(), server->root}};
	struct virtio_env env = machine_device_env(m);
	struct virtio_dev *dev = virtio_9p_create(&env, &c, why);
	if (dev)
		server->fd = -1;
	return machine_attach(m, dev, why, err);
}

static char *resolve(const char *option, const char *dir, struct lol_error *err)
{
	char *path = realpath(dir, NULL);

	if (!path)
		lol_error(err, -errno, "%s %.600s: %s; name a directory of the host", option, dir, strerror(errno));
	return path;
}

static int share_root(struct machine *m, FILE *out, struct lol_error *err)
{
	char *dir = resolve("--rootfs", m->opts->rootfs, err);
	int ret = dir ? share_one(m, dir, SHARE_ROOT_TAG, true, err) : -ENOENT;

	if (!ret) {
		share_submounts(m, out, dir, SHARE_ROOT_TAG, true);
		put_directory(out, dir);
		put_environment(out);
		put_terminal(out);
	}
	free(dir);
	return ret;
}

/* In the guest a share is at its own path where the root is the host's and no tag says that it is meant for elsewhere. */
static int share_dir(struct machine *m, unsigned i, FILE *out, struct lol_error *err)
{
	const struct lol_share *share = &m->opts->shares[i];
	char *dir = resolve("--share", share->dir, err),
	     *root = m->opts->rootfs ? realpath(m->opts->rootfs, NULL) : NULL;
	const char *rest = root && dir && !share->tag ? below(root, dir) : NULL;
	char tag[LOL_TAG_MAX + 1], path[LOL_TAG_MAX + 16];
	int ret = -ENOENT;

	if (share->tag)
		snprintf(tag, sizeof(tag), "%s", share->tag);
	else
		snprintf(tag, sizeof(tag), "share%u", i);
	snprintf(path, sizeof(path), "/mnt/%s", tag);
	if (dir)
		ret = share_one(m, dir, tag, share->ro, err);
	if (!ret) {
		put_words(out, "share", tag, share->ro ? "ro" : "rw", rest && *rest ? rest : path);
		share_submounts(m, out, dir, tag, share->ro);
	}
	free(root);
	free(dir);
	return ret;
}

int shares_create(struct machine *m, struct lol_error *err)
{
	FILE *out = open_memstream(&m->setup, &m->setup_len);
	int ret = 0;

	if (!out)
		return lol_error(err, -ENOMEM, "guest's setup: out of memory; close something");
	put_clock(out);
	disks_setup(m, out);
	if (m->opts->rootfs)
		ret = share_root(m, out, err);
	for (unsigned i = 0; !ret && i < m->opts->nshares; i++)
		ret = share_dir(m, i, out, err);
	fclose(out);
	return ret;
}

void shares_destroy(struct machine *m)
{
	for (unsigned i = 0; i < m->nshares; i++)
		share_stop(&m->shares[i]);
	free(m->setup);
}
