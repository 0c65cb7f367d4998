# SPDX-License-Identifier: BSD-2-Clause
dist_man_MANS += man/lol-control.7 man/lol-guest.1 man/lol-run.1 man/lol.conf.5 man/lol.7 man/lolctl.1
