/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Snippets through the afterburner and the real assembler; the object is read
 * back and must have exactly the expected sites, each of which fits its code.
 */
#include "afterburn.h"
#include "sites.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/test-afterburn.XXXXXX";

static char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof *path, "%s/%s", dir, name);
	return p;
}

static void write_file(const char *path, const char *text, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static uint8_t *read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "r");
	uint8_t *p = malloc(1 << 20);

	assert_non_null(f);
	assert_non_null(p);
	*n = fread(p, 1, 1 << 20, f);
	fclose(f);
	return p;
}

/* Exit status of a shell command. */
static int sh(const char *format, ...)
{
	char command[1024];
	va_list ap;
	int status;

	va_start(ap, format);
	vsnprintf(command, sizeof command, format, ap);
	va_end(ap);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The sites of an object as "kind:mnemonic" words; the object must have nothing to complain about. */
static void describe(const char *object, char *text, size_t size)
{
	static const char *const kinds[] = {"?",       "flags", "priv",    "silent", "state",
					    "uaccess", "mmio",  "pgtable", "call"};
	struct image image;
	struct report report = {0};
	size_t n, used = 0;
	uint8_t *bytes = read_file(object, &n);

	assert_null(image_open(&image, bytes, n));
	check_image(&image, &report);
	for (size_t i = 0; i < report.n_findings; i++)
		print_error("%s: %s at 0x%lx\n", report.findings[i].insn, report.findings[i].why,
			    report.findings[i].at.offset);
	assert_int_equal(report.n_findings, 0);
	text[0] = 0;
	for (size_t i = 0; i < image.n_sites; i++) {
		const struct site *s = &image.sites[i];
		const struct section *code = &image.sections[s->at.section];
		struct insn insn = insn_decode(code->data + s->at.offset + s->insn_off, s->insn_len);

		used += snprintf(text + used, size - used, "%s%s:%s", i ? " " : "", kinds[s->kind], insn.name);
	}
	report_free(&report);
	image_close(&image);
	free(bytes);
}

static void rewrite(const char *text, struct ab_buf *out, unsigned *n)
{
	struct ab_unit stats = {0};

	assert_int_equal(ab_rewrite((struct ab_str){text, strlen(text)}, "test.s", out, &stats, n), 0);
}

/* Assemble text the way the kernel would, and compare its sites. */
static void expect(const char *snippet, const char *sites)
{
	struct ab_buf out = {0};
	unsigned n;
	char got[4096], text[4096];

	assert_in_range(snprintf(text, sizeof text, "%s\n", snippet), 0, sizeof text - 1);
	rewrite(text, &out, &n);
	if (!n)
		write_file(in_dir("x.s"), text, strlen(text));
	else
		write_file(in_dir("x.s"), out.p, out.n);
	free(out.p);
	assert_int_equal(sh("as --64 --fatal-warnings -o %s %s", in_dir("x.o"), in_dir("x.s")), 0);
	describe(in_dir("x.o"), got, sizeof got);
	assert_string_equal(got, sites);
}

static void test_operandless(void **state)
{
	(void)state;
	expect("cli\nsti\npushf\npushfq\npushfw\npopf\npopfq\n",
	       "flags:cli flags:sti flags:pushfq flags:pushfq flags:pushf flags:popfq flags:popfq");
	expect("hlt; clts; wbinvd; invd; rdmsr; wrmsr; rdpmc; swapgs; iretq; sysretq; sysretl; sysexitl; lretq; monitor; mwait; xsetbv",
	       "priv:hlt priv:clts priv:wbinvd priv:invd priv:rdmsr priv:wrmsr priv:rdpmc priv:swapgs priv:iretq priv:sysret "
	       "priv:sysret priv:sysexit priv:ret priv:monitor priv:mwait priv:xsetbv");
	expect("cpuid; xgetbv; rdpkru; wrpkru", "silent:cpuid silent:xgetbv silent:rdpkru silent:wrpkru");
	expect("vmcall; vmmcall", "call:vmcall priv:vmmcall");
	expect("nop; ret; int3; ud2; rdtsc; rdtscp; pause; leave; syscall_like: call syscall_like; cld; std", "");
}

static void test_operands(void **state)
{
	(void)state;
	expect("mov %cr0,%rax; mov %rax,%cr3; movq %cr4, %r12; mov %r15 , %cr8; mov %db7,%rcx; mov %rcx,%dr6",
	       "priv:mov priv:mov priv:mov priv:mov priv:mov priv:mov");
	expect("mov %ds,%ax; movl %es,%eax; movw %fs,(%rdi); mov %ax,%ss; mov 8(%rsp),%gs; mov foo(%rip),%ds; mov %cs,%rax\nfoo: ret",
	       "silent:mov silent:mov silent:mov silent:mov silent:mov silent:mov silent:mov");
	expect("mov %fs:8,%rax; mov %rax,%gs:foo(%rip); mov %es:(%rdi),%al; movl $1,%eax; push %rax; pop %rbx; foo:pushq %fs:0",
	       "");
	expect("push %fs; pushq %gs; pop %fs; popq %gs; pushw %fs",
	       "silent:push silent:push silent:pop silent:pop silent:push");
	expect("lgdt (%rdi); lidt x(%rip); lldt %ax; ltr %ax; lldt 4(%rsp); lmsw %ax; invlpg (%rax); invpcid (%rsp),%rax\nx: ret",
	       "priv:lgdt priv:lidt priv:lldt priv:ltr priv:lldt priv:lmsw priv:invlpg priv:invpcid");
	expect("sgdt (%rdi); sidt 8(%rax,%rbx,4); sldt %ax; str %eax; smsw %rax; lar %ax,%eax; lsl (%rdi),%ecx; verr %ax; verw x(%rip)\nx:",
	       "silent:sgdt silent:sidt silent:sldt silent:str silent:smsw silent:lar silent:lsl silent:verr silent:verw");
	expect("in $0x80,%al; inb %dx,%al; inw (%dx),%ax; inl %dx; outb %al,$0x70; outw %ax,%dx; outl %eax,(%dx); insb; outsl; insw",
	       "priv:in priv:in priv:in priv:in priv:out priv:out priv:out priv:insb priv:outsd priv:insw");
	expect("rdfsbase %rax; rdgsbase %rbx; wrfsbase %ecx; wrgsbase %rdx; rdpid %rax",
	       "silent:rdfsbase silent:rdgsbase silent:wrfsbase silent:wrgsbase silent:rdpid");
	expect("ljmp *(%rax); rex.w ljmp *8(%rsp); lcall *x(%rip); lss (%rax),%esp; lfs (%rax),%ebx\nx:",
	       "silent:jmp silent:jmp silent:call silent:lss silent:lfs");
	expect("fxsave (%rdi); fxsave64 (%rdi); rex64 fxrstor (%rdi); xsave (%rdi); xsaveopt64 (%rsi); xsavec64 (%rsi); xsaves (%rsi); "
	       "xsaves64 (%rsi); xrstor64 (%rsi); xrstors64 (%r15)",
	       "state:fxsave state:fxsave64 state:fxrstor64 state:xsave state:xsaveopt64 state:xsavec64 state:xsaves state:xsaves64 "
	       "state:xrstor64 state:xrstors64");
}

static void test_raw_bytes(void **state)
{
	(void)state;
	expect(".byte 0xf2,0x0f,0x00,0xf7\n.byte 0xf3, 0x0f, 0xc7, 0xf8\n.byte 0x0f,0x01,0xc8; .byte 0x0f,0x01,0xc9",
	       "priv:lkgs silent:rdpid priv:monitor priv:mwait");
	expect(".byte 0x0f,0x01,0xee; .byte 0x0f,0x01,0xef; .byte 0x48, 0x0f,0xae,0x27\n.byte 0x48,0x0f,0xc7,0x1f",
	       "silent:rdpkru silent:wrpkru state:xsave64 state:xrstors64");
	expect(".byte 0x0f,0xae,0xe8; .byte 0x0f,0xae,0xf0; .byte 0x66,0x90; .byte 15\n.byte 31, 0", "");
}

static void test_layout_of_text(void **state)
{
	(void)state;
	expect("a: b:cli # ; hlt\n/* hlt */ 1:\thlt /* cli */; 2:cli;3: # cli\n/ cli\nc: .pushsection .rodata; .ascii \"cli; hlt\"; .popsection",
	       "flags:cli priv:hlt flags:cli");
	expect("\t/* several\n lines; cli\n */ hlt # don't\n cli", "priv:hlt flags:cli");
	expect("1: /* x */ hlt; /* 2: */ rep /* y */; outsb; mov /* z */ %cr3,%rax /* ; */; .pushsection .rodata; .byte 0xfa /* cli */; "
	       ".popsection",
	       "priv:hlt priv:outsb priv:mov");
	expect("movb $'\"',%al; cli; movb $';',%al; cmpb $'#', %al\n", "flags:cli");
	expect(".rept 3; cli; .endr\n.irp r,rax,rbx\nmov %\\r, %cr3\n.endr",
	       "flags:cli flags:cli flags:cli priv:mov priv:mov");
	expect(".macro m a\n 1: wrmsr\n mov %\\a,%cr3; sti\n jmp 1b\n.endm\n m rax\n m rbx\n",
	       "priv:wrmsr priv:mov flags:sti priv:wrmsr priv:mov flags:sti");
	expect(".macro outer\n.macro inner\ncli\n.endm\n.pushsection .text.x,\"ax\"\nhlt\n.popsection\ninner\n.endm\nouter",
	       "flags:cli priv:hlt");
	expect(".if 0; cli; .else; hlt; .endif\n cli = 3\n .set sti, 4\n movl $cli,%eax", "priv:hlt");
	expect("CLI\n.macro RDPID r\n.byte 0xf3,0x0f,0xc7,0xf8\n.endm\nRDPID %rax", "flags:cli silent:rdpid");
	expect(".macro regs op\n 1: \\op\n ret\n.endm\n regs rdmsr\n regs cpuid\n regs nop\n regs popf",
	       "priv:rdmsr silent:cpuid flags:popfq");
}

static void test_prefixes(void **state)
{
	(void)state;
	expect("rep; outsb\nrep insl; rep\n\toutsw; rex64; sysretl\n", "priv:outsb priv:insd priv:outsw priv:sysret");
	expect("rep; nop; lock; incl (%rax); cs nop; data16 nop", "");
}

#define EX(from, type) \
	".pushsection \"__ex_table\",\"a\"\n.balign 4\n.long (" from ") - .\n.long (99f) - .\n.long " type \
	"\n.popsection\n"
#define EX_REG(from, type, reg) \
	".pushsection \"__ex_table\",\"a\"\n.balign 4\n.long (" from ") - .\n.long (99f) - .\n" \
	".macro extable_type_reg type:req, reg:req\n.long \\type + 0x100\n.endm\n" \
	"extable_type_reg reg=" reg ", type=" type " \n.purgem extable_type_reg\n.popsection\n"

/* The image of the last expect(). */
static uint8_t *open_last(struct image *image)
{
	size_t n;
	uint8_t *bytes = read_file(in_dir("x.o"), &n);

	assert_null(image_open(image, bytes, n));
	return bytes;
}

/* Nothing but the instruction in the region: bare hardware has no NOP to execute, and nothing is between sti and hlt. */
static void test_prefixes_instead_of_nops(void **state)
{
	struct image image;
	uint8_t *bytes;

	(void)state;
	expect("f: sti; hlt; cli; pushf; popfq; swapgs; iretq; sysretq; rdmsr; wrmsr; cpuid; mov %cr3,%rax; mov %r12,%cr3; mov %ds,%ax\n"
	       "rdgsbase %rax; invlpg (%r9); xgetbv; ltr %ax; xsave64 (%rdi); inb %dx,%al; outl %eax,$0x70; fxsave 8(%rsp)\n",
	       "flags:sti priv:hlt flags:cli flags:pushfq flags:popfq priv:swapgs priv:iretq priv:sysret priv:rdmsr priv:wrmsr silent:cpuid "
	       "priv:mov priv:mov silent:mov silent:rdgsbase priv:invlpg silent:xgetbv priv:ltr state:xsave64 priv:in priv:out state:fxsave");
	bytes = open_last(&image);
	for (size_t i = 0; i < image.n_sites; i++) {
		assert_int_equal(image.sites[i].insn_off, 0);
		assert_in_range(image.sites[i].insn_len, 8, 15);
		assert_int_equal(image.sites[i].region_len, image.sites[i].insn_len);
	}
	assert_int_equal(image.sites[1].at.offset, 8);
	image_close(&image);
	free(bytes);

	expect("1: movb (%rax),%dl\n2: movq %rax,8(%rdi,%rcx,8)\n3: rep stosb\n4: lock; xaddl %eax,(%rdi)\n5: lock cmpxchgq %rcx,(%r8)\n"
	       "6: movl $1,%fs:4(%r8,%r9)\n7: movzwl x(%rip),%eax\n8: incl (%rbx)\n9: mov x,%eax\n" EX("1b", "3")
		       EX("2b", "3") EX("3b", "3") EX("4b", "17") EX("5b", "17") EX("6b", "3") EX("7b", "3")
			       EX("8b", "3") EX("9b", "3") "99: ret\nx:",
	       "uaccess:mov uaccess:mov uaccess:stosb uaccess:xadd uaccess:cmpxchg uaccess:mov uaccess:movzx uaccess:inc uaccess:mov");
	bytes = open_last(&image);
	for (size_t i = 0; i < image.n_sites; i++) {
		assert_in_range(image.sites[i].insn_len, 8, 15);
		assert_int_equal(image.sites[i].region_len, image.sites[i].insn_len);
	}
	image_close(&image);
	free(bytes);
}

/* Where the text does not tell the length. */
static void test_nops_where_needed(void **state)
{
	struct image image;
	uint8_t *bytes;

	(void)state;
	expect(".macro m op\n\\op\n.endm\nm cli\n.byte 0x0f,0x01,0xc8\nljmp *(%rax)\n",
	       "flags:cli priv:monitor silent:jmp");
	bytes = open_last(&image);
	for (size_t i = 0; i < image.n_sites; i++)
		assert_int_equal(image.sites[i].region_len, 8);
	assert_int_equal(image.sites[0].insn_len, 1);
	image_close(&image);
	free(bytes);
}

static void test_long_instructions(void **state)
{
	(void)state;
	/* 9 and 12 bytes: no padding, the region is the instruction */
	expect("lgdt %fs:0x12345678(%rax,%rbx,2); mov %ds,%fs:0x12345678(%r8,%r9,2); rdmsr",
	       "priv:lgdt silent:mov priv:rdmsr");
}

static void test_user_accesses(void **state)
{
	(void)state;
	expect("1: movb (%rax),%dl\n2:\n" EX("1b", "3") "99: ret", "uaccess:mov");
	expect("1: rep movsb\n2: 3: rep; stosq\n" EX("1b", "3") EX("3b", "(19 | ((8) << 16))") "99: ret",
	       "uaccess:movsb uaccess:stosq");
	/* the kernel's LOCK_PREFIX */
	expect("1:\t.pushsection .smp_locks,\"a\"\n.balign 4\n.long 671f - .\n.popsection\n671:\n\tlock; cmpxchgl %ecx,(%rdx)\n2:\n" EX_REG(
		       "1b", "(17 | ((-(14)) << 16))", "%eax") "99: ret",
	       "uaccess:cmpxchg");
	expect(EX("1f", "3") "1: movnti %rax,(%rdi)\n nop\n 1: movzbl (%rax),%eax\n" EX("1b", "4") "99:",
	       "uaccess:movnti uaccess:movzx");
	expect("foo: .Lx: mov %rax,8(%rdi); mov (%rdi),%rax\n" EX(".Lx", "3") "99:", "uaccess:mov");
	/* not user: MSR, zeropad, no memory operand; a sensitive instruction keeps its kind */
	expect("1: rdmsr\n" EX("1b", "9") "1: mov (%rax),%rax\n" EX("1b", "20") "1: mov %eax,%fs\n" EX_REG(
		       "1b", "(17 | ((0) << 16))",
		       "%eax") "1: xsave64 (%rdi)\n" EX_REG("1b", "17", "%ebx") "1: nop; jmp 1b\n" EX("1b",
												      "3") "99: ret",
	       "priv:rdmsr silent:mov state:xsave64");
}

static void test_user_accesses_in_macros(void **state)
{
	(void)state;
	expect(".macro UACCESS op src dst\n1: \\op \\src,\\dst\n" EX(
		       "1b", "3") ".endm\nUACCESS movb (%rax),%dl\nUACCESS movzwl,(%rax),%edx\n99:",
	       "uaccess:mov uaccess:movzx");
	expect(".macro source\n10:\n" EX(
		       "10b", "3") ".endm\nsource\nmovq (%rdi),%rbx\nmovq 8(%rdi),%rbx\nsource\nadcl (%rdi),%eax\n99:",
	       "uaccess:mov uaccess:adc");
}

#define ALT_MACRO \
	".macro ALTERNATIVE old, new, ft\n140:\n\\old\n141:\n" \
	".skip -(((144f-143f)-(141b-140b)) > 0) * ((144f-143f)-(141b-140b)),0x90\n142:\n" \
	".pushsection .altinstructions,\"a\"\n.long 140b-.\n.long 143f-.\n.4byte \\ft\n.byte 142b-140b\n.byte 144f-143f\n.popsection\n" \
	".pushsection .altinstr_replacement,\"ax\"\n143:\n\\new\n144:\n.popsection\n.endm\n"

static void test_alternatives(void **state)
{
	(void)state;
	expect(ALT_MACRO
	       "ALTERNATIVE \"wrmsr; nop\", \"cli\", 5\nALTERNATIVE \"\", \"sti\", 6\nALTERNATIVE \"sti\", \"\", 6",
	       "priv:wrmsr flags:sti");
	/* a macro with sites that is called in a replacement */
	expect(ALT_MACRO ".macro GET r\nlsl %\\r,%\\r\n.endm\nALTERNATIVE \"GET rax\", \"GET rbx\", 5\n", "silent:lsl");
	expect(ALT_MACRO
	       "1: ALTERNATIVE \"rep movsb\", \"jmp 2f\", 5\n2: ALTERNATIVE \"jmp 99f\", \"rep movsb\", 9\n" EX(
		       "1b", "3") EX("2b", "3") "99:",
	       "uaccess:movsb");
	/* as C has it, with the old spelling of sections */
	expect("661:\n\trdmsr\n662:\n.skip -(((6651f-6641f)-(662b-661b)) > 0) * ((6651f-6641f)-(662b-661b)),0x90\n663:\n"
	       ".section .altinstructions,\"a\"\n.long 661b - .\n.long 6641f - .\n.4byte 7\n.byte 663b-661b\n.byte 6651f-6641f\n.previous\n"
	       ".section .altinstr_replacement, \"ax\"\n6641:\n\tcli; .rept 9; rdmsr; .endr\n6651:\n.previous\ncli\n",
	       "priv:rdmsr flags:cli");
}

static void test_sections(void **state)
{
	(void)state;
	expect(".data\ncli\n.text\nhlt\n.section .rodata\ncli\n.previous\nhlt\n.section .init.text,\"ax\",@progbits\nrdmsr\n"
	       ".pushsection .discard.text,\"a\"\ncli\n.popsection\nwrmsr\n.pushsection .foo,\"aw\"\ncli\n.pushsection .text; cpuid; .popsection\n"
	       "cli\n.popsection\nclts",
	       "priv:hlt priv:hlt silent:cpuid priv:rdmsr priv:wrmsr priv:clts");
	expect(".code32\n.byte 0x90 # cli\n.code64\ncli\n", "flags:cli");
}

static void test_code32_is_left_alone(void **state)
{
	struct ab_buf out = {0};
	unsigned n;

	(void)state;
	rewrite(".code32\ncli\nmov %cr0,%eax\n.code16\nhlt\n.code16gcc\nhlt\n", &out, &n);
	assert_int_equal(n, 0);
}

static void test_mmio(void **state)
{
	(void)state;
	expect("#APP\n# 64 \"./arch/x86/include/asm/io.h\" 1\n\tmovl %eax,(%rdx)\n# 0 \"\" 2\n#NO_APP\n\tmovl %eax,(%rdx)\n"
	       "#APP\n# 3 \"/src/arch/x86/include/asm/io.h\" 1\n\tmovb (%rdx),%al\n# 0 \"\" 2\n# 3 \"include/asm/bio.h\" 1\n\tmovb (%rdx),%al\n#NO_APP\n",
	       "mmio:mov mmio:mov");
	expect("#APP\n# 310 \"./arch/x86/include/asm/io.h\" 1\n\toutb %al, %dx\n# 0 \"\" 2\n#NO_APP\n", "priv:out");
}

static void test_rewriting_twice_changes_nothing(void **state)
{
	struct ab_buf once = {0}, twice = {0};
	struct ab_unit stats = {0};
	unsigned n;

	(void)state;
	rewrite("cli\n", &once, &n);
	assert_int_equal(n, 1);
	assert_int_equal(ab_rewrite((struct ab_str){once.p, once.n}, "x", &twice, &stats, &n), 0);
	assert_int_equal(n, 0);
	free(once.p);
	free(twice.p);
}

/* Text that ends anywhere must not be read beyond its end. */
static void test_truncated_text(void **state)
{
	static const char text[] =
		"1: lock; xadd %eax,(%rdi) /* c */ # x\n\"a b\": .pushsection __ex_table,\"a\"\n.long (1b) - .\n.long 2f-.\n"
		".long (17 | ((-(14)) << 16))\n.popsection\n.macro \\a\\(); {vex} cli; .endm\n.byte 0xf, '\\0'\nALTERNATIVE \"cli\",\"";

	(void)state;
	for (size_t n = 0; n < sizeof text; n++) {
		char *exact = malloc(n ? n : 1); /* address sanitizer sees what goes beyond */
		struct ab_buf out = {0};
		struct ab_unit stats = {0};
		unsigned sites;

		memcpy(exact, text, n);
		assert_int_equal(ab_rewrite((struct ab_str){exact, n}, "x", &out, &stats, &sites), 0);
		free(out.p);
		free(exact);
	}
}

static void test_type_expressions(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
		bool good;
	} cases[] = {
		{"3", 3, true},
		{" ((3) ) ", 3, true},
		{"(17 | ((((-(14))) << 16)))", 17 | -14 * 65536, true},
		{"0xff&~1+2*3", 0xff & (~1 + 6), true},
		{"\\type", 0, false},
		{"(3", 0, false},
		{"", 0, false},
		{"3 4", 0, false},
		{"1<2", 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int64_t v;

		assert_int_equal(ab_eval((struct ab_str){cases[i].text, strlen(cases[i].text)}, &v), cases[i].good);
		if (cases[i].good)
			assert_int_equal(v, cases[i].value);
	}
}

/* The program itself, as gcc calls it.  make runs us where it is. */

static bool have_program(void)
{
	return !access("./lol-afterburn", X_OK);
}

static void expect_program(const char *command, const char *object, const char *sites)
{
	char got[1024];

	assert_int_equal(sh("cd %s && %s", dir, command), 0);
	describe(in_dir(object), got, sizeof got);
	assert_string_equal(got, sites);
}

static void test_program(void **state)
{
	static const char c[] = "void f(void); void f(void) { asm volatile(\"cli\"); }\n";

	(void)state;
	if (!have_program())
		skip();
	assert_int_equal(
		sh("mkdir -p %s/bin %s/arch/x86/boot %s/arch/x86/entry/vdso && ln -sf $PWD/lol-afterburn %s/bin/as",
		   dir, dir, dir, dir),
		0);
	write_file(in_dir("x.c"), c, sizeof c - 1);
	expect_program("gcc -B bin -c x.c -o x.o", "x.o", "flags:cli");
	expect_program("gcc -B bin -g -pipe -O2 -c x.c -o y.o", "y.o", "flags:cli");
	expect_program("echo 'lgdt (%rax)' | bin/as - -o z.o", "z.o", "priv:lgdt");
	expect_program("printf '#define X cli\\nX;X' | gcc -B bin -g -x assembler-with-cpp -c -o s.o -", "s.o",
		       "flags:cli flags:cli");
	expect_program("gcc -B bin -c x.c -o arch/x86/entry/vdso/vma.o", "arch/x86/entry/vdso/vma.o", "flags:cli");
	/* these have nothing to describe: they are as the real assembler makes them */
	assert_int_equal(sh("cd %s && gcc -c x.c -o plain.o", dir), 0);
	assert_int_equal(sh("cd %s && LOL_AFTERBURN_PLAIN=1 gcc -B bin -c x.c -o p.o && cmp p.o plain.o", dir), 0);
	assert_int_equal(sh("cd %s && gcc -B bin -c x.c -o arch/x86/boot/x.o && cmp arch/x86/boot/x.o plain.o", dir),
			 0);
	assert_int_equal(
		sh("cd %s && gcc -B bin -c x.c -o arch/x86/entry/vdso/x.o && cmp arch/x86/entry/vdso/x.o plain.o", dir),
		0);
}

static void test_program_is_like_the_assembler(void **state)
{
	(void)state;
	if (!have_program())
		skip();
	assert_int_equal(sh("cd %s && bin/as --version | head -1 | grep -q 'GNU assembler'", dir), 0);
	assert_int_equal(
		sh("cd %s && gcc -B bin -Wa,--version -c -x assembler-with-cpp /dev/null -o /dev/null | grep -q GNU",
		   dir),
		0);
	assert_int_equal(sh("cd %s && echo nonsense | bin/as -o e.o 2>/dev/null", dir), 1);
	assert_int_equal(sh("cd %s && echo 'cli; nonsense' | bin/as -o e.o 2>/dev/null", dir), 1);
	assert_int_equal(sh("cd %s && bin/as absent.s -o e.o 2>/dev/null", dir), 1);
	assert_int_equal(sh("cd %s && LOL_AS=/nonexistent bin/as -o e.o </dev/null 2>/dev/null", dir), 125);
	assert_int_equal(sh("cd %s && LOL_AS=bin/as bin/as -o e.o </dev/null 2>/dev/null", dir), 125);
	assert_int_equal(sh("cd %s && PATH=$PWD/bin:$PATH LOL_AS=as bin/as -o e.o </dev/null", dir), 0);
	assert_int_equal(sh("./lol-afterburn --help | grep -q LOL_AS && ./lol-afterburn --version-lol | grep -q ABI"),
			 0);
	/* line numbers of messages are those of the text */
	assert_int_equal(sh("cd %s && printf 'cli\\n\\nbad\\n' | bin/as -o e.o 2>&1 | grep -q ':3: Error'", dir), 0);
	assert_int_equal(
		sh("cd %s && rm -f log && echo cli | LOL_AFTERBURN_LOG=log bin/as -o e.o && grep -q '^e.o flags 1 priv 0' log",
		   dir),
		0);
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
		cmocka_unit_test(test_operandless),
		cmocka_unit_test(test_operands),
		cmocka_unit_test(test_raw_bytes),
		cmocka_unit_test(test_layout_of_text),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_prefixes_instead_of_nops),
		cmocka_unit_test(test_nops_where_needed),
		cmocka_unit_test(test_long_instructions),
		cmocka_unit_test(test_user_accesses),
		cmocka_unit_test(test_user_accesses_in_macros),
		cmocka_unit_test(test_alternatives),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_code32_is_left_alone),
		cmocka_unit_test(test_mmio),
		cmocka_unit_test(test_rewriting_twice_changes_nothing),
		cmocka_unit_test(test_truncated_text),
		cmocka_unit_test(test_type_expressions),
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_program_is_like_the_assembler),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
