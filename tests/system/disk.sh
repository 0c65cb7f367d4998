#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Disks: contents across boots, ro, snapshot, several of them, serial numbers, discard, and what fsync has promised.
# timeout: 400
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
which mke2fs >/dev/null || skip "no mke2fs; install e2fsprogs"
cd "$LOL_TMP" || exit 1
initrd=$(shell_initrd)

truncate -s 64M a.img
mke2fs -q -F -t ext4 a.img || fail mke2fs
head -c 3000000 /dev/urandom >data
truncate -s 4M raw.img
dd if=data of=raw.img conv=notrunc status=none

# What the guest reads is what is in the file, and the other way round.
on_disks a.img raw.img,ro,serial=raw-1 -- 'mkdir -p /m; mount -t ext4 /dev/vda /m
	head -c 3000000 /dev/vdb >/m/copy; md5sum /m/copy | cut -c1-32; umount /m
	cat /sys/block/vdb/serial; echo; cat /sys/block/vdb/ro; cat /sys/block/vda/size'
expect_status 0
expect_output "$(md5sum data | cut -c1-32)
raw-1
1
131072"
e2fsck -fn a.img >/dev/null 2>&1 || fail "the file system is damaged"
debugfs -R "dump copy out" a.img 2>/dev/null
cmp data out || fail "the file is not what was written"

# A disk given as ro cannot be written; the guest sees an error, the file does not change.
sum=$(md5sum <raw.img)
on_disks raw.img,ro -- 'if echo x | dd of=/dev/vda 2>/dev/null; then exit 3; fi; exit 0'
expect_status 0
[ "$sum" = "$(md5sum <raw.img)" ] || fail "a ro disk was changed"

# With snapshot the guest sees its own writes, and nobody else does.
touch before
on_disks raw.img,snapshot -- 'echo changed | dd of=/dev/vda bs=512 conv=sync,notrunc,fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches; head -c 8 /dev/vda; sync'
expect_status 0
expect_output changed
[ "$sum" = "$(md5sum <raw.img)" ] || fail "a snapshot changed the image"
left=$(find . -newer before -type f ! -name console ! -name errors)
[ -z "$left" ] || fail "the snapshot left a file: $left"

# What it has written is there when it has restarted.
initrd=$(guest_initrd '[ "$(head -c 5 /dev/vda)" != again ] || { echo still there; poweroff -f; }
printf again | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null; echo restarting; reboot -f')
boot 100 -m 256M -i "$initrd" -d raw.img,snapshot </dev/null
expect_status 0
expect "restarting"
expect "still there"
[ "$sum" = "$(md5sum <raw.img)" ] || fail "a snapshot changed the image"

# A size that is no multiple of a sector or page: all of it can be read, nothing beyond.
head -c 1049600 data >odd.img
on_disks odd.img,ro -- 'wc -c </dev/vda; md5sum </dev/vda | cut -c1-32'
expect_output "1049600
$(md5sum <odd.img | cut -c1-32)"

# Discard gives the space back.
truncate -s 64M d.img
on_disks d.img -- 'dd if=/dev/urandom of=/dev/vda bs=1M count=32 conv=fsync 2>/dev/null'
before=$(stat -c %b d.img)
on_disks d.img -- 'blkdiscard /dev/vda 2>/dev/null || exit 9'
if [ "$STATUS" = 0 ]; then
	[ "$(stat -c %b d.img)" -lt $((before / 4)) ] || fail "discard did not free anything"
fi

# The root of the guest.
mkdir -p root/bin root/root
cp "$(command -v busybox)" root/bin/busybox || skip "no busybox for the rest"
"$(command -v busybox)" --list | grep -v '^busybox$' | while read -r name; do ln -s busybox "root/bin/$name"; done
truncate -s 64M root.img
mke2fs -q -F -t ext4 -d root root.img || fail "mke2fs -d"
boot 60 -q -m 256M -d root.img -- sh -c 'grep -c "/dev/vda / ext4 rw" /proc/mounts; echo kept >/root/file' </dev/null
expect_status 0
expect_output 1
boot 60 -q -m 256M -d root.img,ro -- sh -c 'cat /root/file; echo no >/root/other; echo $?' </dev/null
expect_output $'kept\n1'
boot 60 -q -m 256M -d root.img,snapshot -- sh -c 'echo other >/root/file; cat /root/file' </dev/null
expect_output other
boot 60 -q -m 256M -d root.img -a lol.overlay -- sh -c 'echo overlay >/root/file; cat /root/file' </dev/null
expect_output overlay
boot 60 -q -m 256M -d root.img -- cat /root/file </dev/null
expect_output kept
e2fsck -fn root.img >/dev/null 2>&1 || fail "the root file system is damaged"
echo passed
