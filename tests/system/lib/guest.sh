# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# For system tests: . "$(dirname "$0")/lib/guest.sh". On top of ../lib/common.sh:
#
#   initrd=$(shell_initrd)            busybox with /bin/sh, for `-- COMMAND`
#   in_guest 60 sh -c 'exit 42'        boot -i $(shell_initrd) -- ..., stdout in $CONSOLE, stderr in $ERRORS
#   on_disks SPEC... -- LINES          boot with these disks, LINES for the guest's shell
#   expect_output TEXT                stdout is exactly TEXT and a newline; '' is nothing at all
#   expect_quiet                      nothing on stderr
#   wrong HINT ARGUMENT...            lol-run refuses: status 125, nothing on stdout, one line of the usual form with HINT
#   finish                            the last line of a test that uses it
#   tree_pids PID                     PID and all its descendants
#   none_left PID...                  these processes end, soon
#   wait_for_text SECONDS TEXT FILE   until a file has a text; fails when it does not get it
#   ... < <(typed [TEXT INPUT]...)    at a terminal: each INPUT (with \n, \003...) is typed once $CONSOLE has the TEXT before it; the
#                                     input ends when it also has "the end". A script knows the state, a sleep would guess it.

# shellcheck source=tests/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../lib/common.sh"

shell_initrd() {
	local out=$LOL_TMP/shell.cpio.gz
	[ -e "$out" ] || "$LOL_GUEST" initrd build "$out" >&2 || exit
	echo "$out"
}

in_guest() {
	local seconds=$1
	shift
	boot "$seconds" -q -m 256M -i "$(shell_initrd)" -- "$@"
}

on_disks() {
	local -a disks=()
	while [ "$1" != -- ]; do
		disks+=(-d "$1")
		shift
	done
	boot 120 -q -m 256M -i "$(shell_initrd)" "${disks[@]}" -- sh -c "set -e; $2" </dev/null
}

expect_output() {
	if [ -z "$1" ]; then
		[ ! -s "$CONSOLE" ] || fail "stdout should be empty"
	else
		printf '%s\n' "$1" | cmp -s - "$CONSOLE" || fail "stdout is not exactly: $1"
	fi
}

expect_quiet() {
	[ ! -s "$ERRORS" ] || fail "stderr should be empty"
}

WRONG=0

# What is not as it should be is said, and the test goes on: finish has the verdict.
wrong() {
	local hint=$1 why=
	shift
	run timeout -k 10 30 "$LOL_RUN" "$@" </dev/null
	if [ "$STATUS" != 125 ]; then
		why="status $STATUS, not 125"
	elif [ -s "$CONSOLE" ]; then
		why="wrote to stdout"
	elif [ "$(wc -l <"$ERRORS")" != 1 ]; then
		why="not one line on stderr"
	elif [[ $(cat "$ERRORS") != "lol-run: "*": "*"; "* ]]; then
		why="not 'lol-run: WHAT: WHY; HINT'"
	elif ! grep -qiE -e "$hint" "$ERRORS"; then
		why="stderr lacks: $hint"
	else
		return
	fi
	echo "FAIL: lol-run $*: $why"
	head -n 3 "$ERRORS" | sed 's/^/    /'
	WRONG=$((WRONG + 1))
}

finish() {
	[ "$WRONG" = 0 ] || exit 1
	echo passed
	exit 0
}

tree_pids() {
	local pid
	echo "$1"
	for pid in $(ps -o pid= --ppid "$1"); do
		tree_pids "$pid"
	done
}

# none_left PID...: all of them end, soon.
none_left() {
	local pid i
	for pid in "$@"; do
		for ((i = 0; i < 200; i++)); do
			alive "$pid" || break
			sleep 0.1
		done
		! alive "$pid" || fail "process $pid ($(cat "/proc/$pid/comm")) is left"
	done
}

wait_for_text() {
	local i
	for ((i = 0; i < $1 * 10; i++)); do
		grep -qF -e "$2" "$3" 2>/dev/null && return
		sleep 0.1
	done
	fail "no '$2' in ${3##*/} after $1 s"
}

typed() {
	while [ $# -gt 1 ]; do
		wait_for_text 100 "$1" "$CONSOLE" >&2
		printf '%b' "$2"
		shift 2
	done
	wait_for_text 100 "the end" "$CONSOLE" >&2
}
