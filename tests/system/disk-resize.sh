#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A disk that gets another size while the guest runs, and one whose file shrinks under it: I/O errors, no end of the VM.
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
echo passed
