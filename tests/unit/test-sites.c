/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hand-written site tables, right and wrong, against what lol-sites says of
 * them; and files that are none.
 */
#include "sites.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/test-sites.XXXXXX";

/* Exit status of a shell command that runs in dir. */
static int sh(const char *format, ...)
{
	char command[1024];
	va_list ap;
	int status, used = snprintf(command, sizeof command, "cd %s && ", dir);

	va_start(ap, format);
	vsnprintf(command + used, sizeof command - used, format, ap);
	va_end(ap);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	assert_int_equal(fclose(f), 0);
}

static uint8_t *read_file(const char *name, size_t *n)
{
	char path[128];
	uint8_t *p = malloc(1 << 20);
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(p);
	*n = fread(p, 1, 1 << 20, f);
	fclose(f);
	return p;
}

/* Check one file; compare the first reason (or "" if there is nothing to say). */
static void expect_file(const char *name, const char *why)
{
	struct report report = {0};
	struct image image;
	size_t n;
	uint8_t *bytes = read_file(name, &n);

	assert_null(image_open(&image, bytes, n));
	check_image(&image, &report);
	assert_string_equal(report.n_findings ? report.findings[0].why : "", why);
	report_free(&report);
	image_close(&image);
	free(bytes);
}

/* The same for assembler text, as a relocatable and as a linked file. */
static void expect(const char *text, const char *why)
{
	write_file("x.s", text);
	assert_int_equal(sh("as -o x.o x.s && ld -Ttext=0x1000000 -e 0 -o x x.o"), 0);
	expect_file("x.o", why);
	expect_file("x", why);
}

#define TABLE "\n.pushsection .ivmm.sites,\"a\"\n"
#define ENTRY(start, kind, off, len, region) ".long " start " - .\n.byte " #kind "," #off "," #len "," #region "\n"
#define END ".popsection\n"
#define NOP7 ".byte 0x0f,0x1f,0x80,0,0,0,0\n"
#define NOP6 ".byte 0x66,0x0f,0x1f,0x44,0,0\n"
#define NOP5 ".byte 0x0f,0x1f,0x44,0,0\n"

static void test_good_tables(void **state)
{
	(void)state;
	expect("f: ret\n", "");
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 1, 0, 1, 8) END, "");
	expect("f: " NOP7 "g: sti; hlt\n" NOP7 "ret" TABLE ENTRY("f", 1, 7, 1, 8) ENTRY("g+1", 2, 0, 1, 8) END, "");
	expect("f: " NOP7 "sti; hlt\n" NOP7 "jmp f+7; ret" TABLE ENTRY("f", 1, 7, 1, 8) ENTRY("f+8", 2, 0, 1, 8) END,
	       "");
	expect("f: mov %ax,(%rdi)\n" NOP5 "ret" TABLE ENTRY("f", 5, 0, 3, 8) END, "");
	expect("f: mov (%rdi),%ax\n" NOP5 "ret" TABLE ENTRY("f", 6, 0, 3, 8) END, "");
	expect("f: .byte 0xf6; g: ret; int3; nop; ret\n", "");
	expect("f: ret; .fill 30,1,0xcc; .fill 50,1,0; g: ret\n", "");
}

static void test_missing(void **state)
{
	(void)state;
	expect("f: cli; ret\n", "sensitive, but not in the site table");
	expect("f: nop; mov %ds,%ax; ret\n", "sensitive, but not in the site table");
	expect("f: .byte 0xf2,0x0f,0,0xf7; ret\n", "sensitive, but not in the site table");
	expect("f: .byte 0xb0; g: cli; ret\n", "sensitive, but not in the site table");
	expect("f: syscall; ret\n", "must not run in place");
	expect("f: stac; ret\n", "must not run in place");
	expect("f: .byte 0x06; ret\n", "cannot be decoded up to the next symbol");
	expect("1: mov (%rdi),%rax; 2: ret; .section __ex_table,\"a\"; .long 1b-.; .long 2b-.; .long 3",
	       "user access, but not in the site table");
	expect("1: mov (%rdi),%rax; 2: ret; .section __ex_table,\"a\"; .long 1b-.; .long 2b-.; .long 20", "");
}

static void test_wrong_entries(void **state)
{
	(void)state;
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 1, 0, 2, 8) END, "length of the instruction is wrong");
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 2, 0, 1, 8) END, "kind does not fit the instruction");
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 5, 0, 1, 8) END, "kind does not fit the instruction");
	expect("f: add %eax,(%rdi)\n" NOP6 "ret" TABLE ENTRY("f", 6, 0, 2, 8) END, "kind does not fit the instruction");
	expect("f: mov %eax,%edi\n" NOP6 "ret" TABLE ENTRY("f", 6, 0, 2, 8) END, "kind does not fit the instruction");
	expect("f: cli\n" NOP6 "ret" TABLE ENTRY("f", 1, 0, 1, 7) END, "region is too short");
	expect("f: cli\n" NOP6 "ret" TABLE ENTRY("f", 1, 0, 1, 8) END, "padding is not NOPs");
	expect("f: " NOP7 "cli\nret" TABLE ENTRY("f", 1, 7, 1, 8) END, "padding in front of something other than sti");
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 1, 0, 0, 8) END, "instruction is not inside its region");
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 1, 0, 9, 8) END, "instruction is not inside its region");
	expect("f: nop; cli\n" NOP7 TABLE ENTRY("f+1", 1, 0, 1, 9) END, "region ends behind its section");
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 1, 0, 1, 8) ENTRY("f", 1, 0, 1, 8) END,
	       "overlaps the region before it");
	expect("f: ret; .data; g: .quad 0" TABLE ENTRY("g", 1, 0, 1, 8) END, "region is not in code");
	expect("f: cli\n" NOP7 "jmp f+1" TABLE ENTRY("f", 1, 0, 1, 8) END, "a branch goes into the middle of a region");
	expect("f: cli; g: " NOP7 "ret" TABLE ENTRY("f", 1, 0, 1, 8) END, "a symbol is in the middle of a region");
	expect("f: call f+3; cli\n" NOP7 TABLE ENTRY("f+5", 1, 0, 1, 8) END, "");
	expect("f: call f+8; cli\n" NOP7 TABLE ENTRY("f+5", 1, 0, 1, 8) END,
	       "a branch goes into the middle of a region");
	expect("1: nop; f: cli\n" NOP7 "ret" TABLE ENTRY("f", 1, 0, 1, 8) END
	       ".section __ex_table,\"a\"; .long 1b-.; .long f+1-.; .long 1",
	       "a fixup goes into the middle of a region");
}

static void expect_feature(const char *text, unsigned feature, bool inverted)
{
	struct report report = {0};
	struct image image;
	size_t n;
	uint8_t *bytes;

	expect(text, "");
	bytes = read_file("x", &n);
	assert_null(image_open(&image, bytes, n));
	check_image(&image, &report);
	assert_int_equal(report.n_features, 1);
	assert_int_equal(report.features[0].feature, feature);
	assert_int_equal(report.features[0].inverted, inverted);
	assert_string_equal(report.features[0].insn, "clac");
	report_free(&report);
	image_close(&image);
	free(bytes);
}

/* Both layouts of .altinstructions. */
static void test_features(void **state)
{
	(void)state;
#define CODE "f: .fill 8,1,0x90; ret; .section .altinstr_replacement,\"ax\"; r: clac; .section .altinstructions,\"a\"\n"
	expect_feature(CODE ".long f-.; .long r-.; .word 9*32+20; .word 0; .byte 8,3", 9 * 32 + 20, false);
	expect_feature(CODE ".long f-.; .long r-.; .word 9*32+20; .word 1; .byte 8,3", 9 * 32 + 20, true);
	expect_feature(CODE ".long f-.; .long r-.; .word 0x8005; .byte 8,3", 5, true);
}

static void test_alternative_and_region(void **state)
{
	(void)state;
#define REGION \
	"f: nop; cli\n" NOP7 "nop" TABLE ENTRY("f+1", 1, 0, 1, 8) END \
		".section .altinstr_replacement,\"ax\"; r: nop; .section .altinstructions,\"a\"\n"
	expect(REGION ".long f-.; .long r-.; .word 0,0; .byte 9,1", "");
	expect(REGION ".long f-.; .long r-.; .word 0,0; .byte 4,1", "an alternative ends in the middle of a region");
	expect(REGION ".long f+3-.; .long r-.; .word 0,0; .byte 6,1",
	       "an alternative starts in the middle of a region");
}

/* Every prefix of a file, and every byte of its headers changed: no crash (the sanitizers watch), and mostly a reason. */
static void test_damaged_files(void **state)
{
	size_t n;
	uint8_t *bytes;

	(void)state;
	expect("f: cli\n" NOP7 "ret" TABLE ENTRY("f", 1, 0, 1, 8) END, "");
	bytes = read_file("x.o", &n);
	for (size_t i = 0; i < 2 * n; i++) {
		size_t len = i < n ? i : n;
		uint8_t *copy = malloc(len ? len : 1);
		struct report report = {0};
		struct image image;

		memcpy(copy, bytes, len);
		if (i >= n)
			copy[i - n] ^= 0xff;
		if (!image_open(&image, copy, len))
			check_image(&image, &report);
		report_free(&report);
		image_close(&image);
		free(copy);
	}
	free(bytes);
}

static void test_exceptions(void **state)
{
	char path[128];
	unsigned line;
	const char *error;
	struct exceptions *e;

	(void)state;
	write_file("list", "# comment\n\n  f* cli first reason \n.init.* * second\n");
	snprintf(path, sizeof path, "%s/list", dir);
	e = exceptions_read(path, &line, &error);
	assert_non_null(e);
	assert_string_equal(exceptions_match(e, "foo", ".text", "cli"), "first reason ");
	assert_null(exceptions_match(e, "foo", ".text", "hlt"));
	assert_null(exceptions_match(e, "bar", ".text", "cli"));
	assert_string_equal(exceptions_match(e, "bar", ".init.text", "hlt"), "second");
	exceptions_free(e);
	write_file("list", "# comment\nf cli\n");
	assert_null(exceptions_read(path, &line, &error));
	assert_int_equal(line, 2);
	assert_null(exceptions_read("/nonexistent", &line, &error));
}

static void test_program(void **state)
{
	char cwd[512];

	(void)state;
	if (access("./lol-sites", X_OK) || !getcwd(cwd, sizeof cwd))
		skip();
	write_file("list", "f cli because\n");
	write_file("x.s", "f: cli\n ret\n");
	assert_int_equal(sh("as -o x.o x.s"), 0);
	assert_int_equal(sh("%s/lol-sites x.o >out", cwd), 1);
	assert_int_equal(sh("grep -q 'f+0x0  cli' out"), 0);
	assert_int_equal(sh("%s/lol-sites --exceptions list x.o >out", cwd), 0);
	assert_int_equal(sh("grep -q because out"), 0);
	assert_int_equal(
		sh("%s/lol-sites --json x.o >out; grep -q '\"what\": \"missing\", \"symbol\": \"f\"' out", cwd), 0);
	assert_int_equal(sh("! command -v python3 >/dev/null || python3 -m json.tool out >/dev/null"), 0);
	assert_int_equal(sh("%s/lol-sites x.s 2>err", cwd), 125);
	assert_int_equal(sh("test \"$(cat err)\" = 'lol-sites: x.s: not an ELF file'"), 0);
	assert_int_equal(sh("head -c 300 x.o >cut; %s/lol-sites cut 2>err", cwd), 125);
	assert_int_equal(sh("test \"$(wc -l <err)\" = 1"), 0);
	assert_int_equal(sh("%s/lol-sites absent 2>err", cwd), 125);
	assert_int_equal(sh("%s/lol-sites . 2>err", cwd), 125);
	assert_int_equal(sh("%s/lol-sites x.o >/dev/full 2>err", cwd), 125);
	assert_int_equal(sh("%s/lol-sites 2>err", cwd), 125);
}

static int set_up(void **state)
{
	(void)state;
	insn_init();
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return sh("rm -rf %s", dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_tables),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_wrong_entries),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_alternative_and_region),
		cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_exceptions),
		cmocka_unit_test(test_program),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
