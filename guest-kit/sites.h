/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-sites: checks the site table of a kernel or module against its code.
 *
 *	sites-elf.c     file -> struct image: sections, symbols, tables.  The
 *	                file is hostile: every offset in it is checked here.
 *	sites-insn.c    which decoded instruction is sensitive, and how
 *	sites-check.c   image -> struct report
 *	sites.c         command line, exceptions, output
 *
 * A place in code is a section index and an offset, so that relocatable
 * modules and linked kernels look the same.
 */
#ifndef SITES_H
#define SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ivmm-sites.h"

struct place {
	uint32_t section; /* index into image.sections, 0 = nowhere (as in ELF) */
	uint64_t offset;
};

struct section {
	const char *name;
	const uint8_t *data; /* size bytes; NULL for sections without content */
	uint64_t addr, size;
	bool code;        /* executable */
	bool replacement; /* .altinstr_replacement */
	struct reloc *relocs;
	size_t n_relocs; /* sorted by offset; relocatable files only */
};

struct reloc {
	uint64_t offset;
	struct place target; /* with the addend; section 0 for undefined symbols */
	bool relative;       /* target is relative to the field (PC32, PLT32, PC64) */
};

struct symbol {
	const char *name;
	struct place at;
	uint64_t size;
	uint8_t type; /* STT_* */
};

struct site {
	struct place at; /* start of the region */
	uint8_t kind, insn_off, insn_len, region_len;
};

/* An exception-table entry; at.section is 0 if it points nowhere. */
struct extable {
	struct place at, fixup;
	uint8_t type;
};

struct alternative {
	struct place at, replacement;
	uint16_t feature; /* word * 32 + bit */
	bool inverted;
	uint8_t len, replacement_len;
};

struct image {
	uint8_t *bytes;
	size_t n_bytes;
	void *elf;
	bool relocatable;
	struct section *sections;
	size_t n_sections;
	struct symbol *symbols; /* of code sections, sorted by place */
	size_t n_symbols;
	struct site *sites; /* sorted by place */
	size_t n_sites;
	struct extable *extable;
	size_t n_extable;
	struct alternative *alternatives;
	size_t n_alternatives;
};

/* Read an ELF file that is in memory (bytes stays owned by the caller).  NULL, or what is wrong with it. */
const char *image_open(struct image *image, uint8_t *bytes, size_t n);
void image_close(struct image *image);
/* The last symbol at or before a place in the same section that is not just a local label; NULL if there is none. */
const struct symbol *image_symbol(const struct image *image, struct place at);
/* The relocation in [offset, offset + len) of a section, or NULL. */
const struct reloc *image_reloc(const struct section *section, uint64_t offset, uint64_t len);
static inline int place_compare(struct place a, struct place b)
{
	if (a.section != b.section)
		return a.section < b.section ? -1 : 1;
	return a.offset < b.offset ? -1 : a.offset > b.offset;
}

/* A decoded instruction, as far as we care. */
struct insn {
	uint8_t len;    /* 0 = cannot be decoded */
	uint8_t kind;   /* enum ivmm_kind that its site must have, 0 = none */
	bool forbidden; /* never right in place in a kernel under LoL: stac, syscall, int */
	bool sti, nop, memory, move;
	bool branch;         /* direct: */
	uint8_t target_off;  /* offset of the displacement field in the instruction */
	int64_t branch_disp; /* from the end of the instruction */
	const char *name;    /* mnemonic; static */
};

void insn_init(void);
struct insn insn_decode(const uint8_t *p, size_t n);
/* Disassembly of p for people. */
void insn_format(const uint8_t *p, size_t n, uint64_t addr, char *text, size_t size);

enum finding_kind {
	FINDING_MISSING,   /* sensitive, no entry */
	FINDING_UACCESS,   /* named by a user-access entry of __ex_table, no site */
	FINDING_FORBIDDEN, /* must not be in place at all */
	FINDING_BAD,       /* undecodable bytes */
	FINDING_ENTRY,     /* an entry that does not fit the code */
	N_FINDING_KINDS,
};

struct finding {
	enum finding_kind kind;
	struct place at;
	const char *why; /* static */
	const char *insn;
	uint8_t len;
	const char *excepted; /* reason from the exception list, or NULL */
};

/*
 * An instruction that a CPU feature puts in place or takes away: sensitive
 * ones in replacements, and sites in the original text of alternatives.
 */
struct feature_use {
	uint16_t feature;
	bool inverted, original;
	const char *insn;
	unsigned n;
};

struct report {
	struct finding *findings;
	size_t n_findings, cap_findings;
	struct feature_use *features;
	size_t n_features, cap_features;
	unsigned n_insns;
	bool out_of_memory;
};

void check_image(const struct image *image, struct report *report);
void report_free(struct report *report);
void *sites_grow(void *array, size_t *cap, size_t n, size_t size);

/* sites-exceptions.c */
struct exceptions;
/* NULL and *error (static text, "FILE:LINE" is not in it) if the file cannot be used. */
struct exceptions *exceptions_read(const char *path, unsigned *line, const char **error);
/* The reason why a finding is accepted, or NULL. */
const char *exceptions_match(struct exceptions *list, const char *symbol, const char *section, const char *insn);
void exceptions_free(struct exceptions *list);

/* sites-report.c */
void report_text(FILE *f, const char *name, const struct image *image, const struct report *report);
void report_json(FILE *f, const char *name, const struct image *image, const struct report *report);
const char *kind_name(unsigned kind);

#endif
