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
info frame
info locals
print name
echo the list:\n
print *(struct item *)items.next
print *(struct item *)items.next->next
