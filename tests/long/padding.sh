#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# On bare hardware the sites of a kernel cost under 1 % of its instructions, against the same kernel as any assembler makes
# it. They are counted in qemu's emulation, so how busy this machine is does not matter.
# timeout: 7200
# shellcheck source=tests/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"

for tool in qemu-system-x86_64 gcc objcopy cpio busybox; do
	command -v "$tool" >/dev/null || skip "no $tool here"
done
"$LOL_GUEST" kernel build --out "$LOL_TMP/ours" || fail "kernel build"
"$LOL_GUEST" kernel build --no-afterburner --out "$LOL_TMP/base" || fail "kernel build --no-afterburner"
cmp "$LOL_TMP/ours/config" "$LOL_TMP/base/config" || fail "the two kernels have different configurations"
"$TESTS/../bench/padding-cost" --max 1 "$LOL_TMP/ours/vmlinux" "$LOL_TMP/base/vmlinux" || fail "padding costs 1 % or more"
echo passed
