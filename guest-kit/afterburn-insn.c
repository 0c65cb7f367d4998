/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which instructions are sensitive: by name, by operands where the name is
 * shared with harmless forms (mov, push, pop), and by encoding for those that
 * kernel headers write as .byte because old assemblers lack the mnemonic.
 */
#include "afterburn.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum rule {
	ALWAYS,
	IF_SYSTEM_REG,  /* mov: an operand is a control, debug or segment register */
	IF_SEGMENT_REG, /* push, pop */
};

struct insn {
	const char *name;
	uint8_t kind, rule;
};

/* Sorted by name (bsearch); the unit test checks the order. */
static const struct insn insns[] = {
	{"cli", IVMM_FLAGS, 0},        {"clts", IVMM_PRIV, 0},       {"cpuid", IVMM_SILENT, 0},
	{"fxrstor", IVMM_STATE, 0},    {"fxrstor64", IVMM_STATE, 0}, {"fxrstorq", IVMM_STATE, 0},
	{"fxsave", IVMM_STATE, 0},     {"fxsave64", IVMM_STATE, 0},  {"fxsaveq", IVMM_STATE, 0},
	{"hlt", IVMM_PRIV, 0},         {"in", IVMM_PRIV, 0},         {"inb", IVMM_PRIV, 0},
	{"inl", IVMM_PRIV, 0},         {"ins", IVMM_PRIV, 0},        {"insb", IVMM_PRIV, 0},
	{"insl", IVMM_PRIV, 0},        {"insw", IVMM_PRIV, 0},       {"invd", IVMM_PRIV, 0},
	{"invlpg", IVMM_PRIV, 0},      {"invpcid", IVMM_PRIV, 0},    {"inw", IVMM_PRIV, 0},
	{"iret", IVMM_PRIV, 0},        {"iretl", IVMM_PRIV, 0},      {"iretq", IVMM_PRIV, 0},
	{"iretw", IVMM_PRIV, 0},       {"lar", IVMM_SILENT, 0},      {"larl", IVMM_SILENT, 0},
	{"larq", IVMM_SILENT, 0},      {"larw", IVMM_SILENT, 0},     {"lcall", IVMM_SILENT, 0},
	{"lcalll", IVMM_SILENT, 0},    {"lcallq", IVMM_SILENT, 0},   {"lcallw", IVMM_SILENT, 0},
	{"lfs", IVMM_SILENT, 0},       {"lfsl", IVMM_SILENT, 0},     {"lfsq", IVMM_SILENT, 0},
	{"lgdt", IVMM_PRIV, 0},        {"lgdtq", IVMM_PRIV, 0},      {"lgs", IVMM_SILENT, 0},
	{"lgsl", IVMM_SILENT, 0},      {"lgsq", IVMM_SILENT, 0},     {"lidt", IVMM_PRIV, 0},
	{"lidtq", IVMM_PRIV, 0},       {"ljmp", IVMM_SILENT, 0},     {"ljmpl", IVMM_SILENT, 0},
	{"ljmpq", IVMM_SILENT, 0},     {"ljmpw", IVMM_SILENT, 0},    {"lkgs", IVMM_PRIV, 0},
	{"lldt", IVMM_PRIV, 0},        {"lldtw", IVMM_PRIV, 0},      {"lmsw", IVMM_PRIV, 0},
	{"lmsww", IVMM_PRIV, 0},       {"lret", IVMM_PRIV, 0},       {"lretl", IVMM_PRIV, 0},
	{"lretq", IVMM_PRIV, 0},       {"lretw", IVMM_PRIV, 0},      {"lsl", IVMM_SILENT, 0},
	{"lsll", IVMM_SILENT, 0},      {"lslq", IVMM_SILENT, 0},     {"lslw", IVMM_SILENT, 0},
	{"lss", IVMM_SILENT, 0},       {"lssl", IVMM_SILENT, 0},     {"lssq", IVMM_SILENT, 0},
	{"ltr", IVMM_PRIV, 0},         {"ltrw", IVMM_PRIV, 0},       {"monitor", IVMM_PRIV, 0},
	{"mov", 0, IF_SYSTEM_REG},     {"movl", 0, IF_SYSTEM_REG},   {"movq", 0, IF_SYSTEM_REG},
	{"movw", 0, IF_SYSTEM_REG},    {"mwait", IVMM_PRIV, 0},      {"out", IVMM_PRIV, 0},
	{"outb", IVMM_PRIV, 0},        {"outl", IVMM_PRIV, 0},       {"outs", IVMM_PRIV, 0},
	{"outsb", IVMM_PRIV, 0},       {"outsl", IVMM_PRIV, 0},      {"outsw", IVMM_PRIV, 0},
	{"outw", IVMM_PRIV, 0},        {"pop", 0, IF_SEGMENT_REG},   {"popf", IVMM_FLAGS, 0},
	{"popfq", IVMM_FLAGS, 0},      {"popfw", IVMM_FLAGS, 0},     {"popq", 0, IF_SEGMENT_REG},
	{"popw", 0, IF_SEGMENT_REG},   {"push", 0, IF_SEGMENT_REG},  {"pushf", IVMM_FLAGS, 0},
	{"pushfq", IVMM_FLAGS, 0},     {"pushfw", IVMM_FLAGS, 0},    {"pushq", 0, IF_SEGMENT_REG},
	{"pushw", 0, IF_SEGMENT_REG},  {"rdfsbase", IVMM_SILENT, 0}, {"rdfsbasel", IVMM_SILENT, 0},
	{"rdfsbaseq", IVMM_SILENT, 0}, {"rdgsbase", IVMM_SILENT, 0}, {"rdgsbasel", IVMM_SILENT, 0},
	{"rdgsbaseq", IVMM_SILENT, 0}, {"rdmsr", IVMM_PRIV, 0},      {"rdpid", IVMM_SILENT, 0},
	{"rdpkru", IVMM_SILENT, 0},    {"rdpmc", IVMM_PRIV, 0},      {"sgdt", IVMM_SILENT, 0},
	{"sgdtq", IVMM_SILENT, 0},     {"sidt", IVMM_SILENT, 0},     {"sidtq", IVMM_SILENT, 0},
	{"sldt", IVMM_SILENT, 0},      {"sldtl", IVMM_SILENT, 0},    {"sldtq", IVMM_SILENT, 0},
	{"sldtw", IVMM_SILENT, 0},     {"smsw", IVMM_SILENT, 0},     {"smswl", IVMM_SILENT, 0},
	{"smswq", IVMM_SILENT, 0},     {"smsww", IVMM_SILENT, 0},    {"sti", IVMM_FLAGS, 0},
	{"str", IVMM_SILENT, 0},       {"strl", IVMM_SILENT, 0},     {"strq", IVMM_SILENT, 0},
	{"strw", IVMM_SILENT, 0},      {"swapgs", IVMM_PRIV, 0},     {"sysexit", IVMM_PRIV, 0},
	{"sysexitl", IVMM_PRIV, 0},    {"sysexitq", IVMM_PRIV, 0},   {"sysret", IVMM_PRIV, 0},
	{"sysretl", IVMM_PRIV, 0},     {"sysretq", IVMM_PRIV, 0},    {"verr", IVMM_SILENT, 0},
	{"verrw", IVMM_SILENT, 0},     {"verw", IVMM_SILENT, 0},     {"verww", IVMM_SILENT, 0},
	{"vmcall", IVMM_CALL, 0},      {"vmmcall", IVMM_PRIV, 0},    {"wbinvd", IVMM_PRIV, 0},
	{"wbnoinvd", IVMM_PRIV, 0},    {"wrfsbase", IVMM_SILENT, 0}, {"wrfsbasel", IVMM_SILENT, 0},
	{"wrfsbaseq", IVMM_SILENT, 0}, {"wrgsbase", IVMM_SILENT, 0}, {"wrgsbasel", IVMM_SILENT, 0},
	{"wrgsbaseq", IVMM_SILENT, 0}, {"wrmsr", IVMM_PRIV, 0},      {"wrmsrns", IVMM_PRIV, 0},
	{"wrpkru", IVMM_SILENT, 0},    {"xgetbv", IVMM_SILENT, 0},   {"xrstor", IVMM_STATE, 0},
	{"xrstor64", IVMM_STATE, 0},   {"xrstors", IVMM_STATE, 0},   {"xrstors64", IVMM_STATE, 0},
	{"xsave", IVMM_STATE, 0},      {"xsave64", IVMM_STATE, 0},   {"xsavec", IVMM_STATE, 0},
	{"xsavec64", IVMM_STATE, 0},   {"xsaveopt", IVMM_STATE, 0},  {"xsaveopt64", IVMM_STATE, 0},
	{"xsaves", IVMM_STATE, 0},     {"xsaves64", IVMM_STATE, 0},  {"xsetbv", IVMM_PRIV, 0},
};

static bool is(struct ab_str s, const char *name)
{
	return s.n == strlen(name) && !strncasecmp(s.p, name, s.n);
}

static int compare(const void *key, const void *element)
{
	const struct ab_str *s = key;
	const char *name = ((const struct insn *)element)->name;
	int order = strncasecmp(s->p, name, s->n);

	return order ? order : name[s->n] ? -1 : 0;
}

static struct ab_str trim(struct ab_str s)
{
	while (s.n && ab_blank(*s.p))
		s.p++, s.n--;
	while (s.n && ab_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* Cut the first operand off rest (commas inside parentheses do not count); false at the end. */
static bool next_operand(struct ab_str *rest, struct ab_str *operand)
{
	size_t i = 0;
	int depth = 0;

	if (!rest->n)
		return false;
	for (; i < rest->n && (depth || rest->p[i] != ','); i++)
		depth += (rest->p[i] == '(') - (rest->p[i] == ')');
	*operand = trim((struct ab_str){rest->p, i});
	i += i < rest->n;
	rest->p += i;
	rest->n -= i;
	return true;
}

static bool is_segment(struct ab_str op)
{
	/* "%fs" alone: "%fs:8" is a memory operand */
	return op.n == 3 && op.p[0] == '%' && (op.p[2] | 32) == 's' && strchr("cdefgsCDEFGS", op.p[1]);
}

static bool is_control(struct ab_str op)
{
	return op.n >= 4 && op.p[0] == '%' &&
	       (!strncasecmp(op.p + 1, "cr", 2) || !strncasecmp(op.p + 1, "db", 2) || !strncasecmp(op.p + 1, "dr", 2));
}

int ab_insn_kind(struct ab_str mnemonic, struct ab_str operands)
{
	const struct insn *insn = bsearch(&mnemonic, insns, sizeof insns / sizeof *insns, sizeof *insns, compare);
	struct ab_str op;

	if (!insn || insn->rule == ALWAYS)
		return insn ? insn->kind : 0;
	while (next_operand(&operands, &op)) {
		if (is_segment(op))
			return IVMM_SILENT;
		if (insn->rule == IF_SYSTEM_REG && is_control(op))
			return IVMM_PRIV;
	}
	return 0;
}

bool ab_is_prefix(struct ab_str t)
{
	static const char *const prefixes[] = {"lock",   "rep",    "repe", "repz",    "repne",    "repnz",   "cs",
					       "ds",     "es",     "fs",   "gs",      "ss",       "addr32",  "addr16",
					       "data16", "data32", "bnd",  "notrack", "xacquire", "xrelease"};

	if (t.n >= 2 && t.p[0] == '{')
		return true;
	if (t.n >= 3 && t.n <= 8 && !strncasecmp(t.p, "rex", 3))
		return true;
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		if (is(t, prefixes[i]))
			return true;
	return false;
}

bool ab_has_memory(struct ab_str mnemonic, struct ab_str operands)
{
	static const char *const strings[] = {"movs", "stos", "lods", "cmps", "scas"};
	struct ab_str op;

	if (memchr(mnemonic.p, '\\', mnemonic.n))
		return true;
	/* the target of these looks like memory */
	if (mnemonic.n && ((mnemonic.p[0] | 32) == 'j' || (mnemonic.n >= 4 && !strncasecmp(mnemonic.p, "call", 4))))
		return false;
	if (mnemonic.n <= 5 && mnemonic.n >= 4)
		for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
			if (!strncasecmp(mnemonic.p, strings[i], 4) && !operands.n)
				return true;
	while (next_operand(&operands, &op))
		if (op.n && op.p[0] != '$' && (op.p[0] != '%' || memchr(op.p, ':', op.n)))
			return true;
	return false;
}

/* Bytes of an instruction without memory operand: the least that the text allows for. */
static unsigned register_form(struct ab_str m, struct ab_str operands)
{
	static const char *const one[] = {"cli", "sti", "pushf", "pushfq", "popf", "popfq", "hlt"};
	static const char *const three[] = {"swapgs", "sysretq", "xgetbv",  "xsetbv",
					    "vmcall", "vmmcall", "monitor", "mwait"};
	struct ab_str op;

	for (size_t i = 0; i < sizeof one / sizeof *one; i++)
		if (is(m, one[i]))
			return 1;
	for (size_t i = 0; i < sizeof three / sizeof *three; i++)
		if (is(m, three[i]))
			return 3;
	if (m.n >= 8 && !strncasecmp(m.p + 4, "base", 4))
		return 4;
	while (next_operand(&operands, &op))
		if (is_control(op))
			return 3;
	return 2;
}

unsigned ab_insn_fill(struct ab_str m, struct ab_str operands, bool *disp32)
{
	bool memory = ab_has_memory(m, operands), string = memory && !operands.n, port;

	*disp32 = false;
	if (!m.n || memchr(m.p, '\\', m.n))
		return 0;
	port = m.n >= 2 && (is((struct ab_str){m.p, 2}, "in") ? m.n == 2 || strchr("bwls", m.p[2] | 32) != NULL
							      : m.n >= 3 && is((struct ab_str){m.p, 3}, "out"));
	if (string || port)
		return IVMM_SITE_MIN - 1;
	if (!memory)
		return IVMM_SITE_MIN - register_form(m, operands);
	if (memchr(operands.p, '*', operands.n) || memchr(operands.p, '\\', operands.n))
		return 0; /* far jumps and calls; operands of a macro */
	/* Opcode, ModRM and displacement are 6 bytes, an immediate operand is another one; 15 is what no instruction may exceed. */
	*disp32 = memchr(operands.p, '(', operands.n) && !memmem(operands.p, operands.n, "%rip", 4);
	return IVMM_SITE_MIN - 6 - !!memchr(operands.p, '$', operands.n);
}

bool ab_is_move(struct ab_str m)
{
	return m.n >= 3 && !strncasecmp(m.p, "mov", 3);
}

/* The constants of a .byte list into bytes[max]; -1 if anything else is in it. */
static int parse_bytes(struct ab_str operands, uint8_t *bytes, int max)
{
	struct ab_str op;
	int n = 0;

	while (next_operand(&operands, &op)) {
		char text[16], *end;
		unsigned long v;

		if (n == max || !op.n || op.n >= sizeof text)
			return -1;
		memcpy(text, op.p, op.n);
		text[op.n] = 0;
		v = strtoul(text, &end, 0);
		if (*end || v > 255)
			return -1;
		bytes[n++] = (uint8_t)v;
	}
	return n;
}

/* 0f 01 /r with a register form: the third byte names the instruction. */
static int group7_kind(uint8_t modrm, uint8_t prefix)
{
	if (prefix)
		return 0; /* the f2 and f3 forms are FRED and CET instructions */
	switch (modrm) {
	case 0xc1:
		return IVMM_CALL; /* vmcall */
	case 0xc6:                /* wrmsrns */
	case 0xc8:                /* monitor */
	case 0xc9:                /* mwait */
	case 0xd1:                /* xsetbv */
	case 0xd9:                /* vmmcall */
	case 0xf8:                /* swapgs */
		return IVMM_PRIV;
	case 0xd0: /* xgetbv */
	case 0xee: /* rdpkru */
	case 0xef: /* wrpkru */
		return IVMM_SILENT;
	default:
		return 0;
	}
}

int ab_bytes_kind(struct ab_str operands)
{
	uint8_t b[15], prefix = 0;
	int n = parse_bytes(operands, b, sizeof b), i = 0;

	for (; i < n && (b[i] == 0x66 || b[i] == 0xf2 || b[i] == 0xf3); i++)
		prefix = b[i];
	if (i < n && (b[i] & 0xf0) == 0x40)
		i++; /* REX */
	if (n - i < 3 || b[i] != 0x0f)
		return 0;
	uint8_t opcode = b[i + 1], modrm = b[i + 2], reg = modrm >> 3 & 7;
	bool memory = modrm < 0xc0;

	if (opcode == 0x01 && !memory)
		return group7_kind(modrm, prefix);
	if (opcode == 0x00 && prefix == 0xf2 && reg == 6)
		return IVMM_PRIV; /* lkgs */
	if (opcode == 0xc7 && prefix == 0xf3 && reg == 7 && !memory)
		return IVMM_SILENT; /* rdpid */
	if (opcode == 0xc7 && !prefix && memory && reg >= 3 && reg <= 5)
		return IVMM_STATE; /* xrstors xsavec xsaves */
	if (opcode == 0xae && !prefix && memory && reg != 2 && reg != 3 && reg != 7)
		return IVMM_STATE; /* fxsave fxrstor xsave xrstor xsaveopt */
	return 0;
}
