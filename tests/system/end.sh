#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# How a guest can end: panic 126 with its last lines, power-off 0, reboot, a signal to lol-run 128+N; nothing left behind.
# timeout: 480
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

mkdir -p "$LOL_TMP/run" "$LOL_TMP/tmp"
chmod 700 "$LOL_TMP/run"
export XDG_RUNTIME_DIR=$LOL_TMP/run TMPDIR=$LOL_TMP/tmp

nothing_left() {
	local left
	left=$(find "$LOL_TMP/run" "$LOL_TMP/tmp" -mindepth 1 ! -type d)
	[ -z "$left" ] || fail "left behind after $1: $left"
}

initrd=$(guest_initrd 'echo going down')
boot 60 -m 256M -i "$initrd" </dev/null
expect_status 0
expect "going down"
nothing_left power-off

boot 60 -m 256M -i "$initrd" -a "rdinit=/nothing init=/nothing" </dev/null
expect_status 126
cat "$CONSOLE" "$ERRORS" >"$LOL_TMP/both"
grep -qF "Kernel panic - not syncing" "$LOL_TMP/both" || fail "the panic is not shown"
nothing_left panic

crash=$(guest_initrd 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 30; echo STILL HERE')
boot 60 -m 256M -i "$crash" </dev/null
expect_status 126
expect_not "STILL HERE"

# PID 1 ends: also a panic.
boot 60 -m 256M -i "$(guest_initrd 'exit 7')" </dev/null
expect_status 126

# A panic under a command says so on stderr, nothing on stdout.
boot 60 -q -m 256M -i "$(shell_initrd)" -- sh -c 'echo c >/proc/sysrq-trigger; sleep 30' </dev/null
expect_status 126
expect_output ''
[ -s "$ERRORS" ] || fail "no word about the panic"

# Reboot: the guest starts again, in the same lol-run.
boot 60 -m 256M -i "$(guest_initrd 'echo boot of $(cat /proc/sys/kernel/random/boot_id)
hwclock >/dev/null 2>&1
if [ "$(cat /proc/cmdline)" ]; then reboot -f; fi')" </dev/null >"$LOL_TMP/reboot" 2>&1 &
pid=$!
for _ in $(seq 100); do
	sleep 0.3
	[ "$(grep -c 'boot of' "$CONSOLE" 2>/dev/null)" -lt 2 ] || break
done
[ "$(grep -c 'boot of' "$CONSOLE")" -ge 2 ] || fail "no second boot"
[ "$(grep 'boot of' "$CONSOLE" | tr -d '\r' | sort -u | wc -l)" -ge 2 ] || fail "the same boot twice"
pkill -TERM -P "$pid" timeout
wait "$pid"
nothing_left "SIGTERM of a rebooting guest"

# At any moment, also between two boots.
rebooting=$(guest_initrd 'reboot -f')
for i in $(seq 12); do
	env --default-signal=TERM "$LOL_RUN" "$LOL_KERNEL" -m 256M -i "$rebooting" </dev/null >"$LOL_TMP/out" 2>"$ERRORS" &
	pid=$!
	sleep "0.$((35 + i * 3))"
	mapfile -t pids < <(tree_pids "$pid")
	kill -TERM "$pid"
	wait "$pid"
	STATUS=$?
	expect_status 143
	none_left "${pids[@]}"
	nothing_left "SIGTERM number $i of a rebooting guest"
done

# Signals end lol-run and everything it started.
forever=$(guest_initrd 'echo up and running; while :; do sleep 1; done')
for signal in TERM INT HUP; do
	: >"$CONSOLE"
	env --default-signal=TERM,INT,HUP setsid "$LOL_RUN" "$LOL_KERNEL" -m 256M -i "$forever" --console file="$CONSOLE" </dev/null >"$LOL_TMP/out" 2>"$ERRORS" &
	pid=$!
	wait_for_text 30 "up and running" "$CONSOLE"
	mapfile -t pids < <(tree_pids "$pid")
	kill "-$signal" "$pid"
	wait "$pid"
	STATUS=$?
	expect_status $((128 + $(kill -l "$signal")))
	none_left "${pids[@]}"
	nothing_left "SIG$signal"
done
echo passed
