#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Breakpoints where it is hard: rewritten instructions, the entries from user code and interrupts, user programs; conditions,
# watchpoints, steps between user and kernel code.
# shellcheck disable=SC2016 # what stands in single quotes is for gdb
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"
which cc >/dev/null || skip "no C compiler"

mkdir -p "$LOL_TMP/root/t"
cc -O1 -g -static -no-pie -o "$LOL_TMP/root/t/stepped" "$TESTS/system/lib/stepped.c" || skip "no static C library here"
chmod -R a+rX "$LOL_TMP/root"
initrd=$LOL_TMP/stepped.cpio.gz
"$LOL_GUEST" initrd build "$initrd" --add "$LOL_TMP/root" || fail "initrd"

# The kernel's entries, its interrupts, sti, hlt and iretq; then the same guest goes on as if nothing had been.
gdb_boot -i "$initrd" -- sh -c 'while :; do sleep 0.3; echo tick; done'
in_gdb -ex 'break entry_SYSCALL_64' -ex 'continue' -ex 'x/i $pc' -ex 'stepi' -ex 'stepi' -ex 'info registers rip cs' -ex 'delete' \
	-ex 'break sysvec_apic_timer_interrupt' -ex 'continue' -ex 'bt 2' -ex 'delete' \
	-ex 'break asm_exc_page_fault' -ex 'continue' -ex 'stepi' -ex 'delete' \
	-ex 'python import re
def addresses(function, what):
    text = gdb.execute("disassemble " + function, to_string=True).replace("=>", "")
    return [l.split()[0] for l in text.splitlines() if re.search(r":\s+(?:ds )*(?:" + what + r")\b", l)]
for function, what in (("default_idle", "sti"), ("common_interrupt_return", "iretq"), ("_raw_spin_lock_irqsave", "cli|pushf")):
    found = addresses(function, what)
    for a in found:
        gdb.execute("break *" + a)
    for i in range(4):
        gdb.execute("continue", to_string=True)
        at = gdb.execute("x/i $pc", to_string=True)
        before = int(gdb.parse_and_eval("(unsigned long)$pc"))
        gdb.execute("stepi", to_string=True)
        if not re.search(what, at) or before == int(gdb.parse_and_eval("(unsigned long)$pc")):
            print("WRONG", function, at)
    gdb.execute("delete")
    print("stepped over", what, "in", function)' \
	-ex 'detach'
saw_like "<entry_SYSCALL_64>:[[:space:]]+(ds )*swapgs"
saw_like "^#1 .* asm_sysvec_apic_timer_interrupt"
saw_like "asm_exc_page_fault"
saw "stepped over sti in default_idle"
saw "stepped over iretq in common_interrupt_return"
saw "stepped over cli|pushf in _raw_spin_lock_irqsave"
saw_not WRONG
guest_ticks

# A user program: breakpoints with conditions, its stack, watchpoints, from user code into the kernel by single steps.
# The program's addresses are also the shell's: its breakpoints are set where it runs, in getppid, which nobody else calls by then.
gdb_boot -i "$initrd" -- sh -c 'while :; do /t/stepped; sleep 0.5; echo tick; done'
wait_for_text 60 tick "$CONSOLE"
in_gdb -ex "add-symbol-file $LOL_TMP/root/t/stepped" -ex 'break __x64_sys_getppid' -ex 'continue' -ex 'delete' \
	-ex 'tbreak main' -ex 'continue' -ex 'break leaf if x == 700' -ex 'continue' -ex 'bt' -ex 'p x' -ex 'monitor stats' -ex 'p/x $cs' -ex 'delete' \
	-ex 'watch items[2].value if items[2].value > 1500' -ex 'continue' -ex 'p items[2].value' -ex 'delete' \
	-ex 'hbreak middle' -ex 'continue' -ex 'p/x $pc == (long)middle' -ex 'delete' \
	-ex 'tbreak __x64_sys_getppid' -ex 'continue' -ex 'bt 3' -ex 'watch *(long *)&jiffies_64' -ex 'continue' -ex 'delete' \
	-ex 'tbreak __x64_sys_getppid' -ex 'continue' -ex 'python
n = 0
gdb.execute("tbreak getppid")
gdb.execute("continue", to_string=True)
while int(gdb.parse_and_eval("(int)$cpl")) == 3 and n < 50:
    gdb.execute("stepi", to_string=True)
    n += 1
print("from getppid into", gdb.selected_frame().name())' \
	-ex 'detach'
saw_like "^#0 +leaf \\(x=x@entry=700\\)"
saw_like "^#1 .* middle \\(x=x@entry=699\\)"
saw_like "^#2 .* main \\(\\)"
saw_like "^breakpoint_misses +[0-9]{3}"
saw '$2 = 0x33'
saw "Hardware watchpoint"
saw '$4 = 0x1'
saw "Old value"
saw "from getppid into entry_SYSCALL_64"
# What the program computes stays right, and its later runs meet none of it any more.
guest_ticks
[ "$(grep sum "$CONSOLE" | sort -u)" = "sum 4006000 counter 2000" ] || fail "the program is wrong"
echo passed
