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

# MiB of guest RAM that are resident in the processes: each of them that has it mapped counts it once.
guest_rss_mib() {
	local pid
	for pid in $(tree_pids "$1"); do
		awk '/^[0-9a-f]+-[0-9a-f]+ / { ram = /memfd:lol-ram/ } ram && /^Rss:/ { sum += $2 } END { print int(sum / 1024) }' "/proc/$pid/smaps" 2>/dev/null
	done | awk '{ sum += $1 } END { print sum }'
}

start() {
	mkfifo in.$1
	timeout -k 10 300 "$LOL_RUN" "$LOL_KERNEL" -q -m 500M -i "$initrd" "${@:2}" -- sh -c '
		mkdir /big; mount -t tmpfs -o size=400m none /big
		head -c 5000000 /dev/urandom >/kept; md5sum </kept
		fill() { for i in $(seq 50); do cat /kept; done >/big/file; }
		fill; echo filled
		read x; rm /big/file; echo freed
		read x; md5sum </kept
		fill; head -c 5000000 /big/file | md5sum; tail -c 5000000 /big/file | md5sum' <in.$1 >out.$1 2>err.$1 &
	PID=$!
	exec {IN}>in.$1
}

start on
wait_for_text 90 filled out.on
full=$(guest_ram_mib $PID)
[ "$full" -ge 240 ] || fail "the guest has 250 MB in use, the host says $full MiB"
full_rss=$(guest_rss_mib $PID)
[ "$full_rss" -ge 240 ] || fail "the guest has 250 MB in use, of which $full_rss MiB are resident"
echo >&$IN
for ((i = 0; i < 600; i++)); do
	now=$(guest_ram_mib $PID)
	[ "$now" -gt $((full - 180)) ] || break
	sleep 0.1
done
[ "$now" -le $((full - 180)) ] || fail "of $full MiB the guest freed 250 MB, and $now MiB are still taken"
now_rss=$(guest_rss_mib $PID)
[ "$now_rss" -le $((full_rss - 180)) ] || fail "of $full_rss MiB resident the guest freed 250 MB, and $now_rss MiB are resident still"
echo >&$IN
exec {IN}>&-
wait $PID
STATUS=$?
expect_status 0
[ "$(wc -l <out.on)" = 6 ] || fail "the guest did not get to its end"
[ "$(sed -n 1p out.on)" = "$(sed -n 4p out.on)" ] || fail "memory that was in use has changed"
[ "$(sed -n '1p;4,$p' out.on | sort -u | wc -l)" = 1 ] || fail "memory that came back has holes"

# Without reports it stays where it is, until the guest is told to do with less.
mkdir -m 700 run
export XDG_RUNTIME_DIR=$LOL_TMP/run
[ "$EUID" != 0 ] || chown 65534:65534 run
LOLCTL=$(dirname "$LOL_RUN")/lolctl
ctl() {
	run timeout 30 "$LOLCTL" "$@"
}
size_of() {
	ctl balloon "$1" --json
	grep -oE "\"$2\": ?[0-9]+" "$CONSOLE" | grep -oE '[0-9]+$'
}
start manual --balloon manual --name manual
wait_for_text 90 filled out.manual
full=$(guest_ram_mib $PID)
echo >&$IN
wait_for_text 30 freed out.manual
sleep 4
now=$(guest_ram_mib $PID)
[ "$now" -ge $((full - 20)) ] || fail "with --balloon manual memory went back: $full, then $now MiB"
ctl balloon manual 700M
expect_status 1
expect_error "500 MiB"
ctl balloon manual 200M
expect_status 0
for ((i = 0; i < 600; i++)); do
	[ "$(size_of manual size)" != $((200 << 20)) ] || break
	sleep 0.1
done
[ "$(size_of manual size)" = $((200 << 20)) ] || fail "the guest does not give memory up: $(cat "$CONSOLE")"
now=$(guest_ram_mib $PID)
[ "$now" -le 220 ] || fail "the guest uses 200 MiB, the host says $now"
processes=$(tree_pids $PID | wc -l) now_rss=$(guest_rss_mib $PID)
[ "$now_rss" -le $((220 * processes)) ] || fail "the guest uses 200 MiB, in $processes processes $now_rss are resident"
ctl balloon manual 500M
expect_status 0
for ((i = 0; i < 600; i++)); do
	[ "$(size_of manual size)" != $((500 << 20)) ] || break
	sleep 0.1
done
echo >&$IN
exec {IN}>&-
wait $PID
STATUS=$?
expect_status 0
[ "$(sed -n 1p out.manual)" = "$(sed -n 4p out.manual)" ] || fail "memory that was in use has changed"

boot 60 -q -m 128M -i "$initrd" --balloon off -- sh -c 'ls /sys/bus/virtio/drivers/virtio_balloon | grep -c ^virtio' </dev/null
expect_output 0

# More than there is.
have=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
boot 120 -q -m "$((have * 3 / 2))M" -i "$initrd" -- sh -c 'awk "/^MemTotal/ {print int(\$2 / 1024)}" /proc/meminfo' </dev/null
expect_status 0
[ "$(cat "$CONSOLE")" -gt "$have" ] || fail "the guest does not see it"
echo passed
