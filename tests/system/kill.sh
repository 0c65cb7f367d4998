#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# SIGKILL to the monitor, K or a U at random moments while the guest writes and fsyncs: no process is left, the file system
# is whole, and every record whose fsync had returned is there. LOL_KILL_ROUNDS: default 6.
# timeout: 400
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
PATH=$PATH:/usr/sbin:/sbin
which mke2fs e2fsck debugfs >/dev/null || skip "no e2fsprogs"
initrd=$(shell_initrd)
rounds=${LOL_KILL_ROUNDS:-6}

# Each record is reported only after its fsync.
# shellcheck disable=SC2016 # for the guest's shell
WRITER='mkdir -p /m; mount -t ext4 /dev/vda /m || exit 9
touch /m/log; n=$(wc -l </m/log)
while :; do
	n=$((n + 1))
	echo "record $n" | dd of=/m/log oflag=append conv=notrunc,fsync 2>/dev/null
	echo $n >/m/last.new
	mv /m/last.new /m/last
	head -c $((n % 7 * 9000)) /dev/zero >/m/junk$((n % 20))
	echo "committed $n"
done'

list_processes() { # PID: lines "PID NAME", the monitor first
	local pid
	for pid in $(tree_pids "$1"); do
		echo "$pid $(cat "/proc/$pid/comm" 2>/dev/null)"
	done
}

truncate -s 64M disk.img
mke2fs -q -F -t ext4 disk.img || fail mke2fs
committed=0
for ((round = 1; round <= rounds; round++)); do
	want=$(printf '%s\n' lol-run lol-k lol-u | sed -n "$((round % 3 + 1))p")
	: >out
	"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -d disk.img -- sh -c "$WRITER" </dev/null >out 2>"$ERRORS" &
	pid=$!
	wait_for_text 60 "committed" out
	sleep "0.$((RANDOM % 900 + 100))"
	mapfile -t pids < <(tree_pids "$pid")
	list_processes "$pid" >processes
	target=$(awk -v want="$want" '$2 == want { print $1 }' processes | shuf -n 1)
	[ -n "$target" ] || fail "no process $want: $(tr '\n' ' ' <processes)"
	kill -KILL "$target"
	for ((i = 0; i < 100; i++)); do # a U that dies may be one that is not in use: then the guest goes on
		kill -0 "$pid" 2>/dev/null || break
		[ "$want" != lol-u ] || [ "$i" -lt 30 ] || { kill -KILL "$pid"; }
		sleep 0.1
	done
	{ wait "$pid"; } 2>/dev/null
	status=$?
	[ "$status" != 0 ] || fail "round $round: killed, but the status is 0"
	none_left "${pids[@]}"
	last=$(grep -a '^committed [0-9]*$' out | tail -n 1 | cut -d' ' -f2)
	[ -z "$last" ] || committed=$last
	# As after a power cut: replay the journal on a copy, then nothing may be wrong.
	cp --sparse=always disk.img copy.img
	e2fsck -fy copy.img >fsck.out 2>&1
	[ $? -le 1 ] || { cat fsck.out; fail "round $round: e2fsck"; }
	e2fsck -fn copy.img >fsck.out 2>&1 || { cat fsck.out; fail "round $round: damaged after the journal's replay"; }
	debugfs -R "cat /log" copy.img 2>/dev/null >log
	seq 1 "$committed" | sed 's/^/record /' >expected
	head -n "$committed" log | cmp -s - expected || fail "round $round: $committed records were committed, the file has $(wc -l <log)"
	cp --sparse=always copy.img disk.img
	echo "round $round: $want killed, $committed records committed, $(wc -l <log) in the file"
done
echo passed
