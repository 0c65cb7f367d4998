#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Kernels with debug information, made where there are none (and their trees kept: 3 GB in the cache each), and with them all of gdb's tests,
# the three worked examples of docs/debugging.md, and dumps in crash and drgn where they are installed.
# timeout: 7200
# shellcheck source=tests/long/lib/system-tests.sh
. "$(dirname "$0")/lib/system-tests.sh"

all=
for version in 6.12 6.1; do
	"$LOL_GUEST" kernel build --source "debian:$version" --debug --keep || fail "kernel build --debug --keep"
	# shellcheck disable=SC2012 # by age
	LOL_KERNEL=$(ls -td "${XDG_DATA_HOME:-$HOME/.local/share}"/lol/kernels/"$version".*-debug/vmlinux | head -n 1)
	LOL_DEBUG_KERNEL=$LOL_KERNEL
	export LOL_DEBUG_KERNEL
	system_tests "$TESTS"/system/gdb-*.sh "$TESTS/system/dump.sh"
	grep -hE '^(drgn|crash): ' "$LOL_TMP/dump.log" || true
	[[ "$SKIPPED " != *" gdb-examples "* ]] || FAILED+=" gdb-examples"
	[ -z "$FAILED" ] || all+=" $version:$FAILED"
	LOL_GUEST_TESTS=uprobe system_tests "$TESTS/system/guest-programs.sh"
	grep '^uprobe .* 0 skipped' "$LOL_TMP/guest-programs.log" || FAILED=" uprobe"
	[ -z "$FAILED" ] || all+=" $version:$FAILED"
done
[ -z "$all" ] || fail "with debug information:$all"
echo passed
