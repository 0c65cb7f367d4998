/* SPDX-License-Identifier: BSD-2-Clause */
/* Options: every one with right and wrong values, the configuration file, and the way back to a command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../lib/words.h"
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 64

static struct lol_options opts;
static struct lol_error err;

/* Parse "lol-run WORD..."; words are split at blanks, '...' as in a shell. The words live until the next call. */
static int parse(const char *line)
{
	static char text[4096];
	static char *words[WORDS_MAX];

	options_free(&opts);
	memset(&err, 0, sizeof(err));
	assert_true((size_t)snprintf(text, sizeof(text), "lol-run %s", line) < sizeof(text));
	int n = split_words(text, words, WORDS_MAX);
	return options_parse(&opts, n, words, &err);
}

static void good(const char *line)
{
	int ret = parse(line);

	if (ret)
		print_error("%s -> %s\n", line, err.text);
	assert_int_equal(ret, 0);
}

/* Wrong: one line that begins with the option and, after ';', says what would be right. */
static void bad(const char *line, const char *what, const char *hint)
{
	if (!parse(line))
		fail_msg("'%s' was taken", line);
	if (strncmp(err.text, what, strlen(what)) || !strstr(err.text, hint))
		fail_msg("'%s' gave '%s', not '%s ... %s'", line, err.text, what, hint);
	assert_non_null(strchr(err.text, ';'));
	assert_null(strchr(err.text, '\n'));
}

static int config(const char *text)
{
	FILE *file = fmemopen((void *)text, strlen(text), "r");

	assert_non_null(file);
	memset(&err, 0, sizeof(err));
	int ret = options_read_config(&opts, file, "lol.conf", &err);
	fclose(file);
	return ret;
}

static void test_defaults(void **state)
{
	(void)state;
	good("");
	assert_int_equal(opts.action, LOL_RUN);
	assert_int_equal(opts.mem, 1ull << 30);
	assert_int_equal(opts.cpus, 1);
	assert_int_equal(opts.spin_us, -1);
	assert_int_equal(opts.handoff, HANDOFF_AUTO);
	assert_int_equal(opts.console.kind, CONSOLE_STDIO);
	assert_int_equal(opts.gdb.kind, GDB_OFF);
	assert_false(opts.stats);
	assert_null(opts.kernel);
	assert_null(opts.command);
	assert_int_equal(opts.verbosity, 0);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} right[] = {
		{"32M", 32ull << 20}, {"512", 512ull << 20}, {"65536K", 64ull << 20},    {"2g", 2ull << 30},
		{"8T", 8ull << 40},   {"0001G", 1ull << 30}, {"32769K", 32772ull << 10},
	};
	static const char *const wrong[] = {"",    "M",          "-1G", "+1G", "1.5G", "1GB",
					    "1G ", "0x40000000", "12X", "1e9", "G1"};
	static const char *const range[] = {"0",
					    "31M",
					    "1K",
					    "9T",
					    "16777216T",
					    "18446744073709551615",
					    "18446744073709551616",
					    "99999999999999999999999999999G",
					    "17592186044416M"};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(right); i++) {
		char line[64];
		snprintf(line, sizeof(line), "-m %s", right[i].text);
		good(line);
		assert_int_equal(opts.mem, right[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		char line[64];
		snprintf(line, sizeof(line), "--mem='%s'", wrong[i]);
		bad(line, "--mem ", "512M or 2G");
	}
	for (size_t i = 0; i < ARRAY_LEN(range); i++) {
		char line[64];
		snprintf(line, sizeof(line), "-m %s", range[i]);
		bad(line, "--mem ", "give");
	}
}

static void test_scalars(void **state)
{
	(void)state;
	good("-c 4 -i rd -a 'quiet foo=1' -a bar --name vm.1 --handoff spin --spin-us 40 -vv --rootfs /x k");
	assert_int_equal(opts.cpus, 4);
	assert_string_equal(opts.initrd, "rd");
	assert_string_equal(opts.append, "quiet foo=1 bar");
	assert_string_equal(opts.name, "vm.1");
	assert_int_equal(opts.handoff, HANDOFF_SPIN);
	assert_int_equal(opts.spin_us, 40);
	assert_int_equal(opts.verbosity, 2);
	assert_string_equal(opts.rootfs, "/x");
	assert_string_equal(opts.kernel, "k");

	good("-c 1 -c 64 -v -q");
	assert_int_equal(opts.cpus, 64);
	assert_int_equal(opts.verbosity, -1);
	good("--dry-run");
	assert_int_equal(opts.action, LOL_DRY_RUN);

	bad("-c 0", "--cpus 0", "from 1 to 64");
	bad("-c 65", "--cpus 65", "from 1 to 64");
	bad("-c 1x", "--cpus 1x", "from 1 to 64");
	bad("-c ''", "--cpus ", "from 1 to 64");
	bad("-c 4294967297", "--cpus ", "from 1 to 64");
	bad("--spin-us 1000001", "--spin-us ", "from 0 to 1000000");
	bad("--handoff fast", "--handoff fast", "auto, spin or sleep");
	bad("--initrd ''", "--initrd", "name one");
	bad("-a 'a\tb'", "--append", "one line");
}

static void test_names(void **state)
{
	static const char *const right[] = {"a", "vm-1", "9lives", "A.b_c-d"};
	static const char *const wrong[] = {"''", "1234", "../x", "a/b", ".hidden", "-x", "'a b'"};
	char line[128];
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(right); i++) {
		snprintf(line, sizeof(line), "--name=%s", right[i]);
		good(line);
	}
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		snprintf(line, sizeof(line), "--name=%s", wrong[i]);
		bad(line, "--name", "at least one a letter");
	}
	snprintf(line, sizeof(line), "--name=%065d", 0);
	bad(line, "--name", "up to 64");
}

static void test_disks(void **state)
{
	(void)state;
	good("-d root.img --disk=b.img,ro,serial=S1 -d c,snapshot -d d.qcow2,format=qcow2 -d e,cow=e.cow -d 'a,,b,format=raw'");
	assert_int_equal(opts.ndisks, 6);
	assert_string_equal(opts.disks[0].path, "root.img");
	assert_false(opts.disks[0].ro || opts.disks[0].snapshot);
	assert_int_equal(opts.disks[0].format, DISK_RAW);
	assert_true(opts.disks[1].ro);
	assert_string_equal(opts.disks[1].serial, "S1");
	assert_true(opts.disks[2].snapshot);
	assert_int_equal(opts.disks[3].format, DISK_QCOW2);
	assert_string_equal(opts.disks[4].cow, "e.cow");
	assert_string_equal(opts.disks[5].path, "a,b");

	good("-d a,pmem -d b,ro,pmem,serial=S");
	assert_true(opts.disks[0].pmem && !opts.disks[0].ro && opts.disks[1].pmem && opts.disks[1].ro);

	bad("-d a,pmem,snapshot", "--disk ", "not with snapshot");
	bad("-d a,cow=b,pmem", "--disk ", "not with cow=");
	bad("-d a,pmem,format=qcow2", "--disk ", "not with format=qcow2");
	bad("-d ''", "--disk ", "file name is empty");
	bad("-d ,ro", "--disk ,ro", "file name is empty");
	bad("-d a,rw", "--disk a,rw", "'rw' is unknown here; a disk is FILE");
	bad("-d a,", "--disk a,", "a disk is FILE");
	bad("-d a,format=vmdk", "--disk ", "format=raw or format=qcow2");
	bad("-d a,serial=123456789012345678901", "--disk ", "at most 20 bytes");
	bad("-d a,serial=", "--disk ", "serial number is empty");
	bad("-d a,cow=b,snapshot", "--disk ", "choose one");
	bad("-d a,ro,cow=b", "--disk ", "choose one");
	bad("-d 1 -d 2 -d 3 -d 4 -d 5 -d 6 -d 7 -d 8 -d 9 -d 10 -d 11 -d 12 -d 13 -d 14 -d 15 -d 16 -d 17", "--disk 17",
	    "limit");
}

static void test_nets(void **state)
{
	(void)state;
	good("-n user -n user,hostfwd=tcp::8080-:80,hostfwd=udp:127.0.0.1:22-:22,mac=52:54:00:12:34:5F "
	     "-n tap,ifname=tap0,mtu=9000,queues=2 -n stream,path=/tmp/s -n none");
	assert_int_equal(opts.nnets, 5);
	assert_int_equal(opts.nets[0].kind, NET_USER);
	assert_false(opts.nets[0].has_mac);
	assert_int_equal(opts.nets[1].nhostfwds, 2);
	assert_null(opts.nets[1].hostfwds[0].host_addr);
	assert_int_equal(opts.nets[1].hostfwds[0].host_port, 8080);
	assert_int_equal(opts.nets[1].hostfwds[0].guest_port, 80);
	assert_string_equal(opts.nets[1].hostfwds[1].host_addr, "127.0.0.1");
	assert_memory_equal(opts.nets[1].mac, ((uint8_t[]){0x52, 0x54, 0, 0x12, 0x34, 0x5f}), 6);
	assert_false(opts.nets[1].hostfwds[0].udp);
	assert_true(opts.nets[1].hostfwds[1].udp);
	assert_string_equal(opts.nets[2].ifname, "tap0");
	assert_int_equal(opts.nets[2].mtu, 9000);
	assert_int_equal(opts.nets[2].queues, 2);
	assert_string_equal(opts.nets[3].path, "/tmp/s");
	assert_int_equal(opts.nets[4].kind, NET_NONE);

	bad("-n bridge", "--net bridge", "a card is user");
	bad("-n ''", "--net ", "a card is user");
	bad("-n tap", "--net tap", "tap,ifname=IF");
	bad("-n tap,ifname=", "--net ", "interface name is empty");
	bad("-n tap,ifname=aaaaaaaaaaaaaaaa", "--net ", "not an interface");
	bad("-n tap,ifname=t,hostfwd=tcp::1-:1", "--net ", "a tap card takes");
	bad("-n stream", "--net stream", "stream,path=SOCK");
	bad("-n none,path=x", "--net ", "none takes");
	good("-n tap,netns=new -n tap,ifname=t,netns=new,addr=10.7.0.1/24");
	assert_string_equal(opts.nets[0].ifname, "tap0");
	assert_true(opts.nets[0].own_netns && opts.nets[1].own_netns);
	assert_int_equal(opts.nets[1].addr.s_addr, htonl(0x0a070001));
	assert_int_equal(opts.nets[1].addr_prefix, 24);
	options_free(&opts);
	bad("-n tap,netns=old", "--net ", "only netns=new");
	bad("-n tap,ifname=t,addr=10.7.0.1/24", "--net ", "netns=new with it");
	bad("-n tap,netns=new,addr=10.7.0.1", "--net ", "such as addr=");
	bad("-n tap,netns=new,addr=10.7.0.1/33", "--net ", "such as addr=");
	bad("-n tap,netns=new,addr=0.0.0.0/8", "--net ", "such as addr=");
	bad("-n user,netns=new", "--net ", "a user card takes");
	bad("-n user,mac=53:54:00:12:34:56", "--net ", "first one even");
	bad("-n user,mac=00:00:00:00:00:00", "--net ", "six bytes");
	bad("-n user,mac=52-54-00-12-34-56", "--net ", "six bytes");
	bad("-n user,mac=", "--net ", "six bytes");
	bad("-n user,mtu=1279", "--net ", "1280 to 65520");
	bad("-n user,queues=9", "--net ", "1 to 8");
	static const char *const wrong_hostfwds[] = {"",          "sctp::1-:1", "tcp:1-:1",      "tcp::1-1",
						     "tcp::0-:1", "tcp::1-:0",  "tcp::65536-:1", "tcp:host:1-:1",
						     "tcp::1-:",  "tcp::-:1",   "tcp::1-:2x"};
	for (size_t i = 0; i < ARRAY_LEN(wrong_hostfwds); i++) {
		char line[64];
		snprintf(line, sizeof(line), "-n user,hostfwd=%s", wrong_hostfwds[i]);
		bad(line, "--net ", "hostfwd=tcp:[ADDR]:HPORT-:GPORT");
	}
	char line[256] = "-n stream,path=/", *end = line + strlen(line);
	memset(end, 'x', 107);
	end[107] = 0;
	bad(line, "--net ", "at most 107 bytes");
	end[106] = 0;
	good(line);
}

static void test_shares_console_gdb_stats(void **state)
{
	(void)state;
	good("-s /srv -s /home,tag=home,ro");
	assert_int_equal(opts.nshares, 2);
	assert_null(opts.shares[0].tag);
	assert_string_equal(opts.shares[1].tag, "home");
	assert_true(opts.shares[1].ro);
	bad("-s ''", "--share ", "directory is empty");
	bad("-s a,rw", "--share ", "a share is DIR");
	bad("-s a,tag=12345678901234567890123456789012", "--share ", "at most 31");

	good("--console pty --console file=/tmp/log");
	assert_int_equal(opts.console.kind, CONSOLE_FILE);
	assert_string_equal(opts.console.path, "/tmp/log");
	good("--console unix=s");
	assert_int_equal(opts.console.kind, CONSOLE_UNIX);
	good("--console null");
	assert_int_equal(opts.console.kind, CONSOLE_NULL);
	bad("--console tty", "--console tty", "a console is stdio");
	bad("--console file", "--console file", "a console is stdio");
	bad("--console file=", "--console file=", "empty");

	good("--gdb");
	assert_int_equal(opts.gdb.kind, GDB_TCP);
	assert_int_equal(opts.gdb.port, 1234);
	good("--gdb=4321 --gdb-wait");
	assert_int_equal(opts.gdb.port, 4321);
	assert_true(opts.gdb.wait);
	good("--gdb=unix:/tmp/g");
	assert_int_equal(opts.gdb.kind, GDB_UNIX);
	assert_string_equal(opts.gdb.path, "/tmp/g");
	bad("--gdb=0", "--gdb=0", "unix:PATH");
	bad("--gdb=host:1", "--gdb=host:1", "unix:PATH");
	bad("--gdb=unix:", "--gdb=unix:", "empty");

	good("--stats k"); /* an optional argument must be attached */
	assert_true(opts.stats);
	assert_null(opts.stats_path);
	assert_string_equal(opts.kernel, "k");
	good("--stats=out.json");
	assert_string_equal(opts.stats_path, "out.json");
	bad("--stats=", "--stats=", "empty");
}

static void test_gdb_wait_alone_serves_gdb(void **state)
{
	(void)state;
	good("--gdb-wait k");
	options_finish(&opts, &err);
	assert_int_equal(opts.gdb.kind, GDB_TCP);
	assert_int_equal(opts.gdb.port, 1234);
}

static void test_operands_and_command(void **state)
{
	(void)state;
	good("vmlinux -m 1G -- tr a-z A-Z");
	assert_string_equal(opts.kernel, "vmlinux");
	assert_string_equal(opts.command[0], "tr");
	assert_string_equal(opts.command[2], "A-Z");
	assert_null(opts.command[3]);
	good("-- ls -m --help --");
	assert_null(opts.kernel);
	assert_int_equal(opts.action, LOL_RUN);
	assert_string_equal(opts.command[3], "--");
	good("-a --"); /* here -- is the value of an option */
	assert_string_equal(opts.append, "--");
	assert_null(opts.command);
	good("-a -- -- true");
	assert_string_equal(opts.command[0], "true");

	bad("--", "--:", "no COMMAND");
	bad("k --", "--:", "no COMMAND");
	bad("k1 k2", "k2:", "write -- before a COMMAND");
	bad("''", "KERNEL:", "empty");
}

static void test_unknown_options(void **state)
{
	(void)state;
	bad("--mme 1G", "--mme:", "did you mean --mem?");
	bad("--disc=x", "--disc:", "did you mean --disk?");
	bad("--frobnicate-it", "--frobnicate-it:", "--help");
	bad("--nosuchoptionthatislongerthananyoptioncanbe", "--nosuch", "--help");
	bad("-Z", "-Z:", "--help");
	bad("-qZ", "-Z:", "--help");
	bad("--s=1", "--s:", "several options");
	bad("--quiet=1", "--quiet=1:", "no argument");
	bad("--mem", "--mem:", "give SIZE");
	bad("-d", "-d:", "give SPEC");
	bad("--'\t\033[31m'", "--?", "--help");
	good("--cons pty"); /* a beginning that only one option has */
	assert_int_equal(opts.console.kind, CONSOLE_PTY);
}

static void test_help_and_version_win(void **state)
{
	(void)state;
	good("--help --mem nonsense");
	assert_int_equal(opts.action, LOL_HELP);
	good("k --version --nonsense");
	assert_int_equal(opts.action, LOL_VERSION);
}

static void test_long_values_are_cut(void **state)
{
	char line[3000];
	(void)state;

	memset(line, 'x', sizeof(line));
	memcpy(line, "-m ", 3);
	line[sizeof(line) - 1] = 0;
	bad(line, "--mem xxx", "512M or 2G");
	memcpy(line, "-a ", 3);
	bad(line, "--append xxx", "shorten");
}

static void test_config_file(void **state)
{
	(void)state;
	setenv("HOME", "/home/u", 1);
	good("");
	assert_int_equal(config("# a comment\n"
				"; another\r\n"
				"\n"
				"mem = 2G\n"
				"  cpus=3  \n"
				"[lol-run]\n"
				"kernel = ~/k/vmlinux\n"
				"append = \" quiet # not a comment \"\n"
				"disk = a.img,ro\n"
				"disk = b.img\n"
				"verbose = yes\n"
				"stats = off\n"
				"gdb = no\n"
				"[lol-guest]\n"
				"anything = goes\n"
				"[lol-run]\n"
				"name = vm"),
			 0);
	assert_int_equal(opts.mem, 2ull << 30);
	assert_int_equal(opts.cpus, 3);
	assert_string_equal(opts.kernel, "/home/u/k/vmlinux");
	assert_string_equal(opts.append, " quiet # not a comment ");
	assert_int_equal(opts.ndisks, 2);
	assert_true(opts.disks[0].ro);
	assert_int_equal(opts.verbosity, 1);
	assert_false(opts.stats);
	assert_int_equal(opts.gdb.kind, GDB_OFF);
	assert_string_equal(opts.name, "vm");
}

static void test_command_line_wins(void **state)
{
	(void)state;
	good("-m 64M -d mine -a x -q --gdb-wait k");
	assert_int_equal(
		config("mem = 2G\ndisk = theirs\ndisk = too\nappend = y\nverbose = yes\nkernel = z\ngdb = 99\ncpus = 2"),
		0);
	assert_int_equal(opts.mem, 64 << 20);
	assert_int_equal(opts.ndisks, 1);
	assert_string_equal(opts.disks[0].path, "mine");
	assert_string_equal(opts.append, "x");
	assert_int_equal(opts.verbosity, -1);
	assert_string_equal(opts.kernel, "k");
	assert_int_equal(opts.gdb.kind, GDB_OFF);
	assert_int_equal(opts.cpus, 2);
}

static void test_config_errors_name_the_line(void **state)
{
	static const struct {
		const char *text, *what, *hint;
	} wrong[] = {
		{"mem = 2G\nmem = 3X\n", "lol.conf:2: mem = 3X: ", "512M or 2G"},
		{"memm = 1\n", "lol.conf:1: memm = 1: ", "did you mean mem"},
		{"zzzzzz = 1\n", "lol.conf:1: ", "lol.conf(5)"},
		{"help = yes\n", "lol.conf:1: ", "no such setting"},
		{"\n\nnonsense\n", "lol.conf:3: 'nonsense'", "KEY = VALUE"},
		{"= 1\n", "lol.conf:1: ", "KEY = VALUE"},
		{"[lol-run\n", "lol.conf:1: ", "[lol-run]"},
		{"[\n", "lol.conf:1: ", "[lol-run]"},
		{"quiet = maybe\n", "lol.conf:1: ", "yes nor no"},
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		good("");
		assert_int_not_equal(config(wrong[i].text), 0);
		if (strncmp(err.text, wrong[i].what, strlen(wrong[i].what)) || !strstr(err.text, wrong[i].hint))
			fail_msg("%s gave %s", wrong[i].text, err.text);
	}
	good("");
	FILE *file = fmemopen((void *)"a\0b = 1\n", 8, "r");
	assert_int_equal(options_read_config(&opts, file, "lol.conf", &err), -EINVAL);
	fclose(file);
}

static void test_default_kernel(void **state)
{
	(void)state;
	setenv("HOME", "/home/u", 1);
	unsetenv("XDG_DATA_HOME");
	good("-i rd");
	assert_int_equal(options_finish(&opts, &err), 0);
	assert_string_equal(opts.kernel, "/home/u/.local/share/lol/kernels/default/vmlinux");
	assert_int_equal(options_check_files(&opts, &err), -ENOENT);
	assert_non_null(strstr(err.text, "make it with: lol-guest kernel build"));
	setenv("XDG_DATA_HOME", "/data", 1);
	good("-i rd");
	assert_int_equal(options_finish(&opts, &err), 0);
	assert_string_equal(opts.kernel, "/data/lol/kernels/default/vmlinux");
	setenv("XDG_DATA_HOME", "relative", 1);
	good("-i rd");
	assert_int_equal(options_finish(&opts, &err), 0);
	assert_string_equal(opts.kernel, "/home/u/.local/share/lol/kernels/default/vmlinux");
	unsetenv("XDG_DATA_HOME");
}

static void test_contradictions(void **state)
{
	(void)state;
	good("--handoff sleep --spin-us 20 k -i rd");
	assert_int_equal(options_finish(&opts, &err), -EINVAL);
	good("--handoff sleep --spin-us 0 k -i rd");
	assert_int_equal(options_finish(&opts, &err), 0);
}

/* What --dry-run prints means the same as what was given. */
static void test_round_trip(void **state)
{
	static const char *const lines[] = {
		"k",
		"-m 32772K -c 2 -i 'my rd' -a 'a b' -a \\'c k",
		"-d a,,b,ro,serial=x -d c,snapshot -d d,format=qcow2 -d e,cow=f,,g -d h,ro,pmem k",
		"-n user,hostfwd=tcp::1-:2,hostfwd=tcp:10.0.0.1:3-:4,mac=52:54:00:00:00:01 -n tap,ifname=t0 -n none k",
		"-n stream,path=/a,,b -s /x,tag=t,ro -s /y --rootfs / k",
		"--console 'file=a b' --gdb=unix:/g --gdb-wait --name n --handoff sleep --spin-us 0 --stats=s -vv k",
		"--console null --gdb --stats --quiet ./-k -- sh -c 'echo $HOME; it'\\''s' '' -",
	};
	(void)state;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		char *first = NULL, *second = NULL;
		size_t size;
		good(lines[i]);
		FILE *out = open_memstream(&first, &size);
		options_print_command(out, &opts);
		fclose(out);
		assert_int_equal(strncmp(first, "lol-run ", 8), 0);
		good(first + 8);
		out = open_memstream(&second, &size);
		options_print_command(out, &opts);
		fclose(out);
		assert_string_equal(first, second);
		free(first);
		free(second);
	}
	good(lines[6]);
	assert_string_equal(opts.command[2], "echo $HOME; it's");
	assert_string_equal(opts.command[3], "");
}

static void test_file_checks(void **state)
{
	(void)state;
	good("/nonexistent/k");
	assert_int_equal(options_check_files(&opts, &err), -ENOENT);
	good("/");
	assert_int_equal(options_check_files(&opts, &err), -EISDIR);
	good("/proc/self/exe");
	assert_int_equal(options_check_files(&opts, &err), 0);
	good("/proc/self/exe -i /nonexistent");
	assert_int_equal(options_check_files(&opts, &err), -ENOENT);
	good("/proc/self/exe -d /nonexistent");
	assert_int_equal(options_check_files(&opts, &err), -ENOENT);
	good("/proc/self/exe --rootfs /dev/null");
	assert_int_equal(options_check_files(&opts, &err), -ENOTDIR);
	good("/proc/self/exe --rootfs / -s / -d /dev/null");
	assert_int_equal(options_check_files(&opts, &err), 0);
}

static int free_options(void **state)
{
	(void)state;
	options_free(&opts);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_shares_console_gdb_stats),
		cmocka_unit_test(test_gdb_wait_alone_serves_gdb),
		cmocka_unit_test(test_operands_and_command),
		cmocka_unit_test(test_unknown_options),
		cmocka_unit_test(test_help_and_version_win),
		cmocka_unit_test(test_long_values_are_cut),
		cmocka_unit_test(test_config_file),
		cmocka_unit_test(test_command_line_wins),
		cmocka_unit_test(test_config_errors_name_the_line),
		cmocka_unit_test(test_default_kernel),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_file_checks),
	};

	return cmocka_run_group_tests(tests, NULL, free_options);
}
