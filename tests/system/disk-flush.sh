#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A guest's fsync is the host's: what a kill cannot show, since the host's page cache outlives it. The host kernel is asked how
# many pages of the image wait for its disk: some before the guest's fsync, none after it. Raw, qcow2 and persistent memory.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
which python3 qemu-img >/dev/null || skip "no python3 or qemu-img"
cd "$LOL_TMP" || exit 1
initrd=$(shell_initrd)

cat >dirty.py <<'END'
# Dirty pages and those under way to the disk (cachestat, Linux 6.5), or "none" where the host cannot say
import ctypes, os, platform, sys
libc = ctypes.CDLL(None)
out, span = (ctypes.c_uint64 * 5)(), (ctypes.c_uint64 * 2)(0, 0)
fd = os.open(sys.argv[1], os.O_RDONLY)
print("none" if platform.machine() != "x86_64" or libc.syscall(451, fd, span, out, 0) else out[1] + out[2])
END
dirty() { python3 dirty.py "$1"; }
head -c 100000 /dev/zero >probe
before=$(dirty probe)
[ "$before" != none ] || skip "the host's kernel has no cachestat"
sync probe
[ "$before" -gt 0 ] && [ "$(dirty probe)" = 0 ] || skip "the file system of $LOL_TMP does not count dirty pages"

truncate -s 64M raw.img
truncate -s 64M pmem.img
qemu-img create -q -f qcow2 q.qcow2 64M
cat >guest <<'END'
device=$1 written=$2
step() { echo "$1"; read x; }
for round in 1 2 3; do
	case $written in
	direct) dd if=/dev/urandom of=$device bs=64k count=64 seek=$((round * 100)) oflag=direct conv=notrunc 2>/dev/null ;;
	mapped) dd if=/dev/urandom of=/m/file bs=64k count=64 conv=notrunc 2>/dev/null ;;
	esac
	step "written $round"
	case $written in
	direct) dd if=/dev/null of=$device conv=notrunc,fsync 2>/dev/null ;;
	mapped) dd if=/dev/null of=/m/file conv=notrunc,fsync 2>/dev/null ;;
	esac
	step "synced $round"
done
END
try() { # FILE SPEC DEVICE HOW [LINES]
	rm -f go
	mkfifo go
	: >out
	sync "$1"
	"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -d "$2" -- sh -c "${5:-}
$(cat guest)" sh "$3" "$4" <go >out 2>"$ERRORS" &
	local pid=$! round n
	exec 3>go
	for round in 1 2 3; do
		wait_for_text 60 "written $round" out
		n=$(dirty "$1")
		[ "$n" -ge 500 ] || fail "$2, round $round: 4 MiB written, and only $n pages are dirty: this test tests nothing"
		echo >&3
		wait_for_text 60 "synced $round" out
		n=$(dirty "$1")
		[ "$n" = 0 ] || fail "$2, round $round: synced in the guest, and $n pages wait for the host's disk"
		echo >&3
	done
	exec 3>&-
	wait $pid || fail "$2: status $?"
	echo "$2: ok"
}
try raw.img raw.img /dev/vda direct
try q.qcow2 q.qcow2,format=qcow2 /dev/vda direct
which mke2fs >/dev/null || skip "no mke2fs for the rest"
mke2fs -q -F -b 4096 -t ext4 pmem.img
try pmem.img pmem.img,pmem /dev/pmem0 mapped 'mkdir -p /m; mount -t ext4 -o dax=always /dev/pmem0 /m || exit 9'
echo passed
