# SPDX-License-Identifier: BSD-2-Clause
# Who writes to box.limit? In the guest: insmod lol_corrupt.ko
lx-symbols symbols
print box
watch box.limit
continue
backtrace 4
print i
info symbol $pc
