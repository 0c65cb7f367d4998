/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Assembler text to statements.  One pass over the text, which follows what
 * the assembler would know at each place: the stack of sections, .code16 and
 * .code32, bodies of macros, and compiler markers of inline assembly.
 *
 * Conditionals are not evaluated: both branches are scanned.  That is right
 * as long as a branch leaves the section stack as it found it.
 */
#include "afterburn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_DEPTH 64

struct frame {
	uint8_t now, before; /* enum ab_class; before is for .previous */
};

/* A macro body: what to go back to at .endm. */
struct macro {
	uint16_t scope;
	uint8_t depth, field;
	bool code64;
};

struct scanner {
	struct ab_unit *unit;
	const char *p, *end;
	struct frame frames[MAX_DEPTH];
	int depth;
	struct macro macros[MAX_DEPTH];
	int n_macros;
	uint16_t scope;
	uint8_t field; /* of the exception-table entry: next is 0 from, 1 to, 2 type */
	bool code64, in_app, in_io;
	struct ab_str from; /* label of that entry */
	int error;
};

void *ab_grow(void *array, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return array;
	*cap = *cap ? *cap * 2 : 256;
	return realloc(array, *cap * size);
}

#define APPEND(unit, array) \
	({ \
		void *grown = ab_grow((unit)->array, &(unit)->cap_##array, (unit)->n_##array, sizeof *(unit)->array); \
		if (grown) { \
			(unit)->array = grown; \
			memset(&(unit)->array[(unit)->n_##array], 0, sizeof *(unit)->array); \
		} \
		grown ? &(unit)->array[(unit)->n_##array++] : NULL; \
	})

static bool str_is(struct ab_str s, const char *text)
{
	return s.n == strlen(text) && !strncasecmp(s.p, text, s.n);
}

static bool has_prefix(struct ab_str s, const char *prefix)
{
	return s.n >= strlen(prefix) && !memcmp(s.p, prefix, strlen(prefix));
}

static bool contains(struct ab_str s, const char *text)
{
	return memmem(s.p, s.n, text, strlen(text));
}

/* Behind blanks and C comments. */
static const char *skip(const char *p, const char *end)
{
	while (p < end) {
		if (ab_blank(*p)) {
			p++;
		} else if (*p == '/' && p + 1 < end && p[1] == '*') {
			p = memmem(p + 2, end - p - 2, "*/", 2);
			p = p ? p + 2 : end;
		} else {
			break;
		}
	}
	return p;
}

struct ab_str ab_mnemonic(const struct ab_unit *unit, const struct ab_stmt *s)
{
	return (struct ab_str){unit->text + s->mnemonic, s->mnemonic_len};
}

struct ab_str ab_operands(const struct ab_unit *unit, const struct ab_stmt *s)
{
	const char *end = unit->text + s->end, *p = skip(unit->text + s->mnemonic + s->mnemonic_len, end);

	return (struct ab_str){p, end - p};
}

void ab_free(struct ab_unit *unit)
{
	free(unit->stmts);
	free(unit->entries);
	free(unit->scopes);
	unit->stmts = NULL;
	unit->entries = NULL;
	unit->scopes = NULL;
}

size_t ab_name(struct ab_str t)
{
	size_t i = 0;

	while (i < t.n && (ab_ident(t.p[i]) || (t.p[i] == '(' && i && t.p[i - 1] == '\\') ||
			   (t.p[i] == ')' && i && t.p[i - 1] == '(')))
		i++;
	return i;
}

size_t ab_label(struct ab_str t, struct ab_str *name)
{
	size_t i = 0;

	if (t.n && t.p[0] == '"') {
		for (i = 1; i < t.n && t.p[i] != '"'; i++)
			;
		i += i < t.n;
	} else {
		i = ab_name(t);
	}
	if (!i)
		return 0;
	*name = (struct ab_str){t.p, i};
	while (i < t.n && ab_blank(t.p[i]))
		i++;
	if (i == t.n || t.p[i] != ':')
		return 0;
	return skip(t.p + i + 1, t.p + t.n) - t.p;
}

/*
 * Where does the statement at p end?  *next is set behind the separator.  A
 * "#" starts a comment anywhere on a line; C comments count as blanks.
 */
static const char *statement_end(const char *p, const char *end, const char **next)
{
	const char *last = p; /* behind the last significant character */

	for (; p < end && *p != '\n' && *p != ';'; p++) {
		switch (*p) {
		case '#':
			p = memchr(p, '\n', end - p);
			*next = p ? p + 1 : end;
			return last;
		case '"':
			for (p++; p < end && *p != '"'; p++)
				p += *p == '\\' && p + 1 < end;
			break;
		case '\'': /* character constant: 'c or '\c */
			p += p + 1 < end && p[1] != '\n';
			p += *p == '\\' && p + 1 < end;
			break;
		case '/':
			if (p + 1 < end && p[1] == '*') {
				p = memmem(p + 2, end - p - 2, "*/", 2);
				p = p ? p + 1 : end - 1;
				continue;
			}
			break;
		}
		if (p < end && !ab_blank(*p))
			last = p + 1;
	}
	*next = p < end ? p + 1 : end;
	return last;
}

/* The first word of operands, without quotes. */
static struct ab_str first_word(struct ab_str s)
{
	bool quoted = s.n && *s.p == '"';
	size_t i = 0;

	if (quoted)
		s.p++, s.n--;
	while (i < s.n && (quoted ? s.p[i] != '"' : !ab_blank(s.p[i]) && s.p[i] != ','))
		i++;
	return (struct ab_str){s.p, i};
}

/* What a section is, by its name and the flags in the operands of its directive. */
static uint8_t section_class(struct ab_str operands)
{
	struct ab_str name = first_word(operands);
	size_t skip = name.p + name.n - operands.p;
	struct ab_str rest = {operands.p + skip, operands.n - skip};
	const char *flags;

	if (has_prefix(name, ".altinstr_replacement"))
		return AB_QUIET;
	if (str_is(name, "__ex_table"))
		return AB_EXTABLE;
	if (has_prefix(name, ".discard") || has_prefix(name, ".debug"))
		return AB_DATA;
	if (has_prefix(rest, "\""))
		rest.p++, rest.n--;
	flags = memchr(rest.p, '"', rest.n);
	if (!flags)
		return contains(name, ".text") || str_is(name, ".fixup") ? AB_CODE : AB_DATA;
	for (flags++; flags < rest.p + rest.n && *flags != '"'; flags++)
		if (*flags == 'x')
			return AB_CODE;
	return AB_DATA;
}

/* Remember that stmt takes us into or out of code that stays as it is. */
static void note_change(struct scanner *s, struct ab_stmt *stmt, uint8_t from, uint8_t to)
{
	if (from != AB_QUIET && to == AB_QUIET)
		stmt->flags |= AB_ENTER;
	if (from == AB_QUIET && to != AB_QUIET)
		stmt->flags |= AB_LEAVE;
	s->field = 0;
}

static void set_section(struct scanner *s, struct ab_stmt *stmt, uint8_t class)
{
	struct frame *f = &s->frames[s->depth];

	note_change(s, stmt, f->now, class);
	*f = (struct frame){class, f->now};
}

/* Returns false if the directive has nothing to do with sections. */
static bool section_directive(struct scanner *s, struct ab_stmt *stmt, struct ab_str d, struct ab_str operands)
{
	int floor = s->n_macros ? s->macros[s->n_macros - 1].depth + 1 : 0;

	if (str_is(d, ".section")) {
		set_section(s, stmt, section_class(operands));
	} else if (str_is(d, ".pushsection")) {
		if (s->depth + 1 == MAX_DEPTH) {
			s->error = -EFBIG;
			return true;
		}
		s->depth++;
		s->frames[s->depth] = s->frames[s->depth - 1];
		set_section(s, stmt, section_class(operands));
	} else if (str_is(d, ".popsection")) {
		if (s->depth > floor) {
			s->depth--;
			note_change(s, stmt, s->frames[s->depth + 1].now, s->frames[s->depth].now);
		}
	} else if (str_is(d, ".previous")) {
		set_section(s, stmt, s->frames[s->depth].before);
	} else if (str_is(d, ".text")) {
		set_section(s, stmt, AB_CODE);
	} else if (str_is(d, ".data") || str_is(d, ".bss")) {
		set_section(s, stmt, AB_DATA);
	} else {
		return false;
	}
	return true;
}

/* A body starts afresh in code: where it will be expanded is not known here (afterburn-emit.c deals with that). */
static void enter_macro(struct scanner *s, struct ab_str operands)
{
	struct ab_str *name = APPEND(s->unit, scopes);

	if (!name || s->n_macros == MAX_DEPTH || s->depth + 1 == MAX_DEPTH || s->unit->n_scopes > UINT16_MAX) {
		s->error = name ? -EFBIG : -ENOMEM;
		return;
	}
	*name = first_word(operands);
	s->macros[s->n_macros++] = (struct macro){s->scope, (uint8_t)s->depth, s->field, s->code64};
	s->scope = (uint16_t)s->unit->n_scopes;
	s->frames[++s->depth] = (struct frame){AB_CODE, AB_CODE};
	s->code64 = true;
}

static void leave_macro(struct scanner *s)
{
	struct macro *m;

	if (!s->n_macros)
		return;
	m = &s->macros[--s->n_macros];
	s->depth = m->depth;
	s->scope = m->scope;
	s->field = m->field;
	s->code64 = m->code64;
}

/* One of the three fields of an exception-table entry. */
static void extable_field(struct scanner *s, struct ab_str operands)
{
	uint8_t field = s->field;
	struct ab_entry *e;
	int64_t type;

	s->field = (field + 1) % 3;
	if (field == 0)
		s->from = operands;
	if (field != 2 || !ab_eval(operands, &type) || !ab_entry_is_user(type & 0xff))
		return;
	e = APPEND(s->unit, entries);
	if (!e)
		s->error = -ENOMEM;
	else
		*e = (struct ab_entry){s->from, (uint32_t)s->unit->n_stmts, s->scope, type & 0xff};
}

/* "extable_type_reg reg=%eax, type=(17 | ...)" is a macro of <asm/asm.h> that makes the third field. */
static void extable_macro(struct scanner *s, struct ab_str operands)
{
	const char *p = memmem(operands.p, operands.n, "type=", 5);
	struct ab_str expr = {p, 0};

	if (!p || s->field != 2)
		return;
	for (expr.p += 5; expr.p + expr.n < operands.p + operands.n && expr.p[expr.n] != ','; expr.n++)
		;
	extable_field(s, expr);
}

static void directive(struct scanner *s, struct ab_stmt *stmt, struct ab_str d)
{
	struct ab_str operands = ab_operands(s->unit, stmt);

	if (section_directive(s, stmt, d, operands))
		return;
	if (str_is(d, ".macro"))
		enter_macro(s, operands);
	else if (str_is(d, ".endm"))
		leave_macro(s);
	else if (has_prefix(d, ".code"))
		s->code64 = str_is(d, ".code64");
	else if (str_is(d, ".byte"))
		stmt->what = AB_BYTES;
	else if (stmt->class == AB_EXTABLE && (str_is(d, ".long") || str_is(d, ".4byte") || str_is(d, ".int")))
		extable_field(s, operands);
}

/*
 * A body that is nothing but a parameter ("1: \op" of msr-reg.S).  Not in the
 * ALTERNATIVE macros: their arguments were annotated at the call.
 */
static bool is_parameter(const struct ab_unit *unit, const struct ab_stmt *stmt, struct ab_str operands)
{
	struct ab_str m = ab_mnemonic(unit, stmt);

	return stmt->scope && !operands.n && m.n > 1 && m.p[0] == '\\' &&
	       !has_prefix(unit->scopes[stmt->scope - 1], "ALTERNATIVE");
}

static void classify(struct scanner *s, struct ab_stmt *stmt)
{
	struct ab_str mnemonic = ab_mnemonic(s->unit, stmt), operands = ab_operands(s->unit, stmt);

	if (stmt->class != AB_CODE || !s->code64)
		return;
	if (stmt->what == AB_BYTES) {
		stmt->kind = (uint8_t)ab_bytes_kind(operands);
	} else if (stmt->what == AB_INSN) {
		stmt->kind = (uint8_t)ab_insn_kind(mnemonic, operands);
		if (has_prefix(mnemonic, "ALTERNATIVE"))
			stmt->flags |= AB_ALT;
		else if (is_parameter(s->unit, stmt, operands))
			stmt->flags |= AB_MAYBE;
		else if (!stmt->kind && s->in_io && ab_is_move(mnemonic) && ab_has_memory(mnemonic, operands))
			stmt->kind = IVMM_MMIO;
	}
}

/* A macro of this name hides the instruction (RDPID in <asm/inst.h>); its body is what gets annotated. */
static bool is_macro(const struct ab_unit *unit, struct ab_str name)
{
	for (size_t i = 0; i < unit->n_scopes; i++)
		if (unit->scopes[i].n == name.n && !strncasecmp(unit->scopes[i].p, name.p, name.n))
			return true;
	return false;
}

/* Find prefixes and mnemonic in the body of stmt and note what it is. */
static void parse_body(struct scanner *s, struct ab_stmt *stmt)
{
	const char *text = s->unit->text, *p = text + stmt->body, *end = text + stmt->end;
	struct ab_str token;

	for (;;) {
		const char *q = p;

		if (q < end && *q == '{')
			while (q < end && *q++ != '}')
				;
		q += ab_name((struct ab_str){q, end - q});
		token = (struct ab_str){p, q - p};
		q = skip(q, end);
		if (!ab_is_prefix(token))
			break;
		p = q;
		if (p == end) {
			stmt->what = AB_PREFIX;
			token.n = 0;
			break;
		}
	}
	stmt->mnemonic = (uint32_t)(p - text);
	stmt->mnemonic_len = (uint8_t)(token.n < 255 ? token.n : 255);
	const char *behind = skip(p + token.n, end);
	if (!token.n || (behind < end && *behind == '='))
		return;
	if (token.p[0] == '.') {
		directive(s, stmt, token);
	} else {
		stmt->what = AB_INSN;
		if (stmt->class == AB_EXTABLE && str_is(token, "extable_type_reg"))
			extable_macro(s, ab_operands(s->unit, stmt));
	}
	classify(s, stmt);
	if (stmt->kind && stmt->what == AB_INSN && s->unit->n_scopes && is_macro(s->unit, token))
		stmt->kind = 0;
}

/* Lines that start with "#": what the compiler says about inline assembly. */
static void marker(struct scanner *s, struct ab_str line)
{
	const char *quote;

	if (has_prefix(line, "#APP")) {
		s->in_app = true;
	} else if (has_prefix(line, "#NO_APP")) {
		s->in_app = s->in_io = false;
	} else if (s->in_app && line.n > 3 && line.p[1] == ' ' && line.p[2] >= '0' && line.p[2] <= '9') {
		/* # 27 "./arch/x86/include/asm/io.h" 1 */
		quote = memrchr(line.p, '"', line.n);
		s->in_io = quote && contains((struct ab_str){line.p, quote - line.p + 1}, "/asm/io.h\"");
	}
}

/* Labels, then the body.  The statement is kept only if somebody may want it. */
static void statement(struct scanner *s, const char *start, const char *end)
{
	struct ab_unit *unit = s->unit;
	struct ab_stmt stmt = {.start = (uint32_t)(start - unit->text), .end = (uint32_t)(end - unit->text)};
	const char *body = start;
	struct ab_str name;
	size_t n;

	while ((n = ab_label((struct ab_str){body, end - body}, &name))) {
		stmt.flags |= AB_LABELS;
		body += n;
	}
	stmt.body = stmt.mnemonic = (uint32_t)(body - unit->text);
	stmt.scope = s->scope;
	stmt.depth = (uint8_t)s->depth;
	stmt.class = s->frames[s->depth].now;
	if (body < end)
		parse_body(s, &stmt);
	if (stmt.what != AB_NOTHING || stmt.flags) {
		struct ab_stmt *kept = APPEND(unit, stmts);

		if (kept)
			*kept = stmt;
		else
			s->error = -ENOMEM;
	}
}

int ab_scan(struct ab_unit *unit)
{
	struct scanner s = {.unit = unit, .p = unit->text, .end = unit->text + unit->len, .code64 = true};
	bool at_line_start = true;

	if (unit->len >= UINT32_MAX)
		return -EFBIG;
	while (s.p < s.end && !s.error) {
		const char *start = skip(s.p, s.end), *stop, *next;

		if (start == s.end)
			break;
		if (at_line_start && (*start == '#' || *start == '/')) {
			next = memchr(start, '\n', s.end - start);
			stop = next ? next : s.end;
			if (*start == '#')
				marker(&s, (struct ab_str){start, stop - start});
			s.p = stop < s.end ? stop + 1 : stop;
			continue;
		}
		stop = statement_end(start, s.end, &next);
		if (stop > start)
			statement(&s, start, stop);
		at_line_start = next > start && next[-1] == '\n';
		s.p = next;
	}
	return s.error;
}
