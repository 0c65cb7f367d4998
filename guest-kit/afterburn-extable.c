/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From exception-table entries to user-access sites.  Linux makes an entry
 * of three .long in section __ex_table for every instruction that may fault:
 * where it is, where to go on, and a type (<asm/extable_fixup_types.h>) in
 * the low byte of the third.  The label of the first usually stands before
 * the entry, but may stand anywhere; so this works after the whole text was
 * scanned.
 */
#include "afterburn.h"

#include <stdlib.h>
#include <string.h>

/* Linux 6.1 to 7.2. */
enum {
	EX_UACCESS = 3,
	EX_COPY = 4,              /* 6.1, unused later */
	EX_DEFAULT_MCE_SAFE = 14, /* copy_mc_*: also the copy to the user of a DAX file */
	EX_FAULT_MCE_SAFE = 15,   /* 387 state of a signal frame; xsave and friends have their own kind */
	EX_IMM_REG = 17, /* EFAULT_REG: futex and cmpxchg on user memory; without memory operand: segment loads */
	EX_UCOPY_LEN = 19,
};

bool ab_entry_is_user(uint8_t type)
{
	switch (type) {
	case EX_UACCESS:
	case EX_COPY:
	case EX_DEFAULT_MCE_SAFE:
	case EX_FAULT_MCE_SAFE:
	case EX_IMM_REG:
	case EX_UCOPY_LEN:
		return true;
	default:
		return false;
	}
}

/* A recursive-descent evaluator for what <asm/extable_fixup_types.h> writes: numbers, | & + - * << >> ~ ( ). */

struct eval {
	const char *p, *end;
	int depth;
	bool bad;
};

static int64_t eval_level(struct eval *e, int level);

static char peek(struct eval *e)
{
	while (e->p < e->end && ab_blank(*e->p))
		e->p++;
	return e->p < e->end ? *e->p : 0;
}

static int64_t eval_primary(struct eval *e)
{
	char c = peek(e), text[32], *end;
	size_t n = 0;
	int64_t v;

	if (++e->depth > 50)
		e->bad = true;
	if (e->bad)
		return 0;
	if (c == '(' || c == '-' || c == '~' || c == '+') {
		e->p++;
		v = c == '(' ? eval_level(e, 0) : eval_primary(e);
		if (c == '(' && peek(e) != ')')
			e->bad = true;
		else if (c == '(')
			e->p++;
		e->depth--;
		return c == '-' ? (int64_t) - (uint64_t)v : c == '~' ? ~v : v;
	}
	while (e->p + n < e->end && n < sizeof text - 1 && ab_ident(e->p[n])) {
		text[n] = e->p[n];
		n++;
	}
	text[n] = 0;
	v = (int64_t)strtoull(text, &end, 0);
	if (!n || *end)
		e->bad = true;
	e->p += n;
	e->depth--;
	return v;
}

/* Levels as in C, loosest first: | & shift sum product. */
static int64_t eval_level(struct eval *e, int level)
{
	static const char ops[][3] = {"|", "&", "<>", "+-", "*"};
	int64_t v, w;
	char op;

	if (level == 5)
		return eval_primary(e);
	v = eval_level(e, level + 1);
	while (!e->bad && (op = peek(e)) && strchr(ops[level], op)) {
		e->p++;
		if (op == '<' || op == '>') {
			if (peek(e) != op)
				e->bad = true;
			e->p++;
		}
		w = eval_level(e, level + 1);
		v = op == '|'   ? v | w
		    : op == '&' ? v & w
		    : op == '<' ? (int64_t)((uint64_t)v << (w & 63))
		    : op == '>' ? v >> (w & 63)
		    : op == '+' ? (int64_t)((uint64_t)v + (uint64_t)w)
		    : op == '-' ? (int64_t)((uint64_t)v - (uint64_t)w)
				: (int64_t)((uint64_t)v * (uint64_t)w);
	}
	return v;
}

bool ab_eval(struct ab_str expr, int64_t *value)
{
	struct eval e = {expr.p, expr.p + expr.n, 0, false};

	*value = eval_level(&e, 0);
	return !e.bad && !peek(&e);
}

/* "(1b) - ." to "1b" */
static struct ab_str label_of(struct ab_str expr)
{
	while (expr.n && (ab_blank(*expr.p) || *expr.p == '('))
		expr.p++, expr.n--;
	return (struct ab_str){expr.p, ab_name(expr)};
}

static bool has_label(const struct ab_unit *unit, const struct ab_stmt *s, struct ab_str wanted)
{
	struct ab_str rest = {unit->text + s->start, s->body - s->start}, name;
	size_t n;

	while ((n = ab_label(rest, &name))) {
		if (name.n == wanted.n && !memcmp(name.p, wanted.p, name.n))
			return true;
		rest.p += n;
		rest.n -= n;
	}
	return false;
}

/* Index of the statement with the label of the entry, or -1. */
static ssize_t find_label(const struct ab_unit *unit, const struct ab_entry *e)
{
	struct ab_str name = label_of(e->label);
	bool numeric = name.n > 1 && name.p[0] >= '0' && name.p[0] <= '9';
	bool forward = numeric && name.p[name.n - 1] == 'f';
	ssize_t i, n = (ssize_t)unit->n_stmts;

	if (!name.n)
		return -1;
	name.n -= numeric;
	for (i = forward ? e->at : (ssize_t)e->at - 1; i >= 0 && i < n; i += forward ? 1 : -1) {
		const struct ab_stmt *s = &unit->stmts[i];

		if (s->flags & AB_LABELS && s->scope == e->scope && has_label(unit, s, name))
			return i;
	}
	if (!numeric) /* a name may also stand behind the entry */
		for (i = e->at; i < n; i++)
			if (unit->stmts[i].flags & AB_LABELS && has_label(unit, &unit->stmts[i], name))
				return i;
	return -1;
}

/* The instruction that statement i names: its own or the next one of its section and macro body; -1 if none. */
static ssize_t instruction_at(const struct ab_unit *unit, size_t i)
{
	const struct ab_stmt *first = &unit->stmts[i];

	for (; i < unit->n_stmts; i++) {
		const struct ab_stmt *s = &unit->stmts[i];

		if (s->scope != first->scope)
			continue;
		if (s->depth < first->depth)
			return -1;
		if (s->depth == first->depth && s->class == first->class && (s->what == AB_INSN || s->what == AB_BYTES))
			return (ssize_t)i;
	}
	return -1;
}

static void mark(struct ab_unit *unit, size_t i)
{
	struct ab_stmt *s = &unit->stmts[i];

	/* What is sensitive anyhow keeps its kind. */
	if (s->class != AB_CODE || s->kind)
		return;
	if (s->flags & AB_ALT)
		s->flags |= AB_USER;
	else if (s->what == AB_BYTES || ab_has_memory(ab_mnemonic(unit, s), ab_operands(unit, s)))
		s->kind = IVMM_UACCESS;
}

/* A macro whose body is a label and its entry marks the instruction behind each call of it (csum-copy_64.S). */
static void mark_behind_calls(struct ab_unit *unit, struct ab_str macro)
{
	for (size_t i = 0; i + 1 < unit->n_stmts; i++) {
		struct ab_str name = ab_mnemonic(unit, &unit->stmts[i]);
		ssize_t insn;

		if (unit->stmts[i].what != AB_INSN || name.n != macro.n || memcmp(name.p, macro.p, name.n))
			continue;
		insn = instruction_at(unit, i + 1);
		if (insn >= 0 && unit->stmts[insn].scope == unit->stmts[i].scope)
			mark(unit, (size_t)insn);
	}
}

void ab_mark_user_accesses(struct ab_unit *unit)
{
	for (size_t i = 0; i < unit->n_entries; i++) {
		const struct ab_entry *e = &unit->entries[i];
		ssize_t label = find_label(unit, e), insn;

		if (label < 0) {
			unit->unresolved++;
			continue;
		}
		insn = instruction_at(unit, (size_t)label);
		if (insn >= 0)
			mark(unit, (size_t)insn);
		else if (e->scope)
			mark_behind_calls(unit, unit->scopes[e->scope - 1]);
		else
			unit->unresolved++;
	}
}
