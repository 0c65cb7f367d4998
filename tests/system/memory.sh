#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Memory that the guest has freed goes back to the host by itself; what it has left to itself is not touched. More memory than
# the host has is fine for a guest that does not use it.
# timeout: 400
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
initrd=$(shell_initrd)

# MiB of host memory that guest RAM takes, for the lol-run below PID.
guest_ram_mib() {
	local pid fd
	for pid in $(tree_pids "$1"); do
		for fd in "/proc/$pid/fd"/*; do
			[[ $(readlink "$fd" 2>/dev/null) == *memfd:lol-ram* ]] || continue
			echo $(($(stat -L -c %b "$fd") / 2048))
			return
		done
	done
	echo 0
}

start() {
	mkfifo in.$1
	timeout -k 10 300 "$LOL_RUN" "$LOL_KERNEL" -q -m 500M -i "$initrd" "${@:2}" -- sh -c '
		mkdir /big; mount -t tmpfs -o size=400m none /big
		head -c 1000000 /dev/urandom >/kept; md5sum </kept
		head -c 250000000 /dev/zero | tr "\0" x >/big/file; echo filled
		read x; rm /big/file; echo freed
		read x; md5sum </kept
		head -c 250000000 /dev/zero | tr "\0" y >/big/file; tr -d y </big/file | wc -c' <in.$1 >out.$1 2>err.$1 &
	PID=$!
	exec {IN}>in.$1
}

start on
wait_for_text 90 filled out.on
full=$(guest_ram_mib $PID)
[ "$full" -ge 240 ] || fail "the guest has 250 MB in use, the host says $full MiB"
echo >&$IN
for ((i = 0; i < 600; i++)); do
	now=$(guest_ram_mib $PID)
	[ "$now" -gt $((full - 180)) ] || break
	sleep 0.1
done
[ "$now" -le $((full - 180)) ] || fail "of $full MiB the guest freed 250 MB, and $now MiB are still taken"
echo >&$IN
exec {IN}>&-
wait $PID
STATUS=$?
expect_status 0
[ "$(sed -n 1p out.on)" = "$(sed -n 4p out.on)" ] || fail "memory that was in use has changed"
[ "$(sed -n 5p out.on)" = 0 ] || fail "memory that came back has holes"

# Without reports it stays where it is.
start manual --balloon manual
wait_for_text 90 filled out.manual
full=$(guest_ram_mib $PID)
echo >&$IN
wait_for_text 30 freed out.manual
sleep 4
now=$(guest_ram_mib $PID)
[ "$now" -ge $((full - 20)) ] || fail "with --balloon manual memory went back: $full, then $now MiB"
echo >&$IN
exec {IN}>&-
wait $PID

# More than there is.
have=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
boot 120 -q -m "$((have * 3 / 2))M" -i "$initrd" -- sh -c 'awk "/^MemTotal/ {print int(\$2 / 1024)}" /proc/meminfo' </dev/null
expect_status 0
[ "$(cat "$CONSOLE")" -gt "$have" ] || fail "the guest does not see it"
echo passed
