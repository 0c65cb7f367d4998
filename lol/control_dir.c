/* SPDX-License-Identifier: BSD-2-Clause */
#include "control_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SUFFIX ".sock"
#define LOCK_PATIENCE_MS 5000
#define BACKLOG 64

bool control_name_ok(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strlen(name);

	return len && len <= 64 && strspn(name, allowed) == len && !strchr(".-", name[0]);
}

/* ---- the directory ---- */

static bool is_own(const char *path, mode_t forbidden)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & forbidden);
}

/* BASE/lol of a directory that is the user's. */
static char *below(const char *base)
{
	char *path;

	if (!base || base[0] != '/' || !is_own(base, S_IWGRP | S_IWOTH) || asprintf(&path, "%s/lol", base) < 0)
		return NULL;
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		if (is_own(path, S_IWGRP | S_IWOTH))
			return path;
	free(path);
	return NULL;
}

char *control_dir(struct lol_error *err)
{
	char run[64], *path = below(getenv("XDG_RUNTIME_DIR"));

	if (!path) {
		snprintf(run, sizeof(run), "/run/user/%u", (unsigned)geteuid());
		path = below(run);
	}
	if (path)
		return path;
	if (asprintf(&path, "/tmp/lol-%u", (unsigned)geteuid()) < 0) {
		lol_error(err, -ENOMEM, "control directory: out of memory; end other programs");
		return NULL;
	}
	if (mkdir(path, 0700) && errno != EEXIST)
		lol_error(err, -errno, "control directory %s: %s; set XDG_RUNTIME_DIR to a directory of your own", path,
			  strerror(errno));
	else if (!is_own(path, S_IRWXG | S_IRWXO))
		lol_error(
			err, -EPERM,
			"control directory %s: not a directory of user %u alone; set XDG_RUNTIME_DIR to a directory of your own",
			path, (unsigned)geteuid());
	else
		return path;
	free(path);
	return NULL;
}

/* Locked until the descriptor is closed. -1: somebody sits on it; then it goes without, at the risk of a race. */
static int lock_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int ms = 0; fd >= 0 && ms < LOCK_PATIENCE_MS; ms += 10) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		usleep(10000);
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/* ---- sockets ---- */

static int address(struct sockaddr_un *un, const char *path, struct lol_error *err)
{
	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(un->sun_path))
		return lol_error(
			err, -ENAMETOOLONG,
			"control socket %s: the path has %zu bytes, a socket's can have %zu; use a shorter --name or XDG_RUNTIME_DIR",
			path, strlen(path), sizeof(un->sun_path) - 1);
	strcpy(un->sun_path, path);
	return 0;
}

/* A connection or a negative errno; -ECONNREFUSED: nobody listens there. */
static int try_connect(const struct sockaddr_un *un, int flags)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	struct timeval patience = {5, 0}; /* where its backlog is full */

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0)
		return fd;
	int e = errno;
	close(fd);
	return -e;
}

static char *replace_suffix(const char *path, const char *suffix)
{
	char *other;
	size_t len = strlen(path) - strlen(SUFFIX);

	return asprintf(&other, "%.*s%s", (int)len, path, suffix) < 0 ? NULL : other;
}

/* Under the lock: what a dead VM has left goes. -EADDRINUSE: somebody listens, or it is none of ours. */
static int remove_stale(const struct sockaddr_un *un)
{
	struct stat st;
	char *link;
	int fd;

	if (lstat(un->sun_path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	fd = try_connect(un, SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	if (fd != -ECONNREFUSED)
		return -EADDRINUSE; /* also -EAGAIN: its backlog is full */
	unlink(un->sun_path);
	link = replace_suffix(un->sun_path, ".pty");
	if (link)
		unlink(link);
	free(link);
	return 0;
}

static int bind_and_listen(struct control_place *place, const struct sockaddr_un *un, struct lol_error *err)
{
	mode_t mask;
	int e, ret;

	if (remove_stale(un))
		return -EADDRINUSE;
	place->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	ret = place->fd < 0 ? -1 : bind(place->fd, (const struct sockaddr *)un, sizeof(*un));
	e = errno;
	umask(mask);
	if (ret == 0 && listen(place->fd, BACKLOG) == 0 && lstat(un->sun_path, &place->st) == 0)
		return 0;
	if (ret == 0)
		e = errno;
	return lol_error(err, -e, "control socket %s: %s; set XDG_RUNTIME_DIR to a directory that can be written",
			 un->sun_path, strerror(e));
}

int control_listen(const char *name, struct control_place *place, struct lol_error *err)
{
	struct sockaddr_un un;
	char *dir = control_dir(err);
	int ret = -EIO, lock;

	*place = (struct control_place){.fd = -1};
	if (!dir)
		return ret;
	if (asprintf(&place->path, "%s/%s" SUFFIX, dir, name) < 0)
		place->path = NULL;
	place->link = place->path ? replace_suffix(place->path, ".pty") : NULL;
	if (!place->link) {
		ret = lol_error(err, -ENOMEM, "control socket: out of memory; end other programs");
	} else if (!(ret = address(&un, place->path, err))) {
		lock = lock_dir(dir);
		ret = bind_and_listen(place, &un, err);
		if (lock >= 0)
			close(lock);
	}
	free(dir);
	if (ret == -EADDRINUSE)
		lol_error(err, ret,
			  "--name %s: another VM has this name (or something else is at %s); choose another one", name,
			  place->path);
	if (ret) { /* what is there is not ours to remove */
		if (place->fd >= 0)
			close(place->fd);
		free(place->path);
		free(place->link);
		*place = (struct control_place){.fd = -1};
	}
	return ret;
}

void control_unlisten(struct control_place *place)
{
	struct stat st;

	if (place->fd < 0)
		return;
	char *slash = strrchr(place->path, '/');
	*slash = 0;
	int lock = lock_dir(place->path);
	*slash = '/';
	if (lstat(place->path, &st) == 0 && st.st_ino == place->st.st_ino && st.st_dev == place->st.st_dev &&
	    st.st_mtim.tv_sec == place->st.st_mtim.tv_sec && st.st_mtim.tv_nsec == place->st.st_mtim.tv_nsec) {
		unlink(place->path);
		unlink(place->link);
	}
	close(place->fd);
	if (lock >= 0)
		close(lock);
	free(place->path);
	free(place->link);
	*place = (struct control_place){.fd = -1};
}

/* ---- the other side ---- */

int control_connect(const char *name, struct lol_error *err)
{
	struct sockaddr_un un;
	char *dir, *path;
	int ret, fd;

	if (!control_name_ok(name))
		return lol_error(err, -ENOENT, "%s: not the name of a VM; 'lolctl ls' lists them", name);
	dir = control_dir(err);
	if (!dir)
		return -EIO;
	ret = asprintf(&path, "%s/%s" SUFFIX, dir, name) < 0
		      ? lol_error(err, -ENOMEM, "%s: out of memory; end other programs", name)
		      : 0;
	if (!ret) {
		ret = address(&un, path, err);
		free(path);
	}
	if (ret) {
		free(dir);
		return ret;
	}
	fd = try_connect(&un, 0);
	if (fd == -ECONNREFUSED) { /* nobody listens any more, or not yet: under the lock it is one of the two */
		int lock = lock_dir(dir);
		if (lock >= 0) {
			fd = try_connect(&un, 0);
			if (fd == -ECONNREFUSED)
				remove_stale(&un);
			close(lock);
		}
	}
	free(dir);
	if (fd == -ECONNREFUSED || fd == -ENOENT)
		return lol_error(err, -ENOENT, "%s: no such VM; 'lolctl ls' lists those that run", name);
	if (fd < 0)
		lol_error(err, fd, "%s: %s; does it belong to you?", name, strerror(-fd));
	return fd;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **control_names(struct lol_error *err)
{
	char *path = control_dir(err), **names = NULL;
	DIR *dir = path ? opendir(path) : NULL;
	size_t n = 0;

	if (path && !dir)
		lol_error(err, -errno, "control directory %s: %s; make it readable", path, strerror(errno));
	free(path);
	if (!dir)
		return NULL;
	names = calloc(1, sizeof(*names));
	for (struct dirent *e; names && (e = readdir(dir));) {
		size_t len = strlen(e->d_name), suffix = strlen(SUFFIX);
		if (len <= suffix || strcmp(e->d_name + len - suffix, SUFFIX))
			continue;
		char *name = strndup(e->d_name, len - suffix);
		char **more = name && control_name_ok(name) ? realloc(names, (n + 2) * sizeof(*names)) : NULL;
		if (!more) {
			free(name);
			continue;
		}
		names = more;
		names[n++] = name;
		names[n] = NULL;
	}
	closedir(dir);
	if (names)
		qsort(names, n, sizeof(*names), by_name);
	else
		lol_error(err, -ENOMEM, "control directory: out of memory; end other programs");
	return names;
}

void control_free_names(char **names)
{
	for (char **p = names; p && *p; p++)
		free(*p);
	free(names);
}
