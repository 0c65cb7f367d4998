#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The kernel's selftests pass under LoL wherever they pass under QEMU. LOL_KERNEL_SOURCE is the source tree of the guest
# kernel; without it, what the kernel build has left in the cache is taken.
# timeout: 10800
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"

for tool in qemu-system-x86_64 python3 gcc make flex bison cpio busybox; do
	command -v "$tool" >/dev/null || skip "no $tool here"
done
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lol
if [ -z "${LOL_KERNEL_SOURCE:-}" ]; then
	LOL_KERNEL_SOURCE=$(find "$cache"/kernels/*/src/tools/testing/selftests -maxdepth 0 -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 |
		sed 's/^[^ ]* //; s,/tools/testing/selftests$,,')
fi
if [ -z "$LOL_KERNEL_SOURCE" ]; then
	deb=$(find "$cache/deb" -name 'linux-source-6.12_*_all.deb' 2>/dev/null | sort -V | tail -n 1)
	[ "$deb" ] || skip "no source of the guest kernel in $cache; give LOL_KERNEL_SOURCE"
	LOL_KERNEL_SOURCE=$LOL_TMP/source
	mkdir -p "$LOL_KERNEL_SOURCE"
	dpkg-deb --fsys-tarfile "$deb" | tar -xO ./usr/src/linux-source-6.12.tar.xz | tar -xJ --strip-components=1 -C "$LOL_KERNEL_SOURCE" ||
		fail "$deb: cannot be unpacked"
fi
export LOL_KERNEL_SOURCE
LOL_TMP=$LOL_TMP/conformance
mkdir -p "$LOL_TMP" && chmod 755 "$LOL_TMP"
"$TESTS/conformance/run" || fail "selftests differ from QEMU without a reason"
echo passed
