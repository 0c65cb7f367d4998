/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * K's address space as a software TLB over the guest kernel's own page table.
 *
 * The image and the direct map are mapped once, linearly.  Everything else of the
 * kernel half (modules, vmalloc, vmemmap, fixmap, cpu_entry_area) is filled on a
 * fault from the kernel's table, whatever CR3 holds: processes share those slots,
 * and low image addresses are user addresses in theirs.  User pages are never
 * mapped here.  In the direct map some pages are read-only, see upatch.c.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "cpu/k.h"
#include "mmu/upatch.h"

K_ALLOW(munmap);
K_ALLOW(mmap, SCMP_A3(SCMP_CMP_EQ, MAP_SHARED | MAP_FIXED), SCMP_A4(SCMP_CMP_EQ, FD_RAM));
K_ALLOW_EACH(i, i < RAM_PMEM_MAX, mmap, SCMP_A3(SCMP_CMP_EQ, MAP_SHARED | MAP_FIXED),
	     SCMP_A4(SCMP_CMP_EQ, FD_PMEM + i));

/* Ranges that are filled on demand; a full flush drops each with one munmap. */
static const struct {
	gva_t start, end;
} dynamic[] = {
	{K_MODULES, K_LOW_END},
	{K_VMALLOC, K_VMEMMAP},
	{K_VMEMMAP, K_CPU_ENTRY_AREA},
	{K_CPU_ENTRY_AREA, K_KERNEL_END},
};
static _Atomic uint64_t filled[ARRAY_LEN(dynamic)];  /* mappings made so far */
static _Atomic uint64_t flushed[ARRAY_LEN(dynamic)]; /* the count at a full flush that is complete */
/*
 * All vCPUs share these mappings, so a flush by one is one for all. A fill whose walk may be older than a flush is taken
 * back: every flush counts up first. Until then another vCPU may use it, as it may use its own TLB on hardware until it
 * has taken part in the guest's shootdown.
 */
static _Atomic uint64_t flush_count;
static gpa_t kernel_root;
#define K_FILLED_MAX 16384

static void *map_ram(gva_t va, uint64_t len, gpa_t gpa, int prot)
{
	uint64_t off = ram_offset(&ram, gpa, len);

	if (off == UINT64_MAX)
		return NULL;
	int file = ram_file(&ram, &off);
	long r = sys6(SYS_mmap, (long)va, (long)len, prot & (file >= 0 && ram.pmem[file].ro ? ~PROT_WRITE : ~0),
		      MAP_SHARED | MAP_FIXED, file < 0 ? FD_RAM : FD_PMEM + file, (long)off);
	return r < 0 && r > -4096 ? NULL : (void *)va;
}

bool kmap_pmem(gva_t va, unsigned i)
{
	return map_ram(va, ram.pmem[i].size, ram.pmem[i].gpa, PROT_READ | PROT_WRITE);
}

void kmap_init(void)
{
	const struct kboot *b = &kctl->boot;
	gva_t start = ALIGN_DOWN(b->text_start, PAGE_SIZE), end = ALIGN_UP(b->image_end, PAGE_SIZE);

	if (!map_ram(K_DIRECT_MAP, ram.low, 0, PROT_READ | PROT_WRITE) ||
	    (ram.size > ram.low &&
	     !map_ram(K_DIRECT_MAP + RAM_HIGH_BASE, ram.size - ram.low, RAM_HIGH_BASE, PROT_READ | PROT_WRITE)))
		k_stop(KSTOP_START, "cannot map guest RAM; is there enough address space (ulimit -v)?");
	for (unsigned i = 0; i < ram.npmem; i++)
		if (!kmap_pmem(K_DIRECT_MAP + ram.pmem[i].gpa, i))
			k_stop(KSTOP_START, "cannot map persistent memory; is there enough address space (ulimit -v)?");
	if (!map_ram(start, end - start, start, PROT_READ | PROT_WRITE | PROT_EXEC))
		k_stop(KSTOP_START, "cannot map the kernel image executable; is /dev/shm or memfd noexec?");
}

gpa_t k_root(struct vcpu *v)
{
	if (!kernel_root && (v->cr3 & PTE_ADDR) == kctl->boot.init_top_pgt)
		kernel_root = kctl->boot.init_top_pgt;
	return kernel_root ? kernel_root : kctl->boot.early_top_pgt;
}

bool k_is_kernel(gva_t va)
{
	return (va >= K_USER_END && va < K_KERNEL_END) || (va >= K_IMAGE_MIN && va < K_LOW_END);
}

static int dynamic_range(gva_t va)
{
	for (unsigned i = 0; i < ARRAY_LEN(dynamic); i++)
		if (va >= dynamic[i].start && va < dynamic[i].end)
			return (int)i;
	return -1;
}

void *k_ptr(gva_t va)
{
	struct walk w;

	if (va >= kctl->boot.text_start && va < kctl->boot.image_end)
		return (void *)va;
	if (va >= K_DIRECT_MAP && va < K_VMALLOC)
		return ram_ptr(&ram, va - K_DIRECT_MAP, 1);
	if (dynamic_range(va) < 0 || !pt_walk(k_root(vh.vcpu), va, &w))
		return NULL;
	return ram_ptr(&ram, w.gpa, 1);
}

/* The sizes that frames, gates and descriptors have are worth their own moves. */
static void move(void *to, const void *from, size_t n)
{
	if (n == 8)
		__builtin_memcpy(to, from, 8);
	else
		memcpy(to, from, n);
}

static bool k_copy(gva_t va, uint8_t *buf, size_t n, bool write)
{
	uint8_t *linear = k_linear(va, n);

	if (linear) {
		move(write ? linear : buf, write ? buf : linear, n);
		return true;
	}
	while (n) {
		size_t m = MIN(n, PAGE_SIZE - (va & (PAGE_SIZE - 1)));
		uint8_t *p = k_ptr(va);
		if (!p)
			return false;
		move(write ? p : buf, write ? buf : p, m);
		va += m;
		buf += m;
		n -= m;
	}
	return true;
}

bool k_read(gva_t va, void *buf, size_t n)
{
	return k_copy(va, buf, n, false);
}

bool k_write(gva_t va, const void *buf, size_t n)
{
	return k_copy(va, (uint8_t *)buf, n, true);
}

/* Neighbours of the leaf at pte that map the next pages in the same way. */
static uint64_t run_after(struct walk *w, uint64_t va, uint64_t want_flags, uint64_t mask)
{
	uint64_t n = 0, gpa = w->gpa & PAGE_MASK;

	for (uint64_t i = ((va >> 12) & 511) + 1; i < 512; i++, n++) {
		uint64_t e = atomic_load_explicit(w->pte + n + 1, memory_order_relaxed);
		if ((e & mask) != want_flags || (e & PTE_ADDR) != gpa + (n + 1) * PAGE_SIZE)
			break;
	}
	return n;
}

static enum kfill fill_once(struct vcpu *v, gva_t va, uint32_t error, gpa_t *mmio)
{
	struct walk w;
	uint64_t count = atomic_load(&flush_count);
	int d = dynamic_range(va);
	uint64_t start, len;

	if (d < 0)
		return error & PFEC_W && upatch_written(v, va) ? KFILL_DONE : KFILL_FAULT;
	if (!pt_walk(k_root(v), va, &w))
		return KFILL_FAULT;
	bool write = error & PFEC_W;
	if ((write && !w.writable) || ((error & PFEC_I) && w.nx))
		return KFILL_FAULT;
	if (!ram_ptr(&ram, w.gpa & PAGE_MASK, PAGE_SIZE)) {
		*mmio = w.gpa;
		return KFILL_MMIO;
	}
	if (!pt_set_ad(&w, write && w.writable))
		return KFILL_AGAIN;
	start = va & PAGE_MASK;
	if (w.size == PAGE_SIZE) {
		uint64_t mask = PTE_P | PTE_W | PTE_NX | PTE_A, e = *w.pte & mask;
		len = (1 + run_after(&w, va, e, mask)) * PAGE_SIZE;
	} else { /* the 2 MiB around va that the leaf covers */
		start = va & ~((1ull << 21) - 1);
		len = 1ull << 21;
	}
	int prot = PROT_READ | (w.writable ? PROT_WRITE : 0) | (w.nx ? 0 : PROT_EXEC);
	gpa_t gpa = w.gpa - (va - start);
	if (!map_ram(start, len, gpa, prot)) {
		len = PAGE_SIZE;
		start = va & PAGE_MASK;
		if (!map_ram(start, len, w.gpa & PAGE_MASK, prot))
			k_bug("cannot map kernel page %lx", va);
	}
	STAT(k_fills);
	uint64_t n = atomic_fetch_add(&filled[d], 1) + 1;
	if (atomic_load(&flush_count) != count) {
		sys3(SYS_munmap, start, len, 0);
		return KFILL_AGAIN;
	}
	if (n - atomic_load(&flushed[d]) > K_FILLED_MAX)
		k_flush_all();
	return KFILL_DONE;
}

enum kfill k_fill(struct vcpu *v, gva_t va, uint32_t error, gpa_t *mmio)
{
	enum kfill r;

	do
		r = fill_once(v, va, error, mmio);
	while (r == KFILL_AGAIN);
	return r;
}

void k_flush_all(void)
{
	STAT(k_flushes);
	atomic_fetch_add(&flush_count, 1);
	for (unsigned i = 0; i < ARRAY_LEN(dynamic); i++) {
		uint64_t n = atomic_load(&filled[i]);
		if (n == atomic_load(&flushed[i]))
			continue;
		sys3(SYS_munmap, dynamic[i].start, dynamic[i].end - dynamic[i].start, 0);
		atomic_store(&flushed[i], n);
	}
}

void k_flush_page(gva_t va)
{
	struct walk w;
	int d = dynamic_range(va);

	if (d < 0)
		return;
	atomic_fetch_add(&flush_count, 1);
	if (atomic_load(&filled[d]) == atomic_load(&flushed[d]))
		return;
	/* A huge leaf is forgotten whole by one invlpg; what maps now says nothing about what did, so take 2 MiB where there is none. */
	if (pt_look(k_root(vh.vcpu), va, &w) && w.size == PAGE_SIZE)
		sys3(SYS_munmap, va & PAGE_MASK, PAGE_SIZE, 0);
	else if (d == 3)
		sys3(SYS_munmap, va & PAGE_MASK, PAGE_SIZE, 0); /* fixmap and cpu_entry_area have 4 KiB leaves only */
	else
		sys3(SYS_munmap, va & ~((1ull << 21) - 1), 1ull << 21, 0);
}
