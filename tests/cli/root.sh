#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# lol-run started by root is the user behind sudo, or nobody, before it opens anything.
. "$(dirname "$0")/../lib/common.sh"
[ "$EUID" = 0 ] || skip "only root can give root away"
setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null || skip "root of this container cannot become user 65534"
cd "$LOL_TMP" || exit 1

printf '\177ELF' >k
chmod 644 k
unset SUDO_UID SUDO_GID

# readable_as STATUS WHO ENVIRONMENT...: is a file of WHO alone readable for lol-run?
readable_as() {
	local status=$1 who=$2
	shift 2
	printf '\177ELF' >mine
	chmod 400 mine
	chown "$who" mine
	run env "$@" "$LOL_RUN" --dry-run -i k mine
	expect_status "$status"
	rm -f mine
}

readable_as 125 0:0
expect_error "user 65534"
readable_as 0 65534:65534
readable_as 0 4321:4321 SUDO_UID=4321 SUDO_GID=4321
readable_as 125 65534:65534 SUDO_UID=4321 SUDO_GID=4321
readable_as 125 0:0 SUDO_UID=0 SUDO_GID=0
readable_as 0 65534:65534 SUDO_UID=0 SUDO_GID=0
for nonsense in -1 4294967295 99999999999 12x '' ' 5'; do
	readable_as 0 65534:65534 SUDO_UID="$nonsense" SUDO_GID="$nonsense"
	readable_as 125 0:0 SUDO_UID="$nonsense" SUDO_GID="$nonsense"
done

# Root's group and extra groups are gone too.
printf '\177ELF' >group
chmod 040 group
chown 0:0 group
run "$LOL_RUN" --dry-run -i k group
expect_status 125
chown 0:4322 group
run setpriv --groups 4322 "$LOL_RUN" --dry-run -i k group
expect_status 125

# A set-uid copy is the caller again.
cp "$LOL_RUN" setuid-run
chmod 4755 setuid-run
printf '\177ELF' >mine
chown 65534:65534 mine
chmod 400 mine
run setpriv --reuid=65534 --regid=65534 --clear-groups ./setuid-run --dry-run -i k mine
expect_status 0
chown 0:0 mine
run setpriv --reuid=65534 --regid=65534 --clear-groups ./setuid-run --dry-run -i k mine
expect_status 125
echo passed
