# SPDX-License-Identifier: BSD-2-Clause
# gdb on the process of the guest kernel itself, as any program; LIBEXEC is where lol-k is installed (PREFIX/libexec/lol):
#
#   gdb -ix k-process.gdb LIBEXEC/lol-k -p PID-OF-lol-k -ex 'lol-symbols VMLINUX'
#
# Its signals are the guest's faults, interrupts and timer: they pass without a word. Whoever is attached here gets them first, so
# the guest is slow, and breakpoints of the server of --gdb do not work meanwhile.
# The process lives in namespaces of its own, into which gdb cannot go: files are the host's.
set sysroot /
handle SIGSEGV SIGBUS SIGILL SIGFPE SIGSYS SIGUSR1 SIGALRM nostop noprint pass
define lol-symbols
  # the image runs where it is linked, less 0xffffffff80000000; per-cpu data stays
  add-symbol-file $arg0 -o 0x80000000 -s .data..percpu 0
end
document lol-symbols
lol-symbols VMLINUX: the guest kernel's symbols where it runs.
end
