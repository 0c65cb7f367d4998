/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-afterburn: pads and annotates the virtualization-sensitive instructions
 * of assembler text.  docs/ivmm-abi.md says what a site is and why.
 *
 * The text goes through three steps, each in its file:
 *   afterburn-scan.c     text -> statements, with section and macro context
 *   afterburn-extable.c  exception-table entries -> user-access sites
 *   afterburn-emit.c     statements -> text
 * afterburn-insn.c knows the instructions.  All of them work on one struct
 * ab_unit in memory; none reads files or the environment (afterburn.c does).
 */
#ifndef AFTERBURN_H
#define AFTERBURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivmm-sites.h"

/* A piece of text, not terminated. */
struct ab_str {
	const char *p;
	size_t n;
};

/* A growing output text. */
struct ab_buf {
	char *p;
	size_t n, cap;
};

/* What the current section means to us. */
enum ab_class {
	AB_CODE,
	AB_DATA,    /* no code, or code that never runs in place (.discard) */
	AB_QUIET,   /* .altinstr_replacement: code that stays as it is */
	AB_EXTABLE, /* __ex_table */
};

enum ab_what {
	AB_NOTHING, /* labels alone, or a directive */
	AB_INSN,    /* instruction or macro call */
	AB_PREFIX,  /* a prefix with nothing behind it, as in "lock; xadd" */
	AB_BYTES,   /* .byte with constants in code */
};

enum {
	AB_LABELS = 1, /* has labels in front */
	AB_OPEN = 2,   /* a site starts at its body */
	AB_CLOSE = 4,  /* a site ends at its end */
	AB_ENTER = 8,  /* goes into an AB_QUIET section */
	AB_LEAVE = 16, /* leaves it */
	AB_ALT = 32,   /* call of an ALTERNATIVE macro, instructions in strings */
	AB_USER = 128, /* AB_ALT whose original instruction is a user access */
	AB_MAYBE = 64, /* "\op" in a macro body: sensitive if the argument is */
};

/* Offsets are into the text of the unit; what lies between statements (blanks, comments) belongs to none. */
struct ab_stmt {
	uint32_t start;    /* first label or body */
	uint32_t body;     /* first prefix or mnemonic */
	uint32_t mnemonic; /* behind the prefixes */
	uint32_t end;
	uint16_t scope;       /* number of the .macro body it stands in, 0 = none */
	uint8_t depth;        /* of the section stack */
	uint8_t mnemonic_len; /* capped at 255 */
	uint8_t what;         /* enum ab_what */
	uint8_t class;        /* enum ab_class */
	uint8_t kind;         /* enum ivmm_kind, 0 = no site */
	uint8_t flags;
	uint8_t fill; /* with AB_OPEN: prefixes that make the instruction as long as a region, see ab_insn_fill() */
	bool disp32;  /* write the displacement of its memory operand in full */
};

/* An entry of __ex_table whose type may mean a user access. */
struct ab_entry {
	struct ab_str label;
	uint32_t at; /* index of the first statement behind the entry */
	uint16_t scope;
	uint8_t type;
};

#define AB_KINDS 16

struct ab_unit {
	const char *text;
	size_t len;
	struct ab_stmt *stmts;
	size_t n_stmts, cap_stmts;
	struct ab_entry *entries;
	size_t n_entries, cap_entries;
	struct ab_str *scopes; /* names of the macros, by scope - 1 */
	size_t n_scopes, cap_scopes;
	unsigned count[AB_KINDS]; /* sites by kind (text, not expansions) */
	unsigned unresolved;      /* user-access entries whose instruction was not found */
};

/* afterburn-insn.c */

/* Kind of an instruction by name and operands, 0 = not sensitive. */
int ab_insn_kind(struct ab_str mnemonic, struct ab_str operands);
bool ab_is_prefix(struct ab_str token);
/*
 * How many prefixes without effect (ds) make the instruction, or a user or device access, IVMM_SITE_MIN bytes long; 0
 * where its text does not tell, then it is padded behind.  With *disp32 its displacement must be written in full.
 */
unsigned ab_insn_fill(struct ab_str mnemonic, struct ab_str operands, bool *disp32);
/* Does the instruction read or write memory, as far as its text shows?  Not for jumps and calls. */
bool ab_has_memory(struct ab_str mnemonic, struct ab_str operands);
/* Is it a plain move that can be a device access? */
bool ab_is_move(struct ab_str mnemonic);
/* Kind of an instruction given as operands of .byte. */
int ab_bytes_kind(struct ab_str operands);

/* afterburn-scan.c */

/* Fill stmts, entries and scopes from text.  0 or -ENOMEM, -EFBIG. */
int ab_scan(struct ab_unit *unit);
struct ab_str ab_mnemonic(const struct ab_unit *unit, const struct ab_stmt *stmt);
struct ab_str ab_operands(const struct ab_unit *unit, const struct ab_stmt *stmt);
/* Length of the name or mnemonic that text starts with; "\()" of macro bodies is part of it. */
size_t ab_name(struct ab_str text);
/* Length of the label (with colon and the blanks behind it) that text starts with, 0 = none; name is set. */
size_t ab_label(struct ab_str text, struct ab_str *name);
void *ab_grow(void *array, size_t *cap, size_t n, size_t size);
void ab_free(struct ab_unit *unit);

/* afterburn-extable.c */

/* Does an entry of this (low byte of the) type need looking at? */
bool ab_entry_is_user(uint8_t type);
/* Evaluate the type expression of an entry; false if it has symbols in it. */
bool ab_eval(struct ab_str expr, int64_t *value);
/* Give the instructions that the entries name their kind. */
void ab_mark_user_accesses(struct ab_unit *unit);

/* afterburn-emit.c */

/*
 * Rewrite text into out (which the caller frees).  name is what diagnostics
 * of the assembler shall call the text.  *n_sites gets the number of sites;
 * with 0 out stays empty, as there is nothing to change.  0 or negative errno.
 */
int ab_rewrite(struct ab_str text, const char *name, struct ab_buf *out, struct ab_unit *stats, unsigned *n_sites);

static inline bool ab_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f';
}

static inline bool ab_ident(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
	       c == '$' || c == '@' || c == '\\';
}

#endif
