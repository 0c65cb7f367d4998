#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# lolctl without any VM: wrong command lines, names that nobody has, sockets that the dead have left, and a VM that does not answer.
. "$(dirname "$0")/../lib/common.sh"
cd "$LOL_TMP" || exit 1
LOLCTL=$(dirname "$LOL_RUN")/lolctl
export XDG_RUNTIME_DIR=$LOL_TMP/run
mkdir -m 700 run
# Started by root, lolctl becomes nobody.
AS=()
if [ "$EUID" = 0 ]; then
	unset SUDO_UID SUDO_GID
	AS=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	chown 65534:65534 run
fi

# wrong STATUS HINT ARGUMENT...
wrong() {
	local status=$1 hint=$2
	shift 2
	run timeout 20 "$LOLCTL" "$@" </dev/null
	[ "$STATUS" = "$status" ] || fail "lolctl $*: status $STATUS, not $status"
	[ ! -s "$CONSOLE" ] || fail "lolctl $*: wrote to stdout"
	[ "$(wc -l <"$ERRORS")" = 1 ] || fail "lolctl $*: not one line"
	[[ $(cat "$ERRORS") == "lolctl: "*": "*"; "* ]] || fail "lolctl $*: not 'lolctl: WHAT: WHY; HINT'"
	grep -qF -e "$hint" "$ERRORS" || fail "lolctl $*: no '$hint'"
}

wrong 125 "no command"
wrong 125 "no such command" staus
wrong 125 "no such command" staus web
wrong 125 "A NAME is missing" status
wrong 125 "no such option" status web --jsno
wrong 125 "too many words" ls web
wrong 125 "too many words" a b c d e
wrong 125 "takes less" pause web now
wrong 125 "something is missing" sysrq web
wrong 125 "one character" sysrq web tt
wrong 125 "something is missing" dump web
wrong 125 "something is missing" resize web vda
wrong 125 "resize x" resize web vda x
wrong 125 "only for stop" pause web --force
wrong 125 "takes less" stop web now then --force
wrong 125 "only for resize" disks web --shrink
wrong 125 "only for stats" status web --watch
wrong 125 "--timeout" stop web --timeout
wrong 125 "--timeout" stop web --timeout x
wrong 125 "balloon 5Q" balloon web 5Q
for verb in status pause resume stop console stats balloon disks; do
	wrong 1 "no such VM" $verb web
done
wrong 1 "no such VM" resize web vda 2G --shrink
wrong 1 "not the name of a VM" status ../web
wrong 1 "not the name of a VM" status ''
run "$LOLCTL" ls
expect_status 0
[ ! -s "$CONSOLE" ] && [ ! -s "$ERRORS" ] || fail "ls of nothing says something"
run "$LOLCTL" ls --json
[ "$(cat "$CONSOLE")" = "[]" ] || fail "ls --json of nothing is not []"
run "$LOLCTL" --version
expect "lolctl (Linux-on-Linux) "
"$LOLCTL" --help >/dev/full 2>"$ERRORS"
STATUS=$?
expect_status 125

# What a killed VM leaves: a socket that nobody listens at. It counts as nothing, and goes.
"${AS[@]}" perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($ARGV[0])) or die' run/lol/dead.sock || skip "no perl"
[ -S run/lol/dead.sock ] || fail "no socket to test with"
"${AS[@]}" ln -s /dev/pts/999 run/lol/dead.pty
run "$LOLCTL" ls
[ ! -s "$CONSOLE" ] && [ ! -s "$ERRORS" ] || fail "ls shows the dead"
[ -z "$(ls run/lol)" ] || fail "what the dead have left is still there"

# Other files there confuse nobody.
"${AS[@]}" touch run/lol/file.sock run/lol/.sock run/lol/x run/lol/'a b.sock'
wrong 1 "file: " status file
run "$LOLCTL" ls
expect_status 0

# One that listens and does not answer, and one that talks nonsense.
"${AS[@]}" perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($ARGV[0])) or die; listen(S, 5); print "up\n"; sleep 60' \
	run/lol/mute.sock >up &
mute=$!
"${AS[@]}" perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($ARGV[0])) or die; listen(S, 5); $| = 1; print "up\n";
	while (accept(C, S)) { sysread(C, $x, 4096); syswrite(C, $ARGV[1] . "\n"); close C }' run/lol/odd.sock 'what?' >up2 &
odd=$!
trap 'kill $mute $odd 2>/dev/null' EXIT
for ((i = 0; i < 100; i++)); do
	[ -s up2 ] && [ -S run/lol/mute.sock ] && break
	sleep 0.1
done
rm run/lol/file.sock
run timeout 30 "$LOLCTL" ls
expect_status 0
[ "$(grep -c 'not answering' "$CONSOLE")" = 2 ] || fail "ls does not tell who does not answer"
wrong 1 "no JSON object" status odd
echo passed
