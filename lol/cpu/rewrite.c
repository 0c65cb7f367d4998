/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rewriting the sites of the image, and of each module when the guest has loaded it.
 * Runs in K, at start or in signal or site context (modules; Zydis is then called with
 * the vector registers saved by the caller).
 *
 * cli and pushf become one instruction on the virtual IF, sti a call, everything else a
 * jump to a trampoline of the site:
 *
 *     mov  %rsp, %fs:save_rsp
 *     mov  %fs:ivmm_sp, %rsp
 *     push $number
 *     jmp  ivmm_site_entry
 *
 * The virtual IF is thread-local data of K (%fs), in rip-relative form because that is
 * 8 bytes: rip + disp = the (negative) offset from the thread pointer.
 */
#include <sys/mman.h>

#include "cpu/insn.h"
#include "ivmm-sites.h"

#define SITES_MAX 65536u
#define HASH_SIZE (SITES_MAX * 2)
#define TRAMPOLINE 32u
#define SWAPGS_MAX 64u
#define SWAPGS_SIZE 80u

extern char ivmm_sti[], ivmm_site_entry[];

static uint8_t trampolines[SITES_MAX * TRAMPOLINE] __attribute__((aligned(4096)));
static uint8_t swapgs_code[SWAPGS_MAX * SWAPGS_SIZE] __attribute__((aligned(4096)));
static struct insn *sites;
static uint32_t *by_start; /* hash of the region's start -> number + 1 */
static uint32_t nsites;
/* Of these, for those who change them; others may look meanwhile: an entry is complete before its number is in by_start. */
static struct klock lock;

static uint32_t hash(gva_t va)
{
	return (uint32_t)(va * 0x9e3779b97f4a7c15ull >> 40) % HASH_SIZE;
}

static uint32_t *slot_of(gva_t start)
{
	uint32_t h = hash(start);

	while (by_start[h] && sites[by_start[h] - 1].start != start)
		h = (h + 1) % HASH_SIZE;
	return &by_start[h];
}

static void tables_init(void)
{
	sites = mmap(NULL, sizeof(*sites) * SITES_MAX, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	by_start = mmap(NULL, sizeof(*by_start) * HASH_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sites == MAP_FAILED || by_start == MAP_FAILED ||
	    mprotect(trampolines, sizeof(trampolines), PROT_READ | PROT_WRITE | PROT_EXEC) < 0 ||
	    mprotect(swapgs_code, sizeof(swapgs_code), PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
		k_stop(KSTOP_START, "cannot map memory for rewritten code");
}

const struct insn *site_at(gva_t rip)
{
	/* The instruction is at the start of its region, except for sti behind its padding. */
	for (unsigned back = 0; sites && back < 8; back++) {
		uint32_t n = *slot_of(rip - back);
		if (n && sites[n - 1].va == rip)
			return &sites[n - 1];
	}
	return NULL;
}

const struct insn *site_around(gva_t va)
{
	for (unsigned back = 0; sites && back < 64; back++) {
		uint32_t n = *slot_of(va - back);
		if (n && sites[n - 1].start + sites[n - 1].region > va)
			return &sites[n - 1];
	}
	return NULL;
}

gva_t site_trampoline(const struct insn *in)
{
	if (in->op == OP_CLI || in->op == OP_PUSHF || in->op == OP_STI || in->op == OP_SWAPGS)
		return 0;
	return (gva_t)(uintptr_t)(trampolines + (in - sites) * TRAMPOLINE);
}

/* For those who look at guest text from outside: what stood here. */
static void publish(const struct insn *in, uint8_t kind, const uint8_t *code)
{
	struct kdebug *d = &kctl->debug;

	if (d->nsites >= KSITES_MAX)
		return;
	struct ksite *k = &d->sites[d->nsites];
	k->start = in->start;
	k->off = (uint8_t)(in->va - in->start);
	k->len = in->len;
	k->region = in->region;
	k->kind = kind;
	for (unsigned i = 0; i < sizeof(k->code); i++)
		k->code[i] = i < in->len ? code[i] : 0;
	d->nsites++;
}

static int64_t tls_offset(void *p)
{
	uint64_t fs;
	asm("rdfsbase %0" : "=r"(fs));
	return (int64_t)((uint64_t)(uintptr_t)p - fs);
}

static uint8_t *put(uint8_t *p, const void *bytes, unsigned n)
{
	__builtin_memcpy(p, bytes, n);
	return p + n;
}

static uint8_t *put32(uint8_t *p, int64_t v)
{
	int32_t v32 = (int32_t)v;
	if (v32 != v)
		k_bug("offset %lx does not fit", (unsigned long)v);
	return put(p, &v32, 4);
}

static void pad(uint8_t *p, uint8_t *end)
{
	static const uint8_t nops[9][8] = {{0},
					   {0x90},
					   {0x66, 0x90},
					   {0x0f, 0x1f, 0x00},
					   {0x0f, 0x1f, 0x40, 0},
					   {0x0f, 0x1f, 0x44, 0, 0},
					   {0x66, 0x0f, 0x1f, 0x44, 0, 0},
					   {0x0f, 0x1f, 0x80, 0, 0, 0, 0},
					   {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}};
	while (p < end) {
		unsigned n = (unsigned)MIN(end - p, 8);
		p = put(p, nops[n], n);
	}
}

static uint8_t *make_trampoline(uint32_t number)
{
	uint8_t *start = trampolines + number * TRAMPOLINE, *p = start;

	p = put(p, "\x64\x48\x89\x24\x25", 5);
	p = put32(p, tls_offset(&vh.save_rsp));
	p = put(p, "\x64\x48\x8b\x24\x25", 5);
	p = put32(p, tls_offset(&vh.ivmm_sp));
	p = put(p, "\x68", 1);
	p = put32(p, number);
	p = put(p, "\xe9", 1);
	put32(p, (int64_t)(uintptr_t)ivmm_site_entry - (int64_t)(uintptr_t)(p + 4));
	return start;
}

/*
 * swapgs as code of its own, in place of a trampoline; like the instruction it changes no register and no flag, and
 * uses no stack: at the guest's entry for system calls that is the user's.
 */

static uint8_t *put_fs(uint8_t *p, const char op[4], void *slot)
{
	p = put(p, op, 4);
	p = put(p, "\x25", 1);
	return put32(p, tls_offset(slot));
}

static uint8_t *make_swapgs(gva_t next)
{
	static unsigned used;
	uint8_t *start, *p;

	if (used == SWAPGS_MAX)
		return NULL;
	p = start = swapgs_code + used++ * SWAPGS_SIZE;
	p = put_fs(p, "\x64\x48\x89\x04", &vh.save_rax);
	p = put_fs(p, "\x64\x48\x89\x0c", &vh.save_rcx);
	p = put_fs(p, "\x64\x48\x8b\x0c", &vh.swapped_gs);
	p = put(p, "\xf3\x48\x0f\xae\xc8", 5); /* rdgsbase %rax */
	p = put(p, "\xf3\x48\x0f\xae\xd9", 5); /* wrgsbase %rcx */
	p = put_fs(p, "\x64\x48\x89\x04", &vh.swapped_gs);
	p = put_fs(p, "\x64\x48\x8b\x0c", &vh.save_rcx);
	p = put_fs(p, "\x64\x48\x8b\x04", &vh.save_rax);
	p = put(p, "\xe9", 1);
	put32(p, (int64_t)next - (int64_t)(uintptr_t)(p + 4));
	return start;
}

/* The new bytes of a region, at code (its alias where K can write), for execution at in->start. */
static void write_region(struct insn *in, uint32_t number, uint8_t *code, unsigned len)
{
	uint8_t new[64], *p = new;
	gva_t va = in->start;

	switch (in->op) {
	case OP_CLI:
		p = put(p, "\x64\xc6\x05", 3);
		p = put32(p, tls_offset((uint8_t *)&vh.vflags + 1) - (int64_t)(va + 8));
		p = put(p, "\x00", 1);
		STAT(inline_sites);
		break;
	case OP_PUSHF:
		p = put(p, "\x64\xff\x35", 3);
		p = put32(p, tls_offset(&vh.vflags) - (int64_t)(va + 7));
		STAT(inline_sites);
		break;
	case OP_STI:
		p = put(p, "\xe8", 1);
		p = put32(p, (int64_t)(uintptr_t)ivmm_sti - (int64_t)(va + 5));
		break;
	default: {
		uint8_t *to = in->op == OP_SWAPGS ? make_swapgs(next_rip(in)) : NULL;
		if (!to)
			to = make_trampoline(number);
		p = put(p, "\xe9", 1);
		p = put32(p, (int64_t)(uintptr_t)to - (int64_t)(va + 5));
	}
	}
	pad(p, new + len);
	/* The first bytes last, in case another vCPU is about to run here: the region only starts to differ with them. */
	for (unsigned i = len; i-- > 0;)
		((volatile uint8_t *)code)[i] = new[i];
}

static bool in_range(gva_t va, const gva_t r[2])
{
	return va >= r[0] && va < r[1];
}

static bool kernel_access(gva_t va)
{
	for (unsigned i = 0; i < ARRAY_LEN(kctl->boot.nofault); i++)
		if (in_range(va, kctl->boot.nofault[i]))
			return true;
	return false;
}

/* Record one entry; NULL: nothing to rewrite here. */
static struct insn *record(const struct ivmm_site *s, gva_t start)
{
	uint8_t bytes[15];
	struct insn in;
	gva_t va = start + s->insn_off;

	if (s->region_len < IVMM_SITE_MIN || s->region_len > 60 || s->insn_off + s->insn_len > s->region_len)
		k_stop(KSTOP_START,
		       "the site table has a broken entry at %lx; was the kernel built with this guest kit?", start);
	unsigned n = MIN(s->insn_len, 15u);
	if (!k_read(va, bytes, n))
		k_stop(KSTOP_START, "the site table names %lx, which is outside the kernel", start);
	if (s->kind == IVMM_UACCESS && kernel_access(va))
		return NULL;
	if (!decode(bytes, n, va, &in) || in.len != s->insn_len) {
		if (kctl->verbose)
			k_log("site at %lx (kind %u) left alone: %02x %02x %02x %02x", va, s->kind, bytes[0], bytes[1],
			      bytes[2], bytes[3]);
		return NULL;
	}
	if (s->kind == IVMM_UACCESS && in_range(va, kctl->boot.nontemporal) &&
	    (in.op == OP_STORE || in.op == OP_STORE_IMM))
		return NULL;
	if (s->kind == IVMM_MMIO && !mmio_op(&in))
		return NULL; /* it traps */
	in.start = start;
	in.region = s->region_len;
	in.mmio = s->kind == IVMM_MMIO;
	in.uaccess = s->kind == IVMM_UACCESS;
	in.to_user = in_range(va, kctl->boot.copy_to_user) ? 1 : in_range(va, kctl->boot.copy_from_user) ? 0 : 2;
	uint32_t *slot = slot_of(start), number = *slot;
	if (!number) {
		if (nsites == SITES_MAX)
			return NULL; /* still works by trapping, where the instruction traps */
		number = ++nsites;
	}
	sites[number - 1] = in;
	__atomic_store_n(slot, number, __ATOMIC_RELEASE);
	publish(&in, s->kind, bytes);
	return &sites[number - 1];
}

/* The site that code at va comes to by nothing but NOPs and direct jumps, within a few steps. */
static const struct insn *leads_to(gva_t va)
{
	static const struct {
		uint8_t len, bytes[3];
	} nops[] = {{2, {0x66, 0x90}},       {3, {0x0f, 0x1f, 0x00}}, {4, {0x0f, 0x1f, 0x40}},
		    {5, {0x0f, 0x1f, 0x44}}, {7, {0x0f, 0x1f, 0x80}}, {8, {0x0f, 0x1f, 0x84}}};

	for (unsigned steps = 0; steps < 16; steps++) {
		const struct insn *in = site_at(va);
		uint8_t b[8];
		unsigned n;
		int32_t rel;

		if (in)
			return in;
		if (!k_read(va, b, sizeof(b)))
			return NULL;
		__builtin_memcpy(&rel, b + 1, 4);
		if (b[0] == 0x90) {
			va++;
		} else if (b[0] == 0xeb) {
			va += 2 + (uint64_t)(int64_t)(int8_t)b[1];
		} else if (b[0] == 0xe9) {
			va += 5 + (uint64_t)(int64_t)rel;
		} else {
			for (n = 0; n < ARRAY_LEN(nops) && __builtin_memcmp(b, nops[n].bytes, MIN(nops[n].len, 3u));
			     n++)
				;
			if (n == ARRAY_LEN(nops))
				return NULL;
			va += nops[n].len;
		}
	}
	return NULL;
}

/* swapgs on the way out to user code: one site with the sysretq or iretq that follows, so that no base is written twice. */
static void join_swapgs(struct insn *in)
{
	const struct insn *next = in->op == OP_SWAPGS ? leads_to(next_rip(in)) : NULL;

	if (next && next->op == OP_SYSRET)
		in->op = OP_SWAPGS_SYSRET;
	else if (next && next->op == OP_IRET)
		in->op = OP_SWAPGS_IRET;
}

void sites_rewrite(gva_t first, uint64_t bytes, bool module)
{
	struct ivmm_site s;

	if (!sites)
		tables_init();
	k_lock(&lock);
	for (gva_t e = first; e + sizeof(s) <= first + bytes; e += sizeof(s)) {
		if (!k_read(e, &s, sizeof(s)))
			break;
		gva_t start = e + (uint64_t)(int64_t)s.start;
		if (module && !(start >= K_MODULES && start < K_LOW_END))
			continue;
		record(&s, start);
		STAT(sites);
	}
	/* sti directly before hlt: one site, so that no wake-up falls between. */
	for (gva_t e = first; e + sizeof(s) <= first + bytes; e += sizeof(s)) {
		k_read(e, &s, sizeof(s));
		uint32_t n = *slot_of(e + (uint64_t)(int64_t)s.start);
		struct insn *in = n ? &sites[n - 1] : NULL, *hlt;
		if (in)
			join_swapgs(in);
		if (!in || in->op != OP_STI || !(n = *slot_of(in->start + in->region)))
			continue;
		hlt = &sites[n - 1];
		if (hlt->op != OP_HLT)
			continue;
		in->op = OP_STI_HLT;
		in->region = (uint8_t)(in->region + hlt->region);
	}
	for (gva_t e = first; e + sizeof(s) <= first + bytes; e += sizeof(s)) {
		k_read(e, &s, sizeof(s));
		uint32_t n = *slot_of(e + (uint64_t)(int64_t)s.start);
		if (!n)
			continue;
		struct insn *in = &sites[n - 1];
		uint8_t *code = k_ptr(in->start);
		if ((in->start & ~PAGE_MASK) + s.region_len <= PAGE_SIZE || in->start < K_MODULES) {
			write_region(in, n - 1, code, s.region_len);
		} else { /* across a page end in a module: by way of a copy */
			uint8_t copy[64];
			write_region(in, n - 1, copy, s.region_len);
			k_write(in->start, copy, s.region_len);
		}
	}
	k_unlock(&lock);
}

/* A site that no table has. code: where K can write it. False: no room. */
bool site_add(const struct insn *in, uint8_t *code)
{
	if (nsites == SITES_MAX)
		return false;
	sites[nsites] = *in;
	*slot_of(in->start) = nsites + 1;
	nsites++;
	write_region(&sites[nsites - 1], nsites - 1, code, in->region);
	return true;
}

/*
 * The two user copies of a kernel whose table does not have them: 'rep movsb' and the NOPs that its ALTERNATIVE was
 * padded with, 5 bytes, enough for a jump.
 */
static void copy_function(const gva_t range[2], bool to_user)
{
	for (gva_t va = range[0]; range[0] && va + 5 <= range[1]; va++) {
		uint8_t *p = k_ptr(va);
		if (!p || p[0] != 0xf3 || p[1] != 0xa4)
			continue;
		struct insn in = {.op = OP_MOVS,
				  .len = 2,
				  .size = 1,
				  .rep = 1,
				  .uaccess = 1,
				  .to_user = to_user,
				  .region = 5,
				  .va = va,
				  .start = va};
		publish(&in, IVMM_UACCESS, p);
		site_add(&in, p);
		return;
	}
}

void sites_rewrite_copies(void)
{
	copy_function(kctl->boot.copy_from_user, false);
	copy_function(kctl->boot.copy_to_user, true);
}

/* From entry.S: a rewritten site was reached. */
void ivmm_site(struct gregs *g, uint64_t number);
void ivmm_site(struct gregs *g, uint64_t number)
{
	STAT(site_calls);
	const struct insn *in = &sites[number];
	emulate(vh.vcpu, g, in);
}
