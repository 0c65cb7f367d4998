# SPDX-License-Identifier: BSD-2-Clause
# The assembler's stand-in, and the checker of what it made. Whoever builds a kernel makes a link "as" to
# lol-afterburn in a folder of its own, for gcc -B.

pkglibexec_PROGRAMS += lol-afterburn lol-sites

lol_afterburn_rewriter = guest-kit/afterburn.h guest-kit/afterburn-emit.c guest-kit/afterburn-extable.c \
	guest-kit/afterburn-insn.c guest-kit/afterburn-scan.c
lol_afterburn_SOURCES = guest-kit/afterburn.c $(lol_afterburn_rewriter)

lol_sites_reader = guest-kit/sites.h guest-kit/sites-check.c guest-kit/sites-elf.c guest-kit/sites-insn.c
lol_sites_SOURCES = guest-kit/sites.c guest-kit/sites-exceptions.c guest-kit/sites-report.c $(lol_sites_reader)
lol_sites_CPPFLAGS = $(AM_CPPFLAGS) -DLOL_DATADIR='"$(pkgdatadir)"'
lol_sites_CFLAGS = $(AM_CFLAGS) $(LIBELF_CFLAGS) $(ZYDIS_CFLAGS)
lol_sites_LDADD = $(LIBELF_LIBS) $(ZYDIS_LIBS)
nobase_dist_pkgdata_DATA += guest-kit/sites.exceptions

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-afterburn
TESTS += tests/unit/test-afterburn
endif
tests_unit_test_afterburn_SOURCES = tests/unit/test-afterburn.c $(lol_afterburn_rewriter) $(lol_sites_reader)
tests_unit_test_afterburn_CPPFLAGS = $(AM_CPPFLAGS) -iquote $(top_srcdir)/guest-kit
tests_unit_test_afterburn_CFLAGS = $(UNIT_CFLAGS) $(LIBELF_CFLAGS) $(ZYDIS_CFLAGS)
tests_unit_test_afterburn_LDADD = $(UNIT_LIBS) $(LIBELF_LIBS) $(ZYDIS_LIBS)

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-sites
TESTS += tests/unit/test-sites
endif
tests_unit_test_sites_SOURCES = tests/unit/test-sites.c guest-kit/sites-exceptions.c $(lol_sites_reader)
tests_unit_test_sites_CPPFLAGS = $(tests_unit_test_afterburn_CPPFLAGS)
tests_unit_test_sites_CFLAGS = $(tests_unit_test_afterburn_CFLAGS)
tests_unit_test_sites_LDADD = $(tests_unit_test_afterburn_LDADD)

fuzz_programs += tests/fuzz/fuzz-sites tests/fuzz/fuzz-afterburn
tests/fuzz/fuzz-sites: $(lol_sites_reader)
tests/fuzz/fuzz-sites: FUZZ_LIBS = $(LIBELF_LIBS) $(ZYDIS_LIBS)
tests/fuzz/fuzz-sites tests/fuzz/fuzz-afterburn: AM_CPPFLAGS += -iquote $(top_srcdir)/guest-kit
tests/fuzz/fuzz-afterburn: $(lol_afterburn_rewriter)
EXTRA_DIST += tests/fuzz/fuzz-sites.c tests/fuzz/fuzz-afterburn.c tests/fuzz/afterburn.dict
