/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest kernel's accesses to user memory.  Runs in K, site context.
 *
 * K never maps a user page.  A site of kind UACCESS translates its operand through
 * the current CR3 with the rights of user mode's page-table bits (the kernel writes
 * under CR0.WP, and 6.12's put_user only looks at the sign bit of a pointer, so the
 * range is checked here) and touches the page in the direct map.  A missing page is a
 * #PF at the site, as on hardware.  A small direct-mapped table remembers translations;
 * whatever flushes the TLB on hardware empties it.
 */
#include "cpu/insn.h"

#define TAG_R 1ull
#define TAG_W 2ull

static struct utlb_entry *utlb_slot(struct vcpu *v, gva_t va)
{
	return &v->utlb[(va >> PAGE_SHIFT) % UTLB_SIZE];
}

void utlb_flush(struct vcpu *v)
{
	for (unsigned i = 0; i < UTLB_SIZE; i++)
		v->utlb[i].tag = 0;
}

void utlb_flush_page(struct vcpu *v, gva_t va)
{
	utlb_slot(v, va)->tag = 0;
}

uint8_t *user_ptr(struct vcpu *v, gva_t va, bool write, uint32_t *error)
{
	struct utlb_entry *t = utlb_slot(v, va);
	struct walk w;

	if ((t->tag & PAGE_MASK) == (va & PAGE_MASK) && t->tag & (write ? TAG_W : TAG_R))
		return t->page + (va & ~PAGE_MASK);
	*error = write ? PFEC_W : 0;
	if (va >= K_USER_END)
		return NULL;
	do {
		if (!pt_walk(v->cr3, va, &w))
			return NULL;
		if (!w.user || (write && !w.writable)) {
			*error |= PFEC_P;
			return NULL;
		}
	} while (!pt_set_ad(&w, write));
	uint8_t *page = ram_ptr(&ram, w.gpa & PAGE_MASK, PAGE_SIZE);
	bool ro = ram_ro(&ram, w.gpa);
	if (!page || (write && ro))
		return NULL;
	t->page = page;
	t->tag = (va & PAGE_MASK) | TAG_R | (w.writable && w.dirty && !ro ? TAG_W : 0);
	return page + (va & ~PAGE_MASK);
}

static bool user_copy(struct vcpu *v, gva_t va, uint8_t *buf, size_t n, bool write, gva_t *bad, uint32_t *error)
{
	while (n) {
		size_t m = MIN(n, PAGE_SIZE - (va & ~PAGE_MASK));
		uint8_t *p = user_ptr(v, va, write, error);
		if (!p) {
			*bad = va;
			return false;
		}
		if (write)
			__builtin_memcpy(p, buf, m);
		else
			__builtin_memcpy(buf, p, m);
		va += m;
		buf += m;
		n -= m;
	}
	return true;
}

bool user_read(struct vcpu *v, gva_t va, void *buf, size_t n, gva_t *bad, uint32_t *error)
{
	return user_copy(v, va, buf, n, false, bad, error);
}

bool user_write(struct vcpu *v, gva_t va, const void *buf, size_t n, gva_t *bad, uint32_t *error)
{
	return user_copy(v, va, (uint8_t *)buf, n, true, bad, error);
}

static uint64_t mem_load(const void *p, unsigned size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)p;
	case 2:
		return *(const volatile uint16_t *)p;
	case 4:
		return *(const volatile uint32_t *)p;
	default:
		return *(const volatile uint64_t *)p;
	}
}

static void mem_store(void *p, unsigned size, uint64_t val)
{
	switch (size) {
	case 1:
		*(volatile uint8_t *)p = (uint8_t)val;
		break;
	case 2:
		*(volatile uint16_t *)p = (uint16_t)val;
		break;
	case 4:
		*(volatile uint32_t *)p = (uint32_t)val;
		break;
	default:
		*(volatile uint64_t *)p = val;
	}
}

/* Atomic compare and exchange of 1 to 8 bytes; returns what was there. */
static uint64_t mem_cmpxchg(void *p, unsigned size, uint64_t expect, uint64_t val)
{
	switch (size) {
	case 1: {
		uint8_t e = (uint8_t)expect;
		atomic_compare_exchange_strong((_Atomic uint8_t *)p, &e, (uint8_t)val);
		return e;
	}
	case 2: {
		uint16_t e = (uint16_t)expect;
		atomic_compare_exchange_strong((_Atomic uint16_t *)p, &e, (uint16_t)val);
		return e;
	}
	case 4: {
		uint32_t e = (uint32_t)expect;
		atomic_compare_exchange_strong((_Atomic uint32_t *)p, &e, (uint32_t)val);
		return e;
	}
	default: {
		uint64_t e = expect;
		atomic_compare_exchange_strong((_Atomic uint64_t *)p, &e, val);
		return e;
	}
	}
}

static uint64_t size_mask(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << size * 8) - 1;
}

/* Flags of a - b as cmp and cmpxchg set them. */
static void flags_sub(struct gregs *g, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t m = size_mask(size), r = (a - b) & m, sign = (m >> 1) + 1, f = 0;

	a &= m;
	b &= m;
	f |= a < b ? 1 : 0;
	f |= __builtin_parity(r & 0xff) ? 0 : 4;
	f |= (a ^ b ^ r) & 0x10;
	f |= r ? 0 : 0x40;
	f |= r & sign ? 0x80 : 0;
	f |= (a ^ b) & (a ^ r) & sign ? 0x800 : 0;
	g->rflags = (g->rflags & ~(uint64_t)FL_ARITH) | f;
}

static void flags_logic(struct gregs *g, uint64_t r, unsigned size)
{
	uint64_t m = size_mask(size), f = 0;

	r &= m;
	f |= __builtin_parity(r & 0xff) ? 0 : 4;
	f |= r ? 0 : 0x40;
	f |= r & ((m >> 1) + 1) ? 0x80 : 0;
	g->rflags = (g->rflags & ~(uint64_t)FL_ARITH) | f;
}

static void flags_add(struct gregs *g, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t m = size_mask(size), r = (a + b) & m, sign = (m >> 1) + 1, f = 0;

	a &= m;
	f |= r < a ? 1 : 0;
	f |= __builtin_parity(r & 0xff) ? 0 : 4;
	f |= (a ^ b ^ r) & 0x10;
	f |= r ? 0 : 0x40;
	f |= r & sign ? 0x80 : 0;
	f |= ~(a ^ b) & (a ^ r) & sign ? 0x800 : 0;
	g->rflags = (g->rflags & ~(uint64_t)FL_ARITH) | f;
}

/* Read-modify-write on p, atomically whether or not the guest wrote lock: with a lock prefix it must be, without one it may. */
static void read_modify_write(struct gregs *g, const struct insn *in, void *p)
{
	unsigned n = in->size;
	uint64_t src = in->reg != NO_REG ? reg_get(g, in->reg, n, in->high8) : (uint64_t)in->imm & size_mask(n), old,
		 new;

	if (in->op == OP_CMPXCHG) {
		uint64_t expect = reg_get(g, RAX, n, false);
		old = mem_cmpxchg(p, n, expect, src);
		flags_sub(g, expect, old, n);
		if (old != expect)
			reg_set(g, RAX, n, false, old);
		return;
	}
	do {
		old = mem_load(p, n);
		switch (in->op) {
		case OP_XCHG:
			new = src;
			break;
		case OP_XADD:
		case OP_ADD:
			new = old + src;
			break;
		case OP_SUB:
			new = old - src;
			break;
		case OP_AND:
			new = old &src;
			break;
		case OP_OR:
			new = old | src;
			break;
		default:
			new = old ^ src;
		}
		new &= size_mask(n);
	} while (mem_cmpxchg(p, n, old, new) != old);
	if (in->op == OP_XADD || in->op == OP_ADD)
		flags_add(g, old, src, n);
	else if (in->op == OP_SUB)
		flags_sub(g, old, src, n);
	else if (in->op != OP_XCHG)
		flags_logic(g, new, n);
	if (in->op == OP_XCHG || in->op == OP_XADD)
		reg_set(g, in->reg, n, in->high8, old);
}

void access_at(struct gregs *g, const struct insn *in, uint8_t *p)
{
	uint64_t m;

	switch (in->op) {
	case OP_LOAD:
		reg_set(g, in->reg, in->size, in->high8, mem_load(p, in->size));
		break;
	case OP_LOADZX:
		reg_set(g, in->reg, in->dst_size, false, mem_load(p, in->size));
		break;
	case OP_LOADSX:
		m = mem_load(p, in->size);
		m = in->size == 1 ? (uint64_t)(int8_t)m : in->size == 2 ? (uint64_t)(int16_t)m : (uint64_t)(int32_t)m;
		reg_set(g, in->reg, in->dst_size, false, m);
		break;
	case OP_STORE:
		mem_store(p, in->size, reg_get(g, in->reg, in->size, in->high8));
		break;
	case OP_STORE_IMM:
		mem_store(p, in->size, (uint64_t)in->imm);
		break;
	case OP_CMP:
		flags_sub(g, mem_load(p, in->size),
			  in->reg != NO_REG ? reg_get(g, in->reg, in->size, in->high8) : (uint64_t)in->imm, in->size);
		break;
	case OP_TEST:
		flags_logic(g,
			    mem_load(p, in->size) &
				    (in->reg != NO_REG ? reg_get(g, in->reg, in->size, in->high8) : (uint64_t)in->imm),
			    in->size);
		break;
	default:
		read_modify_write(g, in, p);
	}
}

static bool op_reads_only(const struct insn *in)
{
	return in->op == OP_LOAD || in->op == OP_LOADZX || in->op == OP_LOADSX || in->op == OP_CMP || in->op == OP_TEST;
}

static void fault(struct vcpu *v, struct gregs *g, const struct insn *in, gva_t bad, uint32_t error)
{
	STAT(user_access_faults);
	if (kctl->verbose > 1)
		k_log("uaccess fault at %lx op %u va %lx err %x rcx %lx rdi %lx rsi %lx cr3 %lx", in->va, in->op, bad,
		      error, g->r[RCX], g->r[RDI], g->r[RSI], v->cr3);
	g->rip = in->va;
	if (bad >= 1ull << 47)
		inject_gp(v, g, 0, 0);
	else
		inject_pf(v, g, 0, bad, error);
}

/* rep movs between user and kernel memory: page by page, progress in the registers, so a fault can restart it. */
static bool string_copy(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t left = (in->rep ? g->r[RCX] : 1) * in->size;
	gva_t bad;
	uint32_t error = 0;

	while (left) {
		gva_t user = in->to_user ? g->r[RDI] : g->r[RSI];
		gva_t other = in->to_user ? g->r[RSI] : g->r[RDI];
		uint64_t n = MIN(left, PAGE_SIZE - (user & ~PAGE_MASK));
		n = MIN(n, PAGE_SIZE - (other & ~PAGE_MASK));
		uint8_t *kernel = k_ptr(other);
		if (!kernel) { /* a wild pointer of the guest kernel's */
			fault(v, g, in, other, in->to_user ? 0 : PFEC_W);
			return false;
		}
		if (in->size > 1)
			n = n >= in->size ? n & ~(uint64_t)(in->size - 1) : in->size;
		bool ok = in->to_user ? user_write(v, user, kernel, n, &bad, &error)
				      : user_read(v, user, kernel, n, &bad, &error);
		if (!ok) {
			fault(v, g, in, bad, error);
			return false;
		}
		g->r[RDI] += n;
		g->r[RSI] += n;
		left -= n;
		if (in->rep)
			g->r[RCX] -= n / in->size;
	}
	return true;
}

#define FEW 8 /* a rep begins 20 ns later while a debug register watches data (seen on an AMD Zen 5) */

static void fill(uint8_t *p, unsigned size, uint64_t n, uint64_t val)
{
	if (size == 8 && n > FEW)
		asm volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(val) : "memory");
	else if (size == 1 && n > FEW)
		asm volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(val) : "memory");
	else
		for (; n; n--, p += size)
			mem_store(p, size, val);
}

static bool string_store(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t left = in->rep ? g->r[RCX] : 1;
	gva_t bad;
	uint32_t error = 0;

	while (left) {
		gva_t user = g->r[RDI];
		uint64_t n = MIN(left * in->size, PAGE_SIZE - (user & ~PAGE_MASK)) / in->size;
		if (!n) { /* an element across the page end */
			if (!user_write(v, user, &g->r[RAX], in->size, &bad, &error)) {
				fault(v, g, in, bad, error);
				return false;
			}
			n = 1;
		} else {
			uint8_t *p = user_ptr(v, user, true, &error);
			if (!p) {
				fault(v, g, in, user, error);
				return false;
			}
			fill(p, in->size, n, g->r[RAX]);
		}
		g->r[RDI] += n * in->size;
		left -= n;
		if (in->rep)
			g->r[RCX] = left;
	}
	return true;
}

/*
 * csum_partial_copy_generic copies from user memory, to it, or between kernel buffers, by the same instructions, and its
 * loads and stores all have the label; who called it says which of them concern the user.  It keeps five registers on its stack, the return address is above them.  The address itself does not
 * tell: a user's pointer may be a kernel address, and then it must fault.
 */
static bool csum_of_kernel(const struct gregs *g, const struct insn *in)
{
	const struct kboot *b = &kctl->boot;
	uint64_t ret = 0;

	if (in->va < b->csum_copy[0] || in->va >= b->csum_copy[1])
		return false;
	k_read(g->r[RSP] + 5 * 8, &ret, 8);
	bool from_user = ret >= b->csum_from_user[0] && ret < b->csum_from_user[1];
	bool to_user = ret >= b->csum_to_user[0] && ret < b->csum_to_user[1];
	return op_reads_only(in) ? !from_user : !to_user;
}

void emulate_uaccess(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	gva_t next = next_rip(in), bad = 0;
	uint32_t error = 0;

	STAT(user_access);
	if (in->op == OP_MOVS || in->op == OP_STOS) {
		if (in->op == OP_MOVS ? string_copy(v, g, in) : string_store(v, g, in))
			g->rip = next;
		return;
	}
	gva_t va = insn_ea(in, g);
	if (csum_of_kernel(g, in)) {
		access_at(g, in, (uint8_t *)va);
		g->rip = next;
		return;
	}
	bool write = !op_reads_only(in);
	if ((va & ~PAGE_MASK) + in->size <= PAGE_SIZE) {
		uint8_t *p = user_ptr(v, va, write, &error);
		if (!p) {
			fault(v, g, in, va, error);
			return;
		}
		access_at(g, in, p);
		g->rip = next;
		return;
	}
	/* Across a page end: by way of a copy. Both pages are made sure of first. */
	uint64_t copy = 0;
	uint8_t *last;
	if (!user_read(v, va, &copy, in->size, &bad, &error)) {
		fault(v, g, in, bad, error);
		return;
	}
	if (write && (!(last = user_ptr(v, va + in->size - 1, true, &error)) || !user_ptr(v, va, true, &error))) {
		fault(v, g, in, last ? va : (va + in->size - 1) & PAGE_MASK, error);
		return;
	}
	access_at(g, in, (uint8_t *)&copy);
	if (write)
		user_write(v, va, &copy, in->size, &bad, &error);
	g->rip = next;
}
