# SPDX-License-Identifier: BSD-2-Clause
# lol-u, the zygote of the processes for guest user code, with their stub in a segment of its own (USTUB_BASE).

pkglibexec_PROGRAMS += lol-u
lol_u_SOURCES = lol/mmu/zygote.c lol/mmu/zygote.h lol/mmu/usandbox.c lol/mmu/usandbox.h lol/mmu/stub.S lol/mmu/ushare.h \
	lol/kctl.h lol/types.h lol/devices/byte-ring.h
lol_u_CPPFLAGS = $(AM_CPPFLAGS) -iquote lol/mmu
lol_u_CFLAGS = $(AM_CFLAGS) -fno-pie
lol_u_CCASFLAGS = $(AM_CPPFLAGS)
lol_u_LDFLAGS = -static -no-pie -Wl,--section-start=.ustub=0x600000000000

lol/mmu/u-allow.inc: lol/mmu/stub.S
	$(AM_V_GEN)$(MKDIR_P) lol/mmu && sed -n 's/^\(U_ALLOW(.*)\)$$/\1/p' $^ | LC_ALL=C sort -u >$@.tmp && mv $@.tmp $@
BUILT_SOURCES += lol/mmu/u-allow.inc
CLEANFILES += lol/mmu/u-allow.inc
