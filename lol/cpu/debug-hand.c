/* SPDX-License-Identifier: BSD-2-Clause */
/* The instructions that most functions begin with, done by hand: going on over a breakpoint on one needs nothing else. See debug.h. */
#include "cpu/debug.h"
#include "cpu/insn.h"

static bool stack_write(struct vcpu *v, const struct parked *p, uint64_t val)
{
	gva_t bad, sp = p->g->r[RSP] - 8;
	uint32_t error;

	if (p->cpl ? !user_write(v, sp, &val, 8, &bad, &error) : !k_write(sp, &val, 8))
		return false;
	p->g->r[RSP] = sp;
	return true;
}

static bool stack_read(struct vcpu *v, const struct parked *p, uint64_t *val)
{
	gva_t bad;
	uint32_t error;

	if (p->cpl ? !user_read(v, p->g->r[RSP], val, 8, &bad, &error) : !k_read(p->g->r[RSP], val, 8))
		return false;
	p->g->r[RSP] += 8;
	return true;
}

static bool condition(uint64_t f, unsigned cc)
{
	bool less = !(f & 0x80) != !(f & 0x800), r;

	switch (cc >> 1) {
	case 0:
		r = f & 0x800;
		break;
	case 1:
		r = f & FL_CF;
		break;
	case 2:
		r = f & FL_ZF;
		break;
	case 3:
		r = f & (FL_CF | FL_ZF);
		break;
	case 4:
		r = f & 0x80;
		break;
	case 5:
		r = f & 4;
		break;
	case 6:
		r = less;
		break;
	default:
		r = less || f & FL_ZF;
	}
	return r != (cc & 1);
}

static int32_t imm32(const uint8_t *p)
{
	int32_t v;
	__builtin_memcpy(&v, p, 4);
	return v;
}

/* Length of the NOP or endbr at c, 0: it is none. */
static unsigned nop_length(const uint8_t *c)
{
	static const uint8_t endbr[3] = {0xf3, 0x0f, 0x1e};
	unsigned n = 0;

	if (!__builtin_memcmp(c, endbr, 3) && (c[3] == 0xfa || c[3] == 0xfb))
		return 4;
	while (n < 3 && c[n] == 0x66)
		n++;
	if (c[n] == 0x90)
		return n + 1;
	if (c[n] != 0x0f || c[n + 1] != 0x1f)
		return 0;
	uint8_t modrm = c[n + 2], mod = modrm >> 6;
	n += 3;
	if (mod == 3)
		return n;
	bool sib = (modrm & 7) == 4;
	if (mod == 0 && ((modrm & 7) == 5 || (sib && (c[n] & 7) == 5)))
		n += 4;
	return n + sib + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

bool debug_by_hand(struct vcpu *v, const struct parked *p, const uint8_t c[15])
{
	struct gregs *g = p->g;
	uint64_t val;
	unsigned n = nop_length(c), rex = (c[0] & 0xf0) == 0x40 ? c[0] : 0;
	const uint8_t *o = c + !!rex;

	if (p->cpl && v->user_cs != SEL_USER_CS)
		return false;
	if (n) {
		g->rip += n;
		return true;
	}
	if ((*o & 0xf8) == 0x50 && !(rex & 6)) { /* push */
		if (!stack_write(v, p, g->r[(*o & 7) | (rex & 1) << 3]))
			return false;
		g->rip += 1u + !!rex;
		return true;
	}
	if ((*o & 0xf8) == 0x58 && !(rex & 6)) { /* pop */
		if (!stack_read(v, p, &val))
			return false;
		g->r[(*o & 7) | (rex & 1) << 3] = val;
		g->rip += 1u + !!rex;
		return true;
	}
	if ((rex & 0xf8) == 0x48 && (*o == 0x89 || *o == 0x8b) && o[1] >= 0xc0) { /* mov between registers */
		unsigned reg = (o[1] >> 3 & 7) | (rex & 4) << 1, rm = (o[1] & 7) | (rex & 1) << 3;
		if (*o == 0x89)
			g->r[rm] = g->r[reg];
		else
			g->r[reg] = g->r[rm];
		g->rip += 3;
		return true;
	}
	if (rex)
		return false;
	switch (c[0]) {
	case 0xe8: /* call */
		if (!stack_write(v, p, g->rip + 5))
			return false;
		g->rip += 5 + (uint64_t)(int64_t)imm32(c + 1);
		return true;
	case 0xe9:
		g->rip += 5 + (uint64_t)(int64_t)imm32(c + 1);
		return true;
	case 0xeb:
		g->rip += 2 + (uint64_t)(int64_t)(int8_t)c[1];
		return true;
	case 0x70 ... 0x7f:
		g->rip += 2 + (condition(g->rflags, c[0] & 15) ? (uint64_t)(int64_t)(int8_t)c[1] : 0);
		return true;
	case 0x0f:
		if ((c[1] & 0xf0) != 0x80)
			return false;
		g->rip += 6 + (condition(g->rflags, c[1] & 15) ? (uint64_t)(int64_t)imm32(c + 2) : 0);
		return true;
	case 0xc3:
		if (!stack_read(v, p, &val))
			return false;
		g->rip = val;
		return true;
	}
	return false;
}
