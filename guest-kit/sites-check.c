/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checks.  All code is disassembled from symbol to symbol; what that
 * finds is compared with the table, and the table with the code.
 */
#include "sites.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

/* Linux: the low byte of the third word of an exception-table entry, see afterburn-extable.c. */
enum {
	EX_UACCESS = 3,
	EX_COPY = 4,
	EX_DEFAULT_MCE_SAFE = 14,
	EX_FAULT_MCE_SAFE = 15,
	EX_IMM_REG = 17,
	EX_UCOPY_LEN = 19
};

struct targets {
	struct place *at;
	size_t n, cap;
};

void *sites_grow(void *array, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return array;
	*cap = *cap ? *cap * 2 : 64;
	return realloc(array, *cap * size);
}

static void find(struct report *r, enum finding_kind kind, struct place at, const struct insn *insn, const char *why)
{
	struct finding *grown = sites_grow(r->findings, &r->cap_findings, r->n_findings, sizeof *grown);

	if (!grown) {
		r->out_of_memory = true;
		return;
	}
	r->findings = grown;
	r->findings[r->n_findings++] = (struct finding){.kind = kind,
							.at = at,
							.why = why,
							.insn = insn && insn->name ? insn->name : "(bad)",
							.len = insn ? insn->len : 0};
}

static void add_target(struct report *r, struct targets *t, struct place at)
{
	struct place *grown = sites_grow(t->at, &t->cap, t->n, sizeof *grown);

	if (!grown) {
		r->out_of_memory = true;
		return;
	}
	t->at = grown;
	t->at[t->n++] = at;
}

static int target_compare(const void *a, const void *b)
{
	return place_compare(*(const struct place *)a, *(const struct place *)b);
}

/* The site whose region has the place in it, or NULL. */
static const struct site *site_at(const struct image *image, struct place at)
{
	size_t low = 0, high = image->n_sites;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (place_compare(image->sites[middle].at, at) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;
	const struct site *s = &image->sites[low - 1];
	return s->at.section == at.section && at.offset - s->at.offset < s->region_len ? s : NULL;
}

static bool is_site_insn(const struct site *s, struct place at)
{
	return s && s->at.offset + s->insn_off == at.offset;
}

/* Where a direct branch goes; {0, 0} if that is not known before linking. */
static struct place branch_target(const struct section *s, struct place at, const struct insn *insn)
{
	const struct reloc *r = image_reloc(s, at.offset + insn->target_off, 1);

	if (!r)
		return (struct place){at.section, at.offset + insn->len + (uint64_t)insn->branch_disp};
	/* the addend is from the field, the target counts from the end of the instruction */
	return (struct place){r->target.section, r->target.offset + (insn->len - insn->target_off)};
}

/* The first symbol behind offset ends what can be disassembled in one go. */
static uint64_t boundary(const struct image *image, const struct section *s, size_t *symbol, struct place at)
{
	while (*symbol < image->n_symbols && place_compare(image->symbols[*symbol].at, at) <= 0)
		++*symbol;
	if (*symbol < image->n_symbols && image->symbols[*symbol].at.section == at.section &&
	    image->symbols[*symbol].at.offset < s->size)
		return image->symbols[*symbol].at.offset;
	return s->size;
}

/* Is all between offset and end padding that is never executed? */
static bool is_filler(const struct section *s, uint64_t offset, uint64_t end)
{
	uint8_t first = s->data[offset];

	if (first != 0 && first != 0xcc)
		return false;
	while (offset < end && s->data[offset] == first)
		offset++;
	return offset == end;
}

static void look_at(const struct image *image, struct report *r, struct targets *t, struct place at,
		    const struct insn *insn)
{
	const struct section *s = &image->sections[at.section];

	r->n_insns++;
	if (insn->branch) {
		struct place target = branch_target(s, at, insn);

		if (target.section)
			add_target(r, t, target);
	}
	if (s->replacement)
		return;
	if (insn->forbidden)
		find(r, FINDING_FORBIDDEN, at, insn, "must not run in place");
	else if (insn->kind && !is_site_insn(site_at(image, at), at))
		find(r, FINDING_MISSING, at, insn, "sensitive, but not in the site table");
}

static void check_section(const struct image *image, struct report *r, struct targets *t, uint32_t index)
{
	const struct section *s = &image->sections[index];
	struct place at = {index, 0};
	uint64_t end = 0, bad = UINT64_MAX;
	size_t symbol = 0;

	while (at.offset < s->size && !r->out_of_memory) {
		struct insn insn;

		if (at.offset >= end) {
			end = boundary(image, s, &symbol, at);
			bad = UINT64_MAX;
		}
		if (is_filler(s, at.offset, end)) {
			at.offset = end;
			continue;
		}
		insn = insn_decode(s->data + at.offset, s->size - at.offset);
		if (!insn.len) {
			/* one report per stretch; go on at the next byte, as the rest may be code */
			if (bad == UINT64_MAX)
				find(r, FINDING_BAD, at, NULL, "cannot be decoded up to the next symbol");
			bad = at.offset++;
			continue;
		}
		look_at(image, r, t, at, &insn);
		/* a symbol inside an instruction is a second way to read it (retbleed_return_thunk): take that one, too */
		at.offset = at.offset + insn.len > end ? end : at.offset + insn.len;
	}
}

static bool is_padding(const uint8_t *p, unsigned n)
{
	while (n) {
		struct insn insn = insn_decode(p, n);

		if (!insn.len || !insn.nop)
			return false;
		p += insn.len;
		n -= insn.len;
	}
	return true;
}

/* Why the entry does not fit the code, or NULL. */
static const char *site_error(const struct image *image, const struct site *site, struct insn *insn)
{
	const struct section *s = &image->sections[site->at.section];
	unsigned behind = site->insn_off + site->insn_len;
	const uint8_t *p;

	if (!site->at.section || site->at.section >= image->n_sections || !s->code)
		return "region is not in code";
	if (s->replacement)
		return "region is in a replacement";
	if (site->at.offset > s->size || s->size - site->at.offset < site->region_len)
		return "region ends behind its section";
	if (site->region_len < IVMM_SITE_MIN)
		return "region is too short";
	if (!site->insn_len || behind > site->region_len)
		return "instruction is not inside its region";
	p = s->data + site->at.offset;
	*insn = insn_decode(p + site->insn_off, s->size - site->at.offset - site->insn_off);
	if (insn->len != site->insn_len)
		return "length of the instruction is wrong";
	if (insn->kind ? insn->kind != site->kind
		       : !insn->memory || (site->kind != IVMM_UACCESS && (site->kind != IVMM_MMIO || !insn->move)))
		return "kind does not fit the instruction";
	if (site->insn_off && !insn->sti)
		return "padding in front of something other than sti";
	if (!is_padding(p, site->insn_off) || !is_padding(p + behind, site->region_len - behind))
		return "padding is not NOPs";
	return NULL;
}

static void check_sites(const struct image *image, struct report *r)
{
	for (size_t i = 0; i < image->n_sites; i++) {
		const struct site *s = &image->sites[i];
		struct insn insn = {0};
		const char *why = site_error(image, s, &insn);

		if (!why && i && s->at.section == s[-1].at.section && s->at.offset - s[-1].at.offset < s[-1].region_len)
			why = "overlaps the region before it";
		if (why)
			find(r, FINDING_ENTRY, s->at, &insn, why);
	}
}

/* Jumps and calls may go to the start of a region only (or to the sti itself). */
static void check_targets(const struct image *image, struct report *r, struct targets *t)
{
	if (t->n)
		qsort(t->at, t->n, sizeof *t->at, target_compare);
	for (size_t i = 0; i < t->n; i++) {
		const struct site *s = site_at(image, t->at[i]);

		if (s && s->at.offset != t->at[i].offset && !is_site_insn(s, t->at[i]))
			find(r, FINDING_ENTRY, t->at[i], NULL, "a branch goes into the middle of a region");
	}
	for (size_t i = 0; i < image->n_symbols; i++) {
		const struct site *s = site_at(image, image->symbols[i].at);

		if (s && s->at.offset != image->symbols[i].at.offset && !is_site_insn(s, image->symbols[i].at))
			find(r, FINDING_ENTRY, image->symbols[i].at, NULL, "a symbol is in the middle of a region");
	}
	for (size_t i = 0; i < image->n_extable; i++) {
		const struct site *s = site_at(image, image->extable[i].fixup);

		if (s && s->at.offset != image->extable[i].fixup.offset)
			find(r, FINDING_ENTRY, image->extable[i].fixup, NULL,
			     "a fixup goes into the middle of a region");
	}
}

static bool is_user_type(uint8_t type)
{
	return type == EX_UACCESS || type == EX_COPY || type == EX_DEFAULT_MCE_SAFE || type == EX_FAULT_MCE_SAFE ||
	       type == EX_IMM_REG || type == EX_UCOPY_LEN;
}

static void check_extable(const struct image *image, struct report *r)
{
	for (size_t i = 0; i < image->n_extable; i++) {
		const struct extable *e = &image->extable[i];
		const struct section *s = &image->sections[e->at.section];
		struct insn insn;

		if (!e->at.section || e->at.section >= image->n_sections || !s->code || s->replacement ||
		    e->at.offset >= s->size)
			continue;
		if (!is_user_type(e->type))
			continue;
		insn = insn_decode(s->data + e->at.offset, s->size - e->at.offset);
		if (insn.len && insn.memory && !insn.kind && !is_site_insn(site_at(image, e->at), e->at))
			find(r, FINDING_UACCESS, e->at, &insn, "user access, but not in the site table");
	}
}

static void count_feature(struct report *r, const struct alternative *a, bool original, const char *insn)
{
	struct feature_use *grown;

	for (size_t i = 0; i < r->n_features; i++) {
		struct feature_use *f = &r->features[i];

		if (f->feature == a->feature && f->inverted == a->inverted && f->original == original &&
		    !strcmp(f->insn, insn)) {
			f->n++;
			return;
		}
	}
	grown = sites_grow(r->features, &r->cap_features, r->n_features, sizeof *grown);
	if (!grown) {
		r->out_of_memory = true;
		return;
	}
	r->features = grown;
	r->features[r->n_features++] = (struct feature_use){a->feature, a->inverted, original, insn, 1};
}

/* Does a user-access entry name this place? */
static bool is_user_access(const struct image *image, struct place at)
{
	for (size_t i = 0; i < image->n_extable; i++)
		if (is_user_type(image->extable[i].type) && !place_compare(image->extable[i].at, at))
			return true;
	return false;
}

/* Sites that the kernel itself replaces, if the CPU has the feature. */
static void count_originals(const struct image *image, struct report *r, const struct alternative *a)
{
	const struct section *s = &image->sections[a->at.section];

	for (uint64_t end = a->at.offset + a->len, offset = a->at.offset; offset < end; offset++) {
		const struct site *site = site_at(image, (struct place){a->at.section, offset});
		const char *name = insn_decode(s->data + offset, s->size - offset).name;

		if (site && is_site_insn(site, (struct place){a->at.section, offset}))
			count_feature(r, a, true, name ? name : "(bad)");
	}
}

/* Which features must stay hidden from the guest, as their replacements are sensitive? */
static void check_alternatives(const struct image *image, struct report *r)
{
	for (size_t i = 0; i < image->n_alternatives; i++) {
		const struct alternative *a = &image->alternatives[i];
		const struct section *s = &image->sections[a->replacement.section];
		struct place last = {a->at.section, a->at.offset + a->len};
		const struct site *site = a->len ? site_at(image, a->at) : NULL;

		if (site && site->at.offset != a->at.offset)
			find(r, FINDING_ENTRY, a->at, NULL, "an alternative starts in the middle of a region");
		site = a->len ? site_at(image, last) : NULL;
		if (site && site->at.offset != last.offset)
			find(r, FINDING_ENTRY, site->at, NULL, "an alternative ends in the middle of a region");
		count_originals(image, r, a);
		for (unsigned done = 0; done < a->replacement_len;) {
			struct insn insn =
				insn_decode(s->data + a->replacement.offset + done, a->replacement_len - done);

			if (!insn.len)
				find(r, FINDING_BAD,
				     (struct place){a->replacement.section, a->replacement.offset + done}, NULL,
				     "replacement cannot be decoded");
			if (!insn.len)
				break;
			if (insn.kind || insn.forbidden || (!done && insn.memory && is_user_access(image, a->at)))
				count_feature(r, a, false, insn.name);
			done += insn.len;
		}
	}
}

static int finding_compare(const void *a, const void *b)
{
	const struct finding *x = a, *y = b;

	return x->kind != y->kind ? (int)x->kind - (int)y->kind : place_compare(x->at, y->at);
}

void check_image(const struct image *image, struct report *r)
{
	struct targets targets = {0};

	for (uint32_t i = 1; i < image->n_sections; i++)
		if (image->sections[i].code && !image->sections[i].replacement)
			check_section(image, r, &targets, i);
	check_sites(image, r);
	check_targets(image, r, &targets);
	check_extable(image, r);
	check_alternatives(image, r);
	free(targets.at);
	if (r->n_findings)
		qsort(r->findings, r->n_findings, sizeof *r->findings, finding_compare);
}

void report_free(struct report *report)
{
	free(report->findings);
	free(report->features);
	*report = (struct report){0};
}
