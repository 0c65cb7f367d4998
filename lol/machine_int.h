/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the machine share: machine.c, machine_console.c, machine_init.c, machine_net.c, stats.c. */
#ifndef LOL_MACHINE_INT_H
#define LOL_MACHINE_INT_H

#include "command.h"
#include "cpio.h"
#include "devices/bus.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "devices/virtio-blk.h"
#include "devices/virtio-console.h"
#include "devices/virtio-mmio.h"
#include "devices/virtio-rng.h"
#include "error.h"
#include "kctl.h"
#include "loader.h"
#include "loop.h"
#include "options.h"
#include "park.h"
#include "spawn.h"
#include "terminal.h"

/* How the loop ended. */
enum run_end { RUN_STOPPED = 1, RUN_DIED, RUN_POWEROFF, RUN_RESET, RUN_STATUS = 1000 /* + exit status */ };

#define TAIL_SIZE 8192 /* bytes of the console kept for a post-mortem */

struct machine {
	const struct lol_options *opts;
	struct loop *loop;
	struct bus bus;
	struct guest_ram ram;
	int ram_fd, ctl_fd, ushare_fd, doorbell, k_pidfd;
	struct kctl *ctl;
	unsigned ctl_cpus; /* our own count, K could change the one in ctl */
	struct spawn spawn;
	char death[256];
	bool panicked;
	struct parking parking;

	struct rtc *rtc;
	struct power *power;
	struct virtio_dev *devices[MAX_VIRTIO];
	unsigned ndevices;

	/* machine_console.c */
	struct byte_ring_end uart_tx, uart_rx;
	struct terminal *terminal;
	int console_fd; /* --console file= */
	bool console_open;
	char tail[TAIL_SIZE];
	size_t tail_at;
	int rx_timer;
	struct command *command;
	int command_result; /* -1: none yet */

	/* machine_init.c */
	struct cpio init;
};

/* machine_console.c: the serial port's far end, virtio-console, -- COMMAND. */
int console_create(struct machine *m, struct lol_error *err);
void console_destroy(struct machine *m);
void console_drain(struct machine *m); /* what the serial port has sent goes to its terminal */
void console_show_tail(struct machine *m);
bool console_tail_has(struct machine *m, const char *text);
int command_status(struct machine *m); /* exit status when the guest has powered off */

/* machine_init.c: lol-init and what it is told. */
int init_map_file(const char *path, struct loader_blob *blob, struct lol_error *err);
int init_archive(struct machine *m, struct lol_error *err);
int init_command_line(struct machine *m, char *out, size_t size);

/* machine_net.c: network cards. */
int net_create(struct machine *m, struct lol_error *err);
int net_command_line(struct machine *m, char *out, size_t size);

/* stats.c */
void stats_write(struct machine *m);
void handoff_choose(struct machine *m);

int machine_attach(struct machine *m, struct virtio_dev *dev, const char *why, struct lol_error *err);
struct virtio_env machine_device_env(struct machine *m);
void machine_kick(struct machine *m);

#endif
