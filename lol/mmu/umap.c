/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a U process has mapped: fills on faults, and resyncs after flushes.
 *
 * The host mappings of a U are a TLB over the guest's page table.  Beside them K
 * keeps a shadow record, a radix tree of the same shape, so that a flush need not
 * throw anything away: the record is compared with the tables and only what differs
 * is unmapped or loses rights.  Operations are queued in the U's batch and run by its
 * stub just before guest code goes on.
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "mmu/upatch.h"
#include "mmu/utramp.h"

K_ALLOW(pidfd_send_signal);

#define BLOCK (1ull << 21)
#define WINDOW 32u /* pages around a fault in which used neighbours are looked for */
#define TOUCH_MIN (4 * PAGE_SIZE)
#define INDEX(va, shift) (((va) >> (shift)) & 511)

/* The 512 entries that describe the 2 MiB around va. */
static uint64_t *shadow_block(struct uproc *u, gva_t va, bool create)
{
	struct shnode **link = &u->top[va >> 39];

	for (int shift = 30;; shift -= 9) {
		if (!*link && (!create || !(*link = shnode_alloc())))
			return NULL;
		if (shift == 12)
			return (*link)->entry;
		link = &(*link)->down[INDEX(va, shift)];
	}
}

static uint64_t *shadow_entry(struct uproc *u, gva_t va)
{
	uint64_t *b = va < K_USER_END ? shadow_block(u, va, false) : NULL;
	return b ? &b[INDEX(va, 12)] : NULL;
}

/* Change a shadow entry; who can write to a page decides whether it may have a copy. */
static void set_entry(struct vcpu *v, struct uproc *u, uint64_t *sh, uint64_t new)
{
	uint64_t old = *sh;

	*sh = new;
	if (old & SH_COPY && !(new &SH_COPY))
		upatch_unmapped(u, (unsigned)(old >> SH_COPY_SHIFT));
	if (new &SH_W)
		upatch_writer(v, new &PTE_ADDR, 1);
	if (old & SH_W)
		upatch_writer(v, old & PTE_ADDR, -1);
}

/* True: u has done all that was queued, or tried to (u->broken). */
static bool flush_batch(struct vcpu *v, struct uproc *u)
{
	return !u->queued || user_run(v, u, UCMD_BATCH);
}

static struct ubatch_op *queue(struct vcpu *v, struct uproc *u, uint64_t nr, gva_t va, uint64_t len)
{
	if (u->queued == USHARE_BATCH_MAX - 1) /* one more for the end */
		flush_batch(v, u);
	struct ubatch_op *op = &u->batch[u->queued++];
	op->nr = nr;
	op->arg[0] = va;
	op->arg[1] = len;
	u->maps++;
	return op;
}

static uint64_t both(const uint32_t *secret)
{
	return secret[0] | (uint64_t)secret[1] << 32;
}

static int host_prot(uint64_t sh)
{
	return PROT_READ | (sh & SH_W ? PROT_WRITE : 0) | (sh & SH_X ? PROT_EXEC : 0);
}

/* A page that goes and comes back at once (copy on write): mapping replaces what was there. */
static void forget_munmap(struct uproc *u, gva_t va, uint64_t len)
{
	const struct ubatch_op *last = u->queued ? &u->batch[u->queued - 1] : NULL;

	if (last && last->nr == SYS_munmap && last->arg[0] >= va && last->arg[0] + last->arg[1] <= va + len)
		u->queued--;
}

static void queue_mmap(struct vcpu *v, struct uproc *u, gva_t va, uint64_t len, uint64_t sh, uint64_t offset)
{
	forget_munmap(u, va, len);
	struct ubatch_op *op = queue(v, u, SYS_mmap, va, len);

	int file = ram_file(&ram, &offset);

	op->arg[2] = (uint32_t)host_prot(sh) | (uint64_t)u->secret[0] << 32;
	op->arg[3] = (MAP_SHARED | MAP_FIXED) | (uint64_t)u->secret[1] << 32;
	op->arg[4] = (file < 0 ? U_FD_RAM : (uint32_t)(U_FD_PMEM + file)) | (uint64_t)u->secret[2] << 32;
	op->arg[5] = offset;
}

static void queue_munmap(struct vcpu *v, struct uproc *u, gva_t va, uint64_t len)
{
	struct ubatch_op *op = queue(v, u, SYS_munmap, va, len);

	op->arg[2] = both(u->secret + 4);
	op->arg[3] = both(u->secret + 6);
}

static void queue_mprotect(struct vcpu *v, struct uproc *u, gva_t va, uint64_t len, uint64_t sh)
{
	struct ubatch_op *op = queue(v, u, SYS_mprotect, va, len);

	op->arg[2] = (uint64_t)host_prot(sh);
	op->arg[3] = both(u->secret + 4);
	op->arg[4] = both(u->secret + 6);
}

/* Have the stub read once in every 64 KiB: the host then enters up to 16 pages at once, and a write to them is no fault. */
static void queue_touch(struct vcpu *v, struct uproc *u, gva_t va, uint64_t len)
{
	struct ubatch_op *op = queue(v, u, UBATCH_TOUCH, va, va + len);

	for (unsigned i = 2; i < 6; i++) /* the stub's registers hold these while it touches, and that may fault */
		op->arg[i] = 0;
	u->maps--;
}

static void free_nodes(struct vcpu *v, struct uproc *u, struct shnode *n, int shift)
{
	if (!n)
		return;
	for (int i = 0; i < 512; i++)
		if (shift > 12)
			free_nodes(v, u, n->down[i], shift - 9);
		else
			set_entry(v, u, &n->entry[i], 0);
	shnode_free(n);
}

void umap_drop(struct vcpu *v, struct uproc *u)
{
	for (unsigned i = 0; i < ARRAY_LEN(u->top); i++) {
		free_nodes(v, u, u->top[i], 30);
		u->top[i] = NULL;
	}
	u->queued = 0; /* and so what the batch would have mapped */
	u->window_queued = false;
	u->ninval = 0;
	u->resync = false;
	if (u->maps)
		queue_munmap(v, u, UPATCH_BASE + UPATCH_WINDOW, K_USER_END - UPATCH_BASE - UPATCH_WINDOW);
	u->maps = 0;
	u->broken = false;
	bool done = flush_batch(v, u);
	if (u->broken) /* it still has what no record knows of */
		sys6(SYS_pidfd_send_signal, u->pidfd, 9, 0, 0, 0, 0);
	else if (done && u->copies_gone)
		upatch_let_go(u);
}

/* What the host mapping of a present 4 KiB translation may allow. D must be set by a fault, so a clean page is not writable. */
static uint64_t allowed(uint64_t gpa, bool w, bool dirty, bool nx)
{
	return (gpa & PTE_ADDR) | SH_R | (w && dirty ? SH_W : 0) | (nx ? 0 : SH_X);
}

/* How the entries around pte[i] can be joined to one run: the same rights, contiguous pages, not mapped yet. */
static bool joins(_Atomic uint64_t *pte, const uint64_t *shadow, uint64_t want, uint64_t mask, gpa_t gpa)
{
	uint64_t e = atomic_load_explicit(pte, memory_order_relaxed);
	return !*shadow && (e & mask) == want && (e & PTE_ADDR) == gpa;
}

/* The low window, once for each process. */
static void map_window(struct vcpu *v, struct uproc *u)
{
	if (u->window || u->window_queued)
		return;
	u->window_queued = true;
	queue_mmap(v, u, UPATCH_BASE, PATCH_TABLE_SIZE, SH_R, ram.size);
	queue_mmap(v, u, utramp_address(0), UTRAMP_WINDOW, SH_R | SH_X, upatch_window_offset(u));
}

/* Pages of the run that have rewritten system calls: their copies go on top. */
static void map_copies(struct vcpu *v, struct uproc *u, gva_t va, uint64_t *sh, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int number = upatch_copy(v, u, va + i * PAGE_SIZE, sh[i] & PTE_ADDR);
		if (number < 0)
			continue;
		map_window(v, u);
		queue_mmap(v, u, va + i * PAGE_SIZE, PAGE_SIZE, sh[i], upatch_copy_offset((unsigned)number));
		sh[i] |= SH_COPY | (uint64_t)number << SH_COPY_SHIFT;
	}
}

bool umap_has_copy(struct uproc *u, gva_t va, unsigned *number)
{
	uint64_t *sh = shadow_entry(u, va);

	if (!sh || !(*sh & SH_COPY))
		return false;
	*number = (unsigned)(*sh >> SH_COPY_SHIFT);
	return true;
}

void umap_forget_page(struct vcpu *v, struct uproc *u, gva_t va)
{
	uint64_t *sh = shadow_entry(u, va);

	if (!sh || !*sh)
		return;
	set_entry(v, u, sh, 0);
	queue_munmap(v, u, va & PAGE_MASK, PAGE_SIZE);
}

static void forget_copies(struct vcpu *v, struct uproc *u, struct shnode *n, gva_t base, int shift)
{
	for (uint64_t i = 0; n && i < 512; i++) {
		gva_t va = base + (i << shift);
		if (shift > 12)
			forget_copies(v, u, n->down[i], va, shift - 9);
		else if (n->entry[i] & SH_COPY)
			umap_forget_page(v, u, va);
	}
}

void umap_forget_copies(struct vcpu *v, struct uproc *u)
{
	for (uint64_t i = 0; i < ARRAY_LEN(u->top); i++)
		forget_copies(v, u, u->top[i], i << 39, 30);
}

/*
 * Map the run of pages around va, whose walk is w, that are contiguous, of equal rights and not mapped yet; sh is the
 * shadow of its 2 MiB. fresh: the guest has just made it. False: that is no RAM.
 */
static bool map_run(struct vcpu *v, struct uproc *u, uint64_t *sh, gva_t va, const struct walk *w, bool fresh)
{
	unsigned i = INDEX(va, 12), first = i, last = i;
	uint64_t flags = allowed(0, w->writable, w->dirty, w->nx);
	gpa_t gpa = w->gpa & PAGE_MASK;

	if (w->size > PAGE_SIZE) {
		flags |= SH_HUGE;
		first = 0;
		last = 511;
	} else {
		/* Neighbours join when a walk of theirs would give the same rights: compare the leaves, the upper levels are shared. */
		uint64_t mask = PTE_P | PTE_U | PTE_W | PTE_NX | PTE_A | (flags & SH_W ? PTE_D : 0);
		uint64_t want = atomic_load_explicit(w->pte, memory_order_relaxed) & mask;
		while (first > 0 &&
		       joins(w->pte - (i - first) - 1, &sh[first - 1], want, mask, gpa - (i - first + 1) * PAGE_SIZE))
			first--;
		while (last < 511 &&
		       joins(w->pte + (last - i) + 1, &sh[last + 1], want, mask, gpa + (last - i + 1) * PAGE_SIZE))
			last++;
	}
	gpa_t first_gpa = gpa - (uint64_t)(i - first) * PAGE_SIZE;
	uint64_t len = (uint64_t)(last - first + 1) * PAGE_SIZE;
	uint64_t off = ram_offset(&ram, first_gpa, len);
	if (off == UINT64_MAX) {
		off = ram_offset(&ram, gpa, PAGE_SIZE);
		if (off == UINT64_MAX) /* device registers mapped into user space: not under LoL */
			return false;
		first = last = i;
		first_gpa = gpa;
		len = PAGE_SIZE;
	}
	if (ram_ro(&ram, first_gpa))
		flags &= ~(uint64_t)SH_W;
	gva_t first_va = (va & ~(BLOCK - 1)) + first * PAGE_SIZE;
	queue_mmap(v, u, first_va, len, flags, off);
	if (fresh && flags & SH_W && len >= TOUCH_MIN)
		queue_touch(v, u, first_va, len);
	for (unsigned k = first; k <= last; k++)
		set_entry(v, u, &sh[k], (first_gpa + (uint64_t)(k - first) * PAGE_SIZE) | flags);
	if ((flags & (SH_W | SH_X)) == SH_X && !u->stepping)
		map_copies(v, u, first_va, &sh[first], last - first + 1);
	STAT(u_fills);
	STAT_ADD(u_fill_pages, last - first + 1);
	return true;
}

/* Neighbours of va that are present and known to be used; w is the walk of va, a leaf of 4 KiB. */
static void map_neighbours(struct vcpu *v, struct uproc *u, uint64_t *sh, gva_t va, const struct walk *w)
{
	unsigned i = INDEX(va, 12), first = i & ~(WINDOW - 1);

	for (unsigned k = first; k < first + WINDOW && u->queued < USHARE_BATCH_MAX - 4; k++) {
		struct walk n = *w;
		uint64_t e;

		if (sh[k])
			continue;
		n.pte = w->pte + ((int)k - (int)i);
		e = atomic_load_explicit(n.pte, memory_order_relaxed);
		if ((e & (PTE_P | PTE_U | PTE_A)) != (PTE_P | PTE_U | PTE_A) || !uhot_spend(e & PTE_ADDR))
			continue;
		n.gpa = e & PTE_ADDR;
		n.writable = w->up_writable && e & PTE_W;
		n.dirty = e & PTE_D;
		n.nx = w->up_nx || e & PTE_NX;
		STAT(u_ahead);
		map_run(v, u, sh, (va & ~(BLOCK - 1)) + k * PAGE_SIZE, &n, false);
	}
}

static uint32_t fill(struct vcpu *v, struct uproc *u, gva_t va, uint32_t access, bool fresh)
{
	bool write = access & PFEC_W;
	struct walk w;

	if (va >= K_USER_END) {
		bool there = pt_walk(u->root, va, &w);
		return (access & (PFEC_W | PFEC_I)) | PFEC_U | (there ? PFEC_P : 0);
	}
	do {
		if (!pt_walk(u->root, va, &w))
			return (access & (PFEC_W | PFEC_I)) | PFEC_U;
		if (!w.user || (write && !w.writable) || ((access & PFEC_I) && w.nx))
			return (access & (PFEC_W | PFEC_I)) | PFEC_U | PFEC_P;
	} while (!pt_set_ad(&w, write));
	if (write && ram_ro(&ram, w.gpa))
		return (access & (PFEC_W | PFEC_I)) | PFEC_U | PFEC_P;
	if (va < UPATCH_BASE + UPATCH_WINDOW) /* LoL's own; the kit's kernels never get here */
		return (access & (PFEC_W | PFEC_I)) | PFEC_U | PFEC_P;

	uint64_t *sh = shadow_block(u, va, true);
	if (!sh) {
		umap_drop(v, u);
		sh = shadow_block(u, va, true);
	}
	if (!map_run(v, u, sh, va, &w, fresh))
		return (access & (PFEC_W | PFEC_I)) | PFEC_U | PFEC_P;
	uhot_touched(w.gpa);
	if (w.size == PAGE_SIZE)
		map_neighbours(v, u, sh, va, &w);
	if (u->maps > U_MAPS_MAX) {
		STAT(u_evicted);
		umap_drop(v, u);
		return fill(v, u, va, access, fresh);
	}
	return 0;
}

uint32_t umap_fill(struct vcpu *v, struct uproc *u, gva_t va, uint32_t access)
{
	return fill(v, u, va, access, false);
}

uint32_t umap_fill_fresh(struct vcpu *v, struct uproc *u, gva_t va, uint32_t access)
{
	return fill(v, u, va, access, true);
}

void umap_first(struct vcpu *v, struct uproc *u, const struct gregs *g)
{
	fill(v, u, g->rip, PFEC_I, false);
	fill(v, u, g->r[RSP], 0, false);
}

/*
 * A stretch of neighbouring pages that get the same treatment, grown page by page
 * and turned into one call when it ends.  Holes are free to be unmapped.
 */
struct stretch {
	gva_t start, end;
	uint64_t prot; /* 0: munmap */
	bool open;
};

static void stretch_end(struct vcpu *v, struct uproc *u, struct stretch *s)
{
	if (!s->open)
		return;
	s->open = false;
	if (s->prot)
		queue_mprotect(v, u, s->start, s->end - s->start, s->prot);
	else
		queue_munmap(v, u, s->start, s->end - s->start);
}

static void stretch_add(struct vcpu *v, struct uproc *u, struct stretch *s, gva_t va, uint64_t prot)
{
	if (s->open && s->prot == prot && (s->end == va || !prot)) {
		s->end = va + PAGE_SIZE;
		return;
	}
	stretch_end(v, u, s);
	*s = (struct stretch){va, va + PAGE_SIZE, prot, true};
}

/* Compare one shadow entry with the leaf e (0: not present; huge: part of a big leaf); false when the entry is gone. */
static bool compare(struct vcpu *v, struct uproc *u, struct stretch *s, gva_t va, uint64_t *sh, uint64_t now)
{
	if (!now || (now & PTE_ADDR) != (*sh & PTE_ADDR)) {
		set_entry(v, u, sh, 0);
		stretch_add(v, u, s, va, 0);
		return false;
	}
	uint64_t keep = *sh & now & SH_PROT;
	if (keep != (*sh & SH_PROT)) {
		set_entry(v, u, sh, (*sh & ~SH_PROT) | keep);
		stretch_add(v, u, s, va, keep);
	} else {
		stretch_end(v, u, s);
	}
	return true;
}

/* Shadow form of what the tables say about va now, 0 where nothing may be mapped. Leaves that lost A are forgotten, so that use sets it again. */
static uint64_t current(struct uproc *u, gva_t va)
{
	struct walk w;

	if (!pt_look(u->root, va, &w) || !w.user || !w.accessed)
		return 0;
	return allowed(w.gpa, w.writable, w.dirty, w.nx);
}

/* One 2 MiB block; false when nothing in it is mapped any more. One look serves all: what is mapped by the table below, by one big leaf, or not. */
static bool resync_block(struct vcpu *v, struct uproc *u, struct stretch *s, gva_t base, uint64_t *entry)
{
	struct walk w;
	bool any = false, big = pt_look(u->root, base, &w) && w.size > PAGE_SIZE;

	for (unsigned i = 0; i < 512; i++) {
		uint64_t now = 0;
		if (!entry[i])
			continue;
		if (big && w.user && w.accessed) {
			now = allowed(w.gpa + i * PAGE_SIZE, w.writable, w.dirty, w.nx);
		} else if (!big && w.pte && w.up_user) {
			uint64_t e = atomic_load_explicit(&w.pte[i], memory_order_relaxed);
			if ((e & (PTE_P | PTE_U | PTE_A)) == (PTE_P | PTE_U | PTE_A))
				now = allowed(e, (e & PTE_W) && w.up_writable, e & PTE_D, (e & PTE_NX) || w.up_nx);
		}
		any |= compare(v, u, s, base + i * PAGE_SIZE, &entry[i], now);
	}
	return any;
}

/* All nodes below n; shift is that of one entry of n. */
static bool resync_tree(struct vcpu *v, struct uproc *u, struct stretch *s, gva_t base, struct shnode *n, int shift)
{
	bool any = false;

	if (shift == 12)
		return resync_block(v, u, s, base, n->entry);
	for (uint64_t i = 0; i < 512; i++) {
		if (!n->down[i])
			continue;
		if (resync_tree(v, u, s, base + (i << shift), n->down[i], shift - 9)) {
			any = true;
		} else {
			shnode_free(n->down[i]);
			n->down[i] = NULL;
		}
	}
	return any;
}

static void invalidate_page(struct vcpu *v, struct uproc *u, struct stretch *s, gva_t va)
{
	uint64_t *sh = shadow_entry(u, va);

	if (!sh || !*sh)
		return;
	if (!(*sh & SH_HUGE)) {
		compare(v, u, s, va, sh, current(u, va));
		return;
	}
	resync_block(v, u, s, va & ~(BLOCK - 1), shadow_block(u, va, false));
}

void umap_sync(struct vcpu *v, struct uproc *u)
{
	struct stretch s = {0};

	if (u->stale_copies) {
		u->stale_copies = false;
		umap_forget_copies(v, u);
	}
	if (u->resync) {
		u->resync = false;
		u->ninval = 0;
		STAT(u_resyncs);
		for (uint64_t i = 0; i < ARRAY_LEN(u->top); i++) {
			if (u->top[i] && !resync_tree(v, u, &s, i << 39, u->top[i], 30)) {
				shnode_free(u->top[i]);
				u->top[i] = NULL;
			}
		}
		stretch_end(v, u, &s);
	}
	for (unsigned i = 0; i < u->ninval; i++) {
		invalidate_page(v, u, &s, u->inval[i] & PAGE_MASK);
		stretch_end(v, u, &s);
	}
	u->ninval = 0;
}
