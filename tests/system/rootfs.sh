#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The host's own root directory as the guest's: commands in the current directory with their exit status, changes that stay in
# the guest, a shell on the console, and nothing left running.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
PATH=$PATH:/usr/sbin
which diod >/dev/null || skip "no diod"
mkdir -p "$LOL_TMP/work dir" && cd "$LOL_TMP/work dir" || exit 1
echo from-the-host >file
printf 'check:\n\t@grep -q from-the-host file && touch made && exit 3\n' >Makefile

# With nothing but the kernel.
boot 120 -q -- sh -c 'pwd; id -u; cat file; touch new && ls; exit 7' </dev/null
expect_status 7
expect_output "$PWD
0
from-the-host
Makefile
file
new"
[ ! -e new ] || fail "the guest's file is on the host"

# A command of the host's, with its exit status (make's own is 2 when a recipe fails).
if which make >/dev/null; then
	boot 120 -q -- make check </dev/null
	expect_status 2
	[ ! -e made ] || fail "make's file is on the host"
	mkdir sub && printf 'check:\n\t@cat ../file >made; cat made\n' >sub/Makefile
	boot 120 -q -- make -s -C "$PWD/sub" check </dev/null
	expect_status 0
	expect_output from-the-host
	[ ! -e sub/made ] || fail "make's file is on the host"
	printf 'check:\n\t@exit 1\n' >sub/Makefile
	boot 120 -q -- make -s -C "$PWD/sub" check </dev/null
	expect_status 2
	rm -r sub
fi

# Everything can be changed, in the guest.
boot 120 -q -- sh -c 'echo changed >file; cat file; rm Makefile; mkdir -p /etc/new/dir; echo x >/etc/hostname
	rm -rf /usr/share/man; ls /usr/share/man 2>/dev/null | wc -l; stat -c "%u %g" file /etc/passwd; test -w /tmp && echo tmp; awk "\$2 == \"/\" {print \$3}" /proc/mounts
	test -d /proc/1 && test -d /sys/class && test -c /dev/null && test -w /run && test -w "$HOME" && echo mounted' </dev/null
expect_status 0
expect_output "changed
0
0 0
0 0
tmp
overlay
mounted"
[ "$(cat file)" = from-the-host ] && [ -e Makefile ] || fail "the host's files were changed"

# The streams are the command's.
boot 120 -q -- tr a-z A-Z <file
expect_output FROM-THE-HOST
boot 120 -q -- sh -c 'echo out; echo err >&2' </dev/null
expect_output out
[ "$(cat "$ERRORS")" = err ] || fail "stderr is not the command's"

# Places that the user may not see do not stop anything.
mkdir locked && touch locked/x && chmod 000 locked
boot 120 -q -- sh -c 'ls locked >/dev/null 2>&1; echo $?; ls -d locked' </dev/null
expect_status 0
expect "locked"
chmod 700 locked

# Without a command: a shell on the console, in the same place.
mkfifo input
"$LOL_RUN" "$LOL_KERNEL" -q <input >"$CONSOLE" 2>"$ERRORS" &
pid=$!
exec 3>input
wait_for_text 60 "Run /lol-init" "$CONSOLE"
for ((i = 0; i < 60; i++)); do # what comes before the shell has the terminal is lost
	echo 'echo at="$(pwd)" uid=$(id -u)' >&3
	sleep 1
	! grep -qF "at=$PWD uid=0" "$CONSOLE" || break
done
echo exit >&3
exec 3>&-
wait $pid
STATUS=$?
expect_status 0
expect "at=$PWD uid=0"

# Another root. It needs no more than what the command needs.
mkdir -p root/bin root/etc && cp "$(command -v busybox)" root/bin/ || skip "no busybox for the rest"
ln -s busybox root/bin/sh
echo small >root/etc/name
boot 120 -q -m 256M --rootfs root -- /bin/sh -c 'read -r n </etc/name; echo "$n"; echo other >/etc/name; pwd; test ! -e /usr/bin/make' </dev/null
expect_status 0
expect_output "small
/"
[ "$(cat root/etc/name)" = small ] || fail "the root was changed"

# A kill leaves no server.
"$LOL_RUN" "$LOL_KERNEL" -q -- sh -c 'echo up; sleep 100' >out 2>&1 </dev/null &
pid=$!
wait_for_text 60 up out
mapfile -t pids < <(tree_pids $pid)
[ "$(ps -o comm= -p "$(IFS=, && echo "${pids[*]}")" | grep -cx diod)" -ge 1 ] || fail "no server runs"
kill -KILL $pid
{ wait $pid; } 2>/dev/null
none_left "${pids[@]}"
echo passed
