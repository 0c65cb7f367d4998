/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Agent expressions (GDB manual, appendix "The GDB Agent Expression Mechanism"): the conditions of breakpoints, computed
 * where they are hit.  Runs in K, signal or site context.  The code comes from the debugger by way of the monitor, and
 * may be wrong: the stack, the code's bounds and the number of instructions are checked.
 */
#include "cpu/debug.h"
#include "cpu/insn.h"

#define STACK 64u
#define STEPS_MAX 10000u

enum {
	AX_ADD = 0x02,
	AX_SUB,
	AX_MUL,
	AX_DIV_SIGNED,
	AX_DIV_UNSIGNED,
	AX_REM_SIGNED,
	AX_REM_UNSIGNED,
	AX_LSH,
	AX_RSH_SIGNED,
	AX_RSH_UNSIGNED,
	AX_TRACE,
	AX_TRACE_QUICK,
	AX_LOG_NOT,
	AX_BIT_AND,
	AX_BIT_OR,
	AX_BIT_XOR,
	AX_BIT_NOT,
	AX_EQUAL,
	AX_LESS_SIGNED,
	AX_LESS_UNSIGNED,
	AX_EXT,
	AX_REF8,
	AX_REF16,
	AX_REF32,
	AX_REF64,
	AX_IF_GOTO = 0x20,
	AX_GOTO,
	AX_CONST8,
	AX_CONST16,
	AX_CONST32,
	AX_CONST64,
	AX_REG,
	AX_END,
	AX_DUP,
	AX_POP,
	AX_ZERO_EXT,
	AX_SWAP,
	AX_TRACE16 = 0x30,
	AX_PICK = 0x32,
	AX_ROT = 0x33
};

/* The debugger's numbers of registers, see the target description: rax rbx rcx rdx rsi rdi rbp rsp r8..r15 rip eflags. */
static bool reg_value(struct vcpu *v, const struct agent_regs *r, unsigned n, uint64_t *val)
{
	static const uint8_t order[8] = {RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP};

	switch (n) {
	case KREG_FS_BASE:
		*val = v->fs_base;
		return true;
	case KREG_GS_BASE:
		*val = r->gs_base;
		return true;
	case KREG_CR3:
		*val = v->cr3;
		return true;
	case KREG_CPL:
		*val = r->cpl;
		return true;
	}
	if (n > 17)
		return false;
	*val = n < 8 ? r->g->r[order[n]] : n < 16 ? r->g->r[n] : n == 16 ? r->g->rip : r->rflags;
	return true;
}

/* Kernel addresses first in kernel code, the process's in user code. */
static bool memory(struct vcpu *v, unsigned cpl, gva_t va, unsigned size, uint64_t *val)
{
	gva_t bad;
	uint32_t error = 0;

	*val = 0;
	if (cpl && user_read(v, va, val, size, &bad, &error))
		return true;
	return k_read(va, val, size) || (!cpl && user_read(v, va, val, size, &bad, &error));
}

static uint64_t sign_extend(uint64_t x, unsigned bits)
{
	return bits && bits < 64 ? (uint64_t)((int64_t)(x << (64 - bits)) >> (64 - bits)) : x;
}

/* Division without the two cases that trap. */
static bool divide(unsigned op, uint64_t a, uint64_t b, uint64_t *r)
{
	bool overflow = (op == AX_DIV_SIGNED || op == AX_REM_SIGNED) && a == 1ull << 63 && b == ~0ull;

	if (!b)
		return false;
	switch (op) {
	case AX_DIV_SIGNED:
		*r = overflow ? a : (uint64_t)((int64_t)a / (int64_t)b);
		break;
	case AX_DIV_UNSIGNED:
		*r = a / b;
		break;
	case AX_REM_SIGNED:
		*r = overflow ? 0 : (uint64_t)((int64_t)a % (int64_t)b);
		break;
	default:
		*r = a % b;
	}
	return true;
}

static bool binary(unsigned op, uint64_t a, uint64_t b, uint64_t *r)
{
	switch (op) {
	case AX_ADD:
		*r = a + b;
		break;
	case AX_SUB:
		*r = a - b;
		break;
	case AX_MUL:
		*r = a * b;
		break;
	case AX_DIV_SIGNED:
	case AX_DIV_UNSIGNED:
	case AX_REM_SIGNED:
	case AX_REM_UNSIGNED:
		return divide(op, a, b, r);
	case AX_LSH:
		*r = b < 64 ? a << b : 0;
		break;
	case AX_RSH_SIGNED:
		*r = (uint64_t)((int64_t)a >> MIN(b, 63ull));
		break;
	case AX_RSH_UNSIGNED:
		*r = b < 64 ? a >> b : 0;
		break;
	case AX_BIT_AND:
		*r = a & b;
		break;
	case AX_BIT_OR:
		*r = a | b;
		break;
	case AX_BIT_XOR:
		*r = a ^ b;
		break;
	case AX_EQUAL:
		*r = a == b;
		break;
	case AX_LESS_SIGNED:
		*r = (int64_t)a < (int64_t)b;
		break;
	case AX_LESS_UNSIGNED:
		*r = a < b;
		break;
	default:
		return false;
	}
	return true;
}

/* Operand of n bytes, big-endian; the caller has checked that it is there. */
static uint64_t operand(const uint8_t *code, unsigned n)
{
	uint64_t x = 0;

	for (unsigned i = 0; i < n; i++)
		x = x << 8 | code[i];
	return x;
}

static unsigned operand_bytes(uint8_t op)
{
	switch (op) {
	case AX_CONST8:
	case AX_EXT:
	case AX_ZERO_EXT:
	case AX_TRACE_QUICK:
	case AX_PICK:
		return 1;
	case AX_CONST16:
	case AX_GOTO:
	case AX_IF_GOTO:
	case AX_REG:
	case AX_TRACE16:
		return 2;
	case AX_CONST32:
		return 4;
	case AX_CONST64:
		return 8;
	default:
		return 0;
	}
}

/* How many values an instruction needs on the stack. */
static unsigned needs(uint8_t op)
{
	switch (op) {
	case AX_GOTO:
	case AX_CONST8:
	case AX_CONST16:
	case AX_CONST32:
	case AX_CONST64:
	case AX_REG:
	case AX_PICK:
		return 0;
	case AX_LOG_NOT:
	case AX_BIT_NOT:
	case AX_EXT:
	case AX_ZERO_EXT:
	case AX_REF8:
	case AX_REF16:
	case AX_REF32:
	case AX_REF64:
	case AX_IF_GOTO:
	case AX_END:
	case AX_DUP:
	case AX_POP:
		return 1;
	case AX_ROT:
		return 3;
	default:
		return 2;
	}
}

bool agent_run(struct vcpu *v, const struct agent_regs *r, const uint8_t *code, size_t n, uint64_t *value)
{
	uint64_t stack[STACK], a;
	unsigned sp = 0;
	size_t pc = 0;

	for (unsigned steps = 0; steps < STEPS_MAX && pc < n; steps++) {
		uint8_t op = code[pc++];
		unsigned bytes = operand_bytes(op);
		if (bytes > n - pc || needs(op) > sp || sp == STACK)
			return false;
		uint64_t arg = operand(code + pc, bytes);
		pc += bytes;
		switch (op) {
		case AX_END:
			*value = stack[sp - 1];
			return true;
		case AX_LOG_NOT:
			stack[sp - 1] = !stack[sp - 1];
			break;
		case AX_BIT_NOT:
			stack[sp - 1] = ~stack[sp - 1];
			break;
		case AX_EXT:
			stack[sp - 1] = sign_extend(stack[sp - 1], (unsigned)arg);
			break;
		case AX_ZERO_EXT:
			if (arg < 64)
				stack[sp - 1] &= (1ull << arg) - 1;
			break;
		case AX_REF8:
		case AX_REF16:
		case AX_REF32:
		case AX_REF64:
			if (!memory(v, r->cpl, stack[sp - 1], 1u << (op - AX_REF8), &stack[sp - 1]))
				return false;
			break;
		case AX_IF_GOTO:
			if (stack[--sp])
				pc = arg;
			break;
		case AX_GOTO:
			pc = arg;
			break;
		case AX_CONST8:
		case AX_CONST16:
		case AX_CONST32:
		case AX_CONST64:
			stack[sp++] = arg;
			break;
		case AX_REG:
			if (!reg_value(v, r, (unsigned)arg, &stack[sp++]))
				return false;
			break;
		case AX_DUP:
			stack[sp] = stack[sp - 1];
			sp++;
			break;
		case AX_POP:
			sp--;
			break;
		case AX_SWAP:
			a = stack[sp - 1];
			stack[sp - 1] = stack[sp - 2];
			stack[sp - 2] = a;
			break;
		case AX_PICK:
			if (arg >= sp)
				return false;
			stack[sp] = stack[sp - 1 - arg];
			sp++;
			break;
		case AX_ROT:
			a = stack[sp - 1];
			stack[sp - 1] = stack[sp - 2];
			stack[sp - 2] = stack[sp - 3];
			stack[sp - 3] = a;
			break;
		default:
			if (!binary(op, stack[sp - 2], stack[sp - 1], &stack[sp - 2]))
				return false;
			sp--;
		}
	}
	return false;
}
