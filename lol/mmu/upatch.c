/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rewritten system-call sites of guest user code.  Runs in K, site context.
 *
 * A host signal costs 1.6 us, a jump into the stub 15 ns.  So the first system call of a
 * site makes K copy its page, put
 *
 *     jmp *TABLE(i)          ff 24 e5 disp32, 7 bytes
 *
 * over the site in the copy, and map the copy in place of the page, in U's only and only
 * where the guest's page table forbids writing.  The guest's own page stays as it is: reads
 * by the guest kernel (ptrace, core dumps, other mappings) see the original.  The jump
 * leads through a table in the low window of U (guest programs cannot have addresses below
 * 1 MiB) to a trampoline, which loads the site's number and goes on to the stub.
 *
 * Nothing in copies and trampolines depends on the address at which a program has the page,
 * so one copy serves all: K keeps for each U where it is mapped (once at most), and tells U
 * by a word in its slice where a trampoline leads back to.
 *
 * Two forms are taken; the window must lie in one page:
 *
 *   AFTER   syscall; some instructions    these move into the trampoline; at least 5 bytes,
 *                                         mostly cmp $-4095, %rax
 *   BEFORE  mov $nr, %eax; syscall        the mov moves into the trampoline
 *
 * A program may jump to an instruction that has moved: a loop that tries again, a cold part
 * of the function megabytes away, a table of jumps. No search finds all of these, so each
 * byte of the window at which an instruction began is one that traps, and K goes on in the
 * trampoline. With the jump's first byte at 0:
 *
 *   2      e5, in: the scale bits of an address without index are free
 *   3      60 (pusha) in some entries of the table
 *   4      one of bad_opcode[] in some rows of the table
 *   5      06 (push es), see UPATCH_BASE
 *   6      00: no
 *   7...   f4, hlt
 *
 * rt_sigreturn is left alone: unwinders recognise a signal frame by the bytes at its return
 * address.
 *
 * K translates: rip in a trampoline becomes the rip that the guest's text has there, before
 * the guest kernel sees it; a guest rip in the middle of a window becomes the place in the
 * trampoline, where the U has the copy mapped.
 *
 * A copy is valid as long as its page still has the bytes that it was made of (compared at
 * each fill) and no U maps the page writable: a JIT that writes through a second mapping
 * runs what it wrote.  The guest kernel writes too (write(2) to a file that is being executed,
 * ptrace, /proc/PID/mem), by its direct map: there a page with a valid copy is read-only in K,
 * and the first write makes an end of the copy.  While a program single-steps itself, or is
 * stepped, its U has no copies.
 *
 * Several vCPUs: one lock for all of this but what a U's own vCPU looks up (sites are complete before their number is
 * known, where[] of a slot is written by its vCPU).  Bytes that another vCPU may be executing are changed, and a copy
 * that has become wrong is taken away, while that vCPU is out of user code: pause_others() and upatch_enter().
 */
#include "mmu/upatch.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "cpu/insn.h"

K_ALLOW(mprotect);
K_ALLOW(sched_yield);

#define SITES 4096u
#define COPIES 1024u
#define TRAMP_SIZE 64u
#define NONE 0xffffu

enum form { AFTER, BEFORE };
enum entry { ENTRY_ANY = 0, ENTRY_3 = 1, ENTRY_4 = 2 }; /* bytes of the address that must trap, as bits */

static struct site {
	uint16_t copy, off; /* of the window in the page */
	uint16_t next;      /* of the same copy, or NONE */
	uint8_t form;
	uint8_t moved;   /* AFTER: bytes behind the syscall that stand in the trampoline */
	uint32_t starts; /* bit n: an instruction began at byte n of the window */
	bool used;
} site[SITES];                /* by entry of the table */
static unsigned free_from[4]; /* by enum entry */
static struct klock lock;
static _Atomic uint32_t pausing; /* a vCPU changes what others may execute: stay out of user code */

static struct copy {
	gpa_t gpa;
	bool valid;
	uint16_t sites; /* the first, or NONE */
} copy[COPIES];
static unsigned ncopies;

/* The area behind guest RAM in its memfd: table, trampolines, copies; and the originals, which only K has. */
static uint8_t *area;
static uint8_t *originals;
static _Atomic uint16_t *copy_of_page; /* by page of RAM: number of its newest copy + 1 */
static _Atomic uint16_t *writers;      /* by page of RAM: mappings of U's that can be written through */
static gva_t (*where)[COPIES];         /* by slot of the U */

#define AREA_TRAMPS PATCH_TABLE_SIZE
#define AREA_COPIES (PATCH_TABLE_SIZE + SITES * TRAMP_SIZE)

static void *reserve(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void upatch_init(void)
{
	_Static_assert(AREA_COPIES + COPIES * PAGE_SIZE <= PATCH_AREA, "area");
	_Static_assert(AREA_COPIES <= UPATCH_WINDOW && SITES * 8 <= PATCH_TABLE_SIZE, "window");
	area = mmap(NULL, PATCH_AREA, PROT_READ | PROT_WRITE, MAP_SHARED, FD_RAM, (off_t)ram.size);
	originals = reserve(COPIES * PAGE_SIZE);
	copy_of_page = reserve(ram_span(&ram) / PAGE_SIZE * sizeof(*copy_of_page));
	writers = reserve(ram_span(&ram) / PAGE_SIZE * sizeof(*writers));
	where = reserve(MAX_U * sizeof(*where));
	if (area == MAP_FAILED || originals == MAP_FAILED || copy_of_page == MAP_FAILED || writers == MAP_FAILED ||
	    where == MAP_FAILED)
		k_stop(KSTOP_START, "cannot map memory for rewritten user code");
}

static _Atomic uint16_t *index_of(gpa_t gpa)
{
	uint64_t off = ram_offset(&ram, gpa & PAGE_MASK, PAGE_SIZE);
	return off == UINT64_MAX ? NULL : &copy_of_page[off / PAGE_SIZE];
}

static struct copy *find_copy(gpa_t gpa)
{
	_Atomic uint16_t *i = index_of(gpa);
	return i && *i && copy[*i - 1].valid ? &copy[*i - 1] : NULL;
}

static uint8_t *copy_bytes(const struct copy *c)
{
	return area + AREA_COPIES + (size_t)(c - copy) * PAGE_SIZE;
}

static uint8_t *original_bytes(const struct copy *c)
{
	return originals + (size_t)(c - copy) * PAGE_SIZE;
}

/*
 * Until resume_others(): no vCPU but v runs user code of a U that has c mapped. Each of them publishes that it is about to
 * run user code, and in which U, before it looks at `pausing` for the last time.
 */
static void pause_others(struct vcpu *v, struct copy *c)
{
	if (!several_vcpus())
		return;
	atomic_fetch_add(&pausing, 1);
	for (unsigned i = 0; i < kctl->ncpus; i++) {
		struct uproc *u = atomic_load(&vcpus[i]->in_user);
		if (vcpus[i] == v || !u || !where[u->slot][c - copy])
			continue;
		kick_user(u);
		for (unsigned spins = 0; atomic_load(&vcpus[i]->in_user) == u; spins++)
			if (spins < 1000)
				__builtin_ia32_pause();
			else
				sys3(SYS_sched_yield, 0, 0, 0);
	}
}

static void resume_others(void)
{
	if (several_vcpus())
		atomic_fetch_sub(&pausing, 1);
}

bool upatch_enter(struct uproc *u)
{
	atomic_thread_fence(memory_order_seq_cst);
	return !atomic_load(&pausing) && !__atomic_load_n(&u->stale_copies, __ATOMIC_RELAXED);
}

void upatch_wait(void)
{
	k_lock(&lock);
	k_unlock(&lock);
}

/*
 * May K write to the page? The guest kernel does so by the direct map, the IVMM by ram.base, which is the same but for large
 * RAM. False: the host refuses.
 */
static bool set_writable(gpa_t gpa, bool may)
{
	uint8_t *direct = (uint8_t *)K_DIRECT_MAP + gpa, *linear = ram_ptr(&ram, gpa, PAGE_SIZE);
	int prot = PROT_READ | (may ? PROT_WRITE : 0);

	if (ram_ro(&ram, gpa))
		return true;
	return sys3(SYS_mprotect, direct, PAGE_SIZE, prot) == 0 &&
	       (linear == direct || sys3(SYS_mprotect, linear, PAGE_SIZE, prot) == 0);
}

/* The page is no longer what the copy was made of: U's that map it let go of it before they run again. */
static void retire(struct vcpu *v, struct copy *c)
{
	c->valid = false;
	pause_others(v, c);
	if (!set_writable(c->gpa, true))
		k_stop(KSTOP_BUG, "a page of guest memory cannot be made writable again");
	for (unsigned slot = 0; slot < MAX_U; slot++)
		if (where[slot][c - copy] && upool_by_slot(slot))
			__atomic_store_n(&upool_by_slot(slot)->stale_copies, true, __ATOMIC_RELAXED);
	resume_others();
}

bool upatch_written(struct vcpu *v, gva_t va)
{
	uint64_t off = va - (gva_t)ram.base;
	gpa_t gpa = va - K_DIRECT_MAP;

	if (gpa >= K_VMALLOC - K_DIRECT_MAP) { /* ram.base: the way back of ram_offset() */
		if (off >= ram_span(&ram))
			return false;
		gpa = off >= ram.low && off < ram.size ? RAM_HIGH_BASE + off - ram.low : off;
	}
	if (!index_of(gpa) || ram_ro(&ram, gpa))
		return false;
	k_lock(&lock);
	struct copy *c = find_copy(gpa);
	if (c)
		retire(v, c);
	else /* another vCPU was quicker */
		set_writable(gpa & PAGE_MASK, true);
	k_unlock(&lock);
	return true;
}

/* The copy of the page if that still has the bytes it was made of. */
static struct copy *current_copy(struct vcpu *v, gpa_t gpa)
{
	struct copy *c = find_copy(gpa);

	if (c && __builtin_memcmp(original_bytes(c), ram_ptr(&ram, c->gpa, PAGE_SIZE), PAGE_SIZE)) {
		retire(v, c);
		c = NULL;
	}
	return c;
}

void upatch_check(struct vcpu *v)
{
	k_lock(&lock);
	for (unsigned i = 0; i < ncopies; i++)
		if (copy[i].valid)
			current_copy(v, copy[i].gpa);
	k_unlock(&lock);
}

void upatch_writer(struct vcpu *v, gpa_t gpa, int more)
{
	_Atomic uint16_t *index = index_of(gpa);

	if (!index)
		return;
	/* Counted before the look at copies; make_copy() looks at the count after it has made one known. */
	atomic_fetch_add(&writers[index - copy_of_page], (uint16_t)more);
	if (more < 0 || !atomic_load(index))
		return;
	k_lock(&lock);
	struct copy *c = find_copy(gpa);
	if (c)
		retire(v, c);
	k_unlock(&lock);
}

uint64_t upatch_copy(struct vcpu *v, struct uproc *u, gva_t va, gpa_t gpa)
{
	_Atomic uint16_t *index = index_of(gpa);
	uint64_t off = UINT64_MAX;
	gpa_t other;

	if (!index || !atomic_load_explicit(index, memory_order_relaxed))
		return off;
	k_lock(&lock);
	struct copy *c = current_copy(v, gpa);
	gva_t *at = c ? &where[u->slot][c - copy] : NULL;
	if (at && (!*at || *at == (va & PAGE_MASK) || !umap_has_copy(u, *at, &other) || other != c->gpa)) {
		*at = va & PAGE_MASK;
		off = ram.size + AREA_COPIES + (uint64_t)(c - copy) * PAGE_SIZE;
	}
	k_unlock(&lock);
	return off;
}

/* ---- sites ---- */

#define MOVED_MAX 24u
#define JUMP 7u /* bytes */

/* Opcodes that 64-bit mode does not have, or not for user code, whatever follows; as the second byte of a table address. */
static const uint8_t bad_opcode[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f,
				     0x37, 0x3f, 0x60, 0x61, 0x6c, 0x6d, 0x6e, 0x6f};

static unsigned entry_class(unsigned n)
{
	unsigned class = n % 32 == 0x60 / 8 ? ENTRY_3 : 0;

	for (unsigned i = 0; i < sizeof(bad_opcode); i++)
		if (n / 32 == bad_opcode[i])
			class |= ENTRY_4;
	return class;
}

/* A free entry of the table with these bytes trapping, SITES: none. The rare kinds are kept for who needs them. */
static unsigned find_entry(unsigned class)
{
	for (unsigned *n = &free_from[class]; *n < SITES; ++*n)
		if (!site[*n].used && entry_class(*n) == class)
			return *n;
	for (unsigned more = class + 1; more <= (ENTRY_3 | ENTRY_4); more++)
		if ((more & class) == class && find_entry(more) < SITES)
			return find_entry(more);
	return SITES;
}

/*
 * Where do the instructions before off begin? The page is read from its start; where that is inside an instruction, x86
 * code falls into step within a few. True: one begins at off - 5.
 */
static bool mov_before(const uint8_t *page, unsigned off)
{
	unsigned at = 0;

	if (off < 5 || page[off - 5] != 0xb8)
		return false;
	while (at < off - 5) {
		int64_t target;
		at += branch_length(page + at, PAGE_SIZE - at, &target);
	}
	return at == off - 5;
}

/* Bytes of the instructions behind the syscall at off that can move, at least 5; 0: they cannot. Sets s->starts. */
static unsigned movable(const uint8_t *page, unsigned off, struct site *s)
{
	unsigned n = 0;

	while (n < JUMP - 2) {
		unsigned at = off + 2 + n, len = at < PAGE_SIZE ? plain_length(page + at, PAGE_SIZE - at) : 0;
		if (!len || 2 + n == 6)
			return 0;
		s->starts |= 1u << (2 + n);
		n += len;
	}
	return n <= MOVED_MAX ? n : 0;
}

static unsigned window_size(const struct site *s)
{
	return s->form == AFTER ? 2u + s->moved : JUMP;
}

/* Windows of one copy must not overlap. */
static bool fits(const struct copy *c, const struct site *s)
{
	for (unsigned n = c ? c->sites : NONE; n != NONE; n = site[n].next)
		if (s->off < site[n].off + window_size(&site[n]) && site[n].off < s->off + window_size(s))
			return false;
	return true;
}

/* The form in which the syscall at offset off can be taken, and the entry for it. False: in none. */
static bool choose_form(const struct copy *c, const uint8_t *page, unsigned off, struct site *s, unsigned *entry)
{
	*s = (struct site){.off = (uint16_t)off, .form = AFTER, .used = true};
	s->moved = (uint8_t)movable(page, off, s);
	*entry = s->moved ? find_entry((s->starts & 8 ? ENTRY_3 : 0) | (s->starts & 16 ? ENTRY_4 : 0)) : SITES;
	if (*entry < SITES && fits(c, s))
		return true;
	*s = (struct site){.off = (uint16_t)(off - 5), .form = BEFORE, .starts = 1u << 5, .used = true};
	*entry = find_entry(ENTRY_ANY);
	return *entry < SITES && mov_before(page, off) && fits(c, s);
}

/*
 * Put the jump into the copy. Other U's may run there now: first every place where an instruction begins becomes one that
 * traps, then the rest, and at last the first two bytes, which replace an instruction, at once.
 */
static void write_jump(volatile uint8_t *to, const struct site *s, unsigned entry)
{
	uint8_t bytes[2 + MOVED_MAX];
	uint32_t address = (uint32_t)(UPATCH_BASE + entry * 8);

	__builtin_memset(bytes, 0xf4, sizeof(bytes));
	__builtin_memcpy(bytes, "\xff\x24\xe5", 3);
	__builtin_memcpy(bytes + 3, &address, 4);
	for (unsigned i = 2; i < window_size(s); i++)
		if (s->starts & 1u << i)
			to[i] = bytes[i];
	for (unsigned i = 2; i < window_size(s); i++)
		to[i] = bytes[i];
	*(volatile uint16_t *)to = 0x24ff;
}

static uint8_t *put(uint8_t *p, const void *bytes, unsigned n)
{
	__builtin_memcpy(p, bytes, n);
	return p + n;
}

#define LIT_STUB 56u
#define AFTER_CONT 11u
#define BEFORE_SYSCALL 5u
_Static_assert(AFTER_CONT + MOVED_MAX + 7 <= LIT_STUB, "trampoline");

/*
 *     mov  $nr, %eax             BEFORE only: the instruction that was moved
 *     mov  $number, %ecx
 *     jmp  *LIT_STUB(%rip)
 *     ...                        AFTER only: the instructions that were moved
 *     jmp  *back                 AFTER only: through the slice
 */
static void write_trampoline(unsigned n, const uint8_t *window)
{
	uint8_t *t = area + AREA_TRAMPS + n * TRAMP_SIZE, *p = t;
	uint64_t entry = USTUB_SYSCALL, self = UPATCH_BASE + AREA_TRAMPS + n * TRAMP_SIZE;
	uint32_t back = USHARE_LOW + US_BACK, number = n;
	int32_t rel;

	if (site[n].form == BEFORE)
		p = put(p, window, 5);
	p = put(p, "\xb9", 1);
	p = put(p, &number, 4);
	rel = (int32_t)(t + LIT_STUB - (p + 6));
	p = put(p, "\xff\x25", 2);
	p = put(p, &rel, 4);
	if (site[n].form == AFTER) {
		p = put(p, window + 2, site[n].moved);
		p = put(p, "\xff\x24\x25", 3);
		put(p, &back, 4);
	}
	put(t + LIT_STUB, &entry, 8);
	put(area + n * 8, &self, 8);
}

/*
 * May what this copy was be written over? U's that are known to wait let go of it before they run again, see retire(). One that
 * may be running out of turn (user_park()) would read what comes now, which can be another program's: *park is set if it is v's own,
 * otherwise there is no rewriting for now.
 */
static bool may_reuse(struct vcpu *v, const struct copy *c, bool *park)
{
	for (unsigned i = 0; i < kctl->ncpus; i++) {
		struct uproc *u = __atomic_load_n(&vcpus[i]->last_u, __ATOMIC_RELAXED);
		if (!u || !__atomic_load_n(&u->loose, __ATOMIC_RELAXED) || !where[u->slot][c - copy])
			continue;
		*park = vcpus[i] == v;
		return false;
	}
	return true;
}

static struct copy *make_copy(struct vcpu *v, gpa_t gpa, const uint8_t *page, bool *park)
{
	_Atomic uint16_t *index = index_of(gpa);

	if (!index || writers[index - copy_of_page] || (!*index && ncopies == COPIES))
		return NULL;
	if (*index && !may_reuse(v, &copy[*index - 1], park))
		return NULL;
	if (!set_writable(gpa & PAGE_MASK, false)) /* too many mappings */
		return NULL;
	struct copy *c = *index ? &copy[*index - 1] : &copy[ncopies++];
	pause_others(v, c); /* a U may run in what this copy was, its flag to let go of it already set */
	*c = (struct copy){gpa & PAGE_MASK, true, NONE};
	__builtin_memcpy(original_bytes(c), page, PAGE_SIZE);
	__builtin_memcpy(copy_bytes(c), page, PAGE_SIZE);
	resume_others();
	atomic_store(index, (uint16_t)(c - copy + 1));
	if (writers[index - copy_of_page]) { /* since a moment ago */
		c->valid = false;
		set_writable(c->gpa, true);
		return NULL;
	}
	return c;
}

/* Under the lock. True: va has a rewritten site now. *park: not yet, v's U has to wait first. */
static bool add_site(struct vcpu *v, struct uproc *u, gva_t va, bool *park)
{
	struct walk w;
	struct site s;

	if (va >= K_USER_END || u->stepping || !pt_walk(v->cr3, va, &w) || !w.user || w.writable || w.nx)
		return false;
	const uint8_t *page = ram_ptr(&ram, w.gpa & PAGE_MASK, PAGE_SIZE);
	unsigned off = va & (PAGE_SIZE - 1);
	if (!page || off + 2 > PAGE_SIZE || page[off] != 0x0f || page[off + 1] != 0x05)
		return false;
	struct copy *c = current_copy(v, w.gpa);
	if (c && copy_bytes(c)[off] != page[off])
		return !where[u->slot]
			     [c - copy]; /* done before; this U had the page mapped then, or has it elsewhere too */
	vector_registers_save();
	unsigned n;
	bool ok = choose_form(c, page, off, &s, &n);
	vector_registers_restore();
	if (!ok || (!c && !(c = make_copy(v, w.gpa, page, park))))
		return false;
	s.used = false;
	s.copy = (uint16_t)(c - copy);
	s.next = c->sites;
	site[n] = s;
	write_trampoline(n, page + s.off);
	__atomic_store_n(&site[n].used, true, __ATOMIC_RELEASE);
	pause_others(v, c); /* they may be between the syscall and what moves behind it */
	__atomic_store_n(&c->sites, (uint16_t)n, __ATOMIC_RELEASE);
	write_jump(copy_bytes(c) + s.off, &s, n);
	resume_others();
	STAT(u_sites);
	return true;
}

void upatch_site(struct vcpu *v, struct uproc *u, gva_t va)
{
	gpa_t gpa;

	bool park = false;
	k_lock(&lock);
	bool done = add_site(v, u, va, &park);
	k_unlock(&lock);
	if (park) {
		user_park(v, false); /* not under the lock: it may end the U, which lets go of its pages */
		park = false;
		k_lock(&lock);
		done = add_site(v, u, va, &park);
		k_unlock(&lock);
	}
	if (done && !umap_has_copy(u, va, &gpa))
		umap_forget_page(v, u, va); /* the next touch maps the copy */
}

/* ---- rip in both directions ---- */

gva_t upatch_return(struct uproc *u, uint64_t id)
{
	if (id >= SITES || !__atomic_load_n(&site[id].used, __ATOMIC_ACQUIRE) || !where[u->slot][site[id].copy])
		return 0;
	return where[u->slot][site[id].copy] + site[id].off + (site[id].form == AFTER ? 2 : 7);
}

gva_t upatch_to_guest(struct uproc *u, gva_t rip)
{
	uint64_t off = rip - (UPATCH_BASE + AREA_TRAMPS);
	unsigned n = (unsigned)(off / TRAMP_SIZE), at = off % TRAMP_SIZE;

	if (rip < UPATCH_BASE + AREA_TRAMPS || off >= SITES * TRAMP_SIZE || !site[n].used ||
	    !where[u->slot][site[n].copy])
		return rip;
	gva_t start = where[u->slot][site[n].copy] + site[n].off;
	if (site[n].form == AFTER)
		return start + (at < AFTER_CONT ? 0 : 2 + MIN(at - AFTER_CONT, (unsigned)site[n].moved));
	return start + (at < BEFORE_SYSCALL ? 0 : 5);
}

gva_t upatch_to_host(struct uproc *u, gva_t rip)
{
	gpa_t gpa;
	_Atomic uint16_t *i;

	if (!umap_has_copy(u, rip, &gpa) || !(i = index_of(gpa)) || !*i)
		return rip;
	unsigned off = rip & (PAGE_SIZE - 1);
	for (unsigned n = __atomic_load_n(&copy[*i - 1].sites, __ATOMIC_ACQUIRE); n != NONE; n = site[n].next) {
		const struct site *s = &site[n];
		gva_t t = UPATCH_BASE + AREA_TRAMPS + n * TRAMP_SIZE;
		if (s->form == AFTER && off >= s->off + 2u && off < s->off + 2u + s->moved) {
			u->s->back = (rip & PAGE_MASK) + s->off + 2 + s->moved;
			return t + AFTER_CONT + (off - s->off - 2);
		}
		if (s->form == BEFORE && off == s->off + 5u)
			return t + BEFORE_SYSCALL;
	}
	return rip;
}
