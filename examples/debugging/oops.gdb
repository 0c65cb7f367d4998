# SPDX-License-Identifier: BSD-2-Clause
# Where does the kernel follow a NULL pointer, and why? In the guest: insmod lol_oops.ko; echo plum >/proc/lol_oops
lx-symbols symbols
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
echo what find_item returned:\n
print/x $rax
up
echo what was asked for, and what there is:\n
print name
print *(struct item *)items.next
print *(struct item *)items.next->next
