/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-init: the guest's first program for `lol-run ... -- COMMAND` and for quick shells.
 *
 * Everything here runs in one process of the guest, PID 1, and in the one child it forks for the command. It has one
 * poll loop and no threads. Functions return 0 or a negative errno where not stated otherwise.
 */
#ifndef LOL_INIT_H
#define LOL_INIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pipe2, clearenv */
#endif
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* ---- say.c: messages for people ---- */

/* One line on descriptor fd: "lol-init: " and the strings up to a NULL, without stdio (it would triple the program). */
void say(int fd, const char *text, ...) __attribute__((sentinel));
/* Decimal text of n; valid until the fourth call from here. */
const char *number(unsigned long n);

/* ---- cmdline.c: the kernel's command line ---- */

/* Value of "KEY=VALUE" (the last one wins), "" for a bare KEY, NULL where it is absent. Never freed. */
const char *cmdline_get(const char *key);

/* ---- ports.c: the named virtio-console ports ---- */

enum port { PORT_CTL, PORT_STDIN, PORT_STDOUT, PORT_STDERR, PORTS };

/* Open the four ports, non-blocking and close-on-exec. -ENODEV: this machine has none, so nobody wants a COMMAND. */
int ports_open(int fd[PORTS]);

/* ---- setup.c: what lol-run has put beside us in the initrd ---- */

struct job;

/* A 9P share, or a file system below one. */
struct share {
	char *parent; /* tag of the share (or the root) that this one is below, or NULL */
	char *tag;
	char *path; /* in the guest, or in the parent */
	bool ro;
	struct share *next;
};

struct share *
setup_read(struct job *job); /* the file /lol-setup: items for the job, and a list of shares in their order */

/* ---- mounts.c: file systems ---- */

int mounts_early(void); /* /proc, /sys, /dev: all that finding ports and disks needs */
/* lol.root= becomes /, where it is given, with what is mounted below it; says itself what went wrong */
int mounts_root(const struct share *shares);
void mounts_late(void); /* /run, /dev/pts, /dev/shm, cgroup2...: what a command may expect */
void mounts_shares(const struct share *shares);
void mounts_end(void);          /* sync, unmount, or at least read-only */
const char *mounts_error(void); /* one line for a failed mounts_root */

/* ---- net.c: name servers ---- */

void net_names(void); /* what the kernel has heard by DHCP; nothing where it has not asked */

/* ---- proto.c: the text protocol on the port lol.ctl ---- */

struct job {
	char **argv; /* NULL-terminated */
	char **envp;
	char *cwd; /* "/" by default */
	bool tty;  /* the host's side is a terminal */
	unsigned short rows, cols;
	bool pipe[3]; /* with tty: this descriptor is none on the host, so it stays a pipe here */
	/* Filled by the spawner. */
	pid_t pid;
	int to_in, from_out,
		from_err; /* our ends, -1 where there is none; with tty the pty's master stands in for pipes */
	int master;       /* the pty's master or -1 */
};

struct ctl {
	int fd;
	char *line; /* what has come of the next line */
	size_t len, cap;
};

/* Send "VERB\n" or "VERB TEXT\n", TEXT percent-encoded. Waits for room in the queue. */
void ctl_send(struct ctl *ctl, const char *verb, const char *text);
/* Read the job up to `run`. Errors have been reported to the host. */
int ctl_receive_job(struct ctl *ctl, struct job *job);
/* Act on what the host sends while the command runs. Returns 0, or -EPIPE when the host has gone. */
int ctl_serve(struct ctl *ctl, struct job *job);
/* Act on one line, of the port or of setup. NULL, or what is wrong with it. */
const char *job_item(struct job *job, const char *verb, char *text);
bool text_decode(char *s); /* percent-encoding, in place; false where it is broken */
/* The default environment, used also without a host. */
void job_default(struct job *job);
/* argv or envp of a job: append a copy of text. */
void list_add(char ***list, const char *text);

/* ---- spawn.c: the command's process ---- */

/* Fork the command with pipes or a pty. */
int spawn(struct job *job);
/* Fork an interactive shell on the machine's console with job control. */
int spawn_console_shell(struct job *job);
void close_fd(int *fd); /* close and set to -1 */

/* ---- relay.c: bytes between the command's pipes and the ports ---- */

/* Run the job until it has ended and all its output has been handed to the host. Returns its status, 0-255. */
int relay_run(struct job *job, struct ctl *ctl, int fd[PORTS]);

/* What a signal to PID 1 asked for; busybox poweroff, halt and reboot speak so. */
enum shutdown { SHUTDOWN_NONE, SHUTDOWN_OFF, SHUTDOWN_HALT, SHUTDOWN_REBOOT };
extern enum shutdown shutdown_wanted;

#endif
