# SPDX-License-Identifier: BSD-2-Clause
# lol-run, the monitor. lol/devices/local.mk adds the devices.

# The monitor's units that neither start processes nor talk to the guest: unit tests link them one by one.
lol_options_sources = lol/options.c lol/options_specs.c lol/options_print.c lol/options.h \
	lol/config_file.c lol/config_file.h lol/error.c lol/error.h lol/paths.c lol/paths.h lol/types.h
lol_paths_cppflags = -DLOL_LIBEXECDIR='"$(pkglibexecdir)"'

lol_control_sources = lol/control_dir.c lol/control_dir.h lol/control_words.c lol/control_words.h

bin_PROGRAMS += lol-run
lol_run_SOURCES = $(lol_options_sources) \
	$(lol_control_sources) \
	lol/console_port.c lol/console_port.h lol/control.c lol/control.h lol/machine_control.c \
	lol/main.c lol/drop_root.c lol/drop_root.h \
	lol/dump.c lol/dump.h lol/machine_dump.c \
	lol/bootparams.c lol/bootparams.h lol/child.c lol/child.h lol/clock.h lol/cpio.c lol/cpio.h lol/fdpass.c lol/fdpass.h lol/kctl.h lol/loader.c lol/loader.h lol/lock_prefixes.c lol/lock_prefixes.h lol/machine.c lol/machine.h \
	lol/cpus.c lol/cpus.h lol/machine_console.c lol/machine_cpus.c lol/machine_disk.c lol/machine_init.c lol/machine_messages.c lol/machine_int.h lol/machine_net.c lol/machine_share.c lol/near.c lol/netns.c lol/netns.h lol/ram_ahead.c lol/ram_ahead.h lol/ram_file.c lol/ram_file.h lol/park.c lol/park.h lol/ram.h lol/share.c lol/share.h lol/spawn.c lol/spawn.h lol/stats.c lol/storage.c lol/storage.h lol/storage_resize.c lol/thread.h lol/vstate.h \
	lol/mmu/ushare.h lol/mmu/zygote.h
lol_run_SOURCES += lol/gdb/hw.c lol/gdb/monitor.c lol/gdb/packet.c lol/gdb/packet.h lol/gdb/points.c lol/gdb/query.c lol/gdb/regs.c lol/gdb/regs.h \
	lol/gdb/server.c lol/gdb/server.h lol/gdb/server_int.h lol/gdb/session.c lol/gdb/session.h lol/gdb/session_int.h lol/gdb/state.c lol/gdb/target.h lol/gmem.c lol/gmem.h
lol_run_CPPFLAGS = $(AM_CPPFLAGS) $(lol_paths_cppflags)
lol_run_CFLAGS = $(AM_CFLAGS) $(MONITOR_CFLAGS) $(LIBELF_CFLAGS) $(JANSSON_CFLAGS)
lol_run_LDADD = $(LIBELF_LIBS) $(JANSSON_LIBS)

bin_PROGRAMS += lolctl
lolctl_SOURCES = $(lol_options_sources) $(lol_control_sources) lol/control.h lol/drop_root.c lol/drop_root.h \
	lol/lolctl.c lol/lolctl.h lol/lolctl_console.c lol/lolctl_ls.c lol/lolctl_watch.c
lolctl_CPPFLAGS = $(AM_CPPFLAGS) $(lol_paths_cppflags)
lolctl_CFLAGS = $(AM_CFLAGS) $(MONITOR_CFLAGS) $(JANSSON_CFLAGS)
lolctl_LDADD = $(JANSSON_LIBS)

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-control tests/unit/test-cpus tests/unit/test-dump tests/unit/test-lock-prefixes tests/unit/test-ram-ahead
TESTS += tests/unit/test-control tests/unit/test-cpus tests/unit/test-dump tests/unit/test-lock-prefixes tests/unit/test-ram-ahead
endif
tests_unit_test_control_SOURCES = tests/unit/test-control.c lol/control.c lol/control.h lol/loop.c $(lol_control_sources) \
	$(lol_options_sources)
tests_unit_test_control_CPPFLAGS = $(AM_CPPFLAGS) $(lol_paths_cppflags)
tests_unit_test_control_CFLAGS = $(UNIT_CFLAGS) $(JANSSON_CFLAGS)
tests_unit_test_control_LDADD = $(UNIT_LIBS) $(JANSSON_LIBS)

tests_unit_test_cpus_SOURCES = tests/unit/test-cpus.c lol/cpus.c lol/cpus.h
tests_unit_test_cpus_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_cpus_LDADD = $(UNIT_LIBS)

tests_unit_test_lock_prefixes_SOURCES = tests/unit/test-lock-prefixes.c lol/lock_prefixes.c lol/lock_prefixes.h
tests_unit_test_lock_prefixes_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_lock_prefixes_LDADD = $(UNIT_LIBS)

tests_unit_test_ram_ahead_SOURCES = tests/unit/test-ram-ahead.c lol/ram_ahead.h lol/ram_file.c lol/ram_file.h lol/child.c lol/fdpass.c
tests_unit_test_ram_ahead_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_ram_ahead_LDADD = $(UNIT_LIBS)

tests_unit_test_dump_SOURCES = tests/unit/test-dump.c lol/dump.c lol/dump.h lol/error.c
tests_unit_test_dump_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_dump_LDADD = $(UNIT_LIBS)

fuzz_programs += tests/fuzz/fuzz-control
tests/fuzz/fuzz-control: lol/control.c lol/control.h lol/control_words.c lol/control_words.h lol/loop.c $(lol_options_sources)
tests/fuzz/fuzz-control: FUZZ_LIBS = $(JANSSON_LIBS)
EXTRA_DIST += tests/fuzz/fuzz-control.c tests/fuzz/control.dict

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-share
TESTS += tests/unit/test-share
endif
tests_unit_test_share_SOURCES = tests/unit/test-share.c lol/share.c lol/child.c lol/error.c
tests_unit_test_share_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_share_LDADD = $(UNIT_LIBS)

fuzz_programs += tests/fuzz/fuzz-loader
tests/fuzz/fuzz-loader: lol/loader.c lol/loader.h lol/lock_prefixes.c lol/lock_prefixes.h lol/bootparams.c lol/bootparams.h lol/error.c lol/error.h lol/kctl.h
tests/fuzz/fuzz-loader: FUZZ_LIBS = $(LIBELF_LIBS)
EXTRA_DIST += tests/fuzz/fuzz-loader.c tests/fuzz/seeds-loader/minimal

# ---- the gdb protocol: unit test and fuzz target ----

lol_gdb_sources = lol/gdb/packet.c lol/gdb/packet.h lol/gdb/query.c lol/gdb/regs.c lol/gdb/regs.h lol/gdb/session.c lol/gdb/session.h lol/gdb/session_int.h lol/gdb/state.c lol/gdb/target.h
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-gdb
TESTS += tests/unit/test-gdb
endif
tests_unit_test_gdb_SOURCES = tests/unit/test-gdb.c tests/lib/gdb-fake.h $(lol_gdb_sources)
tests_unit_test_gdb_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_gdb_LDADD = $(UNIT_LIBS)

fuzz_programs += tests/fuzz/fuzz-gdb
tests/fuzz/fuzz-gdb: $(lol_gdb_sources) tests/lib/gdb-fake.h
EXTRA_DIST += tests/fuzz/fuzz-gdb.c tests/fuzz/gdb.dict

# ---- the control page: all of lol-run but its beginning ----

fuzz_programs += tests/fuzz/fuzz-kctl
tests/fuzz/fuzz-kctl: $(lol_run_SOURCES)
tests/fuzz/fuzz-kctl: FUZZ_LEFT_OUT = lol/main.c lol/machine.c
tests/fuzz/fuzz-kctl: FUZZ_LIBS = $(LIBS) $(lol_run_LDADD) -lpthread
