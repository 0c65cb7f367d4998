# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The system tests with a kernel of another version: other_kernel VERSION. The kernel is built like any (and cached like any).
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"

other_kernel() { # VERSION
	local version=$1 test name status failed='' passed=0
	"$LOL_GUEST" kernel build --source "debian:$version" --out "$LOL_TMP/kernel" || fail "kernel build"
	LOL_KERNEL=$LOL_TMP/kernel/vmlinux
	"$LOL_GUEST" kernel check "$LOL_KERNEL" || fail "kernel check"
	"$LOL_GUEST" sites "$LOL_KERNEL" >"$LOL_TMP/sites" || fail "sites: $(tail -n 3 "$LOL_TMP/sites")"
	for test in "$TESTS"/system/*.sh; do
		name=$(basename "$test" .sh)
		mkdir "$LOL_TMP/$name"
		LOL_TMP=$LOL_TMP/$name "$test" >"$LOL_TMP/$name.log" 2>&1
		status=$?
		case $status in
		0) passed=$((passed + 1)) && echo "$name: ok" ;;
		77) echo "$name: skipped: $(tail -n 1 "$LOL_TMP/$name.log")" ;;
		*)
			echo "$name: status $status"
			tail -n 20 "$LOL_TMP/$name.log"
			failed+=" $name"
			;;
		esac
		chmod -R u+rwx "$LOL_TMP/$name" && rm -rf "${LOL_TMP:?}/$name"
	done
	[ -z "$failed" ] || fail "with Linux $version:$failed"
	[ $passed -gt 0 ] || fail "no test has run"
}
