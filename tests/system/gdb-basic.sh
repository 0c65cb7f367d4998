#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# gdb on a guest kernel: held before its first instruction, symbols right at once, breakpoints, steps over rewritten
# instructions, Ctrl-C while it idles, detach and attach again, a second client.
# shellcheck disable=SC2016 # what stands in single quotes is for gdb
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"

gdb_boot --gdb-wait -i "$(shell_initrd)" -- sh -c 'while :; do sleep 0.3; echo tick; done'

# From the first instruction to start_kernel. What gdb shows of a rewritten instruction is the instruction.
in_gdb -ex 'info threads' -ex 'p/x $cs' -ex 'monitor info version' -ex 'monitor info sites' \
	-ex 'break start_kernel' -ex 'continue' -ex 'bt' -ex 'p/x $cpl' \
	-ex 'printf "first %d\n", *(unsigned char *)start_kernel == 0xcc' \
	-ex 'break default_idle' -ex 'delete 1' -ex 'continue' -ex 'x/20i default_idle' \
	-ex 'delete' -ex 'detach'
saw "secondary_startup_64"
saw 'Thread 1 "CPU#0" (kernel)'
saw '$1 = 0x10'
saw "Linux-on-Linux"
saw_like "[0-9]+ sites rewritten"
saw_like "Breakpoint 1, (0x|[a-z_]+ \\()"
saw_like "^#1 .* in (x86_64_start_reservations|secondary_startup_64)"
saw '$2 = 0x0'
saw "first 0"
saw_like "<default_idle(\\+[0-9]+)?>:[[:space:]]+(ds )*sti"
saw_like "<default_idle(\\+[0-9]+)?>:[[:space:]]+(ds )*hlt"

# Steps do not leave for an interrupt, and rewritten instructions are one step.
in_gdb -ex 'break hrtimer_nanosleep' -ex 'continue' -ex 'delete' \
	-ex 'python for i in range(300): gdb.execute("stepi", to_string=True); print("at", gdb.selected_frame().name())' \
	-ex 'detach'
saw_like "Breakpoint 1, (0x|[a-z_]+ \\()"
saw "at _raw_spin_lock_irqsave"
saw "at ktime_get"
saw_not "asm_sysvec"

guest_ticks

# Ctrl-C in guest user code and in the idle loop, attached over and over; what the guest computes stays right.
gdb_boot -i "$(shell_initrd)" -- sh -c 'while :; do i=0 n=0; while [ $i -lt 20000 ]; do i=$((i+1)) n=$((n+i)); done; echo "tick $n"; done'
wait_for_text 100 tick "$CONSOLE"
in_gdb_interrupted -ex 'echo going on\n' -ex 'continue' -ex 'info registers cs' -ex 'monitor info registers' -ex 'echo still there\n' \
	-ex 'detach'
saw "SIGINT"
saw_like "CPU#0 (user|kernel)"
saw "still there"
in_gdb -ex 'detach'
# A second client is told so, and the first goes on.
in_gdb -ex "python import socket; s = socket.socket(socket.AF_UNIX); s.connect('$GDB_SOCKET'); print(s.recv(200)); s.close()" \
	-ex 'info registers rip' -ex 'detach'
saw "another debugger is attached"
saw_like "^rip +0x"
guest_ticks
[ "$(grep -a tick "$CONSOLE" | head -n -1 | sort -u)" = "tick 200010000" ] || fail "the guest counts wrong"

gdb_boot -i "$(shell_initrd)" -- sh -c 'while :; do echo tick; sleep 3; done'
wait_for_text 100 tick "$CONSOLE"
in_gdb_interrupted -ex 'echo going on\n' -ex 'continue' -ex 'bt' -ex 'detach'
saw "SIGINT"
saw_like "^#0 .*default_idle"
guest_ticks
echo passed
