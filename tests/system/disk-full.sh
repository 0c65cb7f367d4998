#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The host's file system is full while the guest writes: the guest gets an I/O error, what it has flushed is there, and
# with space again the same disk works. Raw, and qcow2 through its server.
# timeout: 460
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
PATH=$PATH:/usr/sbin:/sbin
which mke2fs unshare qemu-img >/dev/null || skip "no mke2fs, unshare or qemu-img"
initrd=$(shell_initrd)

# A small file system of our own, in a mount namespace.
cat >inside <<'END'
set -eu
mkdir -p small
mount -t tmpfs -o size=24m,mode=1777 small small
truncate -s 64M small/disk.img
mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard small/disk.img
[ "$format" = raw ] || { qemu-img convert -O qcow2 small/disk.img small/disk.qcow2; rm small/disk.img; mv small/disk.qcow2 small/disk.img; }
chmod 666 small/disk.img
exec unshare --user --map-user=1000 --map-group=1000 sh -eu inside2
END
cat >inside2 <<'END'
set +e
guest() {
	timeout -k 10 100 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -d small/disk.img,format=$format -- sh -c "$1" </dev/null
}
guest 'mkdir -p /m; mount -t ext4 -o errors=continue /dev/vda /m || exit 9
	echo precious >/m/kept; sync
	dd if=/dev/zero of=/m/big bs=1M count=50 conv=fsync 2>/tmp/err && exit 8
	cat /tmp/err; dmesg | grep -qi "I/O error" || exit 7
	exit 0'
echo "first $?"
truncate -s 0 small/other 2>/dev/null
rm -f small/other
image=small/disk.img
if [ "$format" = qcow2 ]; then
	qemu-img check -q small/disk.img || echo "the image is damaged"
	image=copy.img
	qemu-img convert -O raw small/disk.img $image
fi
e2fsck -fy $image >fsck.out 2>&1
[ $? -lt 4 ] && echo "fsck ok"
guest 'mkdir -p /m; mount -t ext4 /dev/vda /m || exit 9; cat /m/kept'
echo "second $?"
END
export LOL_RUN LOL_KERNEL initrd
unshare -rm true 2>/dev/null || skip "no user namespaces, so no small file system to fill"
for format in raw qcow2; do
	export format
	run timeout -k 10 220 unshare -rm sh inside
	if grep -qE '^(unshare|mount):' "$ERRORS" && ! grep -q first "$CONSOLE"; then
		skip "$(head -n 1 "$ERRORS")"
	fi
	expect "first 0"
	grep -qiE "error|No space" "$CONSOLE" || fail "dd saw no error"
	expect "fsck ok"
	expect_not "the image is damaged"
	expect "precious"
	expect "second 0"
done
echo passed
