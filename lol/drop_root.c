/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving root away: drop_root.h has the contract. */
#include "drop_root.h"

#include "types.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The number in an environment variable, or 0 for anything that is not an id of an ordinary user. */
static unsigned id_from(const char *variable)
{
	const char *text = getenv(variable);
	char *end;

	if (!text || text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	unsigned long id = strtoul(text, &end, 10);
	return errno || *end || id >= UINT32_MAX ? 0 : (unsigned)id;
}

/* Root's own places are of no use to the new user: a home that it cannot enter would only give errors. */
static void fix_environment(uid_t uid)
{
	const struct passwd *pw = getpwuid(uid);
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	setenv("HOME", pw && pw->pw_dir[0] == '/' ? pw->pw_dir : "/nonexistent", 1);
	if (runtime && (stat(runtime, &st) || st.st_uid != uid))
		unsetenv("XDG_RUNTIME_DIR");
}

static bool is_exactly(uid_t uid, gid_t gid)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	return !getresuid(&r, &e, &s) && !getresgid(&rg, &eg, &sg) && r == uid && e == uid && s == uid && rg == gid &&
	       eg == gid && sg == gid && getgroups(0, NULL) == 0;
}

int drop_root(struct lol_error *err)
{
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (uid && geteuid())
		return 0;
	if (!uid) {
		uid = id_from("SUDO_UID");
		gid = uid ? id_from("SUDO_GID") : 0;
		uid = uid ? uid : NOBODY_ID;
		gid = gid ? gid : NOBODY_ID;
	}
	if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return lol_error(err, -errno, "cannot become user %u: %s; start lol-run as an ordinary user", uid,
				 strerror(errno));
	if (!is_exactly(uid, gid) || !setuid(0) || !seteuid(0))
		return lol_error(err, -EPERM,
				 "user %u could become root again: refused; start lol-run as an ordinary user", uid);
	fix_environment(uid);
	return 0;
}
