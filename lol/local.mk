# SPDX-License-Identifier: BSD-2-Clause
# lol-run, the monitor. lol/devices/local.mk adds the devices.

# The monitor's units that neither start processes nor talk to the guest: unit tests link them one by one.
lol_options_sources = lol/options.c lol/options_specs.c lol/options_print.c lol/options.h \
	lol/config_file.c lol/config_file.h lol/error.c lol/error.h lol/paths.c lol/paths.h lol/types.h
lol_paths_cppflags = -DLOL_LIBEXECDIR='"$(pkglibexecdir)"'

bin_PROGRAMS += lol-run
lol_run_SOURCES = $(lol_options_sources) \
	lol/main.c lol/drop_root.c lol/drop_root.h \
	lol/bootparams.c lol/bootparams.h lol/cpio.c lol/cpio.h lol/kctl.h lol/loader.c lol/loader.h lol/machine.c lol/machine.h \
	lol/machine_console.c lol/machine_init.c lol/machine_int.h lol/machine_net.c lol/park.c lol/park.h lol/ram.h lol/spawn.c lol/spawn.h lol/stats.c lol/vstate.h \
	lol/mmu/ushare.h lol/mmu/zygote.h
lol_run_CPPFLAGS = $(AM_CPPFLAGS) $(lol_paths_cppflags)
lol_run_CFLAGS = $(AM_CFLAGS) $(MONITOR_CFLAGS) $(LIBELF_CFLAGS)
lol_run_LDADD = $(LIBELF_LIBS)

fuzz_programs += tests/fuzz/fuzz-loader
tests/fuzz/fuzz-loader: lol/loader.c lol/loader.h lol/bootparams.c lol/bootparams.h lol/error.c lol/error.h lol/kctl.h
tests/fuzz/fuzz-loader: FUZZ_LIBS = $(LIBELF_LIBS)
EXTRA_DIST += tests/fuzz/fuzz-loader.c tests/fuzz/seeds-loader/minimal
