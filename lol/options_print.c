/* SPDX-License-Identifier: BSD-2-Clause */
/* --help from the table of options, and the whole set of options as a command line. */
#include "options.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 32
#define HELP_WIDTH 100

/* text in lines of at most HELP_WIDTH, from HELP_COLUMN on; the cursor is in column. */
static void print_wrapped(FILE *out, const char *text, int column)
{
	const char *before = "";

	if (column >= HELP_COLUMN) {
		fputc('\n', out);
		column = 0;
	}
	fprintf(out, "%*s", HELP_COLUMN - column, "");
	column = HELP_COLUMN;
	while (*text) {
		int len = (int)strcspn(text, " ");
		if (*before && column + 1 + len > HELP_WIDTH) {
			fprintf(out, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
			before = "";
		}
		column += fprintf(out, "%s%.*s", before, len, text);
		before = " ";
		text += len + strspn(text + len, " ");
	}
	fputc('\n', out);
}

void options_print_help(FILE *out)
{
	fputs("Usage: lol-run [OPTION]... [KERNEL] [-- COMMAND [ARG]...]\n"
	      "Boot the pre-virtualised Linux kernel KERNEL (a vmlinux) in ordinary processes of this user.\n"
	      "Without KERNEL: the default kernel of the guest kit. With COMMAND: run it in the guest as root\n"
	      "and exit with its status.\n\n",
	      out);
	for (unsigned i = 0; i < option_count; i++) {
		const struct option_def *def = &option_defs[i];
		int column = def->letter ? fprintf(out, "  -%c, ", def->letter) : fprintf(out, "      ");
		column += fprintf(out, "--%s", def->name);
		if (def->argument == ARG_REQUIRED)
			column += fprintf(out, " %s", def->argument_name);
		if (def->argument == ARG_OPTIONAL)
			column += fprintf(out, "[=%s]", def->argument_name);
		print_wrapped(out, def->help, column);
	}
	fputs("\nSIZE is a number and K, M, G or T; without a letter it is in MiB. --append, --disk, --net and --share\n"
	      "can be given several times. ~/.config/lol/lol.conf has settings of the same names.\n"
	      "Exit status: that of COMMAND; 0 the guest powered off; 125 could not start; 126 the guest kernel\n"
	      "panicked; 127 lol-run failed; 128+N ended by signal N. On a terminal: Ctrl-A x ends the VM.\n"
	      "The manual is lol-run(1).\n",
	      out);
}

/* ---- shell quoting ---- */

static bool is_plain(const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:=@_";

	return *text && strspn(text, plain) == strlen(text);
}

static void print_quoted(FILE *out, const char *text)
{
	if (is_plain(text)) {
		fputs(text, out);
		return;
	}
	fputc('\'', out);
	for (; *text; text++)
		*text == '\'' ? fputs("'\\''", out) : fputc(*text, out);
	fputc('\'', out);
}

/* Part of a specification: a comma in it is written twice. */
static void add_part(FILE *spec, const char *before, const char *text)
{
	if (!text)
		return;
	fputs(before, spec);
	for (; *text; text++) {
		if (*text == ',')
			fputc(',', spec);
		fputc(*text, spec);
	}
}

static void disk_spec(FILE *spec, const void *item)
{
	const struct lol_disk *disk = item;

	add_part(spec, "", disk->path);
	fprintf(spec, "%s%s", disk->ro ? ",ro" : "", disk->snapshot ? ",snapshot" : "");
	fputs(disk->pmem ? ",pmem" : "", spec);
	add_part(spec, ",cow=", disk->cow);
	fprintf(spec, ",format=%s", disk->format == DISK_RAW ? "raw" : "qcow2");
	add_part(spec, ",serial=", disk->serial);
}

static void net_spec(FILE *spec, const void *item)
{
	const struct lol_net *net = item;
	char address[INET_ADDRSTRLEN];

	fputs(net_kind_names[net->kind], spec);
	for (unsigned i = 0; i < net->nhostfwds; i++)
		fprintf(spec, ",hostfwd=%s:%s:%u-:%u", net->hostfwds[i].udp ? "udp" : "tcp",
			net->hostfwds[i].host_addr ? net->hostfwds[i].host_addr : "", net->hostfwds[i].host_port,
			net->hostfwds[i].guest_port);
	add_part(spec, ",ifname=", net->ifname);
	if (net->own_netns)
		fputs(",netns=new", spec);
	if (net->addr.s_addr)
		fprintf(spec, ",addr=%s/%u", inet_ntop(AF_INET, &net->addr, address, sizeof(address)),
			net->addr_prefix);
	add_part(spec, ",path=", net->path);
	for (unsigned i = 0; net->has_mac && i < 6; i++)
		fprintf(spec, "%s%02x", i ? ":" : ",mac=", net->mac[i]);
	if (net->mtu)
		fprintf(spec, ",mtu=%u", net->mtu);
	if (net->queues)
		fprintf(spec, ",queues=%u", net->queues);
}

static void share_spec(FILE *spec, const void *item)
{
	const struct lol_share *share = item;

	add_part(spec, "", share->dir);
	add_part(spec, ",tag=", share->tag);
	fputs(share->ro ? ",ro" : "", spec);
}

static void vsock_spec(FILE *spec, const void *item)
{
	const struct lol_vsock *vsock = item;

	add_part(spec, "", vsock->path);
	fprintf(spec, ",cid=%u", vsock->cid);
}

static void print_spec(FILE *out, const char *option, void (*write)(FILE *, const void *), const void *item)
{
	char *text = NULL;
	size_t size;
	FILE *spec = open_memstream(&text, &size);

	if (!spec)
		return;
	write(spec, item);
	fclose(spec);
	fprintf(out, " %s ", option);
	print_quoted(out, text);
	free(text);
}

/* " OPTION TEXT", or nothing without a text. */
static void print_text(FILE *out, const char *option, const char *text)
{
	if (!text)
		return;
	fprintf(out, " %s ", option);
	print_quoted(out, text);
}

/* The same in one word. */
static void print_joined(FILE *out, const char *option, const char *text)
{
	char *word;

	if (!text || asprintf(&word, "%s%s", option, text) < 0)
		return;
	fputc(' ', out);
	print_quoted(out, word);
	free(word);
}

static void print_size(FILE *out, const char *option, uint64_t bytes)
{
	static const char letters[] = "KMGT";
	unsigned letter = 0;

	bytes >>= 10;
	while (letter < 3 && bytes % 1024 == 0) {
		bytes >>= 10;
		letter++;
	}
	fprintf(out, " %s %llu%c", option, (unsigned long long)bytes, letters[letter]);
}

static void print_console(FILE *out, const struct lol_console *console)
{
	if (console->kind == CONSOLE_FILE)
		print_joined(out, "--console=file=", console->path);
	else if (console->kind == CONSOLE_UNIX)
		print_joined(out, "--console=unix=", console->path);
	else
		fprintf(out, " --console %s", console_kind_names[console->kind]);
}

static void print_gdb(FILE *out, const struct lol_gdb *gdb)
{
	if (gdb->kind == GDB_TCP)
		fprintf(out, " --gdb=%u", gdb->port);
	if (gdb->kind == GDB_UNIX)
		print_joined(out, "--gdb=unix:", gdb->path);
	if (gdb->wait)
		fputs(" --gdb-wait", out);
}

static void print_tuning(FILE *out, const struct lol_options *opts)
{
	if (opts->vsock.path)
		print_spec(out, "--vsock", vsock_spec, &opts->vsock);
	if (opts->balloon != BALLOON_ON)
		fprintf(out, " --balloon %s", balloon_names[opts->balloon]);
	fprintf(out, " --handoff %s", handoff_names[opts->handoff]);
	if (opts->spin_us >= 0)
		fprintf(out, " --spin-us %d", opts->spin_us);
	if (opts->panic_hold)
		fputs(" --panic hold", out);
	print_text(out, "--dump-on-panic", opts->dump_on_panic);
	if (opts->stats && !opts->stats_path)
		fputs(" --stats", out);
	print_joined(out, "--stats=", opts->stats_path);
	if (opts->verbosity < 0)
		fputs(" --quiet", out);
	for (int i = 0; i < opts->verbosity; i++)
		fputs(" --verbose", out);
}

void options_print_command(FILE *out, const struct lol_options *opts)
{
	fputs("lol-run", out);
	print_size(out, "--mem", opts->mem);
	fprintf(out, " --cpus %u", opts->cpus);
	print_text(out, "--initrd", opts->initrd);
	print_text(out, "--append", opts->append);
	for (unsigned i = 0; i < opts->ndisks; i++)
		print_spec(out, "--disk", disk_spec, &opts->disks[i]);
	for (unsigned i = 0; i < opts->nnets; i++)
		print_spec(out, "--net", net_spec, &opts->nets[i]);
	for (unsigned i = 0; i < opts->nshares; i++)
		print_spec(out, "--share", share_spec, &opts->shares[i]);
	print_text(out, "--rootfs", opts->rootfs);
	print_console(out, &opts->console);
	print_gdb(out, &opts->gdb);
	print_text(out, "--name", opts->name);
	print_tuning(out, opts);
	print_joined(out, opts->kernel[0] == '-' ? "./" : "", opts->kernel); /* or it would be read as an option */
	if (opts->command)
		fputs(" --", out);
	for (char **arg = opts->command; arg && *arg; arg++) {
		fputc(' ', out);
		print_quoted(out, *arg);
	}
	fputc('\n', out);
}
