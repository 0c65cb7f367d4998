# SPDX-License-Identifier: BSD-2-Clause
# The guest's first program. Static, as a guest's initrd need not have any library.

pkglibexec_PROGRAMS += lol-init
lol_init_SOURCES = guest-kit/init/lol-init.h guest-kit/init/main.c guest-kit/init/cmdline.c guest-kit/init/mounts.c \
	guest-kit/init/net.c guest-kit/init/ports.c guest-kit/init/proto.c guest-kit/init/relay.c guest-kit/init/setup.c guest-kit/init/say.c \
	guest-kit/init/spawn.c
lol_init_CFLAGS = $(AM_CFLAGS) -Os -ffunction-sections
lol_init_LDFLAGS = -static -s -Wl,--gc-sections
