#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# gdb with two vCPUs: both are threads, all stop together, one can be stepped alone, breakpoints and watchpoints hit on either, and
# what the guest computes on both stays right.
# shellcheck disable=SC2016 # what stands in single quotes is for gdb
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"

gdb_boot -c 2 -i "$(shell_initrd)" -- sh -c '
taskset 1 sh -c "while :; do echo a >/dev/null; done" & taskset 2 sh -c "while :; do echo b >/dev/null; done" &
while :; do sleep 0.3; echo tick; done'
wait_for_text 100 tick "$CONSOLE"
in_gdb -ex 'info threads' -ex 'python
hits = {}
def stop(event):
    hits[gdb.selected_thread().num] = hits.get(gdb.selected_thread().num, 0) + 1
gdb.events.stop.connect(stop)
b = gdb.Breakpoint("vfs_write")
for i in range(5000):
    gdb.execute("continue", to_string=True)
    if i >= 40 and len(hits) == 2:
        break
print("threads that hit:", sorted(hits))
b.condition = "$rdx == 77777"
gdb.Breakpoint("hrtimer_nanosleep", temporary=True)
gdb.execute("continue", to_string=True)
print("at", gdb.selected_frame().name())
b.delete()
other = [t for t in gdb.selected_inferior().threads() if t.num != gdb.selected_thread().num][0]
def rip(thread):
    me = gdb.selected_thread()
    thread.switch()
    value = int(gdb.parse_and_eval("(unsigned long)$rip"))
    me.switch()
    return value
gdb.execute("set scheduler-locking on")
before = rip(other)
gdb.execute("stepi 20", to_string=True)
print("the other stands:", before == rip(other))
gdb.execute("set scheduler-locking off")
w = gdb.Breakpoint("*(unsigned long *)&jiffies_64", gdb.BP_WATCHPOINT, gdb.WP_WRITE)
gdb.execute("continue", to_string=True)
print("jiffies written in", gdb.selected_frame().name())
w.delete()' -ex 'detach'
saw_like 'Thread 1 "CPU#0"'
saw_like 'Thread 2 "CPU#1"'
saw "threads that hit: [1, 2]"
saw "at hrtimer_nanosleep"
saw "the other stands: True"
saw "jiffies written in tick_do_update_jiffies64"
guest_ticks
echo passed
