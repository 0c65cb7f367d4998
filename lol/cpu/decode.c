/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From bytes to struct insn, by Zydis.  Runs in K at start, and in signal context for
 * instructions that have no site (Zydis may use vector registers).
 */
#include <Zydis/Zydis.h>

#include "cpu/insn.h"

static ZydisDecoder decoder;
static bool ready;

/* clang-format off */
static const struct {
	ZydisMnemonic mnemonic;
	uint8_t op;
} ops[] = {
	{ZYDIS_MNEMONIC_CLI, OP_CLI}, {ZYDIS_MNEMONIC_STI, OP_STI}, {ZYDIS_MNEMONIC_PUSHFQ, OP_PUSHF}, {ZYDIS_MNEMONIC_POPFQ, OP_POPF},
	{ZYDIS_MNEMONIC_HLT, OP_HLT}, {ZYDIS_MNEMONIC_IRETQ, OP_IRET}, {ZYDIS_MNEMONIC_SYSRET, OP_SYSRET}, {ZYDIS_MNEMONIC_SWAPGS, OP_SWAPGS},
	{ZYDIS_MNEMONIC_RDMSR, OP_RDMSR}, {ZYDIS_MNEMONIC_WRMSR, OP_WRMSR}, {ZYDIS_MNEMONIC_CPUID, OP_CPUID},
	{ZYDIS_MNEMONIC_INVLPG, OP_INVLPG}, {ZYDIS_MNEMONIC_INVPCID, OP_INVPCID}, {ZYDIS_MNEMONIC_CLTS, OP_CLTS},
	{ZYDIS_MNEMONIC_LMSW, OP_LMSW}, {ZYDIS_MNEMONIC_SMSW, OP_SMSW}, {ZYDIS_MNEMONIC_LGDT, OP_LGDT}, {ZYDIS_MNEMONIC_LIDT, OP_LIDT},
	{ZYDIS_MNEMONIC_SGDT, OP_SGDT}, {ZYDIS_MNEMONIC_SIDT, OP_SIDT}, {ZYDIS_MNEMONIC_LLDT, OP_LLDT}, {ZYDIS_MNEMONIC_SLDT, OP_SLDT},
	{ZYDIS_MNEMONIC_LTR, OP_LTR}, {ZYDIS_MNEMONIC_STR, OP_STR}, {ZYDIS_MNEMONIC_IN, OP_IN}, {ZYDIS_MNEMONIC_OUT, OP_OUT},
	{ZYDIS_MNEMONIC_INSB, OP_INS}, {ZYDIS_MNEMONIC_INSW, OP_INS}, {ZYDIS_MNEMONIC_INSD, OP_INS}, {ZYDIS_MNEMONIC_OUTSB, OP_OUTS},
	{ZYDIS_MNEMONIC_OUTSW, OP_OUTS}, {ZYDIS_MNEMONIC_OUTSD, OP_OUTS}, {ZYDIS_MNEMONIC_XSETBV, OP_XSETBV}, {ZYDIS_MNEMONIC_XGETBV, OP_XGETBV},
	{ZYDIS_MNEMONIC_RDPMC, OP_RDPMC}, {ZYDIS_MNEMONIC_WBINVD, OP_NOP}, {ZYDIS_MNEMONIC_INVD, OP_NOP},
	{ZYDIS_MNEMONIC_RET, OP_LRET}, {ZYDIS_MNEMONIC_JMP, OP_LJMP}, {ZYDIS_MNEMONIC_VMCALL, OP_VMCALL}, {ZYDIS_MNEMONIC_RDPID, OP_RDPID},
	{ZYDIS_MNEMONIC_LAR, OP_LAR}, {ZYDIS_MNEMONIC_LSL, OP_LSL}, {ZYDIS_MNEMONIC_VERR, OP_VERR}, {ZYDIS_MNEMONIC_VERW, OP_VERW},
	{ZYDIS_MNEMONIC_RDFSBASE, OP_RDFSBASE}, {ZYDIS_MNEMONIC_RDGSBASE, OP_RDGSBASE}, {ZYDIS_MNEMONIC_WRFSBASE, OP_WRFSBASE},
	{ZYDIS_MNEMONIC_WRGSBASE, OP_WRGSBASE}, {ZYDIS_MNEMONIC_XSAVE64, OP_XSAVE}, {ZYDIS_MNEMONIC_XSAVEOPT64, OP_XSAVE},
	{ZYDIS_MNEMONIC_XSAVE, OP_XSAVE}, {ZYDIS_MNEMONIC_XRSTOR64, OP_XRSTOR}, {ZYDIS_MNEMONIC_XRSTOR, OP_XRSTOR},
	{ZYDIS_MNEMONIC_FXSAVE64, OP_FXSAVE}, {ZYDIS_MNEMONIC_FXSAVE, OP_FXSAVE}, {ZYDIS_MNEMONIC_FXRSTOR64, OP_FXRSTOR},
	{ZYDIS_MNEMONIC_FXRSTOR, OP_FXRSTOR}, {ZYDIS_MNEMONIC_MOVZX, OP_LOADZX}, {ZYDIS_MNEMONIC_MOVSX, OP_LOADSX},
	{ZYDIS_MNEMONIC_MOVSXD, OP_LOADSX}, {ZYDIS_MNEMONIC_MOVNTI, OP_STORE}, {ZYDIS_MNEMONIC_XCHG, OP_XCHG}, {ZYDIS_MNEMONIC_XADD, OP_XADD},
	{ZYDIS_MNEMONIC_CMPXCHG, OP_CMPXCHG}, {ZYDIS_MNEMONIC_ADD, OP_ADD}, {ZYDIS_MNEMONIC_SUB, OP_SUB}, {ZYDIS_MNEMONIC_AND, OP_AND},
	{ZYDIS_MNEMONIC_OR, OP_OR}, {ZYDIS_MNEMONIC_XOR, OP_XOR}, {ZYDIS_MNEMONIC_CMP, OP_CMP}, {ZYDIS_MNEMONIC_TEST, OP_TEST},
	{ZYDIS_MNEMONIC_MOVSB, OP_MOVS}, {ZYDIS_MNEMONIC_MOVSW, OP_MOVS}, {ZYDIS_MNEMONIC_MOVSD, OP_MOVS}, {ZYDIS_MNEMONIC_MOVSQ, OP_MOVS},
	{ZYDIS_MNEMONIC_STOSB, OP_STOS}, {ZYDIS_MNEMONIC_STOSW, OP_STOS}, {ZYDIS_MNEMONIC_STOSD, OP_STOS}, {ZYDIS_MNEMONIC_STOSQ, OP_STOS},
};
/* clang-format on */

static uint8_t gpr(ZydisRegister r, uint8_t *high8)
{
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
		*high8 = 1;
		return (uint8_t)(r - ZYDIS_REGISTER_AH);
	}
	ZyanI8 id = ZydisRegisterGetId(r);
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8: /* al..bl, ah..bh, spl..dil, r8b..: the class numbers them through */
		return (uint8_t)(id >= 8 ? id - 4 : id);
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return (uint8_t)id;
	default:
		return NO_REG;
	}
}

static void memory_operand(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *o, struct insn *in)
{
	uint8_t dummy = 0;

	in->mem = 1;
	in->base = o->mem.base == ZYDIS_REGISTER_NONE || o->mem.base == ZYDIS_REGISTER_RIP ? NO_REG
											   : gpr(o->mem.base, &dummy);
	in->riprel = o->mem.base == ZYDIS_REGISTER_RIP;
	in->index = o->mem.index == ZYDIS_REGISTER_NONE ? NO_REG : gpr(o->mem.index, &dummy);
	in->scale = o->mem.scale;
	in->disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
	in->seg = o->mem.segment == ZYDIS_REGISTER_FS ? SEG_FS : o->mem.segment == ZYDIS_REGISTER_GS ? SEG_GS : 0;
	(void)zi;
}

/* mov in all its forms, by its two operands. */
static bool decode_mov(const ZydisDecodedOperand *o, struct insn *in)
{
	ZydisRegisterClass dst = o[0].type == ZYDIS_OPERAND_TYPE_REGISTER ? ZydisRegisterGetClass(o[0].reg.value)
									  : ZYDIS_REGCLASS_INVALID;
	ZydisRegisterClass src = o[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? ZydisRegisterGetClass(o[1].reg.value)
									  : ZYDIS_REGCLASS_INVALID;
	const ZydisDecodedOperand *special = NULL, *other = NULL;

	if (dst == ZYDIS_REGCLASS_CONTROL || dst == ZYDIS_REGCLASS_DEBUG || dst == ZYDIS_REGCLASS_SEGMENT) {
		special = &o[0];
		other = &o[1];
		in->op = dst == ZYDIS_REGCLASS_CONTROL ? OP_MOV_TO_CR
			 : dst == ZYDIS_REGCLASS_DEBUG ? OP_MOV_TO_DR
						       : OP_MOV_TO_SEG;
	} else if (src == ZYDIS_REGCLASS_CONTROL || src == ZYDIS_REGCLASS_DEBUG || src == ZYDIS_REGCLASS_SEGMENT) {
		special = &o[1];
		other = &o[0];
		in->op = src == ZYDIS_REGCLASS_CONTROL ? OP_MOV_FROM_CR
			 : src == ZYDIS_REGCLASS_DEBUG ? OP_MOV_FROM_DR
						       : OP_MOV_FROM_SEG;
	}
	if (special) {
		in->reg2 = (uint8_t)ZydisRegisterGetId(special->reg.value);
		in->reg = other->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr(other->reg.value, &in->high8) : NO_REG;
		in->size = (uint8_t)(other->size / 8);
		return true;
	}
	if (o[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		in->size = (uint8_t)(o[0].size / 8);
		if (o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			in->op = OP_STORE_IMM;
			in->imm = o[1].imm.value.s;
			return true;
		}
		in->op = OP_STORE;
		in->reg = gpr(o[1].reg.value, &in->high8);
		return in->reg != NO_REG;
	}
	if (o[1].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		in->op = OP_LOAD;
		in->size = (uint8_t)(o[1].size / 8);
		in->reg = gpr(o[0].reg.value, &in->high8);
		return in->reg != NO_REG;
	}
	return false;
}

static bool segment_push_pop(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *o, struct insn *in)
{
	if (o[0].type != ZYDIS_OPERAND_TYPE_REGISTER || ZydisRegisterGetClass(o[0].reg.value) != ZYDIS_REGCLASS_SEGMENT)
		return false;
	in->op = zi->mnemonic == ZYDIS_MNEMONIC_PUSH ? OP_PUSH_SEG : OP_POP_SEG;
	in->reg2 = (uint8_t)ZydisRegisterGetId(o[0].reg.value);
	return true;
}

/* Operands of everything but mov, push and pop. */
static bool decode_operands(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *o, struct insn *in)
{
	for (int i = 0; i < zi->operand_count_visible; i++) {
		const ZydisDecodedOperand *p = &o[i];
		if (p->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			in->imm = p->imm.value.s;
			in->imm_port = 1;
		} else if (p->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			uint8_t r = gpr(p->reg.value, &in->high8);
			if (in->reg == NO_REG) {
				in->reg = r;
				in->dst_size = (uint8_t)(p->size / 8);
			} else {
				in->reg2 = r;
			}
			if (!in->size || !in->mem)
				in->size = (uint8_t)(p->size / 8);
		}
	}
	for (int i = 0; i < zi->operand_count_visible; i++)
		if (o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			in->size = (uint8_t)(o[i].size / 8);
	switch (in->op) {
	case OP_IN:
		in->size = (uint8_t)(o[0].size / 8);
		break;
	case OP_OUT:
		in->size = (uint8_t)(o[1].size / 8);
		break;
	case OP_LRET:
		return zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	case OP_LJMP:
		return zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	case OP_MOVS:
	case OP_STOS:
	case OP_INS:
	case OP_OUTS:
		in->size = (uint8_t)(zi->mnemonic == ZYDIS_MNEMONIC_MOVSB || zi->mnemonic == ZYDIS_MNEMONIC_STOSB ||
						     zi->mnemonic == ZYDIS_MNEMONIC_INSB ||
						     zi->mnemonic == ZYDIS_MNEMONIC_OUTSB
					     ? 1
					     : zi->operand_width / 8);
		break;
	}
	return true;
}

bool decode(const uint8_t *bytes, size_t n, gva_t va, struct insn *in)
{
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];

	*in = (struct insn){.base = NO_REG, .index = NO_REG, .reg = NO_REG, .reg2 = NO_REG, .va = va, .start = va};
	if (!ready) {
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		ready = true;
	}
	if (n >= 4 && bytes[0] == 0xf2 && bytes[1] == 0x0f && bytes[2] == 0x00 && (bytes[3] & 0xf8) == 0xf0) {
		in->op = OP_LKGS; /* lkgs %di and the like: Zydis 4.0 does not know it */
		in->len = 4;
		in->reg = bytes[3] & 7;
		return true;
	}
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, n, &zi, o)))
		return false;
	in->len = zi.length;
	in->rep = !!(zi.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE));
	for (int i = 0; i < zi.operand_count_visible; i++)
		if (o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			memory_operand(&zi, &o[i], in);
	if (zi.mnemonic == ZYDIS_MNEMONIC_MOV)
		return decode_mov(o, in);
	if (zi.mnemonic == ZYDIS_MNEMONIC_PUSH || zi.mnemonic == ZYDIS_MNEMONIC_POP)
		return segment_push_pop(&zi, o, in);
	for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
		if (ops[i].mnemonic == zi.mnemonic) {
			in->op = ops[i].op;
			if (in->op == OP_MOVS && zi.meta.category != ZYDIS_CATEGORY_STRINGOP)
				return false; /* movsd of SSE2 */
			return decode_operands(&zi, o, in);
		}
	}
	return false;
}

unsigned branch_length(const uint8_t *bytes, size_t n, int64_t *target)
{
	ZydisDecodedInstruction zi;

	*target = 0;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, n, &zi)))
		return 1;
	if (zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && zi.raw.imm[0].is_relative)
		*target = zi.raw.imm[0].value.s + zi.length;
	return zi.length;
}

unsigned plain_length(const uint8_t *bytes, size_t n)
{
	ZydisDecodedInstruction zi;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, n, &zi)) ||
	    zi.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
	    zi.attributes & (ZYDIS_ATTRIB_IS_RELATIVE | ZYDIS_ATTRIB_IS_PRIVILEGED))
		return 0;
	switch (zi.meta.category) {
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_SYSTEM:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
		return 0;
	default:
		return zi.length;
	}
}

unsigned register_move_length(const uint8_t *bytes, size_t n)
{
	ZydisDecodedInstruction zi;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, n, &zi)) ||
	    zi.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return 0;
	switch (zi.meta.category) {
	case ZYDIS_CATEGORY_DATAXFER:
	case ZYDIS_CATEGORY_LOGICAL:
	case ZYDIS_CATEGORY_BINARY:
		break;
	default:
		return 0;
	}
	bool immediate = zi.opcode >= 0xb8 && zi.opcode <= 0xbf; /* mov $imm, %reg */
	bool registers = zi.attributes & ZYDIS_ATTRIB_HAS_MODRM && zi.raw.modrm.mod == 3;
	return immediate || registers ? zi.length : 0;
}

bool strange_code(const uint8_t *bytes, size_t n)
{
	ZydisDecodedInstruction zi;

	return !ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, n, &zi)) ||
	       (zi.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && !zi.opcode);
}

void vector_registers_save(void)
{
	struct vcpu *v = vh.vcpu;
	asm volatile("xsave64 %0" : "=m"(v->kernel_vectors) : "a"(-1), "d"(-1));
}

void vector_registers_restore(void)
{
	struct vcpu *v = vh.vcpu;
	asm volatile("xrstor64 %0" ::"m"(v->kernel_vectors), "a"(-1), "d"(-1));
}

/* Zydis's register as the host of the step has it. */
static uint64_t reg_value(ZydisRegister r, const struct gregs *g, gva_t next)
{
	uint8_t high8 = 0;

	if (r == ZYDIS_REGISTER_NONE)
		return 0;
	if (r == ZYDIS_REGISTER_RIP)
		return next;
	return reg_get(g, gpr(r, &high8), ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR32 ? 4 : 8, false);
}

unsigned decode_accesses(const uint8_t *bytes, size_t n, const struct gregs *g, uint64_t fs_base, uint64_t gs_base,
			 struct mem_access a[ACCESSES_MAX], uint8_t *kind)
{
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	unsigned count = 0;

	*kind = STEP_PLAIN;
	if (!ready) {
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		ready = true;
	}
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, n, &zi, o)))
		return 0;
	switch (zi.mnemonic) {
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFQ:
		*kind = STEP_PUSHES_FLAGS;
		break;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		*kind = STEP_LOADS_FLAGS;
		break;
	case ZYDIS_MNEMONIC_INT1:
		*kind = STEP_TRAPS;
		break;
	default:
		break;
	}
	for (unsigned i = 0; i < zi.operand_count && count < ACCESSES_MAX; i++) {
		const ZydisDecodedOperand *p = &o[i];
		if (p->type != ZYDIS_OPERAND_TYPE_MEMORY || p->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
		    p->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
			continue;
		struct mem_access *m = &a[count++];
		m->size = p->size / 8;
		m->write = p->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		m->va = reg_value(p->mem.base, g, g->rip + zi.length) + reg_value(p->mem.index, g, 0) * p->mem.scale +
			(uint64_t)p->mem.disp.value;
		if (zi.address_width == 32)
			m->va = (uint32_t)m->va;
		if (p->mem.segment == ZYDIS_REGISTER_FS)
			m->va += fs_base;
		if (p->mem.segment == ZYDIS_REGISTER_GS)
			m->va += gs_base;
		/* push, call and enter write below the stack pointer */
		if (p->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && m->write && p->mem.base == ZYDIS_REGISTER_RSP)
			m->va -= m->size;
	}
	return count;
}

gva_t insn_ea(const struct insn *in, const struct gregs *g)
{
	gva_t ea = (uint64_t)in->disp;

	if (in->riprel)
		ea += in->va + in->len;
	if (in->base != NO_REG)
		ea += g->r[in->base];
	if (in->index != NO_REG)
		ea += g->r[in->index] * in->scale;
	if (in->seg == SEG_GS)
		ea += rdgsbase();
	return ea;
}

uint64_t reg_get(const struct gregs *g, unsigned reg, unsigned size, bool high8)
{
	uint64_t v = g->r[reg & 15];

	if (high8)
		return v >> 8 & 0xff;
	return size >= 8 ? v : v & ((1ull << size * 8) - 1);
}

void reg_set(struct gregs *g, unsigned reg, unsigned size, bool high8, uint64_t val)
{
	uint64_t *r = &g->r[reg & 15];

	if (high8)
		*r = (*r & ~0xff00ull) | (val & 0xff) << 8;
	else if (size == 1)
		*r = (*r & ~0xffull) | (val & 0xff);
	else if (size == 2)
		*r = (*r & ~0xffffull) | (val & 0xffff);
	else
		*r = size == 4 ? (uint32_t)val : val;
}
