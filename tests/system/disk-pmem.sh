#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --disk FILE,pmem: a root file system in persistent memory, written and read only, RAM on both sides of the hole, locks,
# programs that run from the file, what was synced, and what cannot be.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
which mke2fs debugfs >/dev/null || skip "no mke2fs"
busybox=$(command -v busybox) || skip "no busybox"
cd "$LOL_TMP" || exit 1
initrd=$(shell_initrd)

mkdir -p root/bin root/root root/mnt
cp "$busybox" root/bin/busybox
"$busybox" --list | grep -v '^busybox$' | while read -r name; do ln -s busybox "root/bin/$name"; done
truncate -s 64M root.img
mke2fs -q -F -b 4096 -t ext4 -d root root.img || fail "mke2fs -d"

boot 120 -q -m 256M -i "$initrd" -d root.img,pmem,ro -- sh -c 'test -b /dev/pmem0 && cat /sys/block/pmem0/size' </dev/null
[ "$STATUS" -lt 125 ] || fail "no guest with a pmem disk"
[ "$STATUS" = 0 ] || skip "this guest kernel has no driver for it; it is older than CONFIG_NVDIMM_PFN in the kit's configuration"
expect_output 131072

on_root() { # LOL-RUN-OPTIONS... -- LINES
	local -a options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	boot 120 -q "${options[@]}" -- sh -c "set -e; $2" </dev/null
}

# Written by the guest's programs and through mappings (a program is one), read by the host, and by the next guest.
on_root -m 256M -d root.img,pmem -- 'grep " / ext4 rw.*dax" /proc/mounts | wc -l; echo small >/root/small; mkdir /root/p; cp /bin/busybox /root/p
	/root/p/busybox sha1sum /bin/busybox | cut -c1-40; head -c 3000000 /dev/urandom >/root/data; sha1sum /root/data | cut -c1-40; sync'
expect_status 0
{ read -r dax && read -r program && read -r data; } <"$CONSOLE"
[ "$dax" = 1 ] || fail "mounted without dax"
[ "$program" = "$(sha1sum <"$busybox" | cut -c1-40)" ] || fail "the program on it is another"
e2fsck -fn root.img >/dev/null 2>&1 || fail "the file system is damaged"
[ "$(debugfs -R 'cat /root/data' root.img 2>/dev/null | sha1sum | cut -c1-40)" = "$data" ] || fail "the host reads other data"
[ "$(debugfs -R 'cat /root/small' root.img 2>/dev/null)" = small ] || fail "the host reads another text"

# RAM on both sides of the hole of device registers.
on_root -m 3500M -d root.img,pmem -- 'sha1sum /root/data | cut -c1-40; echo again >/root/small; sync'
expect_output "$data"

# Read only: by two at once, and nothing changes.
sum=$(sha1sum <root.img)
: >out
"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -d root.img,pmem,ro -- sh -c 'echo up; sleep 100' >out 2>&1 </dev/null &
pid=$!
wait_for_text 60 up out
on_root -m 256M -d root.img,pmem,ro -- 'grep -q " / ext4 ro.*dax" /proc/mounts; sha1sum /root/data | cut -c1-40; if echo x 2>/dev/null >/root/new; then exit 3; fi
	if mount -o remount,rw / 2>/dev/null; then exit 4; fi; if echo x 2>/dev/null >/dev/pmem0; then exit 5; fi'
expect_status 0
expect_output "$data"
wrong "in use" "$LOL_KERNEL" -d root.img,pmem
kill $pid
wait $pid
# A guest that insists: its kernel's write is a fault that ends it, not one that comes again and again.
boot 60 -q -m 256M -i "$initrd" -d root.img,pmem,ro -a oops=panic -- sh -c 'blockdev --setrw /dev/pmem0 || exit 3
	head -c 4096 /dev/zero | dd of=/dev/pmem0 bs=4096 conv=notrunc,fsync; echo written' </dev/null
expect_status 126
expect_not written
expect_error "unable to handle page fault"
on_root -m 256M -d root.img,pmem,ro -a lol.overlay -- 'echo over >/root/small; cat /root/small'
expect_output over
[ "$sum" = "$(sha1sum <root.img)" ] || fail "a ro image was changed"

# Several, beside disks and in their order.
truncate -s 4M second.img
echo second | dd of=second.img conv=notrunc status=none
boot 120 -q -m 256M -i "$initrd" -d root.img,pmem,ro -d second.img -d second2.img,pmem -- true </dev/null
expect_status 125
cp second.img third.img
boot 120 -q -m 256M -i "$initrd" -d root.img,pmem,ro -d second.img -d third.img,pmem -- sh -c 'cat /sys/block/*/size | sort -n | tail -3; head -c 7 /dev/vda; head -c 7 /dev/pmem1' </dev/null
expect_output $'8192\n8192\n131072\nsecond\nsecond'

# Killed: what was synced is there.
: >out
"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -d root.img,pmem -- sh -c 'n=0; while :; do n=$((n + 1)); echo $n >/root/last.new; sync; mv /root/last.new /root/last; sync
	echo "committed $n"; done' >out 2>&1 </dev/null &
pid=$!
wait_for_text 60 "committed 5" out
mapfile -t pids < <(tree_pids $pid)
kill -KILL $pid
{ wait $pid; } 2>/dev/null
none_left "${pids[@]}" # K writes to the file itself, and ends a moment later
last=$(grep -a '^committed [0-9]*$' out | tail -n 1 | cut -d' ' -f2)
e2fsck -fy root.img >fsck 2>&1
[ $? -le 1 ] || { cat fsck; fail e2fsck; }
[ "$(debugfs -R 'cat /root/last' root.img 2>/dev/null)" -ge "$last" ] || fail "$last was committed, the file has $(debugfs -R 'cat /root/last' root.img 2>/dev/null)"

# What cannot be.
truncate -s 4105728 odd.img
wrong "2 MiB" "$LOL_KERNEL" -i "$initrd" -d odd.img,pmem
wrong "snapshot" "$LOL_KERNEL" -i "$initrd" -d root.img,pmem,snapshot
wrong "cow=" "$LOL_KERNEL" -i "$initrd" -d root.img,pmem,cow=x
wrong "qcow2" "$LOL_KERNEL" -i "$initrd" -d root.img,pmem,format=qcow2
wrong "limit" "$LOL_KERNEL" -i "$initrd" -d root.img,pmem,ro -d root.img,pmem,ro -d root.img,pmem,ro -d root.img,pmem,ro -d root.img,pmem,ro
finish
