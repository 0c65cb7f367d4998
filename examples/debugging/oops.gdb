# SPDX-License-Identifier: BSD-2-Clause
# Where does the kernel follow a NULL pointer, and why? In the guest: insmod lol_oops.ko; echo plum >/proc/lol_oops
# Started as: gdb -x oops.gdb -ex 'target remote ...' ... is up to the caller; see docs/debugging.md.
lx-symbols examples
hbreak oops_begin
continue
backtrace
echo the frames of the module:\n
python
frame = gdb.newest_frame()
while frame and frame.name() != "use_item":
    frame = frame.older()
frame.select()
end
info locals
print name
print items
print *(struct item *)((unsigned long)items.next - (unsigned long)&((struct item *)0)->list)
