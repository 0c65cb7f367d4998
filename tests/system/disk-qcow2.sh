#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Disks in qcow2 format: contents, backing files, cow= over one base, snapshot, ro, locks, discard, kills, and what is no image.
# LOL_KILL_ROUNDS: default 3.
# timeout: 600
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
which qemu-img qemu-storage-daemon mke2fs >/dev/null || skip "no qemu-img, qemu-storage-daemon or mke2fs"
mkdir -p "$LOL_TMP/run" && cd "$LOL_TMP" || exit 1
chmod 700 run
export XDG_RUNTIME_DIR=$LOL_TMP/run
initrd=$(shell_initrd)

qcow2() { qemu-img create -q -f qcow2 "$@"; }

head -c 3000000 /dev/urandom >data
qcow2 a.qcow2 64M
on_disks a.qcow2,format=qcow2,serial=first -- 'cat /sys/block/vda/size; cat /sys/block/vda/serial; echo; cat >/dev/vda; sync' </dev/null
expect_output $'131072\nfirst'
boot 120 -q -m 256M -i "$initrd" -d a.qcow2,format=qcow2 -- sh -c 'cat >/dev/vda; sync' <data
expect_status 0
qemu-img check -q a.qcow2 || fail "qemu-img check"
qemu-img convert -O raw a.qcow2 a.raw
head -c 3000000 a.raw | cmp - data || fail "not what was written"

# An image over a backing file, and one over that.
truncate -s 64M base.img
mke2fs -q -F -t ext4 base.img
sum=$(md5sum <base.img)
qcow2 -b base.img -F raw one.qcow2
qcow2 -b one.qcow2 -F qcow2 two.qcow2
for image in one two; do
	on_disks $image.qcow2,format=qcow2 -- "mkdir -p /m; mount -t ext4 /dev/vda /m; cat /m/one 2>/dev/null || echo none; echo $image >/m/$image; umount /m"
	expect_status 0
done
expect_output one
[ "$sum" = "$(md5sum <base.img)" ] || fail "the backing file was changed"

# Several at once over one base, each with changes of its own, which are kept.
pids=()
for i in 1 2 3; do
	"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -d base.img,cow=cow$i -- sh -c "mkdir -p /m; mount -t ext4 /dev/vda /m; echo $i >/m/who; umount /m" </dev/null &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid" || fail "one of three over a base"
done
for i in 1 2 3; do
	on_disks base.img,cow=cow$i -- 'mkdir -p /m; mount -t ext4 /dev/vda /m; cat /m/who'
	expect_output $i
done
[ "$sum" = "$(md5sum <base.img)" ] || fail "the base was changed"

# The same image read as a disk, as a snapshot and as a base, by VMs at the same time; nobody may write to it then.
mkfifo hold
held=()
for spec in base.img,ro base.img,snapshot base.img,cow=cow1 one.qcow2,format=qcow2; do
	: >"held.${spec//[.,]/-}" # there before anybody looks for it
	"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -d "$spec" -- sh -c 'echo up; read x; dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null && echo read' \
		<hold >"held.${spec//[.,]/-}" 2>&1 &
	held+=($!)
done
exec 3>hold
for file in held.*; do wait_for_text 60 up "$file"; done
wrong "in use" "$LOL_KERNEL" -i "$initrd" -d base.img
wrong "in use" "$LOL_KERNEL" -i "$initrd" -d base.img,cow=cow1
on_disks base.img,ro base.img,snapshot base.img,cow=cow2 -- 'for d in a b c; do head -c 1000 /dev/vd$d | wc -c; done'
expect_output $'1000\n1000\n1000'
exec 3>&-
for pid in "${held[@]}"; do wait "$pid" || fail "one of four on a base"; done
[ "$(sort held.* | uniq -c | tr -s ' \n' ' ')" = " 4 read 4 up " ] || fail "$(cat held.*)"

# snapshot and ro.
sum=$(md5sum <a.qcow2)
on_disks a.qcow2,format=qcow2,snapshot -- 'echo changed | dd of=/dev/vda bs=512 conv=sync,notrunc,fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches; head -c 8 /dev/vda; tail -c +3000001 /dev/vda | head -c 3 | od -An -tx1'
expect_output $'changed\n 00 00 00'
on_disks a.qcow2,format=qcow2,ro -- 'cat /sys/block/vda/ro; if echo x | dd of=/dev/vda 2>/dev/null; then exit 3; fi'
expect_status 0
expect_output 1
[ "$sum" = "$(md5sum <a.qcow2)" ] || fail "snapshot or ro changed the image"

# Discard gives the space back.
on_disks a.qcow2,format=qcow2 -- 'dd if=/dev/urandom of=/dev/vda bs=1M count=32 conv=fsync 2>/dev/null'
full=$(stat -c %b a.qcow2)
on_disks a.qcow2,format=qcow2 -- 'blkdiscard /dev/vda; head -c 100000 /dev/vda | tr -d "\0" | wc -c'
expect_output 0
[ "$(stat -c %b a.qcow2)" -lt $((full / 4)) ] || fail "discard did not free anything"

# Killed while it writes: the image is whole, and what was flushed is there.
qcow2 kill.qcow2 64M
on_disks kill.qcow2,format=qcow2 -- 'true'
for ((round = 1; round <= ${LOL_KILL_ROUNDS:-3}; round++)); do
	: >out
	"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -d kill.qcow2,format=qcow2 -- sh -c 'n=0
		while :; do n=$((n + 1)); echo "record '$round' $n" | dd of=/dev/vda bs=4096 seek=$((n * 17 % 16000)) conv=sync,notrunc,fsync 2>/dev/null
			echo "committed $n"; done' </dev/null >out 2>"$ERRORS" &
	pid=$!
	wait_for_text 60 committed out
	sleep "0.$((RANDOM % 900 + 100))"
	mapfile -t pids < <(tree_pids $pid)
	victim=$pid
	if [ $((round % 3)) = 0 ]; then # the server alone: the guest sees errors, and nothing hangs
		for p in "${pids[@]}"; do
			[[ $(cat "/proc/$p/comm") != qemu-storage-d* ]] || victim=$p
		done
	fi
	kill -KILL "$victim"
	if [ "$victim" != "$pid" ]; then
		for ((i = 0; i < 300; i++)); do
			grep -q "I/O error" "$ERRORS" && break
			sleep 0.1
		done
		expect_error "I/O error"
		kill -KILL $pid
	fi
	{ wait $pid; } 2>/dev/null
	last=$(grep -a '^committed [0-9]*$' out | tail -n 1 | cut -d' ' -f2)
	none_left "${pids[@]}"
	qemu-img check -q -r leaks kill.qcow2 >check 2>&1 || { cat check; fail "round $round: qemu-img check"; }
	rm -f kill.raw
	qemu-img convert -O raw kill.qcow2 kill.raw
	if [ "$victim" = "$pid" ]; then
		[ "$(dd if=kill.raw bs=4096 skip=$((last * 17 % 16000)) count=1 2>/dev/null | tr -d '\0')" = "record $round $last" ] ||
			fail "round $round: record $last was committed and is not there"
	fi
done

# What cannot be.
wrong "leave format=qcow2 out" "$LOL_KERNEL" -i "$initrd" -d base.img,format=qcow2
wrong "No such file" "$LOL_KERNEL" -i "$initrd" -d nothing,format=qcow2
cp a.qcow2 header.qcow2
printf '\377\377\377\377' | dd of=header.qcow2 bs=1 seek=4 conv=notrunc status=none
wrong "qcow2" "$LOL_KERNEL" -i "$initrd" -d header.qcow2,format=qcow2
cp a.qcow2 table.qcow2
printf '\377\377\377\377' | dd of=table.qcow2 bs=1 seek=40 conv=notrunc status=none
wrong "L1|table|image" "$LOL_KERNEL" -i "$initrd" -d table.qcow2,format=qcow2
head -c 50 a.qcow2 >short.qcow2
wrong "qcow2|image" "$LOL_KERNEL" -i "$initrd" -d short.qcow2,format=qcow2
cp one.qcow2 orphan.qcow2
mv base.img moved.img
wrong "backing file" "$LOL_KERNEL" -i "$initrd" -d orphan.qcow2,format=qcow2
wrong "No such file" "$LOL_KERNEL" -i "$initrd" -d base.img,cow=cow1
mv moved.img base.img
wrong "cannot be made|No such file" "$LOL_KERNEL" -i "$initrd" -d base.img,cow=no/such/place
wrong "" "$LOL_KERNEL" -i "$initrd" -d base.img,cow=cow1,snapshot
# In use.
: >out
"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -d a.qcow2,format=qcow2 -- sh -c 'echo up; sleep 60' >out 2>&1 </dev/null &
pid=$!
wait_for_text 60 up out
wrong "in use by another" "$LOL_KERNEL" -i "$initrd" -d a.qcow2,format=qcow2
kill -KILL $pid
{ wait $pid; } 2>/dev/null
mkdir none
for tool in sh env cat; do ln -s "$(command -v $tool)" none/; done
PATH_BEFORE=$PATH
wrong_path() { PATH=$LOL_TMP/none "$LOL_RUN" "$LOL_KERNEL" -i "$initrd" "$@" </dev/null >"$CONSOLE" 2>"$ERRORS"; STATUS=$?; PATH=$PATH_BEFORE; }
wrong_path -d a.qcow2,format=qcow2
expect_status 125
expect_error "apt-get install qemu"
wrong_path -d base.img,cow=new
expect_status 125
expect_error "apt-get install qemu"
left=$(find run -mindepth 1 -name 'lol-nbd*'; ls -d /tmp/lol-nbd-* 2>/dev/null)
[ -z "$left" ] || fail "left behind: $left"
finish
