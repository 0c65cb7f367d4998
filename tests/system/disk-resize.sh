#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A disk that gets another size while the guest runs, raw and qcow2, and one whose file shrinks under it: I/O errors, no end of
# the VM.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
LOLCTL=$(dirname "$LOL_RUN")/lolctl
mkdir -p "$LOL_TMP/run" && cd "$LOL_TMP" || exit 1
chmod 700 run
export XDG_RUNTIME_DIR=$LOL_TMP/run
initrd=$(shell_initrd)
truncate -s 16M disk.img
"$LOL_RUN" "$LOL_KERNEL" -q -m 256M --name resized -i "$initrd" -d disk.img -- sh -c 'cat /sys/block/vda/size
	while [ "$(cat /sys/block/vda/size)" = 32768 ]; do sleep 0.1; done; cat /sys/block/vda/size
	echo end | dd of=/dev/vda bs=512 seek=65535 conv=sync,notrunc,fsync 2>/dev/null && echo written
	read x; dd if=/dev/vda of=/dev/null bs=1M skip=20 count=1 2>/dev/null || echo error; dd if=/dev/vda of=/dev/null bs=1M count=1 2>/dev/null && echo fine' \
	>out 2>"$ERRORS" < <(while [ -d "$LOL_TMP" ] && [ ! -e "$LOL_TMP/go" ]; do sleep 0.1; done; echo) &
pid=$!
wait_for_text 60 32768 out
truncate -s 32M disk.img
"$LOLCTL" disks resized >disks || fail "lolctl disks"
grep -q '32 MiB' disks || fail "lolctl disks: $(cat disks)"
wait_for_text 60 written out
[ "$(tail -c 512 disk.img | tr -d '\0')" = end ] || fail "the new end was not written"
truncate -s 8M disk.img
touch go
wait $pid || fail "status: $?"
[ "$(cat out)" = $'32768\n65536\nwritten\nerror\nfine' ] || fail "$(cat out)"
expect_error "I/O error"

# By lolctl: raw, qcow2, and the changes to a base, while the guest writes to each without a pause.
which qemu-img qemu-storage-daemon >/dev/null || skip "no qemu-img or qemu-storage-daemon for the rest"
truncate -s 16M raw.img base.img
qemu-img create -q -f qcow2 q.qcow2 16M
qemu-img create -q -f qcow2 ro.qcow2 16M
# resize_to SIZE DISK [OPTION]: lolctl does it, and says nothing.
resize_to() {
	run timeout -k 10 60 "$LOLCTL" resize many "$2" "$1" "${@:3}"
	expect_status 0
	expect_output ''
	expect_quiet
}
refused() {
	local hint=$1
	shift
	run timeout -k 10 60 "$LOLCTL" resize many "$@"
	[ "$STATUS" = 1 ] || fail "lolctl resize $*: status $STATUS"
	[ "$(wc -l <"$ERRORS")" = 1 ] || fail "lolctl resize $*: not one line"
	expect_error "$hint"
}
: >out
cat >guest <<'END'
sizes() { cat /sys/block/vd[abc]/size | tr '\n' ' '; }
busy() { # record after record into the first MiB, and all of them are read again
	n=0
	while [ ! -e /tmp/enough ]; do
		n=$((n + 1))
		echo "$1 $n" | dd of=/dev/$1 bs=512 seek=$((n % 2000)) conv=sync,notrunc,fsync 2>/dev/null || echo "$1 write $n failed"
		[ "$(dd if=/dev/$1 bs=512 skip=$((n % 2000)) count=1 iflag=direct 2>/dev/null | tr -d '\0')" = "$1 $n" ] || echo "$1 read $n failed"
	done
	echo "$1 $n" >/tmp/$1
}
await() { while [ "$(sizes)" != "$1" ]; do sleep 0.1; done; echo "have $1"; }
for d in vda vdb vdc; do busy $d & done
echo begun
await "65536 65536 65536 "
for d in vda vdb vdc; do echo "end of $d" | dd of=/dev/$d bs=512 seek=65535 conv=sync,notrunc,fsync 2>/dev/null && echo "$d written"; done
await "65536 131072 65536 "
await "65536 32768 65536 "
touch /tmp/enough
wait
dd if=/dev/vdb bs=1M skip=15 count=1 2>/dev/null | wc -c
cat /tmp/vda /tmp/vdb /tmp/vdc | wc -l
sync
END
"$LOL_RUN" "$LOL_KERNEL" -q -m 256M --name many -i "$initrd" -d raw.img -d q.qcow2,format=qcow2 -d base.img,cow=top.qcow2 -d base.img,ro \
	-d ro.qcow2,format=qcow2,ro -d ro.qcow2,format=qcow2,snapshot -- sh -c "$(cat guest)" >out 2>err </dev/null &
pid=$!
wait_for_text 60 begun out
refused "no disk vdx" vdx 32M
refused "no disk base" base 32M
refused "no disk ro.qcow2" ro.qcow2 32M # there are two
refused "with ',ro'" vde 32M
refused "with ',snapshot'" vdf 32M
refused "add --shrink" vdb 8M
refused "add --shrink" vda 8M
refused "multiple of 512" vdb 0 --shrink
resize_to 32M vda
resize_to 32M q.qcow2
resize_to 32M top.qcow2
wait_for_text 30 "have 65536 65536 65536" out
wait_for_text 30 "vdc written" out
# The image itself refuses: the disk stays as it is, and in use.
refused "its size has not changed" vdb 4000000G
for size in 40M 48M 56M 64M; do resize_to $size vdb; done
wait_for_text 30 "have 65536 131072 65536" out
resize_to 16M vdb --shrink
run "$LOLCTL" disks many --json
[ "$(tr -d ' \n' <"$CONSOLE" | grep -o '"size":[0-9]*' | tr '\n' ' ')" = '"size":33554432 "size":16777216 "size":33554432 "size":16777216 "size":16777216 "size":16777216 ' ] ||
	fail "lolctl disks: $(cat "$CONSOLE")"
wait $pid || fail "status: $?"
[ "$(cat out)" = $'begun\nhave 65536 65536 65536 \nvda written\nvdb written\nvdc written\nhave 65536 131072 65536 \nhave 65536 32768 65536 \n1048576\n3' ] ||
	fail "$(cat out err)"
[ ! -s err ] || fail "$(cat err)"
for image in q.qcow2 top.qcow2; do
	qemu-img check -q $image || fail "qemu-img check $image"
	qemu-img convert -O raw $image ${image%.qcow2}.raw
done
[ "$(stat -c %s raw.img q.raw top.raw | tr '\n' ' ')" = "33554432 16777216 33554432 " ] || fail "sizes: $(stat -c %s raw.img q.raw top.raw)"
[ "$(tail -c 512 raw.img | tr -d '\0')" = "end of vda" ] || fail "the new end of raw.img"
[ "$(tail -c 512 top.raw | tr -d '\0')" = "end of vdc" ] || fail "the new end of top.qcow2"
[ "$(stat -c %s base.img)" = 16777216 ] || fail "the base has another size"

# The server does not answer, or is gone: an error, and the VM goes on.
: >out
"$LOL_RUN" "$LOL_KERNEL" -q -m 256M --name many -i "$initrd" -d q.qcow2,format=qcow2 -- sh -c 'echo begun
	while [ "$(cat /sys/block/vda/size)" != 67584 ]; do sleep 0.1; done; dd if=/dev/vda bs=1M skip=32 count=1 2>/dev/null | wc -c
	echo 67584; read x; echo still here' \
	>out 2>err < <(while [ -d "$LOL_TMP" ] && [ ! -e "$LOL_TMP/go2" ]; do sleep 0.1; done; echo) &
pid=$!
wait_for_text 60 begun out
server=
for p in $(tree_pids $pid); do
	[[ $(cat "/proc/$p/comm") != qemu-storage-d* ]] || server=$p
done
[ "$server" ] || fail "no qemu-storage-daemon"
kill -STOP "$server"
refused "its server does not answer" vda 32M
kill -CONT "$server"
resize_to 32M vda
resize_to 33M vda
wait_for_text 20 67584 out
kill -KILL "$server"
refused "its server does not answer" vda 34M
touch go2
wait $pid || fail "status: $?"
[ "$(cat out)" = $'begun\n1048576\n67584\nstill here' ] || fail "$(cat out err)"
echo passed
