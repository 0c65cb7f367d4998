/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Statements back to text.  The annotations are calls of a few macros that
 * are put in front of the text, so that the assembler computes lengths and
 * padding from what it has just encoded:
 *
 *	77001: ivmm_fill 5; mov %cr3, %rax; ivmm_site 2
 *
 * Where the length of an instruction is known, it is made longer by prefixes
 * without effect (ds) and by a displacement written in full, so that bare
 * hardware executes as many instructions as without us.  What is missing
 * still is padded behind.
 *
 * That padding is chosen with .if, not .nops, because .nops has a size that
 * the assembler computes only at the end, and then no label difference across
 * it is a constant any more.
 *
 * .Livmm_quiet counts how deep the assembler is in .altinstr_replacement.
 * Text there is not annotated at all; the counter is for macros with sites
 * in their bodies, which do not know where they will be expanded.
 */
#include "afterburn.h"

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char prologue[] =
	"# lol-afterburn\n"
	".set .Livmm_quiet,0\n"
	".pushsection .ivmm.sites,\"a\"\n"
	".balign 8\n"
	".popsection\n"
	".macro ivmm_pad n\n"
	".if \\n==1\n.byte 0x90\n"
	".elseif \\n==2\n.byte 0x66,0x90\n"
	".elseif \\n==3\n.byte 0x0f,0x1f,0\n"
	".elseif \\n==4\n.byte 0x0f,0x1f,0x40,0\n"
	".elseif \\n==5\n.byte 0x0f,0x1f,0x44,0,0\n"
	".elseif \\n==6\n.byte 0x66,0x0f,0x1f,0x44,0,0\n"
	".elseif \\n==7\n.byte 0x0f,0x1f,0x80,0,0,0,0\n"
	".endif\n"
	".endm\n"
	".macro ivmm_fill n\n"
	".if .Livmm_quiet==0\n"
	".rept \\n\n.byte 0x3e\n.endr\n"
	".endif\n"
	".endm\n"
	".macro ivmm_site kind\n"
	".if .Livmm_quiet==0\n"
	"77002: ivmm_pad 8-(77002b-77001b)\n"
	"77003: .pushsection .ivmm.sites,\"a\"\n"
	".long 77001b-.\n"
	".byte \\kind,0,77002b-77001b,77003b-77001b\n"
	".popsection\n"
	".endif\n"
	".endm\n"
	/* \op was assembled at 77001; only instructions without operands come this way */
	".macro ivmm_maybe op:vararg\n"
	".irp m,cli,pushf,pushfq,popf,popfq\n.ifc \"\\op\",\"\\m\"\nivmm_site 1\n.endif\n.endr\n"
	".irp m,rdmsr,wrmsr,rdpmc,hlt,swapgs,iretq,clts,wbinvd,invd\n.ifc \"\\op\",\"\\m\"\nivmm_site 2\n.endif\n.endr\n"
	".irp m,cpuid,xgetbv\n.ifc \"\\op\",\"\\m\"\nivmm_site 3\n.endif\n.endr\n"
	".endm\n";

_Static_assert(IVMM_SITE_MIN == 8 && IVMM_FLAGS == 1, "the prologue has these numbers in its text");

static int put(struct ab_buf *out, const char *p, size_t n)
{
	if (out->cap - out->n < n) {
		size_t cap = (out->n + n) * 2;
		char *grown = realloc(out->p, cap);

		if (!grown)
			return -ENOMEM;
		out->p = grown;
		out->cap = cap;
	}
	if (n)
		memcpy(out->p + out->n, p, n);
	out->n += n;
	return 0;
}

static int put_text(struct ab_buf *out, const char *text)
{
	return put(out, text, strlen(text));
}

/* Find out where the region of each site begins: prefixes may be statements of their own ("lock; xadd"). */
static unsigned place_sites(struct ab_unit *unit)
{
	unsigned n = 0;

	for (size_t i = 0; i < unit->n_stmts; i++) {
		struct ab_stmt *s = &unit->stmts[i];
		size_t first = i;

		if (s->kind)
			s->flags &= ~AB_MAYBE; /* a user access */
		n += !!(s->flags & AB_MAYBE);
		if (!s->kind)
			continue;
		while (first && !(unit->stmts[first].flags & AB_LABELS) && unit->stmts[first - 1].what == AB_PREFIX &&
		       unit->stmts[first - 1].depth == s->depth && unit->stmts[first - 1].scope == s->scope)
			first--;
		unit->stmts[first].flags |= AB_OPEN;
		if (s->what == AB_INSN)
			unit->stmts[first].fill = ab_insn_fill(ab_mnemonic(unit, s), ab_operands(unit, s), &s->disp32);
		s->flags |= AB_CLOSE;
		unit->count[s->kind % AB_KINDS]++;
		n++;
	}
	return n;
}

static int emit(const struct ab_unit *unit, struct ab_buf *out);

/* The original instruction of an ALTERNATIVE that an exception-table entry names. */
static void mark_first(struct ab_unit *unit)
{
	for (size_t i = 0; i < unit->n_stmts; i++) {
		struct ab_stmt *s = &unit->stmts[i];

		if (s->what != AB_INSN)
			continue;
		if (!s->kind && ab_has_memory(ab_mnemonic(unit, s), ab_operands(unit, s)))
			s->kind = IVMM_UACCESS;
		return;
	}
}

/*
 * An ALTERNATIVE macro takes instructions as strings: the original one first,
 * then replacements, which .Livmm_quiet keeps free of annotations.
 */
static int emit_strings(const struct ab_unit *unit, const struct ab_stmt *s, struct ab_buf *out, size_t *at,
			unsigned *n)
{
	const char *text = unit->text;
	unsigned n_strings = 0;
	int error = 0;

	for (size_t i = s->mnemonic, from; i < s->end && !error; i++) {
		struct ab_unit inner = {0};

		if (text[i] != '"')
			continue;
		from = ++i;
		while (i < s->end && text[i] != '"')
			i += 1 + (text[i] == '\\');
		if (i >= s->end)
			break;
		inner.text = text + from;
		inner.len = i - from;
		error = ab_scan(&inner);
		if (!error && s->flags & AB_USER && !n_strings++)
			mark_first(&inner);
		if (!error && place_sites(&inner)) {
			error = put(out, text + *at, from - *at);
			error = error ? error : emit(&inner, out);
			*at = i;
			++*n;
		}
		ab_free(&inner);
	}
	return error;
}

static int emit_statement(const struct ab_unit *unit, const struct ab_stmt *s, struct ab_buf *out, size_t *at)
{
	struct ab_str m = ab_mnemonic(unit, s);
	char site[24];
	unsigned n = 0;
	int error = 0;

	if (s->flags & AB_ALT)
		return emit_strings(unit, s, out, at, &n);
	if (s->flags & (AB_OPEN | AB_MAYBE)) {
		error = put(out, unit->text + *at, s->body - *at);
		error = error ? error : put_text(out, "77001: ");
		if (s->fill) {
			snprintf(site, sizeof site, "ivmm_fill %u; ", s->fill);
			error = error ? error : put_text(out, site);
		}
		*at = s->body;
	}
	if (s->disp32) {
		error = error ? error : put(out, unit->text + *at, s->mnemonic - *at);
		error = error ? error : put_text(out, "{disp32} ");
		*at = s->mnemonic;
	}
	if (s->flags & (AB_CLOSE | AB_ENTER | AB_LEAVE | AB_MAYBE)) {
		error = error ? error : put(out, unit->text + *at, s->end - *at);
		*at = s->end;
	}
	if (s->flags & AB_MAYBE) {
		error = error ? error : put_text(out, "; ivmm_maybe ");
		error = error ? error : put(out, m.p, m.n);
	}
	if (s->flags & AB_CLOSE) {
		snprintf(site, sizeof site, "; ivmm_site %d", s->kind);
		error = error ? error : put_text(out, site);
	}
	if (s->flags & (AB_ENTER | AB_LEAVE))
		error = error ? error
			      : put_text(out, s->flags & AB_ENTER ? "; .set .Livmm_quiet,.Livmm_quiet+1"
								  : "; .set .Livmm_quiet,.Livmm_quiet-1");
	return error;
}

static int emit(const struct ab_unit *unit, struct ab_buf *out)
{
	size_t at = 0; /* text before this offset is out */
	int error = 0;

	for (size_t i = 0; i < unit->n_stmts && !error; i++) {
		const struct ab_stmt *s = &unit->stmts[i];

		if (s->flags & (AB_OPEN | AB_CLOSE | AB_ENTER | AB_LEAVE | AB_ALT | AB_MAYBE))
			error = emit_statement(unit, s, out, &at);
	}
	return error ? error : put(out, unit->text + at, unit->len - at);
}

/* Is there an ALTERNATIVE call with something to annotate in its strings? */
static unsigned count_strings(const struct ab_unit *unit)
{
	struct ab_buf scratch = {0};
	unsigned n = 0;

	for (size_t i = 0; i < unit->n_stmts; i++) {
		size_t at = unit->stmts[i].mnemonic;

		if (unit->stmts[i].flags & AB_ALT && emit_strings(unit, &unit->stmts[i], &scratch, &at, &n))
			break;
	}
	free(scratch.p);
	return n;
}

int ab_rewrite(struct ab_str text, const char *name, struct ab_buf *out, struct ab_unit *stats, unsigned *n_sites)
{
	struct ab_unit unit = {.text = text.p, .len = text.n};
	char *line = NULL;
	int error;

	*n_sites = 0;
	if (text.n >= sizeof prologue - 1 && !memcmp(text.p, prologue, sizeof prologue - 1))
		return 0; /* was here before */
	error = ab_scan(&unit);
	if (!error) {
		ab_mark_user_accesses(&unit);
		*n_sites = place_sites(&unit) + count_strings(&unit);
	}
	if (!error && *n_sites) {
		error = put_text(out, prologue);
		/* keep the line numbers of the text */
		if (asprintf(&line, "# 1 \"%s\"\n", name) < 0)
			error = -ENOMEM;
		error = error ? error : put_text(out, line);
		error = error ? error : emit(&unit, out);
		free(line);
	}
	memcpy(stats->count, unit.count, sizeof unit.count);
	stats->unresolved = unit.unresolved;
	ab_free(&unit);
	return error;
}
