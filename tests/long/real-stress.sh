#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# stress-ng --verify by kind, then everything at once, for LOL_STRESS_SECONDS (default: 600) in all; meanwhile the host memory
# of the VM beyond its RAM is measured, and at the end what an idle guest costs.
# timeout: 4000
# shellcheck source=tests/long/real/vm.sh
. "$(dirname "$0")/real/vm.sh"

LIMIT_KB=65536
seconds=${LOL_STRESS_SECONDS:-600}
prepare

# Every 10 s, the largest number so far.
measure() {
	local pid most=0 now
	while sleep 10; do
		pid=$(pgrep -n -f "^$LOL_RUN .*$INITRD") || continue
		now=$(vm_overhead "$pid")
		[ "$now" -le $most ] || most=$now
		echo $most >"$LOL_TMP/most"
	done
}
measure &
measurer=$!
trap 'kill $measurer $(pgrep -P $measurer) 2>/dev/null; rm -rf "$LOL_TMP/most"' EXIT

guest_script stress $((seconds / 2 + 900)) STRESS_SECONDS=$((seconds / 2))
echo "memory beyond RAM: $(cat "$LOL_TMP/most") kB"
guest_script load $((seconds / 2 + 900)) LOAD_SECONDS=$((seconds / 2))
most=$(cat "$LOL_TMP/most")
echo "memory beyond RAM: $most kB"

# Idle: CPU time of all processes of the VM over 20 s.
ticks() {
	local pid sum=0
	for pid in $(vm_processes "$1"); do
		sum=$((sum + $(sed 's/.*) //' "/proc/$pid/stat" | awk '{print $12 + $13}')))
	done
	echo $sum
}
on_image 240 "$IMAGE,snapshot" -- sh -c 'echo idle; sleep 200' </dev/null >"$LOL_TMP/idle" 2>"$ERRORS" &
guest=$!
for ((i = 0; i < 120; i++)); do
	[ ! -s "$LOL_TMP/idle" ] || break
	sleep 0.5
done
[ -s "$LOL_TMP/idle" ] || fail "the guest does not come up"
sleep 5
before=$(ticks $guest)
sleep 20
after=$(ticks $guest)
pkill -P $guest # timeout, which passes it on
wait $guest
echo "idle guest: $(((after - before) * 10)) ms of CPU in 20 s"
[ $((after - before)) -lt 20 ] || fail "an idle guest uses 1 % of a CPU or more"
[ "$most" -lt $LIMIT_KB ] || fail "$most kB of host memory beyond the guest's RAM"
