#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The kernel's selftests pass under LoL wherever they pass under QEMU, with 1, 2 and 4 CPUs (LOL_CONFORMANCE_CPUS says otherwise).
# LOL_KERNEL_SOURCE is the source tree of the guest kernel; without it, Debian's source package in the kernel build's cache is
# taken. What has run is kept in the cache, so a run that comes to its time limit or is interrupted goes on the next time;
# LOL_CONFORMANCE_DOCUMENT is a file for the table.
# timeout: 10800
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"

for tool in qemu-system-x86_64 python3 gcc make flex bison cpio busybox; do
	command -v "$tool" >/dev/null || skip "no $tool here"
done
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lol
kept=$cache/conformance
{ mkdir -p "$kept" && chmod 755 "$kept"; } || fail "$kept: cannot be made" # lol-run started by root is somebody else
if [ -z "${LOL_KERNEL_SOURCE:-}" ]; then
	deb=$(find "$cache/deb" -name 'linux-source-6.12_*_all.deb' 2>/dev/null | sort -V | tail -n 1)
	[ "$deb" ] || skip "no source of the guest kernel in $cache/deb; give LOL_KERNEL_SOURCE"
	LOL_KERNEL_SOURCE=$kept/$(basename "$deb" _all.deb)
	if [ ! -d "$LOL_KERNEL_SOURCE" ]; then
		rm -rf "$kept"/{new,src,headers,*.done}
		mkdir "$kept/new"
		dpkg-deb --fsys-tarfile "$deb" | tar -xO ./usr/src/linux-source-6.12.tar.xz |
			tar -xJ --strip-components=1 --exclude='*/drivers/*/*' --exclude='*/sound/*/*' --exclude='*/Documentation/*/*' -C "$kept/new" ||
			fail "$deb: cannot be unpacked"
		mv "$kept/new" "$LOL_KERNEL_SOURCE"
	fi
fi
export LOL_KERNEL_SOURCE
LOL_TMP=$kept "$TESTS/conformance/run" --cpus "${LOL_CONFORMANCE_CPUS:-1,2,4}" --minutes 170 ${LOL_CONFORMANCE_DOCUMENT:+--document "$LOL_CONFORMANCE_DOCUMENT"}
case $? in
0) echo passed ;;
3) fail "not finished; the same test goes on" ;;
*) fail "selftests differ from QEMU without a reason" ;;
esac
