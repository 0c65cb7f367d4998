#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The power fails, again and again, while fio writes files with checksums to a raw disk, a qcow2 image, one over a base, one that is
# resized meanwhile, and persistent memory: the file system is whole, and all data of every file that was synced is there.
# LOL_KILL_ROUNDS: default 2.
# timeout: 900
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
which fio diod mke2fs e2fsck qemu-img >/dev/null || skip "no fio, diod, e2fsprogs or qemu-utils"
LOLCTL=$(dirname "$LOL_RUN")/lolctl
mkdir -p "$LOL_TMP/run" && cd "$LOL_TMP" || exit 1
chmod 700 run
export XDG_RUNTIME_DIR=$LOL_TMP/run

# File N goes to slot N % 4, so the four last ones are there; the one that was being written may be in any state. The checksum has
# the number in it (randseed): what an earlier file has left in the slot does not pass.
cat >guest <<'END'
job() {
	fio --name=job --thread --filename=/m/slot$(($1 % 4)) --size=1M --bsrange=4k-64k --rw=randwrite --ioengine=psync --direct=$(($1 % 2)) \
		--verify=crc32c --verify_fatal=1 --randseed=$1 --output-format=terse "${@:2}" >/tmp/fio 2>&1 || { cat /tmp/fio; return 1; }
}
mkdir -p /m
mount -t ext4 $1 /m || exit 9
if [ "$2" = write ]; then
	n=$3
	while n=$((n + 1)); do
		job $n --do_verify=0 --end_fsync=1 || exit 8
		echo $n >/m/last.new && mv /m/last.new /m/last && sync
		echo "committed $n"
	done
fi
last=$(cat /m/last) || exit 7
[ "$last" -ge "$3" ] || { echo "$3 was committed, the last is $last"; exit 6; }
for n in $(seq $((last > 3 ? last - 2 : 1)) $last); do # of the four, one may be being replaced
	job $n --verify_only=1 || { echo "file $n is damaged"; exit 5; }
done
echo "verified to $last"
END
guest() { # SPEC write|verify LAST
	local device=/dev/vda
	[[ $1 != *,pmem* ]] || device=/dev/pmem0
	exec "$LOL_RUN" "$LOL_KERNEL" -q -m 512M --name power --rootfs / -d "$1" -- bash -c "$(cat guest)" bash $device "$2" "$3"
}

fresh() { rm -f "$1" && truncate -s 64M "$1" && mke2fs -q -F -b 4096 -t ext4 "$1"; }
fresh raw.img && fresh base.img && fresh pmem.img && fresh plain.img || fail mke2fs
qemu-img convert -O qcow2 plain.img q.qcow2
qemu-img convert -O qcow2 plain.img grows.qcow2
for spec in raw.img q.qcow2,format=qcow2 base.img,cow=cow.qcow2 grows.qcow2,format=qcow2 pmem.img,pmem; do
	file=${spec##*cow=} file=${file%%,*} last=0
	for ((round = 1; round <= ${LOL_KILL_ROUNDS:-2}; round++)); do
		: >out
		guest "$spec" write "$last" >out 2>"$ERRORS" </dev/null &
		pid=$!
		wait_for_text 100 "committed" out
		if [ "$file" = grows.qcow2 ]; then # until the end: the kill meets one of them, or what comes between
			(size=$((64 + round * 1024)); while size=$((size + 1)) && "$LOLCTL" resize power vda ${size}M; do :; done) >/dev/null 2>&1 &
			resizing=$!
			sleep 1
		fi
		sleep "$((1 + RANDOM % 4)).$((RANDOM % 900 + 100))"
		mapfile -t pids < <(tree_pids $pid)
		kill -KILL $pid
		{ wait $pid; } 2>/dev/null
		[ "$file" != grows.qcow2 ] || wait $resizing
		none_left "${pids[@]}"
		last=$(grep -a '^committed [0-9]*$' out | tail -n 1 | cut -d' ' -f2)
		[ -z "$(grep -av '^committed' out)" ] || fail "$spec: $(cat out)"
		if [[ $file = *.qcow2 ]]; then
			qemu-img check -q -r leaks "$file" >check 2>&1 || { cat check; fail "$spec, round $round: qemu-img check"; }
			qemu-img convert -O raw "$file" copy.img
		else
			cp --sparse=always "$file" copy.img
		fi
		e2fsck -fy copy.img >fsck 2>&1
		[ $? -le 1 ] || { cat fsck; fail "$spec, round $round: e2fsck"; }
		run timeout -k 10 100 bash -c "$(declare -f guest); guest $spec verify $last" </dev/null
		[ "$STATUS" = 0 ] || fail "$spec, round $round: status $STATUS"
		grep -qE '^verified to [0-9]+$' "$CONSOLE" || fail "$spec, round $round: nothing was verified"
		echo "$spec, round $round: $(cat "$CONSOLE"), $last committed"
	done
done
[ "$(qemu-img info --output=json grows.qcow2 | grep -oE '"virtual-size": [0-9]+' | cut -d' ' -f2)" -gt $((64 << 20)) ] || fail "grows.qcow2 has not grown"

# And the check itself sees damage: a sector of the last file.
"$LOL_RUN" "$LOL_KERNEL" -q -m 512M --rootfs / -d raw.img -- bash -c 'mkdir -p /m; mount -t ext4 /dev/vda /m
	dd if=/dev/zero of=/m/slot$(($(cat /m/last) % 4)) bs=4096 seek=100 count=1 conv=notrunc,fsync 2>/dev/null' </dev/null
run timeout -k 10 100 bash -c "$(declare -f guest); guest raw.img verify 1" </dev/null
[ "$STATUS" = 5 ] || fail "damage goes unseen: status $STATUS"
echo passed
