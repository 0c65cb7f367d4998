/* SPDX-License-Identifier: BSD-2-Clause */
#include "dump.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>

#define CHUNK (1u << 20)
#define VMCOREINFO_MAX 16384u
#define MODULE_PAGES ((K_LOW_END - K_MODULES) / PAGE_SIZE)
#define PTE_PRESENT 1ull
#define PTE_HUGE 0x80ull
#define PTE_FRAME 0x000ffffffffff000ull

/* A word that the dump has in place of guest memory's. */
struct patch {
	gpa_t gpa;
	uint64_t value;
};

struct dump {
	int fd;
	const struct dump_source *src;
	uint64_t image_len;
	uint64_t module_map[MODULE_PAGES / 64]; /* mapped pages of the module area */
	struct patch patches[3];
	unsigned npatches;
	uint8_t buf[CHUNK] __attribute__((aligned(8)));
};

/* ---- page tables ---- */

static bool read_word(const struct dump_source *src, gpa_t gpa, uint64_t *value)
{
	const void *p = ram_ptr(&src->ram, gpa, sizeof(*value));

	if (p)
		memcpy(value, p, sizeof(*value));
	return p != NULL;
}

static bool table_at(const struct dump_source *src, gpa_t table, unsigned index, uint64_t *entry)
{
	return read_word(src, (table & PTE_FRAME) + index * 8, entry) && *entry & PTE_PRESENT;
}

static void set_mapped(struct dump *d, gva_t va, uint64_t pages)
{
	uint64_t first = (va - K_MODULES) / PAGE_SIZE;

	for (uint64_t i = first; i < first + pages && i < MODULE_PAGES; i++)
		d->module_map[i / 64] |= 1ull << i % 64;
}

/* pud: that of the first 512 GiB; the module area is in its second gigabyte. */
static void find_modules(struct dump *d, gpa_t pud)
{
	uint64_t pmd, pte, leaf;

	if (!table_at(d->src, pud, 1, &pmd) || pmd & PTE_HUGE)
		return;
	for (unsigned i = 0; i < 512; i++) {
		gva_t va = K_MODULES + ((gva_t)i << 21);
		if (!table_at(d->src, pmd, i, &pte))
			continue;
		if (pte & PTE_HUGE)
			set_mapped(d, va, 512);
		for (unsigned k = 0; !(pte & PTE_HUGE) && k < 512; k++)
			if (table_at(d->src, pte, k, &leaf))
				set_mapped(d, va + k * PAGE_SIZE, 1);
	}
}

static void patch(struct dump *d, gpa_t gpa, uint64_t value)
{
	d->patches[d->npatches++] = (struct patch){gpa, value};
}

/* Image and modules also where tools look for them. */
static void move_up(struct dump *d)
{
	uint64_t pud, image, modules;

	if (!d->src->top_pgt || !table_at(d->src, d->src->top_pgt, 0, &pud))
		return;
	find_modules(d, pud);
	patch(d, (d->src->top_pgt & PTE_FRAME) + 511 * 8, pud);
	if (table_at(d->src, pud, 0, &image))
		patch(d, (pud & PTE_FRAME) + 510 * 8, image);
	if (table_at(d->src, pud, 1, &modules))
		patch(d, (pud & PTE_FRAME) + 511 * 8, modules);
}

static uint64_t moved(const struct dump *d, uint64_t word)
{
	if (d->src->raw)
		return word;
	if (word - d->src->image < d->image_len)
		return word + DUMP_MAP_BASE;
	uint64_t page = (word - K_MODULES) / PAGE_SIZE;
	return page < MODULE_PAGES && d->module_map[page / 64] >> page % 64 & 1 ? word + DUMP_MAP_BASE : word;
}

/* ---- notes ---- */

struct notes {
	uint8_t *bytes;
	size_t len, size;
	bool full;
};

static void add_note(struct notes *n, const char *name, uint32_t type, const void *desc, size_t len)
{
	Elf64_Nhdr head = {(uint32_t)strlen(name) + 1, (uint32_t)len, type};
	size_t name_len = ALIGN_UP(head.n_namesz, 4), total = sizeof(head) + name_len + ALIGN_UP(len, 4);

	if (n->size - n->len < total) {
		n->full = true;
		return;
	}
	memset(n->bytes + n->len, 0, total);
	memcpy(n->bytes + n->len, &head, sizeof(head));
	memcpy(n->bytes + n->len + sizeof(head), name, head.n_namesz);
	memcpy(n->bytes + n->len + sizeof(head) + name_len, desc, len);
	n->len += total;
}

static void add_registers(struct dump *d, struct notes *n, const struct vcpu_state *s, unsigned id)
{
	enum { AX, CX, DX, BX, SP, BP, SI, DI };
	struct elf_prstatus status = {.pr_pid = (pid_t)id + 1};
	struct user_regs_struct regs = {
		.r15 = moved(d, s->r[15]),
		.r14 = moved(d, s->r[14]),
		.r13 = moved(d, s->r[13]),
		.r12 = moved(d, s->r[12]),
		.rbp = moved(d, s->r[BP]),
		.rbx = moved(d, s->r[BX]),
		.r11 = moved(d, s->r[11]),
		.r10 = moved(d, s->r[10]),
		.r9 = moved(d, s->r[9]),
		.r8 = moved(d, s->r[8]),
		.rax = moved(d, s->r[AX]),
		.rcx = moved(d, s->r[CX]),
		.rdx = moved(d, s->r[DX]),
		.rsi = moved(d, s->r[SI]),
		.rdi = moved(d, s->r[DI]),
		.orig_rax = ~0ull,
		.rip = s->cpl ? s->rip : moved(d, s->rip),
		.cs = s->sel[SEG_CS],
		.eflags = s->rflags,
		.rsp = moved(d, s->r[SP]),
		.ss = s->sel[SEG_SS],
		.fs_base = s->fs_base,
		.gs_base = s->gs_base,
		.ds = s->sel[SEG_DS],
		.es = s->sel[SEG_ES],
		.fs = s->sel[SEG_FS],
		.gs = s->sel[SEG_GS],
	};

	_Static_assert(sizeof(regs) == sizeof(status.pr_reg), "registers of a core file");
	memcpy(&status.pr_reg, &regs, sizeof(regs));
	add_note(n, "CORE", NT_PRSTATUS, &status, sizeof(status));
}

/* A line "SYMBOL(name)=hex" or "KERNELOFFSET=hex" as it is in the dump. */
static int moved_line(const struct dump_source *src, const char *line, int len, char *out, size_t size)
{
	const char *eq = memchr(line, '=', (size_t)len);
	int key = eq ? (int)(eq - line) : 0;

	if (src->raw || !key)
		return snprintf(out, size, "%.*s\n", len, line);
	if (key == 12 && !memcmp(line, "KERNELOFFSET", 12))
		return snprintf(out, size, "KERNELOFFSET=0\n");
	if (key == 17 && !memcmp(line, "NUMBER(phys_base)", 17))
		return snprintf(out, size, "NUMBER(phys_base)=0\n");
	if (key > 7 && !memcmp(line, "SYMBOL(", 7)) {
		char digits[32];
		snprintf(digits, sizeof(digits), "%.*s", MIN(len - key - 1, 20), eq + 1);
		uint64_t value = strtoull(digits, NULL, 16);
		if (value - src->image < src->image_end - src->image)
			value += DUMP_MAP_BASE;
		return snprintf(out, size, "%.*s=%llx\n", key, line, (unsigned long long)value);
	}
	return snprintf(out, size, "%.*s\n", len, line);
}

void dump_vmcoreinfo(const struct dump_source *src, const char *text, size_t len, char *out, size_t size)
{
	size_t done = 0;
	int n = 0;

	out[0] = 0;
	for (size_t at = 0; at < len && text[at] && n >= 0 && done + (size_t)n < size; at++) {
		const char *end = memchr(text + at, '\n', len - at), *zero = memchr(text + at, 0, len - at);
		if (!end || (zero && zero < end))
			end = zero ? zero : text + len;
		n = moved_line(src, text + at, (int)(end - text - (ptrdiff_t)at), out + done, size - done);
		if (n < 0 || done + (size_t)n >= size) {
			out[done] = 0;
			return;
		}
		done += (size_t)n;
		n = 0;
		at = (size_t)(end - text);
	}
}

/* The kernel's own, where it has made it already. */
static void add_vmcoreinfo(struct dump *d, struct notes *n)
{
	const struct dump_source *src = d->src;
	static const char minimal[] = "PAGESIZE=4096\nKERNELOFFSET=0\nNUMBER(phys_base)=0\n";
	char text[VMCOREINFO_MAX], out[2 * VMCOREINFO_MAX];
	uint64_t va = 0, len = 0;
	gpa_t gpa = 0;

	if (src->vmcoreinfo_data && src->vmcoreinfo_size) {
		read_word(src, src->vmcoreinfo_data, &va);
		read_word(src, src->vmcoreinfo_size, &len);
	}
	len = MIN(len, (uint64_t)VMCOREINFO_MAX);
	if (va >= K_DIRECT_MAP && va < K_VMALLOC)
		gpa = va - K_DIRECT_MAP;
	const void *p = va && len ? ram_ptr(&src->ram, gpa, len) : NULL;
	if (p) {
		memcpy(text, p, len); /* once: it may change under us */
		dump_vmcoreinfo(src, text, len, out, sizeof(out));
	} else {
		dump_vmcoreinfo(src, minimal, sizeof(minimal) - 1, out, sizeof(out));
	}
	add_note(n, "VMCOREINFO", 0, out, strlen(out));
}

/* ---- the file ---- */

static int put(struct dump *d, const void *bytes, size_t len, uint64_t at, struct lol_error *err)
{
	const uint8_t *p = bytes;

	while (len) {
		ssize_t n = pwrite(d->fd, p, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return lol_error(err, n < 0 ? -errno : -EIO, "dump: %s; make room on that file system",
					 n < 0 ? strerror(errno) : "nothing was written");
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static bool is_zero(const uint8_t *page)
{
	const uint64_t *w = (const uint64_t *)page;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		if (w[i])
			return false;
	return true;
}

/* One chunk of RAM, by its offset in the memfd, to file offset at + offset. */
static int put_chunk(struct dump *d, uint64_t offset, size_t len, uint64_t at, struct lol_error *err)
{
	const struct guest_ram *ram = &d->src->ram;
	uint64_t *words = (uint64_t *)d->buf;
	int ret;

	memcpy(d->buf, ram->base + offset, len);
	if (!d->src->raw)
		for (size_t i = 0; i < len / 8; i++)
			if (words[i])
				words[i] = moved(d, words[i]);
	for (unsigned i = 0; i < d->npatches; i++) {
		uint64_t where = ram_offset(ram, d->patches[i].gpa, 8);
		if (where - offset < len)
			words[(where - offset) / 8] = d->patches[i].value;
	}
	for (size_t first = 0, end; first < len; first = end) {
		end = first + PAGE_SIZE;
		if (is_zero(d->buf + first))
			continue;
		while (end < len && !is_zero(d->buf + end))
			end += PAGE_SIZE;
		if ((ret = put(d, d->buf + first, end - first, at + offset + first, err)))
			return ret;
	}
	return 0;
}

static int put_ram(struct dump *d, uint64_t at, struct lol_error *err)
{
	const struct guest_ram *ram = &d->src->ram;
	uint64_t offset = 0;

	while (offset < ram->size) {
		off_t data = lseek(ram->fd, (off_t)offset, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		if (data >= 0) /* or no holes are known: everything */
			offset = MAX(offset, (uint64_t)data & ~(uint64_t)(PAGE_SIZE - 1));
		uint64_t end = MIN(offset + CHUNK, ram->size);
		int ret = put_chunk(d, offset, (size_t)(end - offset), at, err);
		if (ret)
			return ret;
		if (d->src->cancel && atomic_load(d->src->cancel))
			return lol_error(err, -ECANCELED, "dump: the VM has ended");
		offset = end;
	}
	return 0;
}

static Elf64_Phdr segment(gva_t va, gpa_t gpa, uint64_t size, uint64_t offset)
{
	return (Elf64_Phdr){.p_type = PT_LOAD,
			    .p_flags = PF_R | PF_W | PF_X,
			    .p_offset = offset,
			    .p_vaddr = va,
			    .p_paddr = gpa,
			    .p_filesz = size,
			    .p_memsz = size};
}

static int write_file(struct dump *d, struct notes *notes, struct lol_error *err)
{
	const struct dump_source *src = d->src;
	const struct guest_ram *ram = &src->ram;
	Elf64_Ehdr head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			   .e_type = ET_CORE,
			   .e_machine = EM_X86_64,
			   .e_version = EV_CURRENT,
			   .e_phoff = sizeof(head),
			   .e_ehsize = sizeof(head),
			   .e_phentsize = sizeof(Elf64_Phdr)};
	Elf64_Phdr ph[4];
	unsigned n = 1;
	uint64_t note_at = sizeof(head) + sizeof(ph), at = ALIGN_UP(note_at + notes->len, PAGE_SIZE);
	int ret;

	ph[0] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = note_at, .p_filesz = notes->len, .p_memsz = notes->len};
	if (src->image_end && src->image_end <= ram->low)
		ph[n++] = segment(src->image + (src->raw ? 0 : DUMP_MAP_BASE), src->image, src->image_end - src->image,
				  at + src->image);
	ph[n++] = segment(K_DIRECT_MAP, 0, ram->low, at);
	if (ram->size > ram->low)
		ph[n++] = segment(K_DIRECT_MAP + RAM_HIGH_BASE, RAM_HIGH_BASE, ram->size - ram->low, at + ram->low);
	head.e_phnum = (uint16_t)n;
	if (ftruncate(d->fd, (off_t)(at + ram->size)) < 0)
		return lol_error(err, -errno, "dump: %s; is there a limit for the size of files?", strerror(errno));
	if ((ret = put_ram(d, at, err)) || (ret = put(d, notes->bytes, notes->len, note_at, err)) ||
	    (ret = put(d, ph, n * sizeof(*ph), sizeof(head), err)))
		return ret;
	return put(d, &head, sizeof(head), 0, err); /* last: a file that is not whole is no ELF file */
}

int dump_write(int fd, const struct dump_source *src, struct lol_error *err)
{
	struct dump *d = calloc(1, sizeof(*d));
	struct notes notes = {.size = src->nvcpus * 400 + 2 * VMCOREINFO_MAX + 64};
	int ret;

	notes.bytes = malloc(notes.size);
	if (!d || !notes.bytes) {
		free(d);
		free(notes.bytes);
		return lol_error(err, -ENOMEM, "dump: out of memory; end other programs");
	}
	d->fd = fd;
	d->src = src;
	d->image_len = src->image_end > src->image ? src->image_end - src->image : 0;
	if (!src->raw)
		move_up(d);
	for (unsigned i = 0; i < src->nvcpus; i++)
		add_registers(d, &notes, &src->vcpus[i], i);
	add_vmcoreinfo(d, &notes);
	ret = write_file(d, &notes, err);
	free(notes.bytes);
	free(d);
	return ret;
}
