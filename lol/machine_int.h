/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the machine share: machine.c, machine_console.c, machine_init.c, machine_net.c, stats.c. */
#ifndef LOL_MACHINE_INT_H
#define LOL_MACHINE_INT_H

#include <stdio.h>

#include "command.h"
#include "console_port.h"
#include "control.h"
#include "control_dir.h"
#include "cpio.h"
#include "devices/blk-image.h"
#include "devices/bus.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "devices/virtio-9p.h"
#include "devices/virtio-balloon.h"
#include "devices/virtio-blk.h"
#include "devices/virtio-console.h"
#include "devices/virtio-mmio.h"
#include "devices/virtio-rng.h"
#include "error.h"
#include "gdb/server.h"
#include "kctl.h"
#include "loader.h"
#include "loop.h"
#include "netns.h"
#include "options.h"
#include "park.h"
#include "ram_ahead.h"
#include "share.h"
#include "spawn.h"
#include "storage.h"
#include "terminal.h"

#include <sched.h>
#include <time.h>

/* How the loop ended. */
enum run_end { RUN_STOPPED = 1, RUN_DIED, RUN_POWEROFF, RUN_RESET, RUN_STATUS = 1000 /* + exit status */ };

#define SHARE_ROOT_TAG "lol.root" /* of --rootfs */
#define TAIL_SIZE 8192            /* bytes of the console kept for a post-mortem */

/* What stays while the guest restarts: where the VM is reached from outside, what it has written to snapshots. */
struct session {
	char name[LOL_NAME_MAX + 1];
	struct timespec started; /* CLOCK_BOOTTIME */
	unsigned restarts;
	struct control_place place;
	struct control *control;
	struct console_port *port;                  /* --console pty, file, unix, null; NULL: stdio */
	struct blk_overlay overlays[LOL_DISKS_MAX]; /* of the disks with snapshot */
	struct netns netns;                         /* of --net tap,netns=new */
};

#define PROMPT_ASKED_MAX 4

/* near.c */
struct near {
	bool used;
	int k_cpu, u_cpu;     /* our own copies, K could change those in ctl */
	int cpu;              /* that the monitor is bound to, -1: none */
	uint64_t looked, ran; /* ns: when, and the CPU time until then */
};

struct machine {
	const struct lol_options *opts;
	struct session *session;
	struct loop *loop;
	struct bus bus;
	struct guest_ram ram;
	int ram_fd, ctl_fd, ushare_fd, doorbell, k_pidfd;
	struct kctl *ctl;
	unsigned ctl_cpus; /* our own count, K could change the one in ctl */
	cpu_set_t cpus;    /* that the VM may use */
	struct near near;
	bool ram_in_pieces;      /* from ram_file_create() */
	struct ram_ahead *ahead; /* or NULL */
	struct spawn spawn;
	unsigned messages; /* bytes of theirs that have been passed on */
	char death[256];
	unsigned asking; /* the vCPU whose access to a device is being answered */
	bool panicked;
	unsigned panicked_cpu;
	struct parking parking;
	struct gdb_server *gdb; /* NULL: no --gdb */

	struct rtc *rtc;
	struct power *power;
	struct virtio_dev *balloon; /* one of devices, or NULL */
	struct virtio_dev *devices[MAX_VIRTIO];
	unsigned ndevices;

	/* machine_console.c */
	struct byte_ring_end uart_tx, uart_rx;
	struct terminal *terminal;
	struct control_client *watchers[CONTROL_CLIENTS_MAX]; /* lolctl console */
	char tail[TAIL_SIZE];
	size_t tail_at;
	int rx_timer;
	struct command *command;
	int command_result; /* -1: none yet */

	/* machine_control.c */
	struct terminal *prompt;
	struct asked *asked[PROMPT_ASKED_MAX];
	int stop_timer; /* -1: stop was not asked for */
	unsigned stop_ticks;
	bool stop_asked; /* the next time is more serious */

	/* machine_dump.c */
	struct kboot boot;     /* our own copy: K could change the one in ctl */
	struct dump_job *dump; /* that is being written */

	/* machine_init.c */
	struct cpio init;

	/* machine_disk.c */
	struct virtio_dev *disks[LOL_DISKS_MAX];
	struct storage storages[LOL_DISKS_MAX];
	struct blk_nbd *disk_nbd[LOL_DISKS_MAX]; /* the disk's, where it has one */
	unsigned ndisks;
	int pmem_fd[RAM_PMEM_MAX]; /* in the order of ram.pmem */

	/* machine_share.c */
	struct share_server shares[MAX_VIRTIO];
	unsigned nshares;
	char *setup; /* for lol-init */
	size_t setup_len;
};

/* machine_console.c: the serial port's far end, virtio-console, -- COMMAND. */
int console_create(struct machine *m, struct lol_error *err);
void console_destroy(struct machine *m);
void console_drain(struct machine *m); /* what the serial port has sent goes to its terminal */
void console_show_tail(struct machine *m);
bool console_tail_has(struct machine *m, const char *text);
size_t console_input(struct machine *m, const uint8_t *bytes,
		     size_t len); /* as typed at the serial port; bytes taken */
void console_watch(struct machine *m, struct control_client *c,
		   bool history); /* c gets all output, and first what is remembered */
void console_unwatch(struct machine *m, struct control_client *c);
int command_status(struct machine *m); /* exit status when the guest has powered off */

extern const struct console_end_ops machine_console_ops;

/* machine_control.c: requests from the socket and from the control prompt. */
int session_create(struct session *s, const struct lol_options *opts, const struct console_end_ops *console,
		   struct lol_error *err);
void session_destroy(struct session *s);
bool machine_prompt(struct machine *m, struct terminal *t, const char *line); /* a line typed at t's prompt */
void machine_prompt_end(struct machine *m);
bool machine_sysrq(struct machine *m, char key); /* false: the guest is not done with the last one */

/* machine_dump.c: error NULL: done. */
typedef void (*dump_done_fn)(void *arg, const char *error);
/* Begin a dump; done is called once, maybe at once, and not after an error here. raw: see dump.h. */
int dump_begin(struct machine *m, const char *path, bool raw, dump_done_fn done, void *arg, struct lol_error *err);
void dump_forget(struct machine *m, void *arg); /* do not call done with arg any more */
void dump_end(struct machine *m);               /* the VM ends: no dump is going on behind this */
int dump_now(struct machine *m, const char *path, struct lol_error *err); /* outside of the loop */
bool machine_panic(struct machine *m); /* the guest kernel has panicked; false: nobody wants it held, let it go on */

/* machine_messages.c: what K and the zygote say, from spawn_start() to their end. */
int messages_start(struct machine *m);
void messages_end(struct machine *m);

/* machine_init.c: lol-init and what it is told. */
int init_map_file(const char *path, struct loader_blob *blob, struct lol_error *err);
int init_archive(struct machine *m, struct lol_error *err);
int init_command_line(struct machine *m, char *out, size_t size);

/* machine_net.c: network cards. */
int net_create(struct machine *m, struct lol_error *err);
int net_command_line(struct machine *m, char *out, size_t size);

/* machine_disk.c: --disk. */
int pmem_open(struct machine *m, struct lol_error *err); /* into ram.pmem, and then */
bool pmem_map(struct machine *m);                        /* into the view of guest memory */
int disks_create(struct machine *m, struct lol_error *err);
int disks_resize(struct machine *m, struct lol_error *err); /* files that have another size now */
const char *disk_file(const struct lol_disk *disk);         /* what is written to */
int disk_find(const struct machine *m,
	      const char *name); /* vda, or a path as on the command line; -1: none, or several */
int disk_resize(struct machine *m, unsigned disk, uint64_t bytes, bool shrink, struct lol_error *err);
uint64_t disk_bytes(const struct machine *m, unsigned disk);
void disks_setup(const struct machine *m, FILE *out); /* lines of lol-init's /lol-setup */
void disks_destroy(struct machine *m);                /* after the devices */
void disks_forget(struct session *s);                 /* there will be no restart: the overlays of snapshots go */

/* machine_share.c: --share and --rootfs. */
int shares_create(struct machine *m, struct lol_error *err);
void shares_destroy(struct machine *m);

/* stats.c */
struct kstats stats_sum(const struct machine *m); /* of all vCPUs */
void stats_write(struct machine *m);
void handoff_choose(struct machine *m);

/* near.c: the monitor's own CPU, from behind spawn_start() to before spawn_stop(): its children take after it. */
int near_start(struct machine *m);
void near_stop(struct machine *m);

int machine_attach(struct machine *m, struct virtio_dev *dev, const char *why, struct lol_error *err);
struct virtio_env machine_device_env(struct machine *m);
void machine_kick(struct machine *m);
void machine_raise(struct machine *m, unsigned line); /* of the 8259 pair */

#endif
