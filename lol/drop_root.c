/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving root away: drop_root.h has the contract. */
#include "drop_root.h"

#include "types.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

/*
 * Is root here an ordinary user outside, and the only one who is known here (unshare -Ur, containers without subordinate ids)?
 * user_namespaces(7): lines of an id here, its id outside, and how many there are.
 */
static bool root_of_nothing(void)
{
	FILE *map = fopen("/proc/self/uid_map", "re");
	unsigned long here, outside, count, more;
	bool alone = map && fscanf(map, "%lu %lu %lu", &here, &outside, &count) == 3 && here == 0 && outside != 0 &&
		     count == 1 && fscanf(map, "%lu", &more) == EOF;

	if (map)
		fclose(map);
	return alone;
}

/* Nobody to become: what is left of root is given up, here and in every program that is started. */
static int drop_capabilities(struct lol_error *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	bool bad = prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
						    SECBIT_NO_SETUID_FIXUP_LOCKED) != 0;

	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		bad |= prctl(PR_CAPBSET_DROP, cap) != 0;
	bad |= prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0;
	if (bad || syscall(SYS_capset, &header, none))
		return lol_error(
			err, -errno,
			"cannot give up the rights of this namespace's root: %s; start lol-run as an ordinary user",
			strerror(errno));
	return 0;
}

int drop_root(struct lol_error *err)
{
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (uid && geteuid())
		return 0;
	if (!uid && root_of_nothing())
		return drop_capabilities(err);
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
