/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which decoded instruction is sensitive.  This is on purpose not derived
 * from the afterburner's table of mnemonics: one checks the other.
 */
#include "sites.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>

static ZydisDecoder decoder;
static ZydisFormatter formatter;

/* What Zydis 4.0 does not know; all of them without memory operand. */
static const struct raw {
	const char *name;
	uint8_t len, bytes[4], mask_last;
	uint8_t kind;
} raws[] = {
	{"lkgs", 4, {0xf2, 0x0f, 0x00, 0xf0}, 0xf8, IVMM_PRIV},
	{"erets", 4, {0xf2, 0x0f, 0x01, 0xca}, 0xff, 0},
	{"eretu", 4, {0xf3, 0x0f, 0x01, 0xca}, 0xff, 0},
	{"rdmsrlist", 4, {0xf2, 0x0f, 0x01, 0xc6}, 0xff, IVMM_PRIV},
	{"wrmsrlist", 4, {0xf3, 0x0f, 0x01, 0xc6}, 0xff, IVMM_PRIV},
	{"wrmsrns", 3, {0x0f, 0x01, 0xc6}, 0xff, IVMM_PRIV},
};

void insn_init(void)
{
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_ATT);
}

static const struct raw *find_raw(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < sizeof raws / sizeof *raws; i++) {
		const struct raw *r = &raws[i];

		if (n >= r->len && !memcmp(p, r->bytes, r->len - 1) &&
		    (p[r->len - 1] & r->mask_last) == r->bytes[r->len - 1])
			return r;
	}
	return NULL;
}

/* Mnemonics whose every form is sensitive. */
static uint8_t kind_by_mnemonic(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFQ:
		return IVMM_FLAGS;
	case ZYDIS_MNEMONIC_LGDT:
	case ZYDIS_MNEMONIC_LIDT:
	case ZYDIS_MNEMONIC_LLDT:
	case ZYDIS_MNEMONIC_LTR:
	case ZYDIS_MNEMONIC_LMSW:
	case ZYDIS_MNEMONIC_CLTS:
	case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_RDMSR:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_INVLPG:
	case ZYDIS_MNEMONIC_INVPCID:
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_WBINVD:
	case ZYDIS_MNEMONIC_INVD:
	case ZYDIS_MNEMONIC_IN:
	case ZYDIS_MNEMONIC_OUT:
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSEXIT:
	case ZYDIS_MNEMONIC_SWAPGS:
	case ZYDIS_MNEMONIC_XSETBV:
	case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MWAIT:
	case ZYDIS_MNEMONIC_VMMCALL:
		return IVMM_PRIV;
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_RDPID:
	case ZYDIS_MNEMONIC_XGETBV:
	case ZYDIS_MNEMONIC_RDPKRU:
	case ZYDIS_MNEMONIC_WRPKRU:
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_RDGSBASE:
	case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
		return IVMM_SILENT;
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
		return IVMM_STATE;
	case ZYDIS_MNEMONIC_VMCALL:
		return IVMM_CALL;
	default:
		return 0;
	}
}

/* Acts on the host's thread, or ends in a signal that nobody expects; stac and clac belong in replacements. */
static bool is_forbidden(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_STAC:
	case ZYDIS_MNEMONIC_CLAC:
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_INT:
		return true;
	default:
		return false;
	}
}

static uint8_t kind_by_operands(ZydisMnemonic m, const ZydisDecodedOperand *operands, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (ZydisRegisterGetClass(operands[i].reg.value)) {
		case ZYDIS_REGCLASS_SEGMENT:
			return IVMM_SILENT;
		case ZYDIS_REGCLASS_CONTROL:
		case ZYDIS_REGCLASS_DEBUG:
			if (m == ZYDIS_MNEMONIC_MOV)
				return IVMM_PRIV;
			break;
		default:
			break;
		}
	}
	return 0;
}

static uint8_t far_kind(const ZydisDecodedInstruction *d)
{
	if (d->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR)
		return 0;
	return d->mnemonic == ZYDIS_MNEMONIC_RET ? IVMM_PRIV : IVMM_SILENT;
}

/* Operands of string instructions are hidden ones and count; the stack of call and push does not. */
static bool has_memory(const ZydisDecodedOperand *operands, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && operands[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
		    (operands[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
		     operands[i].mem.base != ZYDIS_REGISTER_RSP))
			return true;
	return false;
}

static void look_at_operands(struct insn *insn, const ZydisDecoderContext *context, const ZydisDecodedInstruction *d)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	unsigned n;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&decoder, context, d, operands, d->operand_count)))
		return;
	n = d->operand_count;
	insn->memory = has_memory(operands, n);
	if (!insn->kind && (d->mnemonic == ZYDIS_MNEMONIC_MOV || d->mnemonic == ZYDIS_MNEMONIC_PUSH ||
			    d->mnemonic == ZYDIS_MNEMONIC_POP))
		insn->kind = kind_by_operands(d->mnemonic, operands, d->operand_count_visible);
	if (d->raw.imm[0].is_relative) {
		insn->branch = true;
		insn->branch_disp = d->raw.imm[0].value.s;
		insn->target_off = d->raw.imm[0].offset;
	}
}

struct insn insn_decode(const uint8_t *p, size_t n)
{
	const struct raw *raw = find_raw(p, n);
	ZydisDecodedInstruction d;
	ZydisDecoderContext context;
	struct insn insn = {0};

	if (raw)
		return (struct insn){.len = raw->len, .kind = raw->kind, .forbidden = !raw->kind, .name = raw->name};
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, &context, p, n, &d)))
		return insn;
	insn.len = d.length;
	insn.name = ZydisMnemonicGetString(d.mnemonic);
	insn.kind = kind_by_mnemonic(d.mnemonic);
	insn.kind = insn.kind ? insn.kind : far_kind(&d);
	insn.forbidden = is_forbidden(d.mnemonic);
	insn.sti = d.mnemonic == ZYDIS_MNEMONIC_STI;
	insn.nop = d.mnemonic == ZYDIS_MNEMONIC_NOP;
	insn.move = !strncmp(insn.name, "mov", 3);
	look_at_operands(&insn, &context, &d);
	return insn;
}

void insn_format(const uint8_t *p, size_t n, uint64_t addr, char *text, size_t size)
{
	const struct raw *raw = find_raw(p, n);
	ZydisDecodedInstruction d;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

	if (raw)
		snprintf(text, size, "%s", raw->name);
	else if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, p, n, &d, operands)) ||
		 !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &d, operands, d.operand_count_visible, text,
							       size, addr, NULL)))
		snprintf(text, size, "(bad)");
}
