/* SPDX-License-Identifier: BSD-2-Clause */
/* A decoded instruction in the form that the emulator wants: small, no library types. */
#ifndef LOL_INSN_H
#define LOL_INSN_H

#include "cpu/k.h"

/* clang-format off */
enum op {
	OP_NONE,
	/* flags */
	OP_CLI, OP_STI, OP_STI_HLT, OP_PUSHF, OP_POPF,
	/* several sites in one, see rewrite.c */
	OP_SWAPGS_SYSRET, OP_SWAPGS_IRET,
	/* privileged */
	OP_HLT, OP_IRET, OP_SYSRET, OP_SWAPGS, OP_RDMSR, OP_WRMSR, OP_CPUID, OP_INVLPG, OP_INVPCID, OP_CLTS, OP_LMSW, OP_SMSW,
	OP_MOV_FROM_CR, OP_MOV_TO_CR, OP_MOV_FROM_DR, OP_MOV_TO_DR, OP_LGDT, OP_LIDT, OP_SGDT, OP_SIDT, OP_LLDT, OP_SLDT, OP_LTR,
	OP_STR, OP_IN, OP_OUT, OP_INS, OP_OUTS, OP_XSETBV, OP_XGETBV, OP_RDPMC, OP_NOP, OP_LRET, OP_LJMP, OP_VMCALL, OP_RDPID, OP_YIELD,
	/* segments */
	OP_MOV_FROM_SEG, OP_MOV_TO_SEG, OP_PUSH_SEG, OP_POP_SEG, OP_LAR, OP_LSL, OP_VERR, OP_VERW,
	OP_RDFSBASE, OP_RDGSBASE, OP_WRFSBASE, OP_WRGSBASE, OP_LKGS,
	/* user state */
	OP_XSAVE, OP_XRSTOR, OP_FXSAVE, OP_FXRSTOR,
	/* plain memory accesses, of user memory or device registers */
	OP_LOAD, OP_LOADZX, OP_LOADSX, OP_STORE, OP_STORE_IMM, OP_XCHG, OP_XADD, OP_CMPXCHG, OP_ADD, OP_SUB, OP_AND, OP_OR, OP_XOR, OP_CMP, OP_TEST,
	OP_MOVS, OP_STOS,
	OP_LAST
};
/* clang-format on */

#define NO_REG 0xff
#define SEG_FS 1
#define SEG_GS 2

struct insn {
	uint8_t op, len;
	uint8_t size;     /* bytes of the operand (of memory for LOADZX) */
	uint8_t dst_size; /* bytes of the destination register for LOADZX/LOADSX */
	uint8_t reg;      /* general register (or cr, dr, segment number where the op says so in reg2) */
	uint8_t reg2;
	uint8_t high8; /* reg is ah, ch, dh or bh */
	uint8_t mem;   /* there is a memory operand */
	uint8_t base, index, scale, seg, riprel;
	uint8_t rep;
	uint8_t imm_port; /* IN/OUT with an immediate port */
	uint8_t uaccess;  /* site of kind UACCESS: the memory operand is a user address */
	uint8_t mmio;     /* site of kind MMIO: the memory operand is a register of a device, most likely */
	uint8_t to_user;  /* OP_MOVS: which operand is the user's (1: rdi, 0: rsi) */
	uint8_t region;   /* bytes of the site, 0 where this is no site */
	int64_t disp, imm;
	gva_t va;    /* address of the instruction */
	gva_t start; /* of the region */
};

/* Decode the instruction at bytes, which stands at va. False: not an instruction that the emulator knows. Signal context or start only (uses Zydis). */
bool decode(const uint8_t *bytes, size_t n, gva_t va, struct insn *in);

/*
 * Length of the instruction at bytes (1 where there is none), and the target of a direct branch relative to bytes
 * (0: it is none). Uses Zydis, like decode().
 */
unsigned branch_length(const uint8_t *bytes, size_t n, int64_t *target);

/* Length of the instruction at bytes if it does the same anywhere and goes on behind itself, otherwise 0. Uses Zydis. */
unsigned plain_length(const uint8_t *bytes, size_t n);

/* Length of a move or a computation between registers, or with a constant, otherwise 0. Uses Zydis. */
unsigned register_move_length(const uint8_t *bytes, size_t n);

/* What compilers do not make: bytes that are no instruction, and add %r8, r/m8, which zeros look like. Uses Zydis. */
bool strange_code(const uint8_t *bytes, size_t n);

/* Around a call of those above in site context: the guest kernel's vector registers are live there. Not nested. */
void vector_registers_save(void);
void vector_registers_restore(void);

/*
 * What the instruction at g->rip is going to read and write, at most ACCESSES_MAX places, and what is special about
 * stepping over it. Returns the number of places. As decode(), not where vector registers are live.
 */
#define ACCESSES_MAX 4
struct mem_access {
	gva_t va;
	uint64_t size; /* bytes */
	bool write;
};
enum { STEP_PLAIN, STEP_PUSHES_FLAGS, STEP_LOADS_FLAGS, STEP_TRAPS };
unsigned decode_accesses(const uint8_t *bytes, size_t n, const struct gregs *g, uint64_t fs_base, uint64_t gs_base,
			 struct mem_access a[ACCESSES_MAX], uint8_t *kind);

/* Address of the memory operand; next = address behind the instruction. */
gva_t insn_ea(const struct insn *in, const struct gregs *g);

/* The value of a register as an operand of size bytes, and writing one with the zero extension of 32-bit writes. */
uint64_t reg_get(const struct gregs *g, unsigned reg, unsigned size, bool high8);
void reg_set(struct gregs *g, unsigned reg, unsigned size, bool high8, uint64_t val);

/* Where the guest goes on behind the instruction: behind its region, where it is a site. */
static inline gva_t next_rip(const struct insn *in)
{
	return in->region ? in->start + in->region : in->va + in->len;
}

/* edx:eax */
static inline uint64_t pair(const struct gregs *g)
{
	return (uint32_t)g->r[RAX] | g->r[RDX] << 32;
}

/* state.c: xsave and its kin */
void state_save(struct vcpu *v, struct gregs *g, const struct insn *in);
void state_restore(struct vcpu *v, struct gregs *g, const struct insn *in);

/* uaccess.c: the access of in, a plain one that does not cross a page, with its operand at p. */
void access_at(struct gregs *g, const struct insn *in, uint8_t *p);

/* mmio.c: of these moves? */
bool mmio_op(const struct insn *in);
/* trap.c: decode() of the guest's own instruction at rip, without breakpoints. */
bool decode_at(gva_t rip, struct insn *in);
/* The instruction at g->rip has trapped at a register of a device; false: not an instruction for that. Signal context. */
bool mmio_trapped(struct vcpu *v, struct gregs *g, gpa_t gpa);
/* A rewritten site of kind MMIO. */
void emulate_mmio(struct vcpu *v, struct gregs *g, const struct insn *in);

#endif
