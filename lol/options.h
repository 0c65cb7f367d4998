/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the user asked for: the command line and ~/.config/lol/lol.conf as one struct, checked as far as that is
 * possible without starting anything. man/lol-run.1 and man/lol.conf.5 are the prose to it.
 *
 *   options.c        the table of options, parsing, configuration file, defaults
 *   options_specs.c  values with an inner structure: sizes, --disk, --net, --share, --console, --vsock, --gdb
 *   options_print.c  --help, --dry-run
 *
 * Functions that return int give 0 or a negative errno with *err filled. Nothing here prints to stderr or exits.
 */
#ifndef LOL_OPTIONS_H
#define LOL_OPTIONS_H

#include "error.h"
#include "types.h"

#include <netinet/in.h>
#include <stdio.h>

#define LOL_MEM_MIN (32ull << 20)
#define LOL_MEM_MAX (8ull << 40) /* the room of the direct map, docs/ivmm-abi.md */
#define LOL_MEM_DEFAULT (1ull << 30)
#define LOL_CPUS_MAX 64
#define LOL_SPIN_US_MAX 1000000
#define LOL_APPEND_MAX 1536 /* bytes; the guest kernel takes 2047 with what LoL adds */
#define LOL_DISKS_MAX 16
#define LOL_NETS_MAX 8
#define LOL_SHARES_MAX 8
#define LOL_HOSTFWDS_MAX 16
#define LOL_MTU_MIN 1280 /* bytes: IPv6's */
#define LOL_MTU_MAX 65520
#define LOL_QUEUES_MAX 8
#define LOL_SERIAL_MAX 20 /* bytes: a virtio-blk ID */
#define LOL_TAG_MAX 31    /* bytes */
#define LOL_NAME_MAX 64   /* bytes */
#define LOL_IFNAME_MAX 15 /* bytes: IFNAMSIZ without the NUL */

/* All strings are owned by the struct that they are in. */

enum disk_format { DISK_RAW, DISK_QCOW2 };
struct lol_disk {
	char *path;
	char *cow;    /* file that takes the writes, or NULL */
	char *serial; /* or NULL */
	enum disk_format format;
	bool ro;
	bool snapshot; /* writes are kept in memory and forgotten */
	bool pmem;     /* in the guest's memory, not behind a block device */
};

/* Connections (or datagrams) to host_addr:host_port reach guest_port. */
struct lol_hostfwd {
	bool udp;
	char *host_addr; /* IPv4, dotted; NULL: all addresses of the host */
	uint16_t host_port, guest_port;
};

enum net_kind { NET_USER, NET_TAP, NET_STREAM, NET_NONE };
struct lol_net {
	enum net_kind kind;
	char *ifname;        /* NET_TAP */
	bool own_netns;      /* NET_TAP: in a network namespace of the VM's own */
	struct in_addr addr; /* of the host's end there; 0: none */
	unsigned addr_prefix;
	char *path; /* NET_STREAM */
	struct lol_hostfwd hostfwds[LOL_HOSTFWDS_MAX];
	unsigned nhostfwds; /* NET_USER */
	bool has_mac;
	uint8_t mac[6];
	unsigned mtu;    /* 0: what suits its kind */
	unsigned queues; /* pairs of queues; 0: one for each CPU, as far as the card has them */
};

struct lol_share {
	char *dir;
	char *tag; /* or NULL */
	bool ro;
};

enum console_kind { CONSOLE_STDIO, CONSOLE_PTY, CONSOLE_FILE, CONSOLE_UNIX, CONSOLE_NULL };
struct lol_console {
	enum console_kind kind;
	char *path; /* CONSOLE_FILE, CONSOLE_UNIX */
};

enum gdb_kind { GDB_OFF, GDB_TCP, GDB_UNIX };
#define LOL_GDB_PORT 1234
struct lol_gdb {
	enum gdb_kind kind;
	uint16_t port; /* GDB_TCP, on 127.0.0.1 */
	char *path;    /* GDB_UNIX */
	bool wait;     /* hold the guest before its first instruction */
};

#define LOL_VSOCK_CID_MIN 3u
#define LOL_VSOCK_PATH_MAX 96 /* bytes: "_" and a port follow */
struct lol_vsock {
	char *path; /* NULL: none */
	unsigned cid;
};

enum balloon_kind { BALLOON_ON, BALLOON_MANUAL, BALLOON_OFF }; /* MANUAL: without reports of free pages */

enum handoff { HANDOFF_AUTO, HANDOFF_SPIN, HANDOFF_SLEEP };

/* What to do with the rest of the struct. */
enum lol_action { LOL_RUN, LOL_DRY_RUN, LOL_HELP, LOL_VERSION };

struct lol_options {
	enum lol_action action;
	char *kernel; /* NULL until options_finish() */
	bool kernel_is_default;
	char *initrd; /* or NULL */
	char *append; /* or NULL */
	char *rootfs; /* host directory, or NULL */
	char *name;   /* NULL: the pid */
	uint64_t mem; /* bytes, a multiple of the page size */
	unsigned cpus;
	int verbosity; /* -1 quiet, 0, 1 and more: -v */
	struct lol_vsock vsock;
	enum balloon_kind balloon;
	enum handoff handoff;
	int spin_us; /* bound of a spin; -1: chosen by the handoff */
	bool stats;
	char *stats_path;    /* NULL: stderr */
	bool panic_hold;     /* else: end */
	char *dump_on_panic; /* file, or NULL */
	struct lol_console console;
	struct lol_gdb gdb;
	struct lol_disk disks[LOL_DISKS_MAX];
	struct lol_net nets[LOL_NETS_MAX];
	struct lol_share shares[LOL_SHARES_MAX];
	unsigned ndisks, nnets, nshares;
	char **command; /* NULL-terminated, or NULL: no COMMAND */

	uint64_t given_on_command_line; /* bits by row of the table: the configuration file does not change these */
};

/* Defaults, then the command line. Stops at --help or --version. Free with options_free() also after an error. */
int options_parse(struct lol_options *opts, int argc, char *const argv[], struct lol_error *err);

/* Settings that the command line did not make, from a configuration file; name is for messages. */
int options_read_config(struct lol_options *opts, FILE *file, const char *name, struct lol_error *err);

/* The same from the user's own file, when there is one. */
int options_read_user_config(struct lol_options *opts, struct lol_error *err);

/* Defaults that hang on other options, and contradictions. */
int options_finish(struct lol_options *opts, struct lol_error *err);

/* Are the files that are named there, and of the right kind? For a friendly message early; opening decides. */
int options_check_files(const struct lol_options *opts, struct lol_error *err);

void options_free(struct lol_options *opts);

void options_print_help(FILE *out);

/* The whole set as one lol-run command line, quoted for a shell. */
void options_print_command(FILE *out, const struct lol_options *opts);

/* ---- between the three files ---- */

enum option_argument { ARG_NONE, ARG_REQUIRED, ARG_OPTIONAL };

/* Sets one value; "yes" when ARG_NONE or ARG_OPTIONAL came without. On error *err is "WHY; HINT". */
typedef int (*option_set_fn)(struct lol_options *opts, const char *value, struct lol_error *err);

struct option_def {
	const char *name; /* without dashes; also the key in the configuration file */
	char letter;      /* or 0 */
	enum option_argument argument;
	const char *argument_name;
	const char *help;
	option_set_fn set; /* NULL: only on the command line, not a setting */
	char group;        /* rows of one group set the same thing: one on the command line outdoes all in the file */
};

extern const struct option_def option_defs[];
extern const unsigned option_count;

/* By the values of the enums. */
extern const char *const net_kind_names[], *const console_kind_names[], *const handoff_names[], *const balloon_names[];

/* Sizes: digits and K, M, G or T; without a letter in units of plain_unit bytes. */
int parse_size(const char *text, uint64_t plain_unit, uint64_t *bytes, struct lol_error *err);
int parse_number(const char *text, unsigned min, unsigned max, unsigned *number, struct lol_error *err);
int parse_bool(const char *text, bool *value, struct lol_error *err);

int set_disk(struct lol_options *opts, const char *value, struct lol_error *err);
int set_net(struct lol_options *opts, const char *value, struct lol_error *err);
int set_share(struct lol_options *opts, const char *value, struct lol_error *err);
int set_console(struct lol_options *opts, const char *value, struct lol_error *err);
int set_vsock(struct lol_options *opts, const char *value, struct lol_error *err);
int set_gdb(struct lol_options *opts, const char *value, struct lol_error *err);
void free_specs(struct lol_options *opts); /* what the six above have allocated */

#endif
