# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# For tests: . "$(dirname "$0")/../lib/common.sh"
#
# The caller gives LOL_RUN, LOL_GUEST, LOL_KERNEL and LOL_TMP (./run-tests), or LOL_BUILD (make check). By hand, without any, a test
# uses ./build and the default kernel: tests/system/NAME.sh
#
#   boot 60 -m 256M -i "$initrd"      boot a guest, at most 60 s; console in $CONSOLE, lol-run's stderr in $ERRORS
#   expect_status 0                   how the last boot (or run) ended
#   expect 'text'                     a fixed string is on the console; expect_not: is not
#   initrd=$(guest_initrd 'echo hi')  an initial RAM disk that runs these lines and powers off
#   alive PID                         the process exists and is no zombie
#   skip "no gdb here" / fail "why"   end the test

LC_ALL=C
export LC_ALL
set -u

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LOL_BUILD=${LOL_BUILD:-$TESTS/../build}
LOL_RUN=${LOL_RUN:-$LOL_BUILD/lol-run}
LOL_GUEST=${LOL_GUEST:-$(dirname "$LOL_RUN")/lol-guest}
if [ ! -x "$LOL_GUEST" ]; then # a build tree: the scripts are in the source tree
	LOL_GUEST=$TESTS/../guest-kit/lol-guest LOL_LIBEXECDIR=$(dirname "$LOL_RUN")
	export LOL_LIBEXECDIR
fi
LOL_KERNEL=${LOL_KERNEL:-${XDG_DATA_HOME:-$HOME/.local/share}/lol/kernels/default/vmlinux}
LOL_TMP_OWN=
if [ -z "${LOL_TMP:-}" ]; then
	LOL_TMP=$(mktemp -d)
	chmod 755 "$LOL_TMP" # lol-run started by root is somebody else
	LOL_TMP_OWN=yes
	trap 'rm -rf "$LOL_TMP"' EXIT
fi
export LOL_RUN LOL_GUEST LOL_KERNEL LOL_TMP
CONSOLE=$LOL_TMP/console ERRORS=$LOL_TMP/errors STATUS=

# No configuration of the user's decides what a test tests.
export XDG_CONFIG_HOME=$LOL_TMP/config

alive() {
	[[ $(ps -o stat= -p "$1") == [^Z]* ]]
}

show_guest() {
	[ ! -s "$CONSOLE" ] || { echo "--- end of the console:" && tail -n 40 "$CONSOLE"; }
	[ ! -s "$ERRORS" ] || { echo "--- stderr:" && tail -n 20 "$ERRORS"; }
}

fail() {
	echo "FAIL: $*"
	show_guest
	exit 1
}

skip() {
	echo "$*"
	exit 77
}

# run COMMAND...: stdout in $CONSOLE, stderr in $ERRORS, exit status in $STATUS. stdin is passed on.
run() {
	"$@" >"$CONSOLE" 2>"$ERRORS"
	STATUS=$?
}

# boot SECONDS [ARGUMENT-OF-LOL-RUN]...: LOL_KERNEL, with stdin as it is. KILL comes 10 s after TERM.
boot() {
	local seconds=$1
	shift
	run timeout -k 10 "$seconds" "$LOL_RUN" "$LOL_KERNEL" "$@"
	[ "$STATUS" != 124 ] || fail "the guest was not done after $seconds s"
}

expect_status() {
	[ "$STATUS" = "$1" ] || fail "exit status $STATUS, not $1"
}

expect() {
	grep -qF -e "$1" "$CONSOLE" || fail "the console lacks: $1"
}

expect_not() {
	! grep -qF -e "$1" "$CONSOLE" || fail "the console has: $1"
}

expect_error() {
	grep -qF -e "$1" "$ERRORS" || fail "stderr lacks: $1"
}

# guest_initrd LINES: name of an initial RAM disk with busybox whose /init runs LINES in sh, and then powers off.
guest_initrd() {
	local init
	init=$(mktemp "$LOL_TMP/init.XXXXXX")
	cat >"$init" <<END
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
$1
sync
poweroff -f
END
	bash "$TESTS/lib/busybox-initrd" "$init.cpio.gz" "$init" || return
	echo "$init.cpio.gz"
}
