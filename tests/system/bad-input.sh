#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Kernels, initrds and disks that cannot work: one line that says what and what to do, status 125, nothing left behind.
# timeout: 300
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1

mkdir run tmp
chmod 700 run
export XDG_RUNTIME_DIR=$LOL_TMP/run TMPDIR=$LOL_TMP/tmp
initrd=$(shell_initrd)
truncate -s 16M disk.img

# patch_file FILE OFFSET HEX...
patch_file() {
	local file=$1 offset=$2
	shift 2
	printf '%b' "$(printf '\\x%s' "$@")" | dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
}

copy() { # NAME: a kernel to break
	cp -- "$LOL_KERNEL" "$1"
	chmod 644 "$1"
}

# ---- the kernel ----

: >empty
wrong "ELF" empty -i "$initrd"
echo "no kernel at all" >text
wrong "ELF" text -i "$initrd"
head -c 3 "$LOL_KERNEL" >three
wrong "ELF" three -i "$initrd"
mkdir folder
wrong "directory|regular file" folder -i "$initrd"
copy unreadable
chmod 000 unreadable
[ -r unreadable ] || wrong "denied|access" unreadable -i "$initrd"
mkfifo fifo
wrong "regular file|not an? " fifo -i "$initrd"
wrong "" /dev/null -i "$initrd"

copy machine
patch_file machine 18 b7 00 # EM_AARCH64
wrong "x86-64" machine -i "$initrd"
copy class
patch_file class 4 01 # 32 bits
wrong "x86-64|64" class -i "$initrd"
copy object
patch_file object 16 01 00 # ET_REL
wrong "executable|vmlinux|kernel" object -i "$initrd"
wrong "pre-virtualised|vmlinux|kernel" "$(readlink -f /bin/busybox || readlink -f /bin/true)" -i "$initrd"

size=$(stat -c %s "$LOL_KERNEL")
for part in 1 10 30 50 70 90 99; do
	head -c $((size * part / 100)) "$LOL_KERNEL" >short
	wrong "short|damaged|ELF|symbol|copy" short -i "$initrd"
done
head -c 64 "$LOL_KERNEL" >short
wrong "" short -i "$initrd"

if which objcopy >/dev/null; then
	objcopy --remove-section=.note.ivmm "$LOL_KERNEL" unmarked 2>/dev/null &&
		wrong "pre-virtualised" unmarked -i "$initrd"
	strip -o stripped "$LOL_KERNEL" 2>/dev/null && wrong "stripped|symbol|relocations|as it was built" stripped -i "$initrd"
	# The note's last word is the ABI version.
	if objcopy -O binary --only-section=.note.ivmm --set-section-flags .note.ivmm=alloc "$LOL_KERNEL" note 2>/dev/null && [ -s note ]; then
		cp note newer-note
		patch_file newer-note $(($(stat -c %s note) - 4)) ff ff 00 00
		objcopy --update-section .note.ivmm=newer-note "$LOL_KERNEL" newer 2>/dev/null &&
			wrong "newer" newer -i "$initrd"
	fi
fi

# Random damage to the headers: refused or run, never a crash of the monitor (status 127) or a hang.
for seed in $(seq 1 12); do
	copy damaged
	for i in 1 2 3 4; do
		patch_file damaged $(((seed * 7919 + i * 104729) % 512)) "$(printf %02x $(((seed * 31 + i * 17) % 256)))"
	done
	run timeout -s KILL 20 "$LOL_RUN" damaged -q -m 128M -i "$initrd" -- true </dev/null
	case $STATUS in
	0 | 125 | 126 | 137) ;;
	# A guest kernel whose damage is within itself: COMMAND cannot be executed, and lol-run has nothing to say to that.
	127) [ ! -s "$ERRORS" ] || fail "damage $seed: status 127" ;;
	*) fail "damage $seed: status $STATUS" ;;
	esac
done
rm -f damaged short machine class object unmarked stripped newer unreadable

# ---- the initrd ----

wrong "No such file" "$LOL_KERNEL" -i nothing
wrong "empty" "$LOL_KERNEL" -i empty
wrong "directory|regular" "$LOL_KERNEL" -i folder
printf x >secret
chmod 000 secret
[ -r secret ] || wrong "denied|access" "$LOL_KERNEL" -i secret
# An initrd that is none: the kernel says so, and lol-run that it panicked.
run timeout -s KILL 60 "$LOL_RUN" "$LOL_KERNEL" -q -m 128M -i text </dev/null
expect_status 126
# One that does not fit into the guest's memory.
truncate -s 200M large
wrong "mem|memory" "$LOL_KERNEL" -m 128M -i large

# ---- disks ----

wrong "No such file" "$LOL_KERNEL" -i "$initrd" -d nothing.img
wrong "directory" "$LOL_KERNEL" -i "$initrd" -d folder
wrong "empty|size|small" "$LOL_KERNEL" -i "$initrd" -d empty
chmod 444 disk.img
[ -w disk.img ] || wrong "writable|denied|,ro" "$LOL_KERNEL" -i "$initrd" -d disk.img
chmod 000 disk.img
[ -r disk.img ] || wrong "denied|access|permission" "$LOL_KERNEL" -i "$initrd" -d disk.img,ro
chmod 644 disk.img
wrong "directory|regular|neither" "$LOL_KERNEL" -i "$initrd" -d /dev/null
wrong "multiple of 512|sector" "$LOL_KERNEL" -i "$initrd" -d text
wrong "" "$LOL_KERNEL" -i "$initrd" -d disk.img,nonsense
wrong "" "$LOL_KERNEL" -i "$initrd" -d ""

# Locked by another VM; two readers are fine.
"$LOL_RUN" "$LOL_KERNEL" -q -m 128M -i "$initrd" -d disk.img -- sh -c 'echo holding; sleep 60' >held 2>&1 </dev/null &
holder=$!
wait_for_text 30 holding held
wrong "lock|in use|another" "$LOL_KERNEL" -i "$initrd" -d disk.img
wrong "lock|in use|another" "$LOL_KERNEL" -i "$initrd" -d disk.img,ro
kill "$holder"
wait "$holder"
: >held
"$LOL_RUN" "$LOL_KERNEL" -q -m 128M -i "$initrd" -d disk.img,ro -- sh -c 'echo holding; sleep 60' >held 2>&1 </dev/null &
holder=$!
wait_for_text 30 holding held
boot 60 -q -m 128M -i "$initrd" -d disk.img,ro -- true </dev/null
expect_status 0
wrong "lock|in use|another" "$LOL_KERNEL" -i "$initrd" -d disk.img
kill "$holder"
wait "$holder"

# ---- sizes ----

for mem in 0 -1 1 1k 12Q 99999999999999999999 1e9 "" 0x100M " " 100T; do
	wrong "" "$LOL_KERNEL" -i "$initrd" -m "$mem"
done
for cpus in 0 -1 x 99999 1.5 ""; do
	wrong "" "$LOL_KERNEL" -i "$initrd" -c "$cpus"
done

left=$(find run tmp -mindepth 1 ! -type d)
[ -z "$left" ] || fail "left behind: $left"
finish
