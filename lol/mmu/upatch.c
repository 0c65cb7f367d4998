/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rewritten system-call sites of guest user code.  Runs in K, site context.
 *
 * A host signal costs 1.6 us, a jump into the stub 15 ns.  So the first system call of a
 * site makes K copy its page, put
 *
 *     jmp *TABLE(i)          ff 24 25 disp32, 7 bytes
 *
 * over the site in the copy, and map the copy in place of the page, in U's only and only
 * where the guest's page table forbids writing.  The guest's own page stays as it is: reads
 * by the guest kernel (ptrace, core dumps, other mappings) see the original.  The jump
 * leads through a table in the low window of U (guest programs cannot have addresses below
 * 1 MiB) to a trampoline, which loads rcx with its right value, the return address, and
 * goes on to the stub.
 *
 * Two forms are taken; the window must lie in one page, and no direct jump of the page may
 * lead to the middle of it:
 *
 *   AFTER   syscall; some instructions    these move into the trampoline; at least 5 bytes,
 *                                         mostly cmp $-4095, %rax
 *   BEFORE  mov $nr, %eax; syscall        the mov moves into the trampoline
 *
 * rt_sigreturn is left alone: unwinders recognise a signal frame by the bytes at its return
 * address.
 *
 * K translates: rip in a trampoline becomes the rip that the guest's text has there, before
 * the guest kernel sees it; a guest rip in the middle of a window becomes the place in the
 * trampoline, where the U has the copy mapped.
 *
 * A copy is valid as long as its page still has the bytes that it was made of: compared at
 * each fill.  While a program single-steps itself, or is stepped, its U has no copies.
 */
#include "mmu/upatch.h"

#include <sys/mman.h>

#include "cpu/insn.h"

#define SITES 1024u
#define COPIES 1024u
#define TRAMP_SIZE 64u

enum form { AFTER, BEFORE };

static struct site {
	gva_t start; /* of the window */
	uint8_t form;
	uint8_t moved; /* AFTER: bytes behind the syscall that stand in the trampoline */
} site[SITES];
static unsigned nsites;

static struct copy {
	gpa_t gpa;
	gva_t va;   /* of the page: windows hold absolute return addresses */
	bool valid;
} copy[COPIES];
static unsigned ncopies;

/* The area behind guest RAM in its memfd: table, trampolines, copies; and the originals, which only K has. */
static uint8_t *area;
static uint8_t *originals;
static uint8_t *gfn_has_copy; /* one byte a guest page: a quick no */

#define AREA_TRAMPS PATCH_TABLE_SIZE
#define AREA_COPIES (PATCH_TABLE_SIZE + SITES * TRAMP_SIZE)

void upatch_init(void)
{
	_Static_assert(AREA_COPIES + COPIES * PAGE_SIZE <= PATCH_AREA, "area");
	_Static_assert(AREA_COPIES <= UPATCH_WINDOW, "window");
	area = mmap(NULL, PATCH_AREA, PROT_READ | PROT_WRITE, MAP_SHARED, FD_RAM, (off_t)ram.size);
	originals = mmap(NULL, COPIES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	gfn_has_copy = mmap(NULL, ram.size / PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED || originals == MAP_FAILED || gfn_has_copy == MAP_FAILED)
		k_stop(KSTOP_START, "cannot map memory for rewritten user code");
}

static uint8_t *flag_of(gpa_t gpa)
{
	uint64_t off = ram_offset(&ram, gpa & PAGE_MASK, PAGE_SIZE);
	return off == UINT64_MAX ? NULL : &gfn_has_copy[off / PAGE_SIZE];
}

bool upatch_has(gpa_t gpa)
{
	uint8_t *f = flag_of(gpa);
	return f && *f;
}

static struct copy *find_copy(gva_t va, gpa_t gpa)
{
	for (unsigned i = 0; i < ncopies; i++)
		if (copy[i].valid && copy[i].gpa == (gpa & PAGE_MASK) && copy[i].va == (va & PAGE_MASK))
			return &copy[i];
	return NULL;
}

static uint8_t *copy_bytes(const struct copy *c)
{
	return area + AREA_COPIES + (size_t)(c - copy) * PAGE_SIZE;
}

static uint8_t *original_bytes(const struct copy *c)
{
	return originals + (size_t)(c - copy) * PAGE_SIZE;
}

uint64_t upatch_copy(gva_t va, gpa_t gpa)
{
	struct copy *c = upatch_has(gpa) ? find_copy(va, gpa) : NULL;

	if (!c)
		return UINT64_MAX;
	if (__builtin_memcmp(original_bytes(c), ram_ptr(&ram, c->gpa, PAGE_SIZE), PAGE_SIZE)) {
		c->valid = false; /* the page has another content now; U's that still map the copy hold it until their next resync */
		return UINT64_MAX;
	}
	return ram.size + AREA_COPIES + (uint64_t)(c - copy) * PAGE_SIZE;
}

/* ---- sites ---- */

#define MOVED_MAX 24u

/*
 * Does a direct jump or call of the page lead to a byte of (from, to)? The page is read from its start; where that is
 * inside an instruction, x86 code falls into step within a few.
 */
static bool jumped_into(const uint8_t *page, unsigned from, unsigned to)
{
	for (unsigned at = 0; at < PAGE_SIZE;) {
		int64_t target = 0;
		unsigned len = branch_length(page + at, PAGE_SIZE - at, &target);
		if (target && target + at > from && target + at < to)
			return true;
		at += len;
	}
	return false;
}

/* Bytes of the instructions behind the syscall at off that can move, at least 5; 0: they cannot. */
static unsigned movable(const uint8_t *page, unsigned off)
{
	unsigned n = 0;

	while (n < 5) {
		unsigned at = off + 2 + n, len = at < PAGE_SIZE ? plain_length(page + at, PAGE_SIZE - at) : 0;
		if (!len)
			return 0;
		n += len;
	}
	return n <= MOVED_MAX ? n : 0;
}

/* The form in which the syscall at offset off can be taken. False: in none. */
static bool choose_form(const uint8_t *page, unsigned off, struct site *s)
{
	unsigned n = movable(page, off);

	if (n && !jumped_into(page, off, off + 2 + n)) {
		*s = (struct site){off, AFTER, (uint8_t)n};
		return true;
	}
	if (off >= 5 && page[off - 5] == 0xb8 && !jumped_into(page, off - 5, off + 2)) {
		*s = (struct site){off - 5, BEFORE, 0};
		return true;
	}
	return false;
}

static uint8_t *put(uint8_t *p, const void *bytes, unsigned n)
{
	__builtin_memcpy(p, bytes, n);
	return p + n;
}

/* jmp *literal(%rip), the literal at lit within the trampoline t */
static uint8_t *put_jump(uint8_t *p, uint8_t *t, unsigned lit)
{
	int32_t rel = (int32_t)(t + lit - (p + 6));
	p = put(p, "\xff\x25", 2);
	return put(p, &rel, 4);
}

#define LIT_STUB 48u
#define LIT_BACK 56u
#define AFTER_CONT 16u
#define BEFORE_SYSCALL 5u
_Static_assert(AFTER_CONT + MOVED_MAX + 6 <= LIT_STUB, "trampoline");

static void write_trampoline(unsigned n, const uint8_t *window)
{
	uint8_t *t = area + AREA_TRAMPS + n * TRAMP_SIZE, *p = t;
	const struct site *s = &site[n];
	uint64_t ret = s->form == AFTER ? s->start + 2 : s->start + 7, back = s->form == AFTER ? ret + s->moved : ret;
	uint64_t entry = USTUB_SYSCALL, self = UPATCH_BASE + AREA_TRAMPS + n * TRAMP_SIZE;

	if (s->form == BEFORE)
		p = put(p, window, 5);
	p = put(p, "\x48\xb9", 2);
	p = put(p, &ret, 8);
	p = put_jump(p, t, LIT_STUB);
	if (s->form == AFTER) {
		p = put(p, window + 2, s->moved);
		put_jump(p, t, LIT_BACK);
	}
	put(t + LIT_STUB, &entry, 8);
	put(t + LIT_BACK, &back, 8);
	put(area + n * 8, &self, 8);
}

#define HASH 4096u
static uint16_t by_start[HASH]; /* number + 1 */

static unsigned hash(gva_t start)
{
	return (unsigned)(start * 0x9e3779b97f4a7c15ull >> 50) % HASH;
}

static int find_site(gva_t start)
{
	for (unsigned h = hash(start); by_start[h]; h = (h + 1) % HASH)
		if (site[by_start[h] - 1].start == start)
			return by_start[h] - 1;
	return -1;
}

static int add_site(const struct site *s)
{
	unsigned h = hash(s->start);

	if (nsites == SITES)
		return -1;
	while (by_start[h])
		h = (h + 1) % HASH;
	site[nsites] = *s;
	by_start[h] = (uint16_t)(nsites + 1);
	return (int)nsites++;
}

static struct copy *make_copy(gva_t va, gpa_t gpa, const uint8_t *page)
{
	struct copy *c = NULL;

	if (ncopies < COPIES)
		c = &copy[ncopies++];
	else
		return NULL;
	*c = (struct copy){gpa & PAGE_MASK, va & PAGE_MASK, true};
	__builtin_memcpy(original_bytes(c), page, PAGE_SIZE);
	__builtin_memcpy(copy_bytes(c), page, PAGE_SIZE);
	*flag_of(gpa) = 1;
	return c;
}

/* Has the trampoline of site n the bytes of this window? Another program may have other code at the same address. */
static bool same_code(int n, const struct site *s, const uint8_t *window)
{
	const uint8_t *t = area + AREA_TRAMPS + (unsigned)n * TRAMP_SIZE;

	if (site[n].form != s->form || site[n].moved != s->moved)
		return false;
	return s->form == AFTER ? !__builtin_memcmp(t + AFTER_CONT, window + 2, s->moved) : !__builtin_memcmp(t, window, 5);
}

void upatch_site(struct vcpu *v, struct uproc *u, gva_t va)
{
	struct walk w;
	struct site s;

	if (va >= K_USER_END || u->stepping || !pt_walk(v->cr3, va, &w) || !w.user || w.writable || w.nx)
		return;
	const uint8_t *page = ram_ptr(&ram, w.gpa & PAGE_MASK, PAGE_SIZE);
	unsigned off = va & (PAGE_SIZE - 1);
	if (!page || off + 2 > PAGE_SIZE || page[off] != 0x0f || page[off + 1] != 0x05)
		return;
	vector_registers_save();
	bool ok = choose_form(page, off, &s);
	vector_registers_restore();
	if (!ok)
		return;
	unsigned start = (unsigned)s.start;
	s.start += va & PAGE_MASK;
	int n = find_site(s.start);
	if (n >= 0 && !same_code(n, &s, page + start))
		return; /* sites are for the first program that came */
	if (n < 0) {
		n = add_site(&s);
		if (n < 0)
			return;
		write_trampoline((unsigned)n, page + start);
	}
	struct copy *c = upatch_copy(va, w.gpa) != UINT64_MAX ? find_copy(va, w.gpa) : make_copy(va, w.gpa, page);
	if (!c)
		return;
	uint8_t *to = copy_bytes(c) + start;
	if (to[0] == 0xff && to[1] == 0x24)
		return; /* done before; this U had it unmapped */
	uint32_t entry = (uint32_t)(UPATCH_BASE + (unsigned)n * 8);
	to = put(to, "\xff\x24\x25", 3);
	put(to, &entry, 4);
	STAT(u_sites);
	/* Let every U take the copy at its next touch. This one is stopped; the bytes change in a page that only stopped U's map. */
	umap_forget_page(v, u, va);
}

/* ---- rip in both directions ---- */

gva_t upatch_to_guest(gva_t rip)
{
	uint64_t off = rip - (UPATCH_BASE + AREA_TRAMPS);
	unsigned n = (unsigned)(off / TRAMP_SIZE), at = off % TRAMP_SIZE;

	if (rip < UPATCH_BASE + AREA_TRAMPS || off >= nsites * TRAMP_SIZE)
		return rip;
	if (site[n].form == AFTER)
		return site[n].start + (at < AFTER_CONT ? 0 : 2 + MIN(at - AFTER_CONT, (unsigned)site[n].moved));
	return site[n].start + (at < BEFORE_SYSCALL ? 0 : 5);
}

gva_t upatch_to_host(struct uproc *u, gva_t rip)
{
	if (!umap_has_copy(u, rip))
		return rip;
	for (unsigned d = 2; d < 2 + MOVED_MAX; d++) {
		int n = find_site(rip - d);
		gva_t t = UPATCH_BASE + AREA_TRAMPS + (unsigned)n * TRAMP_SIZE;
		if (n >= 0 && site[n].form == AFTER && d < 2u + site[n].moved)
			return t + AFTER_CONT + d - 2;
		if (n >= 0 && site[n].form == BEFORE && d == 5)
			return t + BEFORE_SYSCALL;
	}
	return rip;
}
