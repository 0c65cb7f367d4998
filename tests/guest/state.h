/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Registers that nobody may change: load every one with a pattern, spin, store them. Whatever happens between (a signal,
 * another thread, a page fault, a debugger) has to give them back.
 */
#ifndef GUEST_STATE_H
#define GUEST_STATE_H

#include "guest-test.h"

enum vectors { SSE, AVX, AVX512 };

#define VECTOR_BYTES (32 * 64 + 64) /* 32 registers, 8 masks */
#define GPRS 14                     /* all but rsp and the counter's rdi */

struct state {
	uint8_t vector[VECTOR_BYTES] __attribute__((aligned(64)));
	uint64_t gpr[GPRS];
	uint32_t mxcsr;
	uint16_t fcw;
	long double st;
};

#define N16 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define N32 N16 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

static inline enum vectors best_vectors(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f"))
		return AVX512;
	return __builtin_cpu_supports("avx") ? AVX : SSE;
}

static inline size_t vector_bytes(enum vectors v)
{
	return v == AVX512 ? VECTOR_BYTES : v == AVX ? 16 * 32 : 16 * 16;
}

/* Load the vector registers from in, count down (calling nothing), store them to out. */
static inline void vector_spin(enum vectors v, const uint8_t *in, uint8_t *out, unsigned long count)
{
	if (v == AVX512)
		asm volatile(".irp n," N32 "\n\tvmovdqu64 \\n*64(%1), %%zmm\\n\n\t.endr\n\t"
			     ".irp n,0,1,2,3,4,5,6,7\n\tkmovw 2048+\\n*8(%1), %%k\\n\n\t.endr\n"
			     "1:\tdec %0\n\tjnz 1b\n\t"
			     ".irp n,0,1,2,3,4,5,6,7\n\tkmovw %%k\\n, 2048+\\n*8(%2)\n\t.endr\n\t"
			     ".irp n," N32 "\n\tvmovdqu64 %%zmm\\n, \\n*64(%2)\n\t.endr\n\tvzeroupper"
			     : "+r"(count)
			     : "r"(in), "r"(out)
			     : "memory", "cc");
	else if (v == AVX)
		asm volatile(".irp n," N16 "\n\tvmovdqu \\n*32(%1), %%ymm\\n\n\t.endr\n"
			     "1:\tdec %0\n\tjnz 1b\n\t"
			     ".irp n," N16 "\n\tvmovdqu %%ymm\\n, \\n*32(%2)\n\t.endr\n\tvzeroupper"
			     : "+r"(count)
			     : "r"(in), "r"(out)
			     : "memory", "cc");
	else
		asm volatile(".irp n," N16 "\n\tmovdqu \\n*16(%1), %%xmm\\n\n\t.endr\n"
			     "1:\tdec %0\n\tjnz 1b\n\t"
			     ".irp n," N16 "\n\tmovdqu %%xmm\\n, \\n*16(%2)\n\t.endr"
			     : "+r"(count)
			     : "r"(in), "r"(out)
			     : "memory", "cc");
}

/* The same for the general registers. Not inlined: it uses every register there is. */
void gpr_spin(unsigned long count, const uint64_t in[GPRS], uint64_t out[GPRS]);

#ifdef GUEST_STATE_CODE
asm(".pushsection .text\n"
    ".globl gpr_spin\n"
    ".type gpr_spin, @function\n"
    "gpr_spin:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	push %rdx\n" /* out */
    "	mov 0(%rsi), %rax\n	mov 8(%rsi), %rbx\n	mov 16(%rsi), %rcx\n	mov 24(%rsi), %rdx\n"
    "	mov 32(%rsi), %rbp\n	mov 48(%rsi), %r8\n	mov 56(%rsi), %r9\n	mov 64(%rsi), %r10\n"
    "	mov 72(%rsi), %r11\n	mov 80(%rsi), %r12\n	mov 88(%rsi), %r13\n	mov 96(%rsi), %r14\n"
    "	mov 104(%rsi), %r15\n	mov 40(%rsi), %rsi\n"
    "1:	dec %rdi\n	jnz 1b\n"
    "	pop %rdi\n"
    "	mov %rax, 0(%rdi)\n	mov %rbx, 8(%rdi)\n	mov %rcx, 16(%rdi)\n	mov %rdx, 24(%rdi)\n"
    "	mov %rbp, 32(%rdi)\n	mov %rsi, 40(%rdi)\n	mov %r8, 48(%rdi)\n	mov %r9, 56(%rdi)\n"
    "	mov %r10, 64(%rdi)\n	mov %r11, 72(%rdi)\n	mov %r12, 80(%rdi)\n	mov %r13, 88(%rdi)\n"
    "	mov %r14, 96(%rdi)\n	mov %r15, 104(%rdi)\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	ret\n"
    ".size gpr_spin, . - gpr_spin\n"
    ".popsection\n");
#endif

/* A pattern of its own for every seed: vectors, general registers, rounding modes, an x87 register. */
static inline void state_make(struct state *s, enum vectors v, uint64_t seed)
{
	uint64_t r = seed * 0x9e3779b97f4a7c15ull + 1;

	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i + 8 <= vector_bytes(v); i += 8) {
		uint64_t x = rnd(&r);
		if (v == AVX512 && i >= 32 * 64)
			x &= 0xffff; /* a mask of 16 bits is all that AVX512F has */
		memcpy(s->vector + i, &x, 8);
	}
	for (size_t i = 0; i < GPRS; i++)
		s->gpr[i] = rnd(&r);
	s->mxcsr = 0x1f80 | (uint32_t)(seed % 4) << 13;
	s->fcw = (uint16_t)(0x37f & ~0xc00) | (uint16_t)((seed / 4 % 4) << 10);
	s->st = (long double)seed + 0.25L;
}

/* Hold the state for about count steps of each kind. True when nothing has changed. */
static inline bool state_hold(const struct state *s, enum vectors v, unsigned long count)
{
	struct state got;
	uint32_t mxcsr, mxcsr_before;
	uint16_t fcw, fcw_before;

	memset(&got, 0, sizeof(got));
	asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr_before), "=m"(fcw_before));
	asm volatile("ldmxcsr %0\n\tfldcw %1\n\tfldt %2" : : "m"(s->mxcsr), "m"(s->fcw), "m"(s->st));
	vector_spin(v, s->vector, got.vector, count);
	gpr_spin(count, s->gpr, got.gpr);
	asm volatile("fstpt %0\n\tstmxcsr %1\n\tfnstcw %2" : "=m"(got.st), "=m"(mxcsr), "=m"(fcw));
	asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr_before), "m"(fcw_before));
	return memcmp(got.vector, s->vector, vector_bytes(v)) == 0 && memcmp(got.gpr, s->gpr, sizeof(got.gpr)) == 0 &&
	       got.st == s->st && (mxcsr & ~0x3fu) == s->mxcsr && fcw == s->fcw;
}

#endif
