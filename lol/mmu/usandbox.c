/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The filter of a U process, as classic BPF, from the declarations in stub.S (U_ALLOW): at one instruction one system
 * call with these arguments.  Everything else is SIGSYS: a guest system call.
 *
 * Runs in the zygote's child.  libseccomp cannot compare instruction pointers or
 * upper argument halves with per-process secrets, hence by hand.
 */
#include "usandbox.h"

#include "types.h"

#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum kind { NONE, C_LOW, C_HIGH, C_IS, C_IN_PAGE, C_RANGE };

struct condition {
	enum kind kind;
	unsigned arg;
	uint64_t value, count;
};

#define LOW(arg, value) \
	{ \
		C_LOW, arg, (uint32_t)(value), 0 \
	} /* the lower half, all that the host takes of this argument */
#define HIGH(arg, value) \
	{ \
		C_HIGH, arg, (uint32_t)(value), 0 \
	} /* the upper half */
#define IS(arg, value) \
	{ \
		C_IS, arg, value, 0 \
	}
#define IN_PAGE(arg, page) \
	{ \
		C_IN_PAGE, arg, page, 0 \
	}
#define RANGE(arg, first, count) \
	{ \
		C_RANGE, arg, first, count \
	} /* the lower half, one of count numbers */

struct rule {
	uint64_t place; /* behind the syscall instruction */
	uint32_t nr;
	struct condition when[6];
};

struct emit {
	struct sock_filter *f;
	unsigned n;
};

static void op(struct emit *e, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	e->f[e->n++] = (struct sock_filter){code, jt, jf, k};
}

static void load(struct emit *e, unsigned offset)
{
	op(e, BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
}

/* A condition that does not hold leads on to the next rule, whose place is not known yet: rule_end() puts it in. */
#define NEXT_RULE 0xff

static void demand(struct emit *e, unsigned offset, uint32_t k)
{
	load(e, offset);
	op(e, BPF_JMP | BPF_JEQ | BPF_K, 0, NEXT_RULE, k);
}

static void rule_end(struct emit *e, unsigned start)
{
	op(e, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	for (unsigned i = start; i < e->n; i++) {
		uint8_t next = (uint8_t)(e->n - i - 1);
		struct sock_filter *f = &e->f[i];
		f->jt = f->jt == NEXT_RULE ? next : f->jt;
		f->jf = f->jf == NEXT_RULE ? next : f->jf;
	}
}

#define ARG_LO(i) (offsetof(struct seccomp_data, args) + 8 * (i))
#define ARG_HI(i) (ARG_LO(i) + 4)
#define IP_LO offsetof(struct seccomp_data, instruction_pointer)

static void add_condition(struct emit *e, const struct condition *c)
{
	unsigned lo = ARG_LO(c->arg), hi = ARG_HI(c->arg);

	switch (c->kind) {
	case NONE:
		break;
	case C_LOW:
		demand(e, lo, (uint32_t)c->value);
		break;
	case C_HIGH:
		demand(e, hi, (uint32_t)c->value);
		break;
	case C_IS:
		demand(e, lo, (uint32_t)c->value);
		demand(e, hi, (uint32_t)(c->value >> 32));
		break;
	case C_IN_PAGE:
		demand(e, hi, (uint32_t)(c->value >> 32));
		load(e, lo);
		op(e, BPF_ALU | BPF_AND | BPF_K, 0, 0, ~4095u);
		op(e, BPF_JMP | BPF_JEQ | BPF_K, 0, NEXT_RULE, (uint32_t)c->value);
		break;
	case C_RANGE:
		load(e, lo);
		op(e, BPF_ALU | BPF_SUB | BPF_K, 0, 0, (uint32_t)c->value);
		op(e, BPF_JMP | BPF_JGE | BPF_K, NEXT_RULE, 0, (uint32_t)c->count);
		break;
	}
}

unsigned usandbox_filter(struct sock_filter *f, unsigned slot, const uint64_t secret[4])
{
	const struct rule rules[] = {
#define U_ALLOW(place, call, ...) {stub_table[place], SYS_##call, {__VA_ARGS__}},
#include "u-allow.inc"
	};
	struct emit e = {f, 0};

	for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
		const struct rule *r = &rules[i];
		unsigned start = e.n;

		demand(&e, IP_LO, (uint32_t)r->place);
		demand(&e, IP_LO + 4, (uint32_t)(r->place >> 32));
		demand(&e, offsetof(struct seccomp_data, arch), AUDIT_ARCH_X86_64);
		demand(&e, offsetof(struct seccomp_data, nr), r->nr);
		for (unsigned k = 0; k < ARRAY_LEN(r->when); k++)
			add_condition(&e, &r->when[k]);
		rule_end(&e, start);
	}
	op(&e, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
	return e.n;
}
