# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# System tests with another kernel than the default one, each in a directory of its own below LOL_TMP, and in a corral of its
# own: a process left behind is told of the test that left it, and no test is hung for good.
# shellcheck source=tests/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../lib/common.sh"
CORRAL=${LOL_CORRAL:-$LOL_BUILD/tests/lib/corral}

# system_tests FILE...: their ends in FAILED and SKIPPED (names) and PASSED (a count).
system_tests() {
	local test name status
	FAILED='' SKIPPED='' PASSED=0
	for test; do
		name=$(basename "$test" .sh)
		mkdir "$LOL_TMP/$name"
		LOL_TMP=$LOL_TMP/$name "$CORRAL" 3000 "$test" >"$LOL_TMP/$name.log" 2>&1
		status=$?
		case $status in
		0) PASSED=$((PASSED + 1)) && echo "$name: ok" ;;
		77)
			echo "$name: skipped: $(tail -n 1 "$LOL_TMP/$name.log")"
			SKIPPED+=" $name"
			;;
		*)
			echo "$name: status $status"
			tail -n 60 "$LOL_TMP/$name.log"
			FAILED+=" $name"
			;;
		esac
		chmod -R u+rwx "$LOL_TMP/$name" && rm -rf "${LOL_TMP:?}/$name"
	done
}

# other_kernel VERSION: all of them with the kit's kernel of this version. It is built like any (and cached like any).
other_kernel() {
	local version=$1
	"$LOL_GUEST" kernel build --source "debian:$version" --out "$LOL_TMP/kernel" || fail "kernel build"
	LOL_KERNEL=$LOL_TMP/kernel/vmlinux
	"$LOL_GUEST" kernel check "$LOL_KERNEL" || fail "kernel check"
	"$LOL_GUEST" sites "$LOL_KERNEL" >"$LOL_TMP/sites" || fail "sites: $(tail -n 3 "$LOL_TMP/sites")"
	system_tests "$TESTS"/system/*.sh
	[ -z "$FAILED" ] || fail "with Linux $version:$FAILED"
	[ "$PASSED" -gt 0 ] || fail "no test has run"
}
