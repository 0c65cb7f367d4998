#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The host's own tools on the process of the guest kernel: gdb attached to it with examples/debugging/k-process.gdb, and perf with the
# names that perf-symbols gives to guest functions. The guest goes on after both.
# timeout: 400
# shellcheck disable=SC2016 # what stands in single quotes is for gdb and the guest's shell
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"
EXAMPLES=$TESTS/../examples/debugging
[ -d "$EXAMPLES" ] || skip "the examples are not here"
GDB_SECONDS=300

gdb_boot -i "$(shell_initrd)" -- sh -c 'while :; do i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo >/dev/null; done; sleep 0.05; echo tick; done'
wait_for_text 100 tick "$CONSOLE"
k=
for pid in $(tree_pids "$GUEST_PID"); do
	[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != lol-k ] || k=$pid
done
[ "$k" ] || fail "no process lol-k"

tried=
if timeout 60 gdb -nx -batch -ix "$EXAMPLES/k-process.gdb" -p "$k" -ex detach 2>&1 | grep -q 'ptrace: Operation not permitted'; then
	echo "no gdb on the process: ptrace is not permitted here"
else
	tried+=" gdb"
	lol_k=$(readlink "/proc/$k/exe")
	timeout -k 10 200 gdb -nx -batch -ix "$EXAMPLES/k-process.gdb" -ex 'set width 0' "$lol_k" -p "$k" \
		-ex "lol-symbols $LOL_KERNEL" -ex 'hbreak vfs_write' -ex 'continue' -ex 'x/i $pc' -ex 'info symbol user_run' -ex 'delete' -ex 'detach' \
		>"$GDB_OUT" 2>&1 </dev/null || gdb_fail "gdb -p: status $?"
	saw_like "hit Breakpoint 1, .*vfs_write|^Breakpoint 1, .*vfs_write"
	saw_like "=> 0x[0-9a-f]+ <vfs_write"
	saw "user_run in section .text"
fi

n=$(grep -c tick "$CONSOLE")
for ((i = 0; i < 600; i++)); do
	[ "$(grep -c tick "$CONSOLE")" -gt $((n + 1)) ] && break
	sleep 0.1
done
[ "$i" -lt 600 ] || fail "the guest does not go on after gdb"

if ! command -v perf >/dev/null || ! timeout 60 perf record -q -o "$LOL_TMP/perf.data" -p "$k" -- sleep 2 >"$LOL_TMP/perf.log" 2>&1; then
	echo "no perf: $(tail -n 1 "$LOL_TMP/perf.log" 2>/dev/null)"
elif ! "$EXAMPLES/perf-symbols" "$LOL_KERNEL" "$LOL_TMP/symfs"; then
	fail "perf-symbols"
else
	perf report -i "$LOL_TMP/perf.data" --symfs "$LOL_TMP/symfs" --kallsyms /proc/kallsyms --stdio >"$LOL_TMP/report" 2>/dev/null </dev/null
	if grep -q ' lol-k ' "$LOL_TMP/report"; then
		tried+=" perf"
		grep -qE 'memfd:lol-ram \(deleted\) +\[\.\] [a-z_]' "$LOL_TMP/report" || { head -n 40 "$LOL_TMP/report"; fail "perf has no guest function"; }
	else
		echo "perf has seen nothing"
	fi
fi
guest_ticks
[ "$tried" ] || skip "neither ptrace nor perf is possible here"
echo "passed:$tried"
