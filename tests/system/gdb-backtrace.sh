#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Backtraces on a kernel without debug information, by its own ORC tables: through the entries of system calls, exceptions and
# interrupts, over the interrupt stack, down to the first frame and no further; and of a guest that has panicked.
# shellcheck disable=SC2016 # what stands in single quotes is for gdb
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"

for script in "$TESTS/../guest-kit/kernel/lol-gdb.py" "$(dirname "$LOL_GUEST")/../share/lol/guest-kit/kernel/lol-gdb.py"; do
	[ ! -e "$script" ] || break
done
[ -e "$script" ] || skip "lol-gdb.py is not here"

# A shell that faults, computes, starts programs and sleeps: the tick finds it in each, sooner or later.
gdb_boot -i "$(shell_initrd)" -- sh -c 'while :; do sleep 0.1; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; ls /dev >/dev/null; echo tick; done'
wait_for_text 60 tick "$CONSOLE"
in_gdb -ex "source $script" -ex 'python
def stop_at(where, inside=None):
    b = gdb.Breakpoint(where)
    for i in range(3000):
        gdb.execute("continue", to_string=True)
        stack = gdb.execute("bt", to_string=True)
        if inside is None or inside in stack:
            break
    b.delete()
    names, frame = [], gdb.newest_frame()
    while frame and frame.pc():
        names.append(str(frame.name()))
        frame = frame.older()
    print("stack:", where, inside, ":", " ".join(names), "STOPPED" if "stopped" in stack or "?" in stack else ".")
stop_at("hrtimer_nanosleep")
stop_at("handle_mm_fault")
stop_at("update_process_times", "default_idle")
stop_at("update_process_times", "entry_SYSCALL_64")
stop_at("process_one_work")
' -ex 'detach'
saw_like '^stack: hrtimer_nanosleep None : hrtimer_nanosleep common_nsleep .*do_syscall_64 entry_SYSCALL_64(_after_hwframe)? \.$'
saw_like '^stack: handle_mm_fault None : handle_mm_fault .*exc_page_fault asm_exc_page_fault .*\.$'
saw_like '^stack: update_process_times default_idle : update_process_times .*sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt .*default_idle .*do_idle cpu_startup_entry rest_init .*start_kernel (x86_64_start_reservations x86_64_start_kernel )?secondary_startup_64(_no_verify)? \.$'
saw_like '^stack: update_process_times entry_SYSCALL_64 : update_process_times .*sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt .*entry_SYSCALL_64(_after_hwframe)? \.$'
saw_like '^stack: process_one_work None : process_one_work .*worker_thread kthread ret_from_fork .*\.$'
saw_not STOPPED
guest_ticks

# A guest that has panicked and is held: gdb begins at the vCPU that did; and the one that was stopped by it.
gdb_boot -c 2 --panic=hold -i "$(shell_initrd)" -- sh -c 'taskset 2 sh -c "echo c >/proc/sysrq-trigger"; sleep 600'
wait_for_text 100 "is held" "$ERRORS"
in_gdb -ex "source $script" -ex 'bt' -ex 'detach'
saw_like '^#[0-9]+ .* sysrq_handle_crash \('
in_gdb -ex "source $script" -ex 'continue' -ex 'stepi' -ex 'thread apply all bt' -ex 'detach' # it goes nowhere
saw_like '^#[0-9]+ .* panic \('
saw_like '^#[0-9]+ .* sysrq_handle_crash \('
saw_like '^#[0-9]+ .* entry_SYSCALL_64(_after_hwframe)? \('
saw_like '^#[0-9]+ .* asm_sysvec_[a-z]+ \('
saw_not "stopped:"
in_gdb -ex 'monitor quit'
guest_ends 126

# A gdb that is there when it happens is told.
gdb_boot -c 2 --panic=hold -i "$(shell_initrd)" -- sh -c 'echo tick; sleep 2; taskset 2 sh -c "echo c >/proc/sysrq-trigger"; sleep 600'
wait_for_text 100 tick "$CONSOLE"
in_gdb -ex "source $script" -ex 'continue' -ex 'bt' -ex 'monitor quit'
saw "SIGINT"
saw_like '^#[0-9]+ .* sysrq_handle_crash \('
guest_ends 126
echo passed
