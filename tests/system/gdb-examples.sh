#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The three worked examples of docs/debugging.md, and the kernel's own gdb scripts. They want a kernel with debug information
# and its tree, to build modules with; tests/long/gdb-examples.sh makes both (lol-guest kernel build --debug --keep):
#
#   LOL_DEBUG_KERNEL    its vmlinux, with scripts/gdb and vmlinux-gdb.py beside it; otherwise the newest *-debug beside the default
#   LOL_DEBUG_TREE      SRC of its build (make -C SRC O=build); otherwise what the build has kept in the cache
#   LOL_DEBUG_MODULES   the modules, ready made
# timeout: 2400
# shellcheck disable=SC2016 # what stands in single quotes is for gdb
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"
GDB_SECONDS=900 # reading so much debug information takes a while
EXAMPLES=$TESTS/../examples/debugging
[ -d "$EXAMPLES" ] || skip "the examples are not here"
# shellcheck disable=SC2012 # by age
kernel=${LOL_DEBUG_KERNEL:-$(ls -td "$(dirname "$LOL_KERNEL")"/../*-debug/vmlinux 2>/dev/null | head -n 1)}
[ -e "$kernel" ] || skip "no kernel with debug information; make one with: lol-guest kernel build --debug --keep"
LOL_KERNEL=$(readlink -f "$kernel")
command -v objcopy >/dev/null || skip "no objcopy"

modules=${LOL_DEBUG_MODULES:-}
if [ -z "$modules" ]; then
	id=$(sed -n 's/^id: //p' "$(dirname "$LOL_KERNEL")/about" 2>/dev/null)
	# the cache beside the data, or the caller's
	for tree in ${LOL_DEBUG_TREE:+"$LOL_DEBUG_TREE"} "${LOL_KERNEL%/.local/share/lol/*}/.cache/lol/kernels/$id/src" \
		"${XDG_CACHE_HOME:-$HOME/.cache}/lol/kernels/$id/src"; do
		[ ! -e "$tree/build/Module.symvers" ] || break
	done
	[ -e "$tree/build/Module.symvers" ] || skip "the tree of the kernel with debug information is gone; lol-guest kernel build --debug --keep makes it anew"
	modules=$LOL_TMP/modules
	cp -r "$EXAMPLES" "$modules"
	cc=$(grep -ho 'gcc -B[^ ]*' "$tree/build/init/.main.o.cmd" | head -n 1)
	make -C "$tree" O=build ARCH=x86_64 CC="${cc:-gcc}" LOCALVERSION= KCFLAGS=-g M="$modules" modules >"$LOL_TMP/make.log" 2>&1 ||
		{ tail -n 5 "$LOL_TMP/make.log"; fail "the modules cannot be built"; }
fi
# gdb's copies: see docs/debugging.md about .data
mkdir -p "$LOL_TMP/root" "$LOL_TMP/symbols"
for module in lol_oops lol_deadlock lol_corrupt; do
	cp "$modules/$module.ko" "$LOL_TMP/root/"
	objcopy --change-section-address .data=0 "$modules/$module.ko" "$LOL_TMP/symbols/$module.ko" || fail "objcopy"
done
chmod -R a+rX "$LOL_TMP/root"
initrd=$LOL_TMP/examples.cpio.gz
"$LOL_GUEST" initrd build "$initrd" --add "$LOL_TMP/root" || fail "initrd"
GDB_SAFE=$(dirname "$LOL_KERNEL")
cd "$LOL_TMP" || exit 1

# The kernel's scripts. Those of 6.1 take the name of a per-CPU variable as a string.
runqueues=runqueues
! grep -q 'var_name\.string' "$GDB_SAFE/scripts/gdb/linux/cpus.py" || runqueues='"runqueues"'
gdb_boot -i "$initrd" -- sh -c 'insmod /lol_corrupt.ko; insmod /lol_deadlock.ko; while :; do sleep 0.3; echo tick; done'
wait_for_text 60 tick "$CONSOLE"
in_gdb -ex 'lx-version' -ex 'lx-cmdline' -ex 'lx-lsmod' -ex 'lx-mounts' -ex 'lx-ps' -ex 'lx-dmesg' \
	-ex 'p $lx_current().pid >= 0' -ex 'p $lx_task_by_pid(1).comm' -ex 'printf "run queue of CPU %d\n", $lx_per_cpu('"$runqueues"').cpu' \
	-ex 'lx-symbols symbols' -ex 'info symbol relabel_tick' -ex 'p $lx_task_by_pid(2).comm' -ex 'p/x (long)&init_task == (long)$lx_task_by_pid(0)' \
	-ex 'tbreak relabel_tick' -ex 'continue' -ex 'bt 1' -ex 'watch round_number' -ex 'next' -ex 'delete' -ex 'tbreak hrtimer_nanosleep' -ex 'continue' \
	-ex 'python lines = [(gdb.execute("next", to_string=True), gdb.selected_frame().find_sal().line)[1] for i in range(3)]' \
	-ex 'python print("lines of the kernel:", gdb.selected_frame().name(), len(set(lines)) > 1)' -ex 'detach'
saw_like "^#0 +.*relabel_tick \\(.*lol_corrupt" # a breakpoint in a module
saw "Old value" # a watchpoint in the middle of a line
saw "lines of the kernel: hrtimer_nanosleep True"
saw_like "^Linux version 6"
saw "console=ttyS0"
saw_like "^0x[0-9a-f]+ +lol_corrupt"
saw_like "proc /proc proc"
saw_like "^0x[0-9a-f]+ +1 +lol-init"
saw "lol_corrupt: loading out-of-tree module"
saw '$1 = 1'
saw 'run queue of CPU 0'
saw '"lol-init'
saw '"kthreadd'
saw_like "relabel_tick in section .text of .*lol_corrupt"
saw_not "Python Exception"

# A corrupted field.
in_gdb -x "$EXAMPLES/corrupt.gdb" -ex 'detach'
saw "Hardware watchpoint"
saw "New value"
saw_like "^#0 +.*relabel \\("
saw_like "^#1 +.*relabel_tick"

# A deadlock.
in_gdb -ex "source $EXAMPLES/task-bt.py" -x "$EXAMPLES/deadlock.gdb" -ex 'detach'
saw_like '^[0-9]+ "lol-booker" state 0x2'
saw_like "in book \\(\\)"
saw_like "in replay \\(\\)"
saw "accounts: lol-booker"
saw "journal: lol-replayer"
guest_ticks

# A NULL pointer in a module.
gdb_boot -i "$initrd" -- sh -c 'insmod /lol_oops.ko; while :; do echo pear >/proc/lol_oops; (echo plum >/proc/lol_oops); sleep 1; echo tick; done'
wait_for_text 60 tick "$CONSOLE"
in_gdb -x "$EXAMPLES/oops.gdb" -ex 'delete' -ex 'detach'
saw_like "^#[0-9]+ .*use_item \\("
saw_like "^#[0-9]+ .*items_write \\("
saw_like "^#[0-9]+ .*vfs_write \\("
saw '$1 = 0x0'
saw_like '^\$2 = "plum'
saw_like 'name = "pear'
guest_ticks
echo passed
