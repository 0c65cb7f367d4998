/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loading a pre-virtualised vmlinux (ELF-64, System V ABI, AMD64 supplement).
 *
 * The kernel is linked at 0xffffffff80000000 + p, which ring 3 of the host cannot have.
 * Under LoL it runs at p itself: "map base 0". The relocations that the build keeps say
 * which words must change: 64-bit addresses lose the map base, 32-bit ones bit 31, and
 * pc-relative references to what does not move (per-cpu offsets, absolute symbols) get
 * bit 31 flipped. docs/ivmm-abi.md has the layout.
 */
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bootparams.h"
#include "ivmm-sites.h"
#include "lock_prefixes.h"

#define MAP_BASE 0xffffffff80000000ull
#define MAP_TOP 0xffffffffff000000ull
#define IMAGE_MAX (512ull << 20)
#define PT_TABLE 0x67ull /* present, writable, user, accessed, dirty: a table entry as Linux makes them */
#define BUILD_HINT "build one with: lol-guest kernel build"

struct segment {
	uint64_t offset, filesz, gpa;
};

struct image {
	const struct guest_ram *ram;
	Elf *elf;
	const char *path;
	struct lol_error *err;
	struct segment seg[16];
	unsigned nseg;
	Elf_Data *syms;
	size_t nsyms;
	size_t strtab;
	gpa_t locks, locks_end; /* Linux's table of lock prefixes; 0: none */
};

/* ---- symbols ---- */

static gva_t moved(uint64_t value)
{
	return value >= MAP_BASE ? value - MAP_BASE : value;
}

/* Symbols by name in one pass over the table, which has 60 000 of them. */
struct want {
	const char *name;
	gva_t *start, *end; /* end may be NULL */
	bool needed;
};

/* Also FUNCTION.constprop.0 and the like; not the cold part that the compiler split off. */
static bool same_name(const char *name, const char *want)
{
	size_t n = strlen(want);
	return name[0] == want[0] && !strncmp(name, want, n) &&
	       (!name[n] || (name[n] == '.' && !strstr(name, ".cold")));
}

static int find_all(struct image *im, const struct want *w, unsigned n)
{
	bool seen[64] = {false};
	GElf_Sym s;

	for (size_t i = 0; i < im->nsyms; i++) {
		const char *name;
		if (!gelf_getsym(im->syms, (int)i, &s) || !s.st_name || GELF_ST_TYPE(s.st_info) == STT_FILE ||
		    !(name = elf_strptr(im->elf, im->strtab, s.st_name)))
			continue;
		for (unsigned k = 0; k < n; k++) {
			if (!same_name(name, w[k].name))
				continue;
			seen[k] = true;
			*w[k].start = moved(s.st_value);
			if (w[k].end)
				*w[k].end = moved(s.st_value) + s.st_size;
		}
	}
	for (unsigned k = 0; k < n; k++)
		if (w[k].needed && !seen[k])
			return lol_error(im->err, -ENOEXEC,
					 "%s: has no symbol '%s', so it is not a pre-virtualised kernel; " BUILD_HINT,
					 im->path, w[k].name);
	return 0;
}

/* ---- segments ---- */

static int load_segments(struct image *im, int fd)
{
	size_t n;

	if (elf_getphdrnum(im->elf, &n) || n == 0)
		return lol_error(im->err, -ENOEXEC, "%s: has no program headers, so it is no kernel image; " BUILD_HINT,
				 im->path);
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr ph;
		if (!gelf_getphdr(im->elf, (int)i, &ph) || ph.p_type != PT_LOAD || ph.p_memsz == 0)
			continue;
		if (ph.p_paddr < K_IMAGE_MIN || ph.p_paddr > IMAGE_MAX || ph.p_memsz > IMAGE_MAX ||
		    ph.p_filesz > ph.p_memsz)
			return lol_error(
				im->err, -ENOEXEC,
				"%s: segment %zu lies outside the kernel's place; the file is damaged, " BUILD_HINT,
				im->path, i);
		uint8_t *to = ram_ptr(im->ram, ph.p_paddr, ph.p_memsz);
		if (!to)
			return lol_error(
				im->err, -ENOMEM,
				"%s: the kernel does not fit into %llu MiB of guest memory; use a larger --mem",
				im->path, (unsigned long long)(im->ram->size >> 20));
		for (uint64_t done = 0; done < ph.p_filesz;) {
			ssize_t r = pread(fd, to + done, ph.p_filesz - done, (off_t)(ph.p_offset + done));
			if (r < 0 && errno == EINTR)
				continue;
			if (r <= 0)
				return lol_error(im->err, -ENOEXEC, "%s: is cut short; copy it again or " BUILD_HINT,
						 im->path);
			done += (uint64_t)r;
		}
		if (im->nseg == 16)
			return lol_error(im->err, -ENOEXEC, "%s: has too many segments for a kernel; " BUILD_HINT,
					 im->path);
		im->seg[im->nseg++] = (struct segment){ph.p_offset, ph.p_filesz, ph.p_paddr};
	}
	return 0;
}

/* Where the bytes of a section were loaded; 0: they were not. */
static gpa_t section_gpa(const struct image *im, const GElf_Shdr *sh)
{
	for (unsigned i = 0; i < im->nseg; i++) {
		const struct segment *s = &im->seg[i];
		if (sh->sh_offset >= s->offset && sh->sh_offset - s->offset <= s->filesz &&
		    sh->sh_size <= s->filesz - (sh->sh_offset - s->offset))
			return s->gpa + (sh->sh_offset - s->offset);
	}
	return 0;
}

/* ---- relocations ---- */

static void relocate_one(uint8_t *p, uint32_t type, uint64_t symbol)
{
	uint64_t v64;
	uint32_t v32;

	switch (type) {
	case R_X86_64_64:
		memcpy(&v64, p, 8);
		if (v64 >= MAP_BASE && v64 < MAP_TOP)
			v64 -= MAP_BASE;
		memcpy(p, &v64, 8);
		break;
	case R_X86_64_32:
	case R_X86_64_32S:
		memcpy(&v32, p, 4);
		if (v32 >= (uint32_t)MAP_BASE && v32 < (uint32_t)MAP_TOP)
			v32 &= 0x7fffffff;
		memcpy(p, &v32, 4);
		break;
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
		if (symbol >= MAP_BASE)
			break; /* moves along */
		memcpy(&v32, p, 4);
		v32 ^= 0x80000000;
		memcpy(p, &v32, 4);
		break;
	}
}

static int relocate_section(struct image *im, Elf_Scn *scn, const GElf_Shdr *rela, const GElf_Shdr *target)
{
	gpa_t gpa = section_gpa(im, target);
	Elf_Data *data = elf_getdata(scn, NULL);
	uint8_t *base = gpa && target->sh_size ? ram_ptr(im->ram, gpa, target->sh_size) : NULL;

	if (!base || target->sh_type == SHT_NOBITS)
		return 0;
	if (!data || data->d_size < rela->sh_size)
		return lol_error(im->err, -ENOEXEC, "%s: is cut short in its relocations; copy it again or " BUILD_HINT,
				 im->path);
	for (size_t i = 0; i < rela->sh_size / sizeof(GElf_Rela); i++) {
		GElf_Rela r;
		GElf_Sym s;
		if (!gelf_getrela(data, (int)i, &r) || GELF_R_TYPE(r.r_info) == R_X86_64_NONE)
			continue;
		uint64_t at = r.r_offset - target->sh_addr;
		if (at > target->sh_size || target->sh_size - at < 8) {
			if (at > target->sh_size || target->sh_size - at < 4 || GELF_R_TYPE(r.r_info) == R_X86_64_64)
				return lol_error(
					im->err, -ENOEXEC,
					"%s: has a relocation outside its section; the file is damaged, " BUILD_HINT,
					im->path);
		}
		if (!gelf_getsym(im->syms, (int)GELF_R_SYM(r.r_info), &s))
			return lol_error(im->err, -ENOEXEC,
					 "%s: has a relocation without a symbol; the file is damaged, " BUILD_HINT,
					 im->path);
		relocate_one(base + at, (uint32_t)GELF_R_TYPE(r.r_info), s.st_value);
	}
	return 0;
}

static int relocate(struct image *im)
{
	Elf_Scn *scn = NULL;
	unsigned n = 0;

	while ((scn = elf_nextscn(im->elf, scn))) {
		GElf_Shdr sh, target;
		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_RELA)
			continue;
		Elf_Scn *t = elf_getscn(im->elf, sh.sh_info);
		if (!t || !gelf_getshdr(t, &target) || !(target.sh_flags & SHF_ALLOC))
			continue;
		int err = relocate_section(im, scn, &sh, &target);
		if (err)
			return err;
		n++;
	}
	if (!n)
		return lol_error(
			im->err, -ENOEXEC,
			"%s: was linked without its relocations (--emit-relocs), so it cannot be moved; " BUILD_HINT,
			im->path);
	return 0;
}

/* ---- what it is ---- */

static int read_symbol_table(struct image *im)
{
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(im->elf, scn))) {
		GElf_Shdr sh;
		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_SYMTAB || !sh.sh_entsize)
			continue;
		im->syms = elf_getdata(scn, NULL);
		im->nsyms = sh.sh_size / sh.sh_entsize;
		im->strtab = sh.sh_link;
		if (im->syms && im->nsyms)
			return 0;
	}
	return lol_error(im->err, -ENOEXEC,
			 "%s: has no symbol table; use the vmlinux as it was built, not a stripped one", im->path);
}

static int check_note(struct image *im)
{
	Elf_Scn *scn = NULL;
	size_t names;

	if (elf_getshdrstrndx(im->elf, &names))
		return lol_error(im->err, -ENOEXEC, "%s: has no section names; is it a vmlinux?", im->path);
	while ((scn = elf_nextscn(im->elf, scn))) {
		GElf_Shdr sh;
		GElf_Nhdr nh;
		size_t name, desc;
		const char *n;
		if (!gelf_getshdr(scn, &sh) || !(n = elf_strptr(im->elf, names, sh.sh_name)) ||
		    strcmp(n, IVMM_NOTE_SECTION))
			continue;
		Elf_Data *d = elf_getdata(scn, NULL);
		if (!d || !gelf_getnote(d, 0, &nh, &name, &desc) || nh.n_descsz < sizeof(struct ivmm_note) ||
		    nh.n_type != IVMM_NOTE_TYPE)
			continue;
		struct ivmm_note note;
		memcpy(&note, (char *)d->d_buf + desc, sizeof(note));
		if (note.abi_version > IVMM_ABI_VERSION)
			return lol_error(im->err, -ENOEXEC,
					 "%s: was built by a newer guest kit (ABI %u, this is %u); install a newer LoL",
					 im->path, note.abi_version, IVMM_ABI_VERSION);
		return 0;
	}
	return lol_error(im->err, -ENOEXEC,
			 "%s: is not a pre-virtualised kernel (no " IVMM_NOTE_SECTION " note); " BUILD_HINT, im->path);
}

static int check_header(struct image *im)
{
	GElf_Ehdr eh;

	if (elf_kind(im->elf) != ELF_K_ELF || !gelf_getehdr(im->elf, &eh))
		return lol_error(im->err, -ENOEXEC, "%s: is not an ELF file; lol-run takes a vmlinux, not a bzImage",
				 im->path);
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
		return lol_error(im->err, -ENOEXEC, "%s: is not for x86-64; " BUILD_HINT, im->path);
	if (eh.e_type != ET_EXEC)
		return lol_error(im->err, -ENOEXEC,
				 "%s: is not an executable image; lol-run takes the vmlinux of a kernel build",
				 im->path);
	return 0;
}

/* ---- the kernel's own variables and first page tables ---- */

#define FAULT_AROUND 64 /* pages of a file around a fault; Linux takes 16 */

/* n words of guest RAM for the loader itself, NULL where a damaged file puts them anywhere else. */
static uint64_t *words(struct image *im, gpa_t gpa, unsigned n)
{
	return gpa % 8 ? NULL : ram_ptr(im->ram, gpa, n * 8);
}

static int set_layout(struct image *im, struct kboot *b)
{
	gva_t map_base, fix_top, cea, po, vmalloc, vmemmap, around = 0;
	const struct want w[] = {
		{"kernel_map_base", &map_base, NULL, true},   {"fixaddr_top", &fix_top, NULL, true},
		{"cpu_entry_area_base", &cea, NULL, true},    {"page_offset_base", &po, NULL, true},
		{"vmalloc_base", &vmalloc, NULL, true},       {"vmemmap_base", &vmemmap, NULL, true},
		{"fault_around_pages", &around, NULL, false},
	};
	int err = find_all(im, w, ARRAY_LEN(w));

	if (err)
		return err;
	const struct {
		gva_t at;
		uint64_t value;
	} set[] = {
		{map_base, 0}, {cea, K_CPU_ENTRY_AREA}, {po, K_DIRECT_MAP}, {vmalloc, K_VMALLOC}, {vmemmap, K_VMEMMAP}};
	for (unsigned i = 0; i < ARRAY_LEN(set); i++) {
		uint64_t *p = words(im, set[i].at, 1);
		if (!p)
			return lol_error(
				im->err, -ENOEXEC,
				"%s: has a layout variable outside its image; the file is damaged, " BUILD_HINT,
				im->path);
		*p = set[i].value;
	}
	/* A fault that the guest serves costs several us here, and a run of contiguous pages no more than one: let it take more. */
	uint64_t *pages = around ? words(im, around, 1) : NULL;
	if (pages && *pages == 16)
		*pages = FAULT_AROUND;
	uint64_t *top = words(im, fix_top, 1);
	if (!top)
		return lol_error(im->err, -ENOEXEC,
				 "%s: has a layout variable outside its image; the file is damaged, " BUILD_HINT,
				 im->path);
	*top = (*top & 0x7fffffffffull) | K_FIXMAP_SLOT;
	b->fixaddr_top = *top;
	return 0;
}

/*
 * Slots of the image (0) and of the fixmap in the first page table, beside the 511 that bare hardware uses. The start-up
 * code that LoL skips is what fills 511 in some versions, so the entry is made here.
 */
static int set_page_tables(struct image *im, const struct kboot *b)
{
	uint64_t *top = words(im, b->early_top_pgt, 512), *l3 = words(im, b->level3_kernel_pgt, 512);

	if (!top || !l3)
		return lol_error(im->err, -ENOEXEC,
				 "%s: has page tables outside its image; the file is damaged, " BUILD_HINT, im->path);
	top[0] = top[K_FIXMAP_SLOT >> 39] = b->level3_kernel_pgt | PT_TABLE;
	l3[0] = l3[510];
	return 0;
}

static int read_facts(struct image *im, struct kboot *b)
{
	const struct want w[] = {
		{"_text", &b->text_start, NULL, true},
		{"_end", &b->image_end, NULL, true},
		{"__ivmm_sites_start", &b->sites, NULL, true},
		{"__ivmm_sites_end", &b->sites_end, NULL, true},
		{"early_top_pgt", &b->early_top_pgt, NULL, true},
		{"init_top_pgt", &b->init_top_pgt, NULL, true},
		{"level3_kernel_pgt", &b->level3_kernel_pgt, NULL, true},
		{"level2_fixmap_pgt", &b->level2_fixmap_pgt, NULL, false},
		{"ivmm_copy_from_user", &b->copy_from_user[0], &b->copy_from_user[1], true},
		{"ivmm_copy_to_user", &b->copy_to_user[0], &b->copy_to_user[1], true},
		{"csum_partial_copy_generic", &b->csum_copy[0], &b->csum_copy[1], false},
		{"csum_and_copy_from_user", &b->csum_from_user[0], &b->csum_from_user[1], false},
		{"csum_and_copy_to_user", &b->csum_to_user[0], &b->csum_to_user[1], false},
		{"copy_from_kernel_nofault", &b->nofault[0][0], &b->nofault[0][1], true},
		{"copy_to_kernel_nofault", &b->nofault[1][0], &b->nofault[1][1], false},
		{"strncpy_from_kernel_nofault", &b->nofault[2][0], &b->nofault[2][1], false},
		{"copy_mc_enhanced_fast_string", &b->nofault[3][0], &b->nofault[3][1], false},
		{"copy_mc_fragile", &b->nofault[4][0], &b->nofault[4][1], false},
		{"copy_to_nontemporal", &b->nontemporal[0], &b->nontemporal[1], false},
		{"__copy_user_nocache", &b->nontemporal[0], &b->nontemporal[1], false}, /* its older name */
		{"copy_fpstate_to_sigframe", &b->sigframe_save[0], &b->sigframe_save[1], true},
		{"__fpu_restore_sig", &b->sigframe_restore[0], &b->sigframe_restore[1], true},
		{"queued_spin_lock_slowpath", &b->spin_slow[0], &b->spin_slow[1], false},
		{"osq_lock", &b->osq_lock[0], &b->osq_lock[1], false},
		{"__start___ex_table", &b->ex_table, NULL, false},
		{"__stop___ex_table", &b->ex_table_end, NULL, false},
		{"vmcoreinfo_data", &b->vmcoreinfo_data, NULL, false},
		{"vmcoreinfo_size", &b->vmcoreinfo_size, NULL, false},
		{"__smp_locks", &im->locks, NULL, false},
		{"__smp_locks_end", &im->locks_end, NULL, false},
		{"common_startup_64", &b->entry, NULL, true},
	};
	int err = find_all(im, w, ARRAY_LEN(w));

	if (err)
		return err;
	if (!b->entry || b->image_end <= b->text_start || b->text_start < K_IMAGE_MIN || b->image_end > IMAGE_MAX ||
	    b->sites >= b->sites_end || b->sites_end > b->image_end ||
	    !ram_ptr(im->ram, b->text_start, b->image_end - b->text_start))
		return lol_error(im->err, -ENOEXEC,
				 "%s: the site table is empty or lies outside the image; " BUILD_HINT, im->path);
	return 0;
}

static int load_elf(struct image *im, int fd, unsigned cpus, struct kboot *boot)
{
	int err;

	if ((err = check_header(im)) || (err = read_symbol_table(im)) || (err = check_note(im)) ||
	    (err = load_segments(im, fd)) || (err = relocate(im)) || (err = read_facts(im, boot)) ||
	    (err = set_layout(im, boot)))
		return err;
	if (cpus == 1 && !lock_prefixes_drop(im->ram, im->locks, im->locks_end, boot->sites, boot->sites_end))
		return lol_error(im->err, -ENOMEM, "%s: out of memory while it is loaded; close other programs",
				 im->path);
	return set_page_tables(im, boot);
}

int loader_load(const struct guest_ram *ram, const char *path, unsigned cpus, const char *cmdline,
		const struct loader_blob *initrd, unsigned ninitrd, struct kboot *boot, struct lol_error *err)
{
	struct image im = {.ram = ram, .path = path, .err = err};
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), ret; /* a FIFO must not hold us up */

	if (fd < 0)
		return lol_error(err, -errno, "%s: %s; check the path and its permissions", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return lol_error(err, -EINVAL, "%s: is not a regular file; lol-run takes a vmlinux", path);
	}
	elf_version(EV_CURRENT);
	im.elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	if (!im.elf)
		ret = lol_error(err, -ENOEXEC, "%s: is not an ELF file; lol-run takes a vmlinux, not a bzImage", path);
	else
		ret = load_elf(&im, fd, cpus, boot);
	elf_end(im.elf);
	close(fd);
	return ret ? ret : bootparams_write(ram, boot->image_end, cmdline, initrd, ninitrd, &boot->boot_params, err);
}
