/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The options: one table from which the command line, the configuration file and --help all come. Each row sets one
 * thing from a text; where the text comes from decides only what stands before the message of an error.
 */
#include "options.h"

#include "config_file.h"
#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- one function per option: the value as text ---- */

static int set_text(char **field, const char *value, struct lol_error *err)
{
	if (!*value)
		return lol_error(err, -EINVAL, "it is empty; name one or leave it out");
	char *copy = strdup(value);
	if (!copy)
		return lol_error(err, -ENOMEM, "out of memory; end other programs");
	free(*field);
	*field = copy;
	return 0;
}

static int set_mem(struct lol_options *opts, const char *value, struct lol_error *err)
{
	uint64_t bytes;
	int ret = parse_size(value, 1 << 20, &bytes, err); /* a plain number is in MiB, as with -m of qemu and lkvm */

	if (ret)
		return ret;
	if (bytes < LOL_MEM_MIN || bytes > LOL_MEM_MAX)
		return lol_error(err, -ERANGE, "too %s for a guest; give 32M to 8T, such as 1G",
				 bytes < LOL_MEM_MIN ? "small" : "large");
	opts->mem = ALIGN_UP(bytes, PAGE_SIZE);
	return 0;
}

static int set_cpus(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return parse_number(value, 1, LOL_CPUS_MAX, &opts->cpus, err);
}

static int set_initrd(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return set_text(&opts->initrd, value, err);
}

static int set_append(struct lol_options *opts, const char *value, struct lol_error *err)
{
	char *joined;

	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < ' ')
			return lol_error(err, -EINVAL,
					 "a kernel command line is one line; take the control character out");
	if (asprintf(&joined, "%s%s%s", opts->append ? opts->append : "", opts->append ? " " : "", value) < 0)
		return lol_error(err, -ENOMEM, "out of memory; end other programs");
	if (strlen(joined) > LOL_APPEND_MAX) {
		free(joined);
		return lol_error(err, -E2BIG, "the kernel takes %d bytes here; shorten it", LOL_APPEND_MAX);
	}
	free(opts->append);
	opts->append = joined;
	return 0;
}

static int set_rootfs(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return set_text(&opts->rootfs, value, err);
}

static int set_gdb_wait(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return parse_bool(value, &opts->gdb.wait, err);
}

/* The name is a file name of the control socket, and lolctl takes a number for a pid. */
static int set_name(struct lol_options *opts, const char *value, struct lol_error *err)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strlen(value);

	if (!len || len > LOL_NAME_MAX || strspn(value, allowed) != len || strchr(".-", value[0]) ||
	    strspn(value, "0123456789") == len)
		return lol_error(err, -EINVAL,
				 "not a name; give up to %d letters, digits, '.', '_' and '-', at least one a letter",
				 LOL_NAME_MAX);
	return set_text(&opts->name, value, err);
}

const char *const balloon_names[] = {[BALLOON_ON] = "on", [BALLOON_MANUAL] = "manual", [BALLOON_OFF] = "off"};

static int set_balloon(struct lol_options *opts, const char *value, struct lol_error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(balloon_names); i++)
		if (!strcmp(value, balloon_names[i])) {
			opts->balloon = (enum balloon_kind)i;
			return 0;
		}
	return lol_error(err, -EINVAL, "not a kind of balloon; give on, manual or off");
}

const char *const handoff_names[] = {[HANDOFF_AUTO] = "auto", [HANDOFF_SPIN] = "spin", [HANDOFF_SLEEP] = "sleep"};

static int set_handoff(struct lol_options *opts, const char *value, struct lol_error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(handoff_names); i++)
		if (!strcmp(value, handoff_names[i])) {
			opts->handoff = (enum handoff)i;
			return 0;
		}
	return lol_error(err, -EINVAL, "not a way to hand over; give auto, spin or sleep");
}

static int set_spin_us(struct lol_options *opts, const char *value, struct lol_error *err)
{
	unsigned us;
	int ret = parse_number(value, 0, LOL_SPIN_US_MAX, &us, err);

	if (!ret)
		opts->spin_us = (int)us;
	return ret;
}

static int set_stats(struct lol_options *opts, const char *value, struct lol_error *err)
{
	struct lol_error ignored;

	free(opts->stats_path);
	opts->stats_path = NULL;
	opts->stats = true;
	if (!parse_bool(value, &opts->stats, &ignored))
		return 0;
	return set_text(&opts->stats_path, value, err);
}

static int set_panic(struct lol_options *opts, const char *value, struct lol_error *err)
{
	opts->panic_hold = !strcmp(value, "hold");
	if (!opts->panic_hold && strcmp(value, "exit"))
		return lol_error(err, -EINVAL, "not a thing to do at a panic; give exit or hold");
	return 0;
}

static int set_dump_on_panic(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return set_text(&opts->dump_on_panic, value, err);
}

static int set_dry_run(struct lol_options *opts, const char *value, struct lol_error *err)
{
	bool dry;
	int ret = parse_bool(value, &dry, err);

	if (!ret)
		opts->action = dry ? LOL_DRY_RUN : LOL_RUN;
	return ret;
}

static int set_quiet(struct lol_options *opts, const char *value, struct lol_error *err)
{
	bool quiet;
	int ret = parse_bool(value, &quiet, err);

	if (!ret)
		opts->verbosity = quiet ? -1 : 0;
	return ret;
}

static int set_verbose(struct lol_options *opts, const char *value, struct lol_error *err)
{
	bool verbose;
	int ret = parse_bool(value, &verbose, err);

	if (!ret)
		opts->verbosity = verbose ? MIN(MAX(opts->verbosity, 0) + 1, 9) : 0;
	return ret;
}

const struct option_def option_defs[] = {
	{"mem", 'm', ARG_REQUIRED, "SIZE", "guest RAM (default: 1G)", set_mem, 0},
	{"cpus", 'c', ARG_REQUIRED, "N", "virtual CPUs (default: 1)", set_cpus, 0},
	{"initrd", 'i', ARG_REQUIRED, "FILE", "initial RAM disk", set_initrd, 0},
	{"append", 'a', ARG_REQUIRED, "STRING", "add to the kernel command line", set_append, 0},
	{"disk", 'd', ARG_REQUIRED, "SPEC",
	 "a disk: FILE[,ro][,snapshot][,pmem][,cow=FILE][,format=raw|qcow2][,serial=S]", set_disk, 0},
	{"net", 'n', ARG_REQUIRED, "SPEC",
	 "a network card: user[,hostfwd=tcp:[ADDR]:HPORT-:GPORT]... | tap,ifname=IF | tap,netns=new | stream,path=SOCK | none, [,mac=MAC][,mtu=N]",
	 set_net, 0},
	{"share", 's', ARG_REQUIRED, "SPEC", "a host directory in the guest: DIR[,tag=TAG][,ro]", set_share, 0},
	{"rootfs", 0, ARG_REQUIRED, "DIR", "a host directory as the guest's root; changes stay in guest memory",
	 set_rootfs, 0},
	{"console", 0, ARG_REQUIRED, "SPEC", "stdio, pty, file=PATH, unix=PATH or null (default: stdio)", set_console,
	 0},
	{"gdb", 0, ARG_OPTIONAL, "PORT|unix:PATH", "serve gdb (default: 127.0.0.1:1234)", set_gdb, 'g'},
	{"gdb-wait", 0, ARG_NONE, NULL, "serve gdb, and hold the guest before its first instruction", set_gdb_wait,
	 'g'},
	{"name", 0, ARG_REQUIRED, "NAME", "name for lolctl (default: the pid)", set_name, 0},
	{"vsock", 0, ARG_REQUIRED, "PATH[,cid=N]",
	 "sockets between guest and host: the guest's port P of CID 2 is the unix socket PATH_P, the host's way in is PATH",
	 set_vsock, 0},
	{"balloon", 0, ARG_REQUIRED, "on|manual|off",
	 "whether memory that the guest does not use goes back to the host: by itself, when told to, never (default: on)",
	 set_balloon, 0},
	{"handoff", 0, ARG_REQUIRED, "auto|spin|sleep", "how user and kernel side hand over (default: auto)",
	 set_handoff, 0},
	{"spin-us", 0, ARG_REQUIRED, "N", "spin at most N microseconds for a hand-over", set_spin_us, 0},
	{"panic", 0, ARG_REQUIRED, "exit|hold",
	 "when the guest kernel panics: end, or stay for gdb and lolctl (default: exit)", set_panic, 0},
	{"dump-on-panic", 0, ARG_REQUIRED, "FILE", "when the guest kernel panics, write a vmcore for crash and drgn",
	 set_dump_on_panic, 0},
	{"stats", 0, ARG_OPTIONAL, "FILE", "at the end, write counters as JSON (default: to stderr)", set_stats, 0},
	{"dry-run", 0, ARG_NONE, NULL, "print what would be started, start nothing", set_dry_run, 0},
	{"quiet", 'q', ARG_NONE, NULL, "say nothing but errors", set_quiet, 'v'},
	{"verbose", 'v', ARG_NONE, NULL, "say more; twice: even more", set_verbose, 'v'},
	{"version", 0, ARG_NONE, NULL, "print the version", NULL, 0},
	{"help", 0, ARG_NONE, NULL, "print this help", NULL, 0},
};
const unsigned option_count = ARRAY_LEN(option_defs);
_Static_assert(ARRAY_LEN(option_defs) <= 64, "given_on_command_line has one bit a row");

/* ---- near misses ---- */

/* Edit distance of two short texts, given up at 9. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[33], la = (unsigned)strlen(a), lb = (unsigned)strlen(b);

	if (la >= ARRAY_LEN(row) || lb >= ARRAY_LEN(row))
		return 9;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[lb];
}

/* The option that wrong was probably meant to be, or NULL. */
static const char *nearest(const char *wrong)
{
	const char *best = NULL;
	unsigned least = 3;

	for (unsigned i = 0; i < option_count; i++) {
		unsigned d = distance(wrong, option_defs[i].name);
		if (d < least) {
			least = d;
			best = option_defs[i].name;
		}
	}
	return best;
}

/* ---- command line ---- */

#define LONG_BASE 256 /* getopt value of row i: LONG_BASE + i */

static void make_getopt_tables(struct option longs[ARRAY_LEN(option_defs) + 1], char shorts[])
{
	char *p = stpcpy(shorts, "-:"); /* operands come in their order, as value 1; errors are ours to word */

	for (unsigned i = 0; i < option_count; i++) {
		const struct option_def *def = &option_defs[i];
		longs[i] = (struct option){def->name, (int)def->argument, NULL, LONG_BASE + (int)i};
		if (def->letter)
			*p++ = def->letter;
		if (def->letter && def->argument == ARG_REQUIRED)
			*p++ = ':';
	}
	*p = 0;
	longs[option_count] = (struct option){0};
}

/* The row of a getopt value, or option_count. */
static unsigned row_of(int value)
{
	unsigned i = 0;

	if (value >= LONG_BASE)
		return (unsigned)(value - LONG_BASE);
	while (i < option_count && (!value || option_defs[i].letter != value))
		i++;
	return i;
}

/* getopt did not know what word is (value '?') or misses its argument (':'). */
static int wrong_option(int value, const char *word, struct lol_error *err)
{
	static const char help[] = "'lol-run --help' lists the options";
	unsigned row = row_of(optopt);
	char name[64];

	if (row < option_count && value == ':')
		return lol_error(err, -EINVAL, "%.80s: needs an argument; give %s", word,
				 option_defs[row].argument_name);
	if (row < option_count && optopt >= LONG_BASE)
		return lol_error(err, -EINVAL, "%.80s: takes no argument; leave it out", word);
	if (word[0] != '-' || word[1] != '-')
		return lol_error(err, -EINVAL, "-%c: no such option; %s", optopt, help);

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
	unsigned matches = 0;
	for (unsigned i = 0; i < option_count; i++)
		matches += !strncmp(option_defs[i].name, name, strlen(name));
	if (matches > 1)
		return lol_error(err, -EINVAL, "--%s: the beginning of several options; write it in full", name);
	const char *meant = nearest(name);
	if (meant)
		return lol_error(err, -EINVAL, "--%s: no such option; did you mean --%s?", name, meant);
	return lol_error(err, -EINVAL, "--%s: no such option; %s", name, help);
}

static int take_operand(struct lol_options *opts, const char *word, struct lol_error *err)
{
	if (opts->kernel)
		return lol_error(err, -EINVAL,
				 "%.200s: KERNEL is given already; write -- before a COMMAND for the guest", word);
	int ret = set_text(&opts->kernel, word, err);
	return ret ? lol_error_prefix(err, ret, "KERNEL") : 0;
}

static int take_option(struct lol_options *opts, unsigned row, const char *value, struct lol_error *err)
{
	const struct option_def *def = &option_defs[row];

	if (!def->set) {
		opts->action = strcmp(def->name, "help") ? LOL_VERSION : LOL_HELP;
		return 0;
	}
	int ret = def->set(opts, value ? value : "yes", err);
	if (ret) {
		const char *between = !value ? "" : def->argument == ARG_OPTIONAL ? "=" : " ";
		return lol_error_prefix(err, ret, "--%s%s%.200s", def->name, between, value ? value : "");
	}
	opts->given_on_command_line |= 1ull << row;
	return 0;
}

static void set_defaults(struct lol_options *opts)
{
	*opts = (struct lol_options){.mem = LOL_MEM_DEFAULT, .cpus = 1, .spin_us = -1};
}

int options_parse(struct lol_options *opts, int argc, char *const argv[], struct lol_error *err)
{
	struct option longs[ARRAY_LEN(option_defs) + 1];
	char shorts[2 * ARRAY_LEN(option_defs) + 3];
	const char *last_value = NULL;
	int value, ret = 0;

	set_defaults(opts);
	make_getopt_tables(longs, shorts);
	optind = 0; /* GNU: start anew */
	opterr = 0;
	while (!ret && opts->action != LOL_HELP && opts->action != LOL_VERSION) {
		int first = MAX(optind, 1);
		value = getopt_long(argc, argv, shorts, longs, NULL);
		if (value == -1)
			break;
		if (value == 1)
			ret = take_operand(opts, optarg, err);
		else if (value == '?' || value == ':')
			ret = wrong_option(value, argv[first], err);
		else
			ret = take_option(opts, row_of(value), optarg, err);
		last_value = optarg;
	}
	if (ret || opts->action == LOL_HELP || opts->action == LOL_VERSION)
		return ret;

	/* getopt has stepped over "--", which could as well be the value of the last option. */
	bool has_command =
		optind > 1 && optind <= argc && argv[optind - 1] != last_value && !strcmp(argv[optind - 1], "--");
	if (has_command && optind == argc)
		return lol_error(err, -EINVAL, "--: no COMMAND behind it; name one, or leave -- out for a console");
	if (has_command)
		opts->command = (char **)argv + optind;
	return 0;
}

/* ---- configuration file ---- */

static bool given(const struct lol_options *opts, unsigned row)
{
	for (unsigned i = 0; i < option_count; i++)
		if ((i == row || (option_defs[i].group && option_defs[i].group == option_defs[row].group)) &&
		    opts->given_on_command_line >> i & 1)
			return true;
	return false;
}

static int config_set(struct lol_options *opts, const char *key, const char *value, struct lol_error *err)
{
	unsigned row = 0;

	if (!strcmp(key, "kernel"))
		return opts->kernel ? 0 : set_text(&opts->kernel, value, err);
	while (row < option_count && (!option_defs[row].set || strcmp(key, option_defs[row].name)))
		row++;
	if (row == option_count) {
		const char *meant = nearest(key);
		return lol_error(err, -EINVAL, "no such setting; %s%s", meant ? "did you mean " : "",
				 meant ? meant : "lol.conf(5) lists them");
	}
	return given(opts, row) ? 0 : option_defs[row].set(opts, value, err);
}

/* Settings of lol-run stand before any section or in [lol-run]; other sections belong to other programs. */
static int config_entry(void *arg, const char *section, const char *key, const char *value, struct lol_error *err)
{
	char *in_home = NULL;

	if (*section && strcmp(section, "lol-run"))
		return 0;
	if (!strncmp(value, "~/", 2))
		in_home = paths_home(value + 2);
	int ret = config_set(arg, key, in_home ? in_home : value, err);
	free(in_home);
	return ret ? lol_error_prefix(err, ret, "%.80s = %.200s", key, value) : 0;
}

int options_read_config(struct lol_options *opts, FILE *file, const char *name, struct lol_error *err)
{
	return config_read(file, name, config_entry, opts, err);
}

int options_read_user_config(struct lol_options *opts, struct lol_error *err)
{
	char *path = paths_config("lol/lol.conf");
	FILE *file = path ? fopen(path, "re") : NULL;
	int ret = 0;

	if (file) {
		ret = options_read_config(opts, file, path, err);
		fclose(file);
	} else if (path && errno != ENOENT && errno != ENOTDIR) {
		ret = lol_error(err, -errno, "%.400s: %s; make it readable or remove it", path, strerror(errno));
	}
	free(path);
	return ret;
}

/* ---- the whole ---- */

int options_finish(struct lol_options *opts, struct lol_error *err)
{
	opts->kernel_is_default = !opts->kernel;
	if (opts->kernel_is_default)
		opts->kernel = paths_data("lol/kernels/default/vmlinux");
	if (!opts->kernel)
		return lol_error(err, -ENOENT,
				 "guest kernel: none is given and there is no home directory to look in; name one");
	if (opts->gdb.wait && opts->gdb.kind == GDB_OFF) {
		opts->gdb.kind = GDB_TCP;
		opts->gdb.port = LOL_GDB_PORT;
	}
	if (!opts->rootfs && !opts->initrd && !opts->ndisks) {
		opts->rootfs = strdup("/");
		if (!opts->rootfs)
			return lol_error(err, -ENOMEM, "out of memory; end other programs");
	}
	if (opts->handoff == HANDOFF_SLEEP && opts->spin_us > 0)
		return lol_error(err, -EINVAL, "--spin-us %d: --handoff sleep never spins; leave one of them out",
				 opts->spin_us);
	return 0;
}

static int wrong_file(const char *what, const char *path, int error, const char *hint, struct lol_error *err)
{
	if (error == EACCES || error == EPERM || error == EROFS)
		return lol_error(err, -error, "%s %.600s: %s; give user %u access to it and the directories above it",
				 what, path, strerror(error), (unsigned)geteuid());
	return lol_error(err, -error, "%s %.600s: %s; %s", what, path, strerror(error), hint);
}

static int check_directory(const char *what, const char *path, struct lol_error *err)
{
	struct stat st;

	if (stat(path, &st))
		return wrong_file(what, path, errno, "name a directory of the host", err);
	if (!S_ISDIR(st.st_mode))
		return wrong_file(what, path, ENOTDIR, "name a directory of the host", err);
	return faccessat(AT_FDCWD, path, R_OK | X_OK, AT_EACCESS) ? wrong_file(what, path, errno, "", err) : 0;
}

static int check_file(const char *what, const char *path, int mode, const char *hint, struct lol_error *err)
{
	struct stat st;

	if (stat(path, &st))
		return wrong_file(what, path, errno, hint, err);
	if (S_ISDIR(st.st_mode))
		return wrong_file(what, path, EISDIR, hint, err);
	return faccessat(AT_FDCWD, path, mode, AT_EACCESS) ? wrong_file(what, path, errno, hint, err) : 0;
}

static int check_kernel(const struct lol_options *opts, struct lol_error *err)
{
	static const char hint[] = "'lol-guest kernel build' makes a default kernel";
	int ret = check_file("guest kernel", opts->kernel, R_OK, hint, err);

	if (ret == -ENOENT && opts->kernel_is_default)
		return lol_error(
			err, ret,
			"guest kernel: none is given and there is no %.600s; make it with: lol-guest kernel build",
			opts->kernel);
	return ret; /* what is in it, the loader says */
}

int options_check_files(const struct lol_options *opts, struct lol_error *err)
{
	int ret = check_kernel(opts, err);

	if (!ret && opts->initrd)
		ret = check_file("--initrd", opts->initrd, R_OK, "name a cpio archive", err);
	for (unsigned i = 0; !ret && i < opts->ndisks; i++) {
		const struct lol_disk *disk = &opts->disks[i];
		bool written = !disk->ro && !disk->snapshot && !disk->cow;
		ret = check_file("--disk", disk->path, written ? R_OK | W_OK : R_OK,
				 "name an image; 'lol-guest image build' makes one", err);
		if (ret == -EACCES && written && !faccessat(AT_FDCWD, disk->path, R_OK, AT_EACCESS))
			lol_error(err, ret, "--disk %.600s: not writable for user %u; add ,ro or ,snapshot", disk->path,
				  (unsigned)geteuid());
	}
	for (unsigned i = 0; !ret && i < opts->nshares; i++)
		ret = check_directory("--share", opts->shares[i].dir, err);
	if (!ret && opts->rootfs)
		ret = check_directory("--rootfs", opts->rootfs, err);
	return ret;
}

void options_free(struct lol_options *opts)
{
	free(opts->kernel);
	free(opts->initrd);
	free(opts->append);
	free(opts->rootfs);
	free(opts->name);
	free(opts->stats_path);
	free(opts->dump_on_panic);
	free_specs(opts);
	*opts = (struct lol_options){0};
}
