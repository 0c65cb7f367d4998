# SPDX-License-Identifier: BSD-2-Clause
# After: target remote, source task-bt.py. Who waits for whom? In the guest: insmod lol_deadlock.ko, and two threads never end.
lx-symbols symbols
lx-ps
task-bt --blocked
echo who has them:\n
printf "accounts: %s\n", ((struct task_struct *)(accounts.owner.counter & ~7))->comm
printf "journal: %s\n", ((struct task_struct *)(journal.owner.counter & ~7))->comm
