/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF file to struct image.  libelf checks headers against the size of the
 * file; everything read from section contents is checked here.
 */
#include "sites.h"

#include <gelf.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>

#define EXTABLE_ENTRY 12
#define MAX_SECTIONS 200000 /* -ffunction-sections kernels have 10^5 */

static int32_t get32(const uint8_t *p)
{
	int32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static const struct section *section_of(const struct image *image, struct place at)
{
	return at.section && at.section < image->n_sections ? &image->sections[at.section] : NULL;
}

static bool starts_with(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static const char *read_sections(struct image *image)
{
	size_t n, names;
	Elf_Scn *scn = NULL;

	if (elf_getshdrnum(image->elf, &n) || elf_getshdrstrndx(image->elf, &names) || n < 2)
		return "no section headers";
	if (n > MAX_SECTIONS)
		return "too many sections";
	image->sections = calloc(n, sizeof *image->sections);
	if (!image->sections)
		return "out of memory";
	image->n_sections = n;
	for (size_t i = 0; i < n; i++)
		image->sections[i].name = "";
	while ((scn = elf_nextscn(image->elf, scn))) {
		size_t i = elf_ndxscn(scn);
		struct section *s = &image->sections[i];
		GElf_Shdr header;
		const char *name;

		if (i >= n || !gelf_getshdr(scn, &header))
			return "damaged section header";
		name = elf_strptr(image->elf, names, header.sh_name);
		s->name = name ? name : "(no name)";
		s->addr = header.sh_addr;
		s->size = header.sh_size;
		if (header.sh_type == SHT_NOBITS)
			continue;
		if (header.sh_offset > image->n_bytes || header.sh_size > image->n_bytes - header.sh_offset)
			return "truncated: a section ends behind the file";
		s->data = image->bytes + header.sh_offset;
		s->code = header.sh_type == SHT_PROGBITS && header.sh_flags & SHF_EXECINSTR &&
			  header.sh_flags & SHF_ALLOC;
		s->replacement = starts_with(s->name, ".altinstr_replacement");
	}
	return NULL;
}

static int reloc_compare(const void *a, const void *b)
{
	const struct reloc *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void read_reloc(struct image *image, Elf_Data *symbols, const GElf_Rela *rela, struct reloc *r)
{
	unsigned type = GELF_R_TYPE(rela->r_info);
	GElf_Sym sym;

	r->offset = rela->r_offset;
	r->relative = type == R_X86_64_PC32 || type == R_X86_64_PLT32 || type == R_X86_64_PC64;
	if (!gelf_getsym(symbols, (int)GELF_R_SYM(rela->r_info), &sym))
		return;
	if (sym.st_shndx && sym.st_shndx < SHN_LORESERVE && sym.st_shndx < image->n_sections)
		r->target = (struct place){sym.st_shndx, sym.st_value + (uint64_t)rela->r_addend};
}

/* Relocations of code and of the tables that we read; linked files have theirs applied already. */
static const char *read_relocs(struct image *image)
{
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(image->elf, scn))) {
		GElf_Shdr header;
		Elf_Data *data, *symbols;
		struct section *target;
		size_t n;

		if (!gelf_getshdr(scn, &header) || header.sh_type != SHT_RELA || header.sh_info >= image->n_sections)
			continue;
		target = &image->sections[header.sh_info];
		if (!target->name || target->relocs || starts_with(target->name, ".debug"))
			continue;
		data = elf_getdata(scn, NULL);
		symbols = elf_getdata(elf_getscn(image->elf, header.sh_link), NULL);
		if (!data || !symbols || !header.sh_entsize)
			return "damaged relocation section";
		n = data->d_size / sizeof(Elf64_Rela);
		target->relocs = calloc(n ? n : 1, sizeof *target->relocs);
		if (!target->relocs)
			return "out of memory";
		for (size_t i = 0; i < n && i < INT32_MAX; i++) {
			GElf_Rela rela;

			if (!gelf_getrela(data, (int)i, &rela))
				break;
			read_reloc(image, symbols, &rela, &target->relocs[target->n_relocs++]);
		}
		qsort(target->relocs, target->n_relocs, sizeof *target->relocs, reloc_compare);
	}
	return NULL;
}

static int symbol_compare(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;
	int order = place_compare(x->at, y->at);

	/* of several names at one place a search finds the last: a function, or at least something with a size */
	if (!order)
		order = (x->type == STT_FUNC) - (y->type == STT_FUNC);
	return order ? order : !!x->size - !!y->size;
}

static const char *read_symbols(struct image *image)
{
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(image->elf, scn))) {
		GElf_Shdr header;
		Elf_Data *data;
		size_t n;

		if (!gelf_getshdr(scn, &header) || header.sh_type != SHT_SYMTAB)
			continue;
		data = elf_getdata(scn, NULL);
		if (!data)
			return "damaged symbol table";
		n = data->d_size / sizeof(Elf64_Sym);
		image->symbols = calloc(n ? n : 1, sizeof *image->symbols);
		if (!image->symbols)
			return "out of memory";
		for (size_t i = 0; i < n && i < INT32_MAX; i++) {
			struct symbol *s = &image->symbols[image->n_symbols];
			const struct section *in;
			GElf_Sym sym;

			if (!gelf_getsym(data, (int)i, &sym))
				break;
			s->at = (struct place){sym.st_shndx < SHN_LORESERVE ? sym.st_shndx : 0, sym.st_value};
			s->type = GELF_ST_TYPE(sym.st_info);
			s->size = sym.st_size;
			s->name = elf_strptr(image->elf, header.sh_link, sym.st_name);
			in = section_of(image, s->at);
			if (!in || !in->code || !s->name || !*s->name || s->type == STT_SECTION || s->type == STT_FILE)
				continue;
			s->at.offset -= image->relocatable ? 0 : in->addr;
			image->n_symbols += s->at.offset <= in->size;
		}
		qsort(image->symbols, image->n_symbols, sizeof *image->symbols, symbol_compare);
		return NULL;
	}
	return NULL;
}

const struct reloc *image_reloc(const struct section *section, uint64_t offset, uint64_t len)
{
	size_t low = 0, high = section->n_relocs;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (section->relocs[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == section->n_relocs || section->relocs[low].offset - offset >= len)
		return NULL;
	return &section->relocs[low];
}

/* Where does the self-relative 32-bit field at offset point to?  {0, 0} if into no section. */
static struct place follow(const struct image *image, const struct section *table, uint64_t offset)
{
	uint64_t addr;

	if (image->relocatable) {
		const struct reloc *r = image_reloc(table, offset, 1);

		return r && r->relative ? r->target : (struct place){0, 0};
	}
	addr = table->addr + offset + (uint64_t)(int64_t)get32(table->data + offset);
	for (uint32_t i = 1; i < image->n_sections; i++) {
		const struct section *s = &image->sections[i];

		if (s->code && addr >= s->addr && addr - s->addr < s->size)
			return (struct place){i, addr - s->addr};
	}
	return (struct place){0, 0};
}

static const struct section *find_section(const struct image *image, const char *name)
{
	for (size_t i = 1; i < image->n_sections; i++)
		if (!strcmp(image->sections[i].name, name) && image->sections[i].data)
			return &image->sections[i];
	return NULL;
}

static int site_compare(const void *a, const void *b)
{
	return place_compare(((const struct site *)a)->at, ((const struct site *)b)->at);
}

static const char *read_sites(struct image *image)
{
	const struct section *s = find_section(image, IVMM_SITES_SECTION);

	if (!s)
		return NULL;
	if (s->size % sizeof(struct ivmm_site))
		return "section " IVMM_SITES_SECTION " ends inside an entry";
	image->n_sites = s->size / sizeof(struct ivmm_site);
	image->sites = calloc(image->n_sites + 1, sizeof *image->sites);
	if (!image->sites)
		return "out of memory";
	for (size_t i = 0; i < image->n_sites; i++) {
		uint64_t offset = i * sizeof(struct ivmm_site);
		const uint8_t *p = s->data + offset;

		image->sites[i] = (struct site){follow(image, s, offset), p[4], p[5], p[6], p[7]};
	}
	qsort(image->sites, image->n_sites, sizeof *image->sites, site_compare);
	return NULL;
}

static const char *read_extable(struct image *image)
{
	const struct section *s = find_section(image, "__ex_table");

	if (!s)
		return NULL;
	image->n_extable = s->size / EXTABLE_ENTRY;
	image->extable = calloc(image->n_extable + 1, sizeof *image->extable);
	if (!image->extable)
		return "out of memory";
	for (size_t i = 0; i < image->n_extable; i++) {
		uint64_t offset = i * EXTABLE_ENTRY;

		image->extable[i] =
			(struct extable){follow(image, s, offset), follow(image, s, offset + 4), s->data[offset + 8]};
	}
	return NULL;
}

/* Linux 6.1 has 16 bits for feature and inversion, 6.4 and later 32; the layout that fits all entries is right. */
static bool try_alternatives(struct image *image, const struct section *s, unsigned entry)
{
	unsigned flag_bytes = entry - 10;

	if (s->size % entry)
		return false;
	for (size_t i = 0; i < s->size / entry; i++) {
		uint64_t offset = i * entry;
		const uint8_t *p = s->data + offset;
		struct alternative *a = &image->alternatives[i];
		const struct section *code, *replacement;

		*a = (struct alternative){follow(image, s, offset),
					  follow(image, s, offset + 4),
					  (uint16_t)(p[8] | p[9] << 8),
					  false,
					  p[8 + flag_bytes],
					  p[9 + flag_bytes]};
		a->inverted = flag_bytes == 2 ? a->feature >> 15 : p[10] & 1;
		if (flag_bytes == 2)
			a->feature &= 0x7fff;
		code = section_of(image, a->at);
		replacement = section_of(image, a->replacement);
		if (!code || a->at.offset > code->size || code->size - a->at.offset < a->len)
			return false;
		if (a->replacement_len &&
		    (!replacement || a->replacement.offset > replacement->size || !replacement->data ||
		     replacement->size - a->replacement.offset < a->replacement_len))
			return false;
	}
	image->n_alternatives = s->size / entry;
	return true;
}

static const char *read_alternatives(struct image *image)
{
	const struct section *s = find_section(image, ".altinstructions");

	if (!s || !s->size)
		return NULL;
	image->alternatives = calloc(s->size / 12 + 1, sizeof *image->alternatives);
	if (!image->alternatives)
		return "out of memory";
	if (!try_alternatives(image, s, 14) && !try_alternatives(image, s, 12))
		return ".altinstructions has an unknown layout";
	return NULL;
}

const char *image_open(struct image *image, uint8_t *bytes, size_t n)
{
	static const char *(*const steps[])(struct image *) = {
		read_sections, read_relocs, read_symbols, read_sites, read_extable, read_alternatives,
	};
	const char *error = NULL;
	GElf_Ehdr header;

	*image = (struct image){.bytes = bytes, .n_bytes = n};
	if (n < SELFMAG || memcmp(bytes, ELFMAG, SELFMAG))
		return "not an ELF file";
	elf_version(EV_CURRENT);
	image->elf = elf_memory((char *)bytes, n);
	if (!image->elf || elf_kind(image->elf) != ELF_K_ELF || !gelf_getehdr(image->elf, &header))
		return "damaged or truncated ELF header";
	if (gelf_getclass(image->elf) != ELFCLASS64 || header.e_machine != EM_X86_64 ||
	    header.e_ident[EI_DATA] != ELFDATA2LSB)
		return "not for x86-64";
	image->relocatable = header.e_type == ET_REL;
	for (size_t i = 0; i < sizeof steps / sizeof *steps && !error; i++)
		if (steps[i] != read_relocs || image->relocatable)
			error = steps[i](image);
	return error;
}

void image_close(struct image *image)
{
	for (size_t i = 0; i < image->n_sections; i++)
		free(image->sections[i].relocs);
	free(image->sections);
	free(image->symbols);
	free(image->sites);
	free(image->extable);
	free(image->alternatives);
	if (image->elf)
		elf_end(image->elf);
	*image = (struct image){0};
}

const struct symbol *image_symbol(const struct image *image, struct place at)
{
	size_t low = 0, high = image->n_symbols;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (place_compare(image->symbols[middle].at, at) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	while (low-- && image->symbols[low].at.section == at.section)
		if (image->symbols[low].name[0] != '.')
			return &image->symbols[low];
	return NULL;
}
