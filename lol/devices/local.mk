# SPDX-License-Identifier: BSD-2-Clause
# The devices of the monitor. serial8250.c runs inside K; lol/cpu/local.mk builds it.

lol_devices_sources = \
	lol/devices/aio.c lol/devices/aio.h \
	lol/devices/blk-image.c lol/devices/blk-image.h \
	lol/devices/blk-nbd.c lol/devices/blk-nbd.h \
	lol/devices/bus.c lol/devices/bus.h \
	lol/devices/byte-ring.h \
	lol/devices/irq.h \
	lol/devices/net-backend.h \
	lol/devices/net-packet.c lol/devices/net-packet.h \
	lol/devices/net-stream.c lol/devices/net-stream.h \
	lol/devices/net-tap.c lol/devices/net-tap.h \
	lol/devices/net-user.c lol/devices/net-user.h \
	lol/devices/p9.c lol/devices/p9.h \
	lol/devices/power.c lol/devices/power.h \
	lol/devices/report.c lol/devices/report.h \
	lol/devices/rtc.c lol/devices/rtc.h \
	lol/devices/virtio-9p.c lol/devices/virtio-9p.h \
	lol/devices/virtio-balloon.c lol/devices/virtio-balloon.h \
	lol/devices/virtio-blk.c lol/devices/virtio-blk.h \
	lol/devices/virtio-console.c lol/devices/virtio-console.h \
	lol/devices/virtio-mmio.c lol/devices/virtio-mmio.h \
	lol/devices/virtio-net.c lol/devices/virtio-net.h \
	lol/devices/virtio-pmem.c lol/devices/virtio-pmem.h \
	lol/devices/virtio-rng.c lol/devices/virtio-rng.h \
	lol/devices/virtio-vsock.c lol/devices/virtio-vsock.h \
	lol/devices/virtio.c lol/devices/virtio.h \
	lol/devices/virtqueue.c \
	lol/devices/vsock-conn.c lol/devices/vsock-conn.h \
	lol/command.c lol/command.h \
	lol/loop.c lol/loop.h \
	lol/outstream.c lol/outstream.h \
	lol/terminal.c lol/terminal.h

lol_serial_sources = lol/devices/serial8250.c lol/devices/serial8250.h

lol_run_SOURCES += $(lol_devices_sources)
lol_run_CFLAGS += $(NBD_CFLAGS) $(SLIRP_CFLAGS)
lol_run_LDADD += $(NBD_LIBS) $(SLIRP_LIBS) $(URING_LIBS) -lpthread

# ---- unit tests ----

lol_virtio_sources = \
	lol/devices/bus.c lol/devices/report.c lol/devices/virtio.c lol/devices/virtio-mmio.c lol/devices/virtqueue.c lol/loop.c
lol_blk_sources = lol/devices/aio.c lol/devices/blk-image.c lol/devices/blk-nbd.c lol/devices/virtio-blk.c
lol_9p_sources = lol/devices/p9.c lol/devices/virtio-9p.c
lol_net_sources = lol/devices/net-packet.c lol/devices/net-stream.c lol/devices/net-tap.c lol/devices/net-user.c \
	lol/devices/virtio-net.c
lol_vsock_sources = lol/devices/virtio-vsock.c lol/devices/vsock-conn.c
lol_terminal_sources = lol/outstream.c lol/terminal.c

devices_tests = tests/unit/test-blk-nbd tests/unit/test-devices tests/unit/test-devices-command tests/unit/test-devices-serial \
	tests/unit/test-devices-terminal tests/unit/test-net-backends tests/unit/test-p9 tests/unit/test-virtio tests/unit/test-virtio-balloon \
	tests/unit/test-virtio-blk tests/unit/test-virtio-console tests/unit/test-virtio-net \
	tests/unit/test-virtio-pmem tests/unit/test-virtio-vsock
if HAVE_CMOCKA
check_PROGRAMS += $(devices_tests)
TESTS += $(devices_tests)
endif

tests_unit_test_blk_nbd_SOURCES = tests/unit/test-blk-nbd.c lol/devices/blk-nbd.c lol/devices/report.c lol/child.c lol/error.c \
	lol/loop.c lol/storage.c lol/storage_resize.c
tests_unit_test_blk_nbd_CFLAGS = $(UNIT_CFLAGS) $(JANSSON_CFLAGS) $(NBD_CFLAGS)
tests_unit_test_blk_nbd_LDADD = $(UNIT_LIBS) $(JANSSON_LIBS) $(NBD_LIBS)

tests_unit_test_devices_SOURCES = tests/unit/test-devices.c lol/devices/bus.c lol/devices/power.c lol/devices/rtc.c \
	lol/loop.c
tests_unit_test_devices_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_devices_LDADD = $(UNIT_LIBS) -lpthread

tests_unit_test_devices_command_SOURCES = tests/unit/test-devices-command.c tests/unit/test-virtio-driver.h lol/command.c \
	lol/devices/virtio-console.c $(lol_terminal_sources) $(lol_virtio_sources)
tests_unit_test_devices_command_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_devices_command_LDADD = $(UNIT_LIBS)

tests_unit_test_devices_serial_SOURCES = tests/unit/test-devices-serial.c $(lol_serial_sources)
tests_unit_test_devices_serial_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_devices_serial_LDADD = $(UNIT_LIBS)

tests_unit_test_devices_terminal_SOURCES = tests/unit/test-devices-terminal.c $(lol_terminal_sources) lol/loop.c
tests_unit_test_devices_terminal_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_devices_terminal_LDADD = $(UNIT_LIBS) -lutil

tests_unit_test_p9_SOURCES = tests/unit/test-p9.c tests/unit/test-virtio-driver.h $(lol_9p_sources) $(lol_virtio_sources)
tests_unit_test_p9_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_p9_LDADD = $(UNIT_LIBS)

tests_unit_test_virtio_pmem_SOURCES = tests/unit/test-virtio-pmem.c tests/unit/test-virtio-driver.h lol/devices/virtio-pmem.c \
	lol/devices/aio.c $(lol_virtio_sources)
tests_unit_test_virtio_pmem_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_virtio_pmem_LDADD = $(UNIT_LIBS) $(URING_LIBS) -lpthread

tests_unit_test_virtio_SOURCES = tests/unit/test-virtio.c tests/unit/test-virtio-driver.h $(lol_virtio_sources)
tests_unit_test_virtio_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_virtio_LDADD = $(UNIT_LIBS)

tests_unit_test_virtio_blk_SOURCES = tests/unit/test-virtio-blk.c tests/unit/test-virtio-driver.h $(lol_blk_sources) \
	$(lol_virtio_sources)
tests_unit_test_virtio_blk_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_virtio_blk_LDADD = $(UNIT_LIBS) $(NBD_LIBS) $(URING_LIBS) -lpthread

tests_unit_test_virtio_console_SOURCES = tests/unit/test-virtio-console.c tests/unit/test-virtio-driver.h \
	lol/devices/virtio-console.c lol/devices/virtio-rng.c $(lol_virtio_sources)
tests_unit_test_virtio_console_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_virtio_console_LDADD = $(UNIT_LIBS)

tests_unit_test_net_backends_SOURCES = tests/unit/test-net-backends.c tests/unit/test-virtio-net.h tests/unit/test-virtio-driver.h $(lol_net_sources) \
	$(lol_virtio_sources)
tests_unit_test_net_backends_CFLAGS = $(UNIT_CFLAGS) $(SLIRP_CFLAGS)
tests_unit_test_net_backends_LDADD = $(UNIT_LIBS) $(SLIRP_LIBS)

tests_unit_test_virtio_net_SOURCES = tests/unit/test-virtio-net.c tests/unit/test-virtio-net.h tests/unit/test-virtio-driver.h $(lol_net_sources) \
	$(lol_virtio_sources)
tests_unit_test_virtio_net_CFLAGS = $(UNIT_CFLAGS) $(SLIRP_CFLAGS)
tests_unit_test_virtio_net_LDADD = $(UNIT_LIBS) $(SLIRP_LIBS)

tests_unit_test_virtio_balloon_SOURCES = tests/unit/test-virtio-balloon.c tests/unit/test-virtio-driver.h \
	lol/devices/virtio-balloon.c $(lol_virtio_sources)
tests_unit_test_virtio_balloon_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_virtio_balloon_LDADD = $(UNIT_LIBS)

tests_unit_test_virtio_vsock_SOURCES = tests/unit/test-virtio-vsock.c tests/unit/test-virtio-driver.h $(lol_vsock_sources) \
	$(lol_virtio_sources)
tests_unit_test_virtio_vsock_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_virtio_vsock_LDADD = $(UNIT_LIBS)

# ---- fuzz target: well-formed beginnings of each device are its seeds ----

virtio_seeds = tests/fuzz/seeds-virtio/blk-reset-ro tests/fuzz/seeds-virtio/blk-reset-rw tests/fuzz/seeds-virtio/blk-reset-snapshot \
	tests/fuzz/seeds-virtio/blk-ro tests/fuzz/seeds-virtio/blk-rw tests/fuzz/seeds-virtio/blk-snapshot \
	tests/fuzz/seeds-virtio/9p tests/fuzz/seeds-virtio/balloon tests/fuzz/seeds-virtio/console tests/fuzz/seeds-virtio/net \
	tests/fuzz/seeds-virtio/net-commands tests/fuzz/seeds-virtio/net-pairs tests/fuzz/seeds-virtio/net-stream tests/fuzz/seeds-virtio/rng tests/fuzz/seeds-virtio/vsock

fuzz_programs += tests/fuzz/fuzz-virtio
tests/fuzz/fuzz-virtio: $(lol_9p_sources) $(lol_blk_sources) $(lol_virtio_sources) $(lol_vsock_sources) \
	lol/devices/net-packet.c lol/devices/net-stream.c lol/devices/virtio-balloon.c lol/devices/virtio-console.c \
	lol/devices/virtio-net.c lol/devices/virtio-pmem.c lol/devices/virtio-rng.c \
	tests/fuzz/corpus-virtio/rng
tests/fuzz/fuzz-virtio: FUZZ_LIBS = $(NBD_LIBS) $(URING_LIBS) -lpthread
tests/fuzz/corpus-virtio/rng: $(virtio_seeds)
	@$(MKDIR_P) tests/fuzz/corpus-virtio
	@for seed in $(virtio_seeds); do cp $(srcdir)/$$seed tests/fuzz/corpus-virtio/; done
EXTRA_DIST += tests/fuzz/fuzz-virtio.c $(virtio_seeds)
