/* SPDX-License-Identifier: BSD-2-Clause */
/* Where things are: paths.h has the contract. */
#include "paths.h"

#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *join(const char *dir, const char *middle, const char *rel)
{
	char *path;

	return asprintf(&path, "%s/%s%s", dir, middle, rel) < 0 ? NULL : path;
}

char *paths_home(const char *rel)
{
	const char *home = getenv("HOME");

	if (!home || home[0] != '/') {
		const struct passwd *pw = getpwuid(getuid());
		home = pw ? pw->pw_dir : NULL;
	}
	return home && home[0] == '/' ? join(home, "", rel) : NULL;
}

/* The XDG specification: a relative path in the variable is invalid and ignored. */
static char *xdg(const char *variable, const char *fallback, const char *rel)
{
	const char *dir = getenv(variable);

	if (dir && dir[0] == '/')
		return join(dir, "", rel);
	char *base = paths_home(fallback);
	char *path = base ? join(base, "", rel) : NULL;
	free(base);
	return path;
}

char *paths_config(const char *rel)
{
	return xdg("XDG_CONFIG_HOME", ".config", rel);
}

char *paths_data(const char *rel)
{
	return xdg("XDG_DATA_HOME", ".local/share", rel);
}

char *paths_helper(const char *name)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len > 0) {
		self[len] = 0;
		const char *dir = dirname(self);
		static const char *const places[] = {"", "../libexec/lol/"};
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
			char *path = join(dir, places[i], name);
			if (path && access(path, X_OK) == 0)
				return path;
			free(path);
		}
	}
	return join(LOL_LIBEXECDIR, "", name);
}
