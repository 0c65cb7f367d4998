/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table below is both the order of the g packet and target.xml: the features that gdb knows for amd64, with the segment
 * bases and control registers under the names that other servers of guest kernels have given them.
 */
#include "gdb/regs.h"

#include <stdio.h>
#include <string.h>

#include "types.h"

enum where { GENERAL, RIP, FLAGS, SELECTOR, BASE, X87, X87_CONTROL, XMM, MXCSR, YMMH, CONTROL };

struct reg {
	const char *name;
	uint8_t size; /* bytes */
	uint8_t where;
	uint8_t n; /* which of its kind */
	const char *type, *feature;
};

#define CORE "org.gnu.gdb.i386.core"
#define SSE "org.gnu.gdb.i386.sse"
#define AVX "org.gnu.gdb.i386.avx"
#define SEGMENTS "org.gnu.gdb.i386.segments"
#define SYSTEM "org.lol.system"
#define G(name, n) \
	{ \
		name, 8, GENERAL, n, "int64", CORE \
	}
#define SEL(name, n) \
	{ \
		name, 4, SELECTOR, n, "int32", CORE \
	}
#define ST(n) \
	{ \
		"st" #n, 10, X87, n, "i387_ext", CORE \
	}
#define FC(name, n) \
	{ \
		name, 4, X87_CONTROL, n, "int", CORE \
	}
#define X(n) \
	{ \
		"xmm" #n, 16, XMM, n, "vec128", SSE \
	}
#define Y(n) \
	{ \
		"ymm" #n "h", 16, YMMH, n, "uint128", AVX \
	}

enum {
	C_FS_BASE,
	C_GS_BASE,
	C_KERNEL_GS_BASE,
	C_CR0,
	C_CR2,
	C_CR3,
	C_CR4,
	C_EFER,
	C_XCR0,
	C_GDT,
	C_IDT,
	C_TSS,
	C_LSTAR,
	C_DR6,
	C_DR7,
	C_CPL
};

static const struct reg regs[] = {
	G("rax", 0),
	G("rbx", 3),
	G("rcx", 1),
	G("rdx", 2),
	G("rsi", 6),
	G("rdi", 7),
	{"rbp", 8, GENERAL, 5, "data_ptr", CORE},
	{"rsp", 8, GENERAL, 4, "data_ptr", CORE},
	G("r8", 8),
	G("r9", 9),
	G("r10", 10),
	G("r11", 11),
	G("r12", 12),
	G("r13", 13),
	G("r14", 14),
	G("r15", 15),
	{"rip", 8, RIP, 0, "code_ptr", CORE},
	{"eflags", 4, FLAGS, 0, "i386_eflags", CORE},
	SEL("cs", SEG_CS),
	SEL("ss", SEG_SS),
	SEL("ds", SEG_DS),
	SEL("es", SEG_ES),
	SEL("fs", SEG_FS),
	SEL("gs", SEG_GS),
	ST(0),
	ST(1),
	ST(2),
	ST(3),
	ST(4),
	ST(5),
	ST(6),
	ST(7),
	FC("fctrl", 0),
	FC("fstat", 1),
	FC("ftag", 2),
	FC("fiseg", 3),
	FC("fioff", 4),
	FC("foseg", 5),
	FC("fooff", 6),
	FC("fop", 7),
	X(0),
	X(1),
	X(2),
	X(3),
	X(4),
	X(5),
	X(6),
	X(7),
	X(8),
	X(9),
	X(10),
	X(11),
	X(12),
	X(13),
	X(14),
	X(15),
	{"mxcsr", 4, MXCSR, 0, "i386_mxcsr", SSE},
	{"fs_base", 8, BASE, C_FS_BASE, "int64", SEGMENTS},
	{"gs_base", 8, BASE, C_GS_BASE, "int64", SEGMENTS},
	Y(0),
	Y(1),
	Y(2),
	Y(3),
	Y(4),
	Y(5),
	Y(6),
	Y(7),
	Y(8),
	Y(9),
	Y(10),
	Y(11),
	Y(12),
	Y(13),
	Y(14),
	Y(15),
	{"k_gs_base", 8, BASE, C_KERNEL_GS_BASE, "int64", SYSTEM},
	{"cr0", 8, CONTROL, C_CR0, "int64", SYSTEM},
	{"cr2", 8, CONTROL, C_CR2, "int64", SYSTEM},
	{"cr3", 8, CONTROL, C_CR3, "int64", SYSTEM},
	{"cr4", 8, CONTROL, C_CR4, "int64", SYSTEM},
	{"efer", 8, CONTROL, C_EFER, "int64", SYSTEM},
	{"xcr0", 8, CONTROL, C_XCR0, "int64", SYSTEM},
	{"gdt_base", 8, CONTROL, C_GDT, "int64", SYSTEM},
	{"idt_base", 8, CONTROL, C_IDT, "int64", SYSTEM},
	{"tss_base", 8, CONTROL, C_TSS, "int64", SYSTEM},
	{"lstar", 8, CONTROL, C_LSTAR, "int64", SYSTEM},
	{"dr6", 8, CONTROL, C_DR6, "int64", SYSTEM},
	{"dr7", 8, CONTROL, C_DR7, "int64", SYSTEM},
	{"cpl", 8, CONTROL, C_CPL, "int64", SYSTEM},
};

static const char types[] =
	"<flags id=\"i386_eflags\" size=\"4\"><field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
	"<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/>"
	"<field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
	"<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/>"
	"<field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
	"<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";
static const char sse_types[] =
	"<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
	"<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
	"<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
	"<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
	"<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
	"<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
	"<flags id=\"i386_mxcsr\" size=\"4\"><field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
	"<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/><field name=\"UE\" start=\"4\" end=\"4\"/>"
	"<field name=\"PE\" start=\"5\" end=\"5\"/><field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
	"<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/><field name=\"OM\" start=\"10\" end=\"10\"/>"
	"<field name=\"UM\" start=\"11\" end=\"11\"/><field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/></flags>";

unsigned gdb_regs_count(void)
{
	return ARRAY_LEN(regs);
}

unsigned gdb_reg_size(unsigned n)
{
	return n < ARRAY_LEN(regs) ? regs[n].size : 0;
}

void gdb_regs_xml(struct gdb_out *out)
{
	const char *feature = NULL;

	gdb_out_text(out, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">"
			  "<architecture>i386:x86-64</architecture>");
	for (unsigned i = 0; i < ARRAY_LEN(regs); i++) {
		const struct reg *r = &regs[i];
		if (!feature || strcmp(feature, r->feature) != 0) {
			gdb_out_format(out, "%s<feature name=\"%s\">", feature ? "</feature>" : "", r->feature);
			gdb_out_text(out, !strcmp(r->feature, CORE)  ? types
					  : !strcmp(r->feature, SSE) ? sse_types
								     : "");
			feature = r->feature;
		}
		gdb_out_format(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>", r->name,
			       r->size * 8u, r->type, i);
	}
	gdb_out_text(out, "</feature></target>");
}

/* ---- the XSAVE image (SDM vol. 1, 13.4) ---- */

enum { X_BV = 512, X_YMMH = 576 };

/* A component that the image marks as initial has its initial value, whatever stands in its place. */
static bool has(const struct vcpu_state *s, unsigned component)
{
	return s->xstate[X_BV] >> component & 1;
}

static void make(struct vcpu_state *s, unsigned component)
{
	static const uint16_t fcw = 0x37f;

	if (has(s, component))
		return;
	s->xstate[X_BV] |= (uint8_t)(1u << component);
	if (component == 0) {
		memset(s->xstate, 0, 24);
		memset(s->xstate + 32, 0, 128);
		memcpy(s->xstate, &fcw, 2);
	} else if (component == 1) {
		memset(s->xstate + 160, 0, 256);
	} else {
		memset(s->xstate + X_YMMH, 0, 256);
	}
}

static uint32_t get32(const uint8_t *p, unsigned bytes)
{
	uint32_t v = 0;
	memcpy(&v, p, bytes);
	return v;
}

/* The full tag word from the abridged one; what kind of number a register holds, gdb finds out itself. */
static uint32_t full_tag(uint8_t abridged)
{
	uint32_t tag = 0;

	for (unsigned i = 0; i < 8; i++)
		tag |= abridged >> i & 1 ? 0 : 3u << 2 * i;
	return tag;
}

static uint32_t x87_control(const struct vcpu_state *s, unsigned n)
{
	const uint8_t *x = s->xstate;

	if (!has(s, 0))
		return n == 0 ? 0x37f : n == 2 ? 0xffff : 0;
	switch (n) {
	case 0:
		return get32(x, 2);
	case 1:
		return get32(x + 2, 2);
	case 2:
		return full_tag(x[4]);
	case 3:
		return get32(x + 12, 2);
	case 4:
		return get32(x + 8, 4);
	case 5:
		return get32(x + 20, 2);
	case 6:
		return get32(x + 16, 4);
	default:
		return get32(x + 6, 2) & 0x7ff;
	}
}

static void x87_control_write(struct vcpu_state *s, unsigned n, uint32_t v)
{
	static const uint8_t offset[8] = {0, 2, 4, 12, 8, 20, 16, 6};
	uint8_t *x = s->xstate;

	make(s, 0);
	if (n == 2) {
		x[4] = 0;
		for (unsigned i = 0; i < 8; i++)
			x[4] |= (uint8_t)((v >> 2 * i & 3) != 3 ? 1u << i : 0);
		return;
	}
	memcpy(x + offset[n], &v, n == 4 || n == 6 ? 4 : 2);
}

/* ---- reading and writing ---- */

static uint64_t *word(struct vcpu_state *s, const struct reg *r)
{
	if (r->where == GENERAL)
		return &s->r[r->n];
	if (r->where == RIP)
		return &s->rip;
	if (r->where == FLAGS)
		return &s->rflags;
	if (r->where != BASE && r->where != CONTROL)
		return NULL;
	switch (r->n) {
	case C_FS_BASE:
		return &s->fs_base;
	case C_GS_BASE:
		return &s->gs_base;
	case C_KERNEL_GS_BASE:
		return &s->kernel_gs_base;
	case C_CR0:
		return &s->cr0;
	case C_CR2:
		return &s->cr2;
	case C_CR3:
		return &s->cr3;
	case C_CR4:
		return &s->cr4;
	case C_EFER:
		return &s->efer;
	case C_XCR0:
		return &s->xcr0;
	case C_GDT:
		return &s->gdt_base;
	case C_IDT:
		return &s->idt_base;
	case C_TSS:
		return &s->tss_base;
	case C_LSTAR:
		return &s->lstar;
	case C_DR6:
		return &s->dr[6];
	case C_DR7:
		return &s->dr[7];
	default:
		return NULL;
	}
}

bool gdb_reg_read(const struct vcpu_state *s, unsigned n, uint8_t out[16])
{
	if (n >= ARRAY_LEN(regs))
		return false;
	const struct reg *r = &regs[n];
	const uint64_t *w = word((struct vcpu_state *)s, r);
	uint32_t v;

	memset(out, 0, 16);
	if (w) {
		memcpy(out, w, r->size);
		return true;
	}
	switch (r->where) {
	case SELECTOR:
		memcpy(out, &s->sel[r->n], 2);
		break;
	case X87:
		if (has(s, 0))
			memcpy(out, s->xstate + 32 + 16 * r->n, 10);
		break;
	case X87_CONTROL:
		v = x87_control(s, r->n);
		memcpy(out, &v, 4);
		break;
	case XMM:
		if (has(s, 1))
			memcpy(out, s->xstate + 160 + 16 * r->n, 16);
		break;
	case MXCSR:
		memcpy(out, s->xstate + 24, 4);
		break;
	case YMMH:
		if (has(s, 2))
			memcpy(out, s->xstate + X_YMMH + 16 * r->n, 16);
		break;
	case CONTROL: /* C_CPL */
		memcpy(out, &s->cpl, 4);
		break;
	}
	return true;
}

uint32_t gdb_reg_write(struct vcpu_state *s, unsigned n, const uint8_t in[16])
{
	if (n >= ARRAY_LEN(regs))
		return 0;
	const struct reg *r = &regs[n];
	uint64_t v = 0, *w = word(s, r);
	uint8_t old[16];

	if (r->where == CONTROL ||
	    r->where == SELECTOR) { /* what is there already may be written, as gdb does with G */
		gdb_reg_read(s, n, old);
		return memcmp(old, in, r->size) ? 0 : PARK_CHANGED;
	}
	if (w) {
		memcpy(&v, in, r->size);
		*w = r->size == 8 ? v : (*w & ~0xffffffffull) | v;
		return PARK_CHANGED;
	}
	switch (r->where) {
	case X87:
		make(s, 0);
		memcpy(s->xstate + 32 + 16 * r->n, in, 10);
		break;
	case X87_CONTROL:
		x87_control_write(s, r->n, get32(in, 4));
		break;
	case XMM:
		make(s, 1);
		memcpy(s->xstate + 160 + 16 * r->n, in, 16);
		break;
	case MXCSR:
		memcpy(s->xstate + 24, in, 4);
		break;
	case YMMH:
		make(s, 2);
		memcpy(s->xstate + X_YMMH + 16 * r->n, in, 16);
		break;
	}
	return PARK_CHANGED_XSTATE;
}
