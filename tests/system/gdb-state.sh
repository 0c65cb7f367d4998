#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What gdb sees and changes: registers of kernel and user code as the guest has them, memory by the guest's page tables and physical,
# watchpoints of every kind, the monitor's commands, source lines, Ctrl-C at any moment from the first instruction on, a TCP port.
# shellcheck disable=SC2016 # what stands in single quotes is for gdb
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"
which cc >/dev/null || skip "no C compiler"

mkdir -p "$LOL_TMP/root/t"
cc -O1 -g -static -no-pie -o "$LOL_TMP/root/t/vectors" "$TESTS/system/lib/vectors.c" || skip "no static C library here"
cc -O1 -g -static -no-pie -o "$LOL_TMP/root/t/stepped" "$TESTS/system/lib/stepped.c" || skip "no static C library here"
chmod -R a+rX "$LOL_TMP/root"
initrd=$LOL_TMP/state.cpio.gz
"$LOL_GUEST" initrd build "$initrd" --add "$LOL_TMP/root" || fail "initrd"

# Kernel code: selectors, flags, bases, control registers; memory, also physical, also written; the monitor's commands.
gdb_boot -i "$initrd" -- sh -c 'while :; do sleep 0.3; ! dmesg | grep -q "sysrq: HELP" || echo helped; echo tick; done'
wait_for_text 100 tick "$CONSOLE"
in_gdb -ex 'break hrtimer_nanosleep' -ex 'continue' -ex 'delete' \
	-ex 'printf "selectors %x %x cpl %d\n", $cs, $ss, (int)$cpl' \
	-ex 'printf "interrupts %d\n", ($eflags & 0x200) != 0' \
	-ex 'printf "paging %d long mode %d pae %d\n", ($cr0 & 0x80000001) == 0x80000001, ($efer & 0x500) == 0x500, ($cr4 & 0x20) != 0' \
	-ex 'printf "per-cpu %d\n", $gs_base == *(unsigned long *)&__per_cpu_offset' \
	-ex 'printf "user base %d\n", $k_gs_base != $gs_base' \
	-ex 'break sysvec_apic_timer_interrupt' -ex 'continue' -ex 'delete' \
	-ex 'printf "interrupts in an interrupt %d\n", ($eflags & 0x200) != 0' \
	-ex 'python
banner = int(gdb.parse_and_eval("(unsigned long)&linux_banner"))
page_offset = int(gdb.parse_and_eval("*(unsigned long *)&page_offset_base"))
mmu = gdb.execute("monitor info mmu %#x" % banner, to_string=True)
physical = int(mmu.split("is physical ")[1].split(",")[0], 16)
read = lambda address, n=13: gdb.selected_inferior().read_memory(address, n).tobytes()
write = lambda address, data: gdb.selected_inferior().write_memory(address, data)
print("banner:", read(banner), read(page_offset + physical))
gdb.execute("maint packet Qqemu.PhyMemMode:1", to_string=True)
print("physical:", read(physical))
write(physical, b"K")
gdb.execute("maint packet Qqemu.PhyMemMode:0", to_string=True)
print("changed:", read(banner), read(page_offset + physical))
write(page_offset + physical, b"L")
print("again:", read(banner))
try:
    write(0x6fffffff0000, b"x")
    print("WRONG")
except gdb.MemoryError:
    print("not mapped")' \
	-ex 'set var $rax = 0x1234' -ex 'p/x $rax' -ex 'set var $cr3 = 0' \
	-ex 'monitor help' -ex 'monitor info mmu 0x6fffffff0000' -ex 'monitor info registers' -ex 'monitor stats' -ex 'monitor low' \
	-ex 'monitor sysrq' -ex 'monitor nothing' \
	-ex 'detach'
saw "selectors 10 18 cpl 0"
saw "interrupts 1"
saw "paging 1 long mode 1 pae 1"
saw "per-cpu 1"
saw "user base 1"
saw "interrupts in an interrupt 0"
saw "banner: b'Linux version' b'Linux version'"
saw "physical: b'Linux version'"
saw "changed: b'Kinux version' b'Kinux version'"
saw "again: b'Linux version'"
saw "not mapped"
saw_not WRONG
saw '$1 = 0x1234'
saw "this register belongs to the guest kernel"
saw_like "^info mmu ADDRESS +the page table"
saw "6fffffff0000 is not mapped"
saw_like "^CPU#0 kernel"
saw_like "^u_syscalls +[0-9]+"
saw "addresses below 2 GiB that the kernel has too are the kernel's"
saw "give one key"
saw "nothing: no such command"

# Watchpoints on reads and accesses; a magic SysRq key.
in_gdb -ex 'rwatch *(unsigned long *)&jiffies_64' -ex 'continue' -ex 'delete' -ex 'awatch *(unsigned long *)&jiffies_64' -ex 'continue' -ex 'delete' \
	-ex 'monitor sysrq h' -ex 'detach'
saw "Hardware read watchpoint"
saw_like "^Value = "
saw "Hardware access (read/write) watchpoint"
wait_for_text 30 helped "$CONSOLE"
guest_ticks

endless=$(grep -n 'while (spinning)' "$TESTS/system/lib/vectors.c" | cut -d: -f1)
# User code: vector registers, read and written, and memory (the heap begins anywhere, also at addresses that the kernel has); then a line that never ends, stepped and interrupted.
gdb_boot --gdb-wait -i "$initrd" -- sh -c '/t/vectors; while :; do sleep 0.3; echo tick; done'
in_gdb_interrupted -ex "add-symbol-file $LOL_TMP/root/t/vectors" -ex 'tbreak __x64_sys_getsid' -ex 'continue' -ex 'tbreak *here' -ex 'continue' \
	-ex 'printf "selectors %x %x cpl %d\n", $cs, $ss, (int)$cpl' \
	-ex 'monitor low user' -ex 'printf "thread %d\n", *(unsigned long *)$fs_base == $fs_base' -ex 'monitor low kernel' \
	-ex 'p/x $xmm5.v2_int64[0]' -ex 'p/x $ymm6.v4_int64[3]' -ex 'p $st0' -ex 'set var $xmm5.v2_int64[0] = 0x99' -ex 'set var wish = 7' \
	-ex "tbreak vectors.c:$endless" -ex 'continue' -ex 'echo going on\n' -ex 'next' -ex 'printf "in main %d\n", $pc >= (long)main && $pc < (long)main + 400' \
	-ex 'set var spinning = 0' -ex 'next' -ex 'detach'
saw "selectors 33 2b cpl 3"
saw "thread 1"
saw '$1 = 0x1122334455667788'
saw_like '^\$3 = 3.14159265'
saw "SIGINT"
saw "in main 1"
wait_for_text 30 "spun" "$CONSOLE"
grep -q "xmm5 99 wish 7" "$CONSOLE" || fail "the program does not have what gdb has written"
! grep -q "avx 1" "$CONSOLE" || saw '$2 = 0xffffffffffffffff'
guest_ticks

# Source lines: over calls, system calls, page faults; those of main only, in its order.
for cpus in 1 2; do
	gdb_boot -c $cpus -i "$initrd" -- sh -c 'while :; do /t/stepped; sleep 0.5; echo tick; done'
	wait_for_text 30 tick "$CONSOLE"
	in_gdb -ex "add-symbol-file $LOL_TMP/root/t/stepped" -ex 'tbreak __x64_sys_getppid' -ex 'continue' -ex 'tbreak main' -ex 'continue' -ex 'python
lines, names = [], set()
for i in range(40):
    gdb.execute("next", to_string=True)
    lines.append(gdb.selected_frame().find_sal().line)
    names.add(gdb.selected_frame().name())
print("functions:", sorted(names), "lines:", len(set(lines)), "value:", int(gdb.parse_and_eval("i")) > 5)
gdb.execute("step", to_string=True)
while gdb.selected_frame().name() == "main":
    gdb.execute("step", to_string=True)
print("step into", gdb.selected_frame().name())' -ex 'watch counter' -ex 'continue' -ex 'delete' -ex 'rwatch counter' -ex 'continue' -ex 'delete' -ex 'detach'
	saw "functions: ['main'] lines:"
	saw "value: True"
	saw_like "step into (middle|__?getppid)"
	saw "Hardware read watchpoint"
	guest_ticks
	[ "$(grep sum "$CONSOLE" | sort -u)" = "sum 4006000 counter 2000" ] || fail "the program is wrong"
done

# Ctrl-C a few hundred times, from the first instruction on, on a TCP port.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$LOL_TMP/interrupts.py" <<END
import random, socket, time
for i in range(300):
    try:
        s = socket.create_connection(("127.0.0.1", $port))
        break
    except OSError:
        time.sleep(0.1)
s.settimeout(60)
def packet():
    data = b""
    while not (len(data) > 3 and data[-3:-2] == b"#"):
        byte = s.recv(1)
        if data or byte == b"\$":
            data += byte
    return data[1:-3]
def ask(payload):
    s.sendall(b"\$" + payload + b"#%02x" % (sum(payload) & 255))
    return packet()
assert ask(b"QStartNoAckMode") == b"OK"
s.sendall(b"+")
random.seed(1)
levels, places = set(), set()
for i in range(300):
    s.sendall(b"\$vCont;c#a8")
    time.sleep(random.random() * 0.02)
    s.sendall(b"\x03")
    stop = packet()
    assert stop.startswith(b"T02"), stop
    levels.add(ask(b"p58")[:2])
    places.add(ask(b"p10"))
print("levels", sorted(levels), "many places" if len(places) > 10 else len(places))
assert ask(b"D") == b"OK"
END
timeout -k 10 120 "$LOL_RUN" -q -m 256M --gdb="$port" --gdb-wait "$LOL_KERNEL" -i "$initrd" -- sh -c 'while :; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo tick; sleep 0.02; done' \
	>"$CONSOLE" 2>"$ERRORS" </dev/null &
GUEST_PID=$!
timeout -k 10 100 python3 "$LOL_TMP/interrupts.py" >"$GDB_OUT" 2>&1 </dev/null || gdb_fail "interrupts"
saw "levels [b'00', b'03'] many places"
timeout -k 10 100 gdb -nx -batch -ex 'set confirm off' -ex "target remote :$port" -ex 'x/s &linux_banner' -ex 'detach' "$LOL_KERNEL" >"$GDB_OUT" 2>&1 </dev/null ||
	gdb_fail "gdb :$port"
saw "Linux version"
n=$(grep -c tick "$CONSOLE")
for ((i = 0; i < 300; i++)); do
	[ "$(grep -c tick "$CONSOLE")" -le "$n" ] || break
	sleep 0.1
done
[ "$i" -lt 300 ] || fail "the guest does not go on"
kill "$GUEST_PID"
wait "$GUEST_PID"
echo passed
