#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A kernel with debug information, made where there is none (and its tree kept: 3 GB in the cache), and with it all of gdb's tests, the
# three worked examples of docs/debugging.md, and dumps in crash and drgn where they are installed.
# timeout: 5400
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"

"$LOL_GUEST" kernel build --debug --keep || fail "kernel build --debug --keep"
# shellcheck disable=SC2012 # by age
LOL_KERNEL=$(ls -td "${XDG_DATA_HOME:-$HOME/.local/share}"/lol/kernels/*-debug/vmlinux | head -n 1)
LOL_DEBUG_KERNEL=$LOL_KERNEL
export LOL_DEBUG_KERNEL

failed=
for test in "$TESTS"/system/gdb-*.sh "$TESTS/system/dump.sh"; do
	name=$(basename "$test" .sh)
	mkdir "$LOL_TMP/$name"
	LOL_TMP=$LOL_TMP/$name "$test" >"$LOL_TMP/$name.log" 2>&1
	status=$?
	case $status in
	0) echo "$name: ok" ;;
	77)
		echo "$name: skipped: $(tail -n 1 "$LOL_TMP/$name.log")"
		[ "$name" != gdb-examples ] || failed+=" $name"
		;;
	*)
		tail -n 60 "$LOL_TMP/$name.log"
		failed+=" $name"
		;;
	esac
	chmod -R u+rwx "$LOL_TMP/$name" && rm -rf "${LOL_TMP:?}/$name"
done
[ -z "$failed" ] || fail "with debug information:$failed"
grep -hE '^(drgn|crash): ' "$LOL_TMP/dump.log" || true
echo passed
