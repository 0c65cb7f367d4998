# SPDX-License-Identifier: BSD-2-Clause
# lol-k, the process of the guest kernel: the IVMM and its MMU.
#
# All of it runs while the guest kernel's vector registers are live, hence no vector code and no loop that the compiler
# turns into a libc call. It is linked below 2 GiB, where rewritten sites reach it.

pkglibexec_PROGRAMS += lol-k
lol_k_SOURCES = \
	lol/cpu/agent.c lol/cpu/cpuid.c lol/cpu/debug.c lol/cpu/debug-hand.c lol/cpu/debug.h lol/cpu/decode.c lol/cpu/emulate.c lol/cpu/entry.S lol/cpu/event.c lol/cpu/handoff.c lol/cpu/idle.c lol/cpu/insn.h lol/cpu/io.c \
	lol/cpu/k.h lol/cpu/k-main.c lol/cpu/ksandbox.c lol/cpu/kstring.c lol/cpu/lapic.c lol/cpu/lock.c lol/cpu/mmio.c lol/cpu/msr.c lol/cpu/park.c lol/cpu/pic.c \
	lol/cpu/report.c lol/cpu/rewrite.c lol/cpu/smp.c lol/cpu/spin.c lol/cpu/state.c lol/cpu/trap.c lol/cpu/uaccess.c lol/cpu/user.c lol/cpu/watch.c \
	lol/mmu/kmap.c lol/mmu/uhot.c lol/mmu/umap.c lol/mmu/upatch.c lol/mmu/upatch.h lol/mmu/utext.c lol/mmu/utext.h lol/mmu/utramp.c lol/mmu/utramp.h lol/mmu/upool.c lol/mmu/uproc.h lol/mmu/ushare.h lol/mmu/walk.c lol/mmu/zygote.h \
	lol/kctl.h lol/kdebug.h lol/ram.h lol/vstate.h lol/types.h $(lol_serial_sources) lol/devices/byte-ring.h
lol_k_CPPFLAGS = $(AM_CPPFLAGS) -iquote lol/cpu
lol_k_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(SECCOMP_CFLAGS) \
	-mgeneral-regs-only -mfsgsbase -mno-red-zone -fno-pie -fno-stack-protector -fno-tree-loop-distribute-patterns
lol_k_CCASFLAGS = $(AM_CPPFLAGS)
lol_k_LDFLAGS = -no-pie -Wl,-Ttext-segment=0x7f000000
lol_k_LDADD = $(ZYDIS_LIBS) $(SECCOMP_LIBS)

# The allow-lists of K and U, from what their sources declare (cpu/k.h, mmu/stub.S).
lol/cpu/k-allow.inc: $(lol_k_SOURCES)
	$(AM_V_GEN)$(MKDIR_P) lol/cpu && sed -n '/^K_ALLOW/{:more;/);/!{N;b more;};s/\n[ \t]*/ /g;s/);.*/);/p;}' $(filter %.c,$^) | \
		LC_ALL=C sort -u >$@.tmp && mv $@.tmp $@
BUILT_SOURCES += lol/cpu/k-allow.inc
CLEANFILES += lol/cpu/k-allow.inc

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-sandbox
TESTS += tests/unit/test-sandbox
endif
tests_unit_test_sandbox_SOURCES = tests/unit/test-sandbox.c lol/cpu/ksandbox.c lol/mmu/usandbox.c lol/mmu/usandbox.h
tests_unit_test_sandbox_CPPFLAGS = $(AM_CPPFLAGS) -iquote lol/cpu -iquote lol/mmu
tests_unit_test_sandbox_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(SECCOMP_CFLAGS) -mfsgsbase
tests_unit_test_sandbox_LDADD = $(UNIT_LIBS) $(SECCOMP_LIBS)

# ---- fuzz targets ----

fuzz_programs += tests/fuzz/fuzz-decode tests/fuzz/fuzz-ports tests/fuzz/fuzz-utext tests/fuzz/fuzz-walk
tests/fuzz/fuzz-decode: lol/cpu/decode.c lol/cpu/insn.h lol/cpu/k.h
tests/fuzz/fuzz-decode: FUZZ_LIBS = $(ZYDIS_LIBS)
tests/fuzz/fuzz-ports: lol/cpu/pic.c lol/devices/serial8250.c lol/devices/bus.c lol/devices/power.c lol/devices/rtc.c
tests/fuzz/fuzz-utext: lol/mmu/utext.c lol/mmu/utext.h lol/mmu/utramp.h lol/cpu/decode.c lol/cpu/insn.h lol/cpu/k.h
tests/fuzz/fuzz-utext: FUZZ_LIBS = $(ZYDIS_LIBS)
tests/fuzz/fuzz-walk: lol/mmu/walk.c lol/cpu/k.h
