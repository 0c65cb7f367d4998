#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What lol-run says to wrong and right command lines: one line on stderr, status 125, nothing on stdout.
. "$(dirname "$0")/../lib/common.sh"
cd "$LOL_TMP" || exit 1

printf '\177ELF' >k
echo data >disk.img
chmod 644 k
chmod 666 disk.img
mkdir config

# wrong HINT ARGUMENT...
wrong() {
	local hint=$1
	shift
	run "$LOL_RUN" "$@" </dev/null
	[ "$STATUS" = 125 ] || fail "lol-run $*: status $STATUS, not 125"
	[ ! -s "$CONSOLE" ] || fail "lol-run $*: wrote to stdout"
	[ "$(wc -l <"$ERRORS")" = 1 ] || fail "lol-run $*: not one line"
	[[ $(cat "$ERRORS") == "lol-run: "*": "*"; "* ]] || fail "lol-run $*: not 'lol-run: WHAT: WHY; HINT'"
	grep -qF -e "$hint" "$ERRORS" || fail "lol-run $*: no '$hint'"
}

# dry EXPECTED ARGUMENT...: the whole output of --dry-run
dry() {
	local expected=$1
	shift
	run "$LOL_RUN" --dry-run "$@" </dev/null
	expect_status 0
	[ ! -s "$ERRORS" ] || fail "lol-run --dry-run $*: wrote to stderr"
	[ "$(cat "$CONSOLE")" = "$expected" ] || fail "lol-run --dry-run $*: not '$expected'"
}

wrong "512M or 2G" -m 12X k
wrong "did you mean --mem" --meem 1 k
wrong "'lol-run --help'" --nonsense-option k
wrong "write -- before a COMMAND" k k
wrong "no COMMAND behind it" k --
wrong "needs an argument" k -d
wrong "No such file" ./nothing
wrong "ELF" disk.img
wrong "Is a directory" .
wrong "name an image" -d nothing.img k
wrong "name a cpio archive" -i nothing.cpio k
wrong "leave one of them out" --handoff sleep --spin-us 5 -d disk.img k
XDG_DATA_HOME=$LOL_TMP/data wrong "make it with: lol-guest kernel build"

dry "lol-run --mem 1G --cpus 1 --initrd disk.img --console stdio --handoff auto k" -i disk.img k
dry "lol-run --mem 96M --cpus 2 --append 'a b c' --disk disk.img,ro,format=raw --console null --handoff spin --spin-us 30 \
--stats=s.json --verbose k -- sh -c 'echo \$HOME'" \
	-m 96 -c2 -a 'a b' -a c -d disk.img,ro --console=null --handoff spin --spin-us 30 --stats=s.json -v k -- sh -c 'echo $HOME'

# Everything that is documented is taken.
for option in "-n user" "-s ." "--rootfs ." "--gdb" "-d disk.img,format=qcow2" "-d disk.img,cow=c"; do
	# shellcheck disable=SC2086 # two words
	run "$LOL_RUN" --dry-run -i disk.img $option k </dev/null
	expect_status 0
	[ ! -s "$ERRORS" ] || fail "$option: stderr"
done

# The configuration file, and the command line over it.
mkdir -p config/lol
printf 'mem = 64M\ncpus = 2\n\n[lol-run]\nkernel = %s/k\ninitrd = %s/disk.img\n' "$LOL_TMP" "$LOL_TMP" >config/lol/lol.conf
dry "lol-run --mem 64M --cpus 3 --initrd $LOL_TMP/disk.img --console stdio --handoff auto $LOL_TMP/k" -c 3
echo 'memory = 1G' >>config/lol/lol.conf
wrong "lol.conf:7: memory = 1G: no such setting" -c 3
run "$LOL_RUN" --help
expect_status 0
rm -r config/lol

# --help and --version: on stdout, and status 125 where that is impossible.
run "$LOL_RUN" --help
expect_status 0
expect "Usage: lol-run"
run "$LOL_RUN" --version
expect_status 0
expect "lol-run (Linux-on-Linux) "
"$LOL_RUN" --help >/dev/full 2>"$ERRORS"
STATUS=$?
expect_status 125
"$LOL_RUN" --version >&- 2>"$ERRORS"
STATUS=$?
expect_status 125

# A name with control characters makes neither a second line nor an escape sequence.
wrong "No such file" $'./a\nb\e[31m'
echo passed
