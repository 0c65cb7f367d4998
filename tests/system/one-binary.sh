#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# One binary: the vmlinux that lol-run boots also boots, byte for byte, on a PC without LoL (QEMU's, with TCG).
# timeout: 240
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
which qemu-system-x86_64 >/dev/null || skip "no QEMU; install qemu-system-x86"

initrd=$(guest_initrd 'echo "kernel $(uname -r) $(uname -v)"
echo "LoL: $(grep -c LinuxOnLinux /proc/cpuinfo; dmesg | grep -ci "linux.on.linux\|LinuxOnLinux")"
sh -c "sh -c true | cat; exit 3"; echo "status $?"
dmesg | grep -E "WARNING|BUG:|Oops|Call Trace" && echo KERNEL COMPLAINS
echo the end')
sum=$(sha256sum <"$LOL_KERNEL")

boot 60 -m 512M -i "$initrd" </dev/null
expect_status 0
expect "status 3"
expect "the end"
kernel=$(grep -o 'kernel [0-9].*' "$CONSOLE" | tr -d '\r')

# The PC: no power switch without ACPI, so it is stopped after "the end".
: >qemu
qemu-system-x86_64 -accel tcg -cpu max -m 512M -nographic -nodefaults -serial file:qemu -no-reboot -kernel "$LOL_KERNEL" \
	-initrd "$initrd" -append "console=ttyS0 panic=-1" </dev/null 2>"$ERRORS" &
pid=$!
for ((i = 0; i < 1200; i++)); do
	grep -q "the end\|Kernel panic" qemu && break
	kill -0 "$pid" 2>/dev/null || break
	sleep 0.1
done
kill "$pid" 2>/dev/null
wait "$pid"
cp qemu "$CONSOLE"
expect "status 3"
expect "the end"
expect_not "KERNEL COMPLAINS"
expect_not "Kernel panic"
[ "$kernel" = "$(grep -o 'kernel [0-9].*' qemu | tr -d '\r')" ] || fail "not the same kernel"
[ "$sum" = "$(sha256sum <"$LOL_KERNEL")" ] || fail "the file has changed"
echo passed
