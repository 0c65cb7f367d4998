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
 * by a word in its slice where a trampoline leads back to. The table is the same in all U's; the trampolines, which have
 * bytes of the text, are each U's own, and only those of the copies that it has mapped (utramp.c).
 *
 * The window, in one page, has at least the jump's 7 bytes: the syscall, and instructions behind it or before it, which move
 * into the trampoline:
 *
 *   syscall; cmp $-4095, %rax; ...              glibc, mostly
 *   syscall; ret; nop...                        what fills up behind a ret is nobody's data
 *   mov $nr, %eax; syscall                      where a jump follows, or an instruction that knows its address
 *   mov %rbx, %rsi; syscall; cmp $-38, %rax     musl, by way of example
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
 * A copy that is no longer valid lives on while a U has it mapped; then it, its sites and their entries of the table are
 * free again. When all are in use, valid copies that nobody has mapped make room: what has ended does not hold up what begins.
 *
 * Several vCPUs: one lock for all of this but what a U's own vCPU looks up (sites are complete before their number is
 * known, where[] of a slot is written by its vCPU).  Bytes that another vCPU may be executing are changed, and a copy
 * that has become wrong is taken away, while that vCPU is out of user code: pause_others() and upatch_enter().
 */
#include "mmu/upatch.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "cpu/insn.h"
#include "mmu/utext.h"
#include "mmu/utramp.h"

K_ALLOW(mprotect);
K_ALLOW(sched_yield);

#define COPIES 1024u
#define SITES_SPARE 256u /* so few entries of the table left: time to make room */
#define NONE 0xffffu
#define GONE 1 /* in where[]: u has been told to unmap it and may not have done so yet */

enum entry { ENTRY_ANY = 0, ENTRY_3 = 1, ENTRY_4 = 2 }; /* bytes of the address that must trap, as bits */

static struct usite site[UTRAMPS]; /* by entry of the table */
static unsigned nsites;            /* in use */
static unsigned free_from[4];      /* by enum entry */
static struct klock lock;
static _Atomic uint32_t pausing; /* a vCPU changes what others may execute: stay out of user code */

static struct copy {
	gpa_t gpa;
	bool valid;
	uint16_t sites;   /* the first, or NONE */
	uint16_t holders; /* U's for which where[] is set */
	uint16_t next;    /* of the free ones, or NONE */
} copy[COPIES];
static unsigned ncopies;            /* that were ever used */
static uint16_t free_copies = NONE; /* the first */

/* The area behind guest RAM in its memfd: table, copies, windows of trampolines; and the originals, which only K has. */
static uint8_t *area;
static uint8_t *originals;
static _Atomic uint16_t *copy_of_page; /* by page of RAM: number of its valid copy + 1 */
static _Atomic uint16_t *writers;      /* by page of RAM: mappings of U's that can be written through */
static gva_t (*where)[COPIES];         /* by slot of the U: address, GONE, or 0 */

#define AREA_COPIES PATCH_TABLE_SIZE
#define AREA_WINDOWS (AREA_COPIES + COPIES * PAGE_SIZE)

static void *reserve(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void upatch_init(void)
{
	_Static_assert(AREA_WINDOWS + MAX_U * UTRAMP_WINDOW <= PATCH_AREA, "area");
	_Static_assert(PATCH_TABLE_SIZE + UTRAMP_WINDOW <= UPATCH_WINDOW && UTRAMPS * 8 <= PATCH_TABLE_SIZE, "window");
	area = mmap(NULL, PATCH_AREA, PROT_READ | PROT_WRITE, MAP_SHARED, FD_RAM, (off_t)ram.size);
	/* Few pages of it are in use, and they are far apart: in pieces of 2 MiB (ram_file.c) they would take 30 MiB. */
	if (area != MAP_FAILED)
		madvise(area, PATCH_AREA, MADV_NOHUGEPAGE);
	originals = reserve(COPIES * PAGE_SIZE);
	copy_of_page = reserve(ram_span(&ram) / PAGE_SIZE * sizeof(*copy_of_page));
	writers = reserve(ram_span(&ram) / PAGE_SIZE * sizeof(*writers));
	where = reserve(MAX_U * sizeof(*where));
	if (area == MAP_FAILED || originals == MAP_FAILED || copy_of_page == MAP_FAILED || writers == MAP_FAILED ||
	    where == MAP_FAILED)
		k_stop(KSTOP_START, "cannot map memory for rewritten user code");
	utramp_init((uint64_t *)area, area + AREA_WINDOWS);
}

static _Atomic uint16_t *index_of(gpa_t gpa)
{
	uint64_t off = ram_offset(&ram, gpa & PAGE_MASK, PAGE_SIZE);
	return off == UINT64_MAX ? NULL : &copy_of_page[off / PAGE_SIZE];
}

/* The valid copy of a page, or NULL. */
static struct copy *find_copy(gpa_t gpa)
{
	_Atomic uint16_t *i = index_of(gpa);
	return i && *i ? &copy[*i - 1] : NULL;
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

/* Nobody has it mapped and nobody will: it may become another page's. */
static void free_copy(struct copy *c)
{
	for (unsigned n = c->sites; n != NONE; n = site[n].next) {
		__atomic_store_n(&site[n].used, false, __ATOMIC_RELEASE);
		nsites--;
		for (unsigned class = 0; class < ARRAY_LEN(free_from); class ++)
			free_from[class] = MIN(free_from[class], n);
	}
	c->sites = NONE;
	c->next = free_copies;
	free_copies = (uint16_t)(c - copy);
}

/* The page is no longer what the copy was made of: U's that map it let go of it before they run again. */
static void retire(struct vcpu *v, struct copy *c)
{
	c->valid = false;
	atomic_store(index_of(c->gpa), 0);
	pause_others(v, c);
	if (!set_writable(c->gpa, true))
		k_stop(KSTOP_BUG, "a page of guest memory cannot be made writable again");
	for (unsigned slot = 0; slot < MAX_U; slot++)
		if (where[slot][c - copy] && upool_by_slot(slot))
			__atomic_store_n(&upool_by_slot(slot)->stale_copies, true, __ATOMIC_RELAXED);
	resume_others();
	if (!c->holders)
		free_copy(c);
}

/* Take from those that nobody has mapped, if there is one. */
static void make_room(struct vcpu *v)
{
	static unsigned hand;

	for (unsigned i = 0; i < ncopies; i++) {
		struct copy *c = &copy[hand++ % ncopies];
		if (c->valid && !c->holders) {
			STAT(u_copies_evicted);
			retire(v, c);
			return;
		}
	}
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
	_Atomic uint16_t *count = &writers[index - copy_of_page];
	if (several_vcpus())
		atomic_fetch_add(count, (uint16_t)more);
	else /* nobody else counts, and a large page is 512 of these */
		atomic_store_explicit(count, (uint16_t)(atomic_load_explicit(count, memory_order_relaxed) + more),
				      memory_order_relaxed);
	if (more < 0 || !atomic_load(index))
		return;
	k_lock(&lock);
	struct copy *c = find_copy(gpa);
	if (c)
		retire(v, c);
	k_unlock(&lock);
}

int upatch_copy(struct vcpu *v, struct uproc *u, gva_t va, gpa_t gpa)
{
	_Atomic uint16_t *index = index_of(gpa);
	int number = -1;

	if (!index || !atomic_load_explicit(index, memory_order_relaxed))
		return number;
	k_lock(&lock);
	struct copy *c = current_copy(v, gpa);
	gva_t *at = c ? &where[u->slot][c - copy] : NULL;
	if (at && *at <= GONE) {
		c->holders += *at != GONE;
		*at = va & PAGE_MASK;
		for (unsigned n = c->sites; n != NONE; n = site[n].next)
			utramp_write(u->slot, n, &site[n], original_bytes(c) + site[n].off);
		number = (int)(c - copy);
	}
	k_unlock(&lock);
	return number;
}

uint64_t upatch_copy_offset(unsigned number)
{
	return ram.size + AREA_COPIES + (uint64_t)number * PAGE_SIZE;
}

uint64_t upatch_window_offset(const struct uproc *u)
{
	return ram.size + AREA_WINDOWS + (uint64_t)u->slot * UTRAMP_WINDOW;
}

void upatch_unmapped(struct uproc *u, unsigned number)
{
	k_lock(&lock);
	for (unsigned n = copy[number].sites; n != NONE; n = site[n].next)
		utramp_erase(u->slot, n);
	where[u->slot][number] = GONE;
	k_unlock(&lock);
	u->copies_gone = true;
}

void upatch_let_go(struct uproc *u)
{
	u->copies_gone = false;
	k_lock(&lock);
	for (unsigned i = 0; i < ncopies; i++) {
		if (where[u->slot][i] != GONE)
			continue;
		where[u->slot][i] = 0;
		if (!--copy[i].holders && !copy[i].valid)
			free_copy(&copy[i]);
	}
	k_unlock(&lock);
}

/* ---- sites ---- */

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

/* A free entry of the table with these bytes trapping, UTRAMPS: none. The rare kinds are kept for who needs them. */
static unsigned find_entry(unsigned class)
{
	for (unsigned *n = &free_from[class]; *n < UTRAMPS; ++*n)
		if (!site[*n].used && entry_class(*n) == class)
			return *n;
	for (unsigned more = class + 1; more <= (ENTRY_3 | ENTRY_4); more++)
		if ((more & class) == class && find_entry(more) < UTRAMPS)
			return find_entry(more);
	return UTRAMPS;
}

static unsigned window_size(const struct usite *s)
{
	return s->before + 2u + s->after;
}

/* Windows of one copy must not overlap. */
static bool fits(const struct copy *c, const struct usite *s)
{
	for (unsigned n = c ? c->sites : NONE; n != NONE; n = site[n].next)
		if (s->off < site[n].off + window_size(&site[n]) && site[n].off < s->off + window_size(s))
			return false;
	return true;
}

/* A window for the syscall at offset off with these instructions from before it. UTRAMPS, or the entry of the table for it. */
static unsigned try_window(const struct copy *c, const uint8_t *page, unsigned off, const uint8_t *len, unsigned n,
			   struct usite *s)
{
	*s = (struct usite){.used = true};
	for (unsigned i = n; i-- > 0;) { /* the first of them is the last of len[] */
		s->before = (uint8_t)(s->before + len[i]);
		s->starts |= 1ull << s->before; /* where the next one begins, or the syscall */
	}
	s->off = (uint16_t)(off - s->before);
	if (!utext_behind(page, off, s) || s->starts & 1u << 6 || !fits(c, s))
		return UTRAMPS;
	return find_entry((s->starts & 8 ? ENTRY_3 : 0) | (s->starts & 16 ? ENTRY_4 : 0));
}

/* The window that needs the least special entry; nothing from before the syscall, if that will do. False: there is none. */
static bool choose_window(const struct copy *c, const uint8_t *page, unsigned off, struct usite *s, unsigned *entry)
{
	uint8_t len[UTEXT_BEFORE_MAX];
	unsigned n = 0;

	*entry = try_window(c, page, off, len, 0, s);
	if (*entry < UTRAMPS)
		return true;
	n = utext_before(page, off, len);
	for (unsigned i = 1; i <= n; i++) {
		struct usite other;
		unsigned e = try_window(c, page, off, len, i, &other);
		if (e == UTRAMPS || (*entry < UTRAMPS && entry_class(e) >= entry_class(*entry)))
			continue;
		*s = other;
		*entry = e;
	}
	return *entry < UTRAMPS;
}

/*
 * Sites that had no window, by what stands there: looking takes a while. One that loses its place here is looked at again.
 */
static bool in_vain(gpa_t gpa, const uint8_t *page, bool found)
{
	static uint64_t known[4096];
	unsigned off = gpa & (PAGE_SIZE - 1);
	uint64_t key = gpa * 0x9e3779b97f4a7c15ull + 1;

	for (unsigned i = off > 16 ? off - 16 : 0; i < off + 10 && i < PAGE_SIZE; i++)
		key = (key ^ page[i]) * 0x100000001b3ull;
	uint64_t *slot = &known[key >> 52];
	if (found)
		*slot = key;
	return *slot == key;
}

/*
 * Put the jump into the copy. Other U's may run there now: first every place where an instruction begins becomes one that
 * traps, then the rest, and at last the first two bytes, which replace an instruction, at once.
 */
static void write_jump(volatile uint8_t *to, const struct usite *s, unsigned entry)
{
	uint8_t bytes[2 + UTRAMP_MOVED_MAX];
	uint32_t address = (uint32_t)(UPATCH_BASE + entry * 8);

	__builtin_memset(bytes, 0xf4, sizeof(bytes));
	__builtin_memcpy(bytes, "\xff\x24\xe5", 3);
	__builtin_memcpy(bytes + 3, &address, 4);
	for (unsigned i = 2; i < window_size(s); i++)
		if (s->starts & 1ull << i)
			to[i] = bytes[i];
	for (unsigned i = 2; i < window_size(s); i++)
		to[i] = bytes[i];
	*(volatile uint16_t *)to = 0x24ff;
}

static struct copy *new_copy(struct vcpu *v)
{
	if (free_copies == NONE && ncopies == COPIES)
		make_room(v);
	if (free_copies == NONE)
		return ncopies < COPIES ? &copy[ncopies++] : NULL;
	struct copy *c = &copy[free_copies];
	free_copies = c->next;
	return c;
}

static struct copy *make_copy(struct vcpu *v, gpa_t gpa, const uint8_t *page)
{
	_Atomic uint16_t *index = index_of(gpa);
	struct copy *c;

	if (!index || writers[index - copy_of_page] || !(c = new_copy(v)))
		return NULL;
	*c = (struct copy){.gpa = gpa & PAGE_MASK, .sites = NONE, .next = NONE};
	if (!set_writable(c->gpa, false)) { /* too many mappings */
		free_copy(c);
		return NULL;
	}
	__builtin_memcpy(original_bytes(c), page, PAGE_SIZE);
	__builtin_memcpy(copy_bytes(c), page, PAGE_SIZE);
	c->valid = true;
	atomic_store(index, (uint16_t)(c - copy + 1));
	if (writers[index - copy_of_page]) { /* since a moment ago */
		retire(v, c);
		return NULL;
	}
	return c;
}

/* Under the lock. True: va has a rewritten site now. *written: it has none because a U maps the page writable. */
static bool add_site(struct vcpu *v, struct uproc *u, gva_t va, bool *written)
{
	struct walk w;
	struct usite s;

	if (va >= K_USER_END || u->stepping || !pt_walk(v->cr3, va, &w) || !w.user || w.writable || w.nx)
		return false;
	const uint8_t *page = ram_ptr(&ram, w.gpa & PAGE_MASK, PAGE_SIZE);
	unsigned off = va & (PAGE_SIZE - 1);
	if (!page || off + 2 > PAGE_SIZE || page[off] != 0x0f || page[off + 1] != 0x05)
		return false;
	if (nsites > UTRAMPS - SITES_SPARE)
		make_room(v);
	struct copy *c = current_copy(v, w.gpa);
	if (c &&
	    copy_bytes(c)[off] != page[off]) /* done before; this U had the page mapped then, or has it elsewhere too */
		return where[u->slot][c - copy] <= GONE;
	if (in_vain(w.gpa, page, false))
		return false;
	vector_registers_save();
	unsigned n;
	bool ok = choose_window(c, page, off, &s, &n);
	vector_registers_restore();
	if (!ok && nsites < UTRAMPS - SITES_SPARE) /* not because the table was full */
		in_vain(w.gpa, page, true);
	*written = ok && !c && index_of(w.gpa) && writers[index_of(w.gpa) - copy_of_page];
	if (!ok || (!c && !(c = make_copy(v, w.gpa, page))))
		return false;
	s.used = false;
	s.copy = (uint16_t)(c - copy);
	s.next = c->sites;
	site[n] = s;
	nsites++;
	for (unsigned slot = 0; slot < MAX_U; slot++)
		if (where[slot][c - copy] > GONE)
			utramp_write(slot, n, &s, page + s.off);
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
	unsigned number;
	bool written = false;

	k_lock(&lock);
	bool done = add_site(v, u, va, &written);
	k_unlock(&lock);
	if (written && upool_sync_others(v, u)) { /* not under the lock: they may let go of copies */
		k_lock(&lock);
		done = add_site(v, u, va, &written);
		k_unlock(&lock);
	}
	if (done && !umap_has_copy(u, va, &number))
		umap_forget_page(v, u, va); /* the next touch maps the copy */
}

/* ---- rip in both directions ---- */

gva_t upatch_return(struct uproc *u, uint64_t id)
{
	if (id >= UTRAMPS || !__atomic_load_n(&site[id].used, __ATOMIC_ACQUIRE) ||
	    where[u->slot][site[id].copy] <= GONE)
		return 0;
	return where[u->slot][site[id].copy] + site[id].off + site[id].before + 2;
}

gva_t upatch_to_guest(struct uproc *u, gva_t rip)
{
	uint64_t off = rip - utramp_address(0);
	unsigned n = (unsigned)(off / UTRAMP_SIZE), at = off % UTRAMP_SIZE;

	if (rip < utramp_address(0) || off >= UTRAMP_WINDOW || !site[n].used || where[u->slot][site[n].copy] <= GONE)
		return rip;
	const struct usite *s = &site[n];
	gva_t start = where[u->slot][s->copy] + s->off;
	if (at < s->before + UTRAMP_CALL) /* in the call: before the syscall */
		return start + MIN(at, (unsigned)s->before);
	return start + s->before + 2 + MIN(at - s->before - UTRAMP_CALL, (unsigned)s->after);
}

gva_t upatch_to_host(struct uproc *u, gva_t rip)
{
	unsigned number;

	if (!umap_has_copy(u, rip, &number))
		return rip;
	unsigned off = rip & (PAGE_SIZE - 1);
	for (unsigned n = __atomic_load_n(&copy[number].sites, __ATOMIC_ACQUIRE); n != NONE; n = site[n].next) {
		const struct usite *s = &site[n];
		if (off <= s->off || off >= s->off + window_size(s))
			continue;
		unsigned in = off - s->off;
		if (!(s->starts >> in & 1))
			return rip; /* in the middle of an instruction */
		if (in <= s->before)
			return utramp_address(n) + in;
		u->first.back = (rip & PAGE_MASK) + s->off + window_size(s);
		return utramp_address(n) + UTRAMP_CALL + in - 2;
	}
	return rip;
}
