#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# From the kernel's entry to /init of an initrd and to a clean power-off, with little and with much memory.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

initrd=$(guest_initrd 'echo "init says $((40 + 2)) on $(uname -m), $(grep -c ^processor /proc/cpuinfo) cpu"
awk "/MemTotal/ { print \"MiB\", int(\$2 / 1024) }" /proc/meminfo
dmesg | grep -E "WARNING|BUG:|Oops|Call Trace" && echo KERNEL COMPLAINS')
for mem in 64M 256M 3G; do
	boot 60 -m "$mem" -i "$initrd" </dev/null
	expect_status 0
	expect "init says 42 on x86_64, 1 cpu"
	expect_not "KERNEL COMPLAINS"
done
# 3 GiB less what the kernel itself needs, in two stretches around the devices' hole
mib=$(sed -n 's/^MiB \([0-9]*\).*/\1/p' "$CONSOLE")
[ "$mib" -gt 2900 ] || fail "the guest sees $mib MiB of 3072"
echo passed
