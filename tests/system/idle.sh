#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A guest that does nothing uses next to no CPU time on the host (the lol- processes' own, so a busy host does not matter).
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

SECONDS_IDLE=15

ticks() { # PID...: user and system time of processes
	local pid total=0 stat
	for pid in "$@"; do
		stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
		# shellcheck disable=SC2086 # fields
		set -- ${stat##*) }
		total=$((total + ${12} + ${13}))
	done
	echo "$total"
}

"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$(shell_initrd)" -- sh -c 'echo idle now; sleep 120' </dev/null >"$CONSOLE" 2>"$ERRORS" &
pid=$!
wait_for_text 60 "idle now" "$CONSOLE"
hz=$(getconf CLK_TCK)
for _ in 1 2 3; do # what the kernel does some time after boot does not count
	mapfile -t pids < <(tree_pids "$pid")
	[ ${#pids[@]} -ge 2 ] || fail "only one process"
	before=$(ticks "${pids[@]}")
	sleep "$SECONDS_IDLE"
	used=$(($(ticks "${pids[@]}") - before))
	[ $((used * 100)) -ge $((SECONDS_IDLE * hz)) ] || break
done
kill "$pid"
wait "$pid"
echo "$used ticks of $((SECONDS_IDLE * hz)) in ${#pids[@]} processes"
[ $((used * 100)) -lt $((SECONDS_IDLE * hz)) ] || fail "an idle guest uses $((used * 100 / SECONDS_IDLE / hz)) % of a CPU"
echo passed
