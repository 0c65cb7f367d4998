# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The program headers of a vmlinux, for lol-guest kernel build.

# Bytes of a file as one number, least significant byte first: elf_number FILE OFFSET BYTES
elf_number() {
	local byte n=0 shift=0
	for byte in $(od -An -v -tu1 -j "$2" -N "$3" "$1"); do
		n=$((n | byte << shift)) shift=$((shift + 8))
	done
	echo "$n"
}

# percpu_first VMLINUX: the segment of per-cpu data, linked at 0, becomes the first program header.
# A debugger that is told where a kernel was moved is told so for the first segment and for the second; all others move as the
# second. Per-cpu data does not move, everything else does. Nothing else looks at the order (only the kernel's own
# decompressor would, and it has a copy of its own).
percpu_first() {
	local file=$1 phoff count i at header=56
	phoff=$(elf_number "$file" 32 8) count=$(elf_number "$file" 56 2)
	for ((i = 0; i < count; i++)); do
		at=$((phoff + i * header))
		[ "$(elf_number "$file" "$at" 4)" = 1 ] && [ "$(elf_number "$file" $((at + 16)) 8)" = 0 ] || continue
		[ "$i" != 0 ] || return 0
		{
			dd if="$file" bs=1 skip="$at" count=$header
			dd if="$file" bs=1 skip="$phoff" count=$((i * header))
		} 2>/dev/null >"$file.headers" && dd if="$file.headers" of="$file" bs=1 seek="$phoff" conv=notrunc 2>/dev/null || return
		rm -f "$file.headers"
		return 0
	done
}
