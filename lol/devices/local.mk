# SPDX-License-Identifier: BSD-2-Clause
# The devices of the monitor. serial8250.c runs inside K; lol/cpu/local.mk builds it.

lol_devices_sources = \
	lol/devices/aio.c lol/devices/aio.h \
	lol/devices/blk-image.c lol/devices/blk-image.h \
	lol/devices/bus.c lol/devices/bus.h \
	lol/devices/byte-ring.h \
	lol/devices/irq.h \
	lol/devices/power.c lol/devices/power.h \
	lol/devices/report.c lol/devices/report.h \
	lol/devices/rtc.c lol/devices/rtc.h \
	lol/devices/virtio-blk.c lol/devices/virtio-blk.h \
	lol/devices/virtio-console.c lol/devices/virtio-console.h \
	lol/devices/virtio-mmio.c lol/devices/virtio-mmio.h \
	lol/devices/virtio-rng.c lol/devices/virtio-rng.h \
	lol/devices/virtio.c lol/devices/virtio.h \
	lol/devices/virtqueue.c \
	lol/command.c lol/command.h \
	lol/loop.c lol/loop.h \
	lol/outstream.c lol/outstream.h \
	lol/terminal.c lol/terminal.h

lol_serial_sources = lol/devices/serial8250.c lol/devices/serial8250.h

lol_run_SOURCES += $(lol_devices_sources)
lol_run_LDADD += $(URING_LIBS) -lpthread
