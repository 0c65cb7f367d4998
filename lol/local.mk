# SPDX-License-Identifier: BSD-2-Clause
# lol-run, the monitor. lol/devices/local.mk adds the devices.

bin_PROGRAMS += lol-run
lol_run_SOURCES = lol/main.c
lol_run_CFLAGS = $(AM_CFLAGS) $(MONITOR_CFLAGS)
lol_run_LDADD =
