#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# timeout: 170
# Dumps: of a running guest, of one that panics, of one that is held after that; read by hand, and by crash and drgn where
# they are installed and the kernel has debug information.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
# shellcheck source=tests/system/lib/control.sh
. "$(dirname "$0")/lib/control.sh"

# symbol NAME: its address in the kernel file, without leading zeros or 0x
symbol() { nm "$LOL_KERNEL" 2>/dev/null | sed -n "s/^0*\([0-9a-f]*\) . $1\$/\1/p"; }
command -v nm >/dev/null || skip "no nm; install binutils"

# look CORE [CPUS]: what has to be in every dump of a running kernel
look() {
	python3 - "$1" "$(symbol linux_banner)" "$(symbol init_task)" "$(symbol _text)" "$(symbol _end)" "${2:-1}" <<'END' || fail "$1 is not as it should be"
import struct, sys
f = open(sys.argv[1], 'rb')
banner, init_task, text, end, cpus = (int(x, 16) for x in sys.argv[2:])
head = f.read(64)
assert head[:6] == b'\x7fELF\x02\x01', head
etype, machine = struct.unpack_from('<HH', head, 16)
phoff, = struct.unpack_from('<Q', head, 32)
phnum, = struct.unpack_from('<H', head, 56)
assert (etype, machine) == (4, 62)
f.seek(phoff)
ph = [struct.unpack('<IIQQQQQQ', f.read(56)) for i in range(phnum)]
def virt(va, n):
    for t, flags, off, vaddr, paddr, size, msize, align in ph:
        if t == 1 and vaddr <= va < vaddr + size:
            f.seek(off + va - vaddr)
            return f.read(n)
    raise AssertionError('%x is not in the dump' % va)
assert virt(banner, 14) == b'Linux version '
f.seek(ph[0][2]); notes = f.read(ph[0][5]); at = 0; found = []
while at < len(notes):
    n, d, t = struct.unpack_from('<III', notes, at)
    name = notes[at + 12:at + 12 + n - 1].decode(); at += 12 + (n + 3) // 4 * 4
    found.append((name, t, notes[at:at + d])); at += (d + 3) // 4 * 4
regs = [struct.unpack_from('<27Q', d, 112) for name, t, d in found if (name, t) == ('CORE', 1)]
assert len(regs) == cpus, found
for r in regs:
    rip, cs, rsp = r[16], r[17], r[19]
    print('rip %x cs %x rsp %x' % (rip, cs, rsp))
    if cs == 0x10:
        assert text <= rip < end and rsp >= 0x400000000000
    else:
        assert cs in (0x33, 0x23)
info = dict(l.split('=', 1) for l in [d for name, t, d in found if name == 'VMCOREINFO'][0].decode().splitlines())
assert info['KERNELOFFSET'] == '0' and int(info['SYMBOL(_stext)'], 16) == text, info
# The list of tasks: from init_task, through pointers in the direct map, back to init_task's link address.
task = virt(init_task, 8192)
known = [i for i in range(0, 8192 - 8, 8) if 0x400000000000 <= struct.unpack_from('<Q', task, i)[0] < 0x490000000000]
assert known
end_of_list = 0
for i in known:
    p, = struct.unpack_from('<Q', task, i)
    for hop in range(200):
        try: nxt, = struct.unpack('<Q', virt(p, 8))
        except (AssertionError, struct.error): break
        if nxt == init_task + i: end_of_list += 1; break
        p = nxt
assert end_of_list, 'no list leads back to init_task'
END
}

initrd=$(guest_initrd 'echo guest is up; while read -r line; do eval "$line"; done')

begin vm -m 256M -c 2 -i "$initrd" --console null
wait_for_console vm "guest is up"
ctl dump vm "$LOL_TMP/core"
expect_status 0
[ "$(stat -c %a "$LOL_TMP/core")" = 600 ] || fail "others can read the dump"
[ "$(du -k "$LOL_TMP/core" | cut -f1)" -lt 200000 ] || fail "the dump is not sparse"
look "$LOL_TMP/core" 2
ctl pause vm
(cd "$LOL_TMP" && ctl dump vm core && [ "$STATUS" = 0 ]) || fail "dump again, to a relative path, while paused"
look "$LOL_TMP/core" 2
ctl status vm
expect $'state\tpaused'
ctl resume vm

# What cannot be written.
for file in /dev/null /nowhere/core "$LOL_TMP"; do
	ctl dump vm "$file"
	expect_status 1
	[ "$(wc -l <"$ERRORS")" = 1 ] || fail "dump $file: not one line"
done
(ulimit -f 1000; "$LOLCTL" dump vm "$LOL_TMP/toolarge") >/dev/null 2>&1 # the limit is lolctl's, not the VM's
[ -s "$LOL_TMP/toolarge" ] || fail "the VM writes the dump, not lolctl"
rm "$LOL_TMP/toolarge"

# A panic: status 126, and a dump; or held.
(echo 'echo c >/proc/sysrq-trigger' | timeout -s INT 5 "$LOLCTL" console vm) >/dev/null 2>&1
ended 126
boot 60 -q -m 256M -c 2 -i "$(shell_initrd)" --dump-on-panic "$LOL_TMP/panic" -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60' </dev/null
expect_status 126
look "$LOL_TMP/panic" 2 >"$LOL_TMP/registers" || { cat "$LOL_TMP/registers"; exit 1; }
cat "$LOL_TMP/registers"
# One has panicked, and stands where it has told so; the other one has been stopped for it.
in_function() { # NAME: a vCPU is in it
	local at
	for at in $(sed -n 's/^rip \([0-9a-f]*\) .*/\1/p' "$LOL_TMP/registers"); do
		[ "$(nm "$LOL_KERNEL" | sort | awk -v at="$at" '$1 <= at { name = $3 } END { print name }')" = "$1" ] && return
	done
	fail "no vCPU is in $1"
}
in_function lol_panic
in_function stop_this_cpu
boot 60 -q -m 256M -i "$(shell_initrd)" --dump-on-panic /nowhere/panic -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60' </dev/null
expect_status 126
expect_error "/nowhere/panic"

begin vm -q -m 256M -i "$(shell_initrd)" --panic=hold -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
wait_for_state vm panicked
ctl resume vm
expect_status 1
ctl dump vm "$LOL_TMP/held"
expect_status 0
look "$LOL_TMP/held"
ctl stop vm --force
ended 0

# The tools, as far as those of Debian 12 know a kernel of today: crash 8.0.2 has no ps and drgn 0.0.22 no ORC of 6.4 and later.
if ! readelf -S "$LOL_KERNEL" | grep -q '\.debug_info'; then
	echo "the kernel has no debug information: crash and drgn were not tried"
else
	if /usr/bin/python3 -c 'import drgn' 2>/dev/null; then
		/usr/bin/python3 - "$LOL_TMP/panic" "$LOL_KERNEL" <<'END' || fail "drgn"
import drgn, struct, sys
from drgn.helpers.linux.list import list_for_each_entry
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])
assert prog.read(prog.symbol('linux_banner').address, 14) == b'Linux version '
assert struct.unpack('<Q', prog.read(prog.symbol('page_offset_base').address, 8))[0] == 0x400000000000
names = [t.comm.string_() for t in list_for_each_entry('struct task_struct', prog['init_task'].tasks.address_of_(), 'tasks')]
assert b'lol-init' in names and b'sh' in names, names
print('drgn:', len(names), 'tasks')
END
	fi
	if command -v crash >/dev/null; then
		printf 'sys\nlog\nsym linux_banner\nquit\n' | timeout 100 crash -s "$LOL_KERNEL" "$LOL_TMP/panic" >"$LOL_TMP/crash" 2>&1
		grep -q 'PANIC: .*sysrq triggered crash' "$LOL_TMP/crash" && grep -q 'sysrq: Trigger a crash' "$LOL_TMP/crash" ||
			{ cat "$LOL_TMP/crash"; fail "crash"; }
		echo "crash: ok"
	fi
fi
finish
