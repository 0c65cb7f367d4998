/* SPDX-License-Identifier: BSD-2-Clause */
/* The report, for people and as JSON. */
#include "sites.h"

#include <string.h>

#define N_KINDS 9

static const char *const kinds[N_KINDS] = {
	"other", "flags", "priv", "silent", "state", "uaccess", "mmio", "pgtable", "call",
};

static const char *const titles[N_FINDING_KINDS] = {
	[FINDING_MISSING] = "sensitive instructions without a site",
	[FINDING_UACCESS] = "user accesses without a site",
	[FINDING_FORBIDDEN] = "instructions that must not run in place",
	[FINDING_BAD] = "bytes in code that cannot be decoded",
	[FINDING_ENTRY] = "wrong entries of the site table",
};

static const char *const keys[N_FINDING_KINDS] = {
	[FINDING_MISSING] = "missing", [FINDING_UACCESS] = "missing-uaccess", [FINDING_FORBIDDEN] = "forbidden",
	[FINDING_BAD] = "bad",         [FINDING_ENTRY] = "wrong-entry",
};

const char *kind_name(unsigned kind)
{
	return kinds[kind < N_KINDS ? kind : 0];
}

/* Sites of one section (0 = all) by kind; returns their number. */
static unsigned count_sites(const struct image *image, uint32_t section, unsigned count[N_KINDS])
{
	unsigned n = 0;

	memset(count, 0, N_KINDS * sizeof *count);
	for (size_t i = 0; i < image->n_sites; i++) {
		const struct site *s = &image->sites[i];

		if (section && s->at.section != section)
			continue;
		count[s->kind < N_KINDS ? s->kind : 0]++;
		n++;
	}
	return n;
}

static const char *section_name(const struct image *image, struct place at)
{
	return at.section && at.section < image->n_sections ? image->sections[at.section].name : "(nowhere)";
}

static const char *symbol_name(const struct image *image, struct place at, uint64_t *offset)
{
	const struct symbol *s = image_symbol(image, at);

	*offset = s ? at.offset - s->at.offset : at.offset;
	return s ? s->name : section_name(image, at);
}

static void disassemble(const struct image *image, struct place at, char *text, size_t size)
{
	const struct section *s;

	snprintf(text, size, "-");
	if (!at.section || at.section >= image->n_sections)
		return;
	s = &image->sections[at.section];
	if (s->data && at.offset < s->size)
		insn_format(s->data + at.offset, s->size - at.offset, s->addr + at.offset, text, size);
}

static void text_findings(FILE *f, const struct image *image, const struct report *r, enum finding_kind kind,
			  bool excepted)
{
	bool first = true;

	for (size_t i = 0; i < r->n_findings; i++) {
		const struct finding *x = &r->findings[i];
		uint64_t offset;
		const char *symbol = symbol_name(image, x->at, &offset);
		char insn[128];

		if (x->kind != kind || !x->excepted != !excepted)
			continue;
		if (first)
			fprintf(f, "\n%s%s:\n", titles[kind], excepted ? " (excepted)" : "");
		first = false;
		disassemble(image, x->at, insn, sizeof insn);
		fprintf(f, "  %s+0x%lx  %s  [%s] %s\n", symbol, offset, insn, section_name(image, x->at),
			excepted ? x->excepted : x->why);
	}
}

static void text_row(FILE *f, const char *name, const unsigned count[N_KINDS], unsigned total)
{
	fprintf(f, "%-24s %7u", name, total);
	for (unsigned k = 1; k < N_KINDS; k++)
		if (k != IVMM_PGTABLE)
			fprintf(f, " %7u", count[k]);
	fprintf(f, "\n");
}

static void text_features(FILE *f, const struct report *r, bool original)
{
	bool first = true;

	for (size_t i = 0; i < r->n_features; i++) {
		const struct feature_use *u = &r->features[i];

		if (u->original != original)
			continue;
		if (first)
			fprintf(f, "\n%s:\n",
				original
					? "sites in alternatives, by the CPU feature with which the kernel replaces them"
					: "sensitive instructions in replacements, by the CPU feature that must stay hidden");
		first = false;
		fprintf(f, "  %s%2u*32+%-2u  %-10s %u\n", u->inverted ? "not " : "    ", u->feature / 32u,
			u->feature % 32u, u->insn, u->n);
	}
}

void report_text(FILE *f, const char *name, const struct image *image, const struct report *r)
{
	unsigned count[N_KINDS], total = count_sites(image, 0, count);

	fprintf(f, "%s: %u sites, %u instructions\n\n%-24s %7s", name, total, r->n_insns, "section", "sites");
	for (unsigned k = 1; k < N_KINDS; k++)
		if (k != IVMM_PGTABLE)
			fprintf(f, " %7s", kinds[k]);
	fprintf(f, "\n");
	for (uint32_t i = 1; i < image->n_sections; i++) {
		unsigned per_section[N_KINDS], n = count_sites(image, i, per_section);

		if (n)
			text_row(f, image->sections[i].name, per_section, n);
	}
	text_row(f, "all", count, total);
	text_features(f, r, false);
	text_features(f, r, true);
	for (unsigned k = 0; k < N_FINDING_KINDS; k++)
		text_findings(f, image, r, k, true);
	for (unsigned k = 0; k < N_FINDING_KINDS; k++)
		text_findings(f, image, r, k, false);
}

static void json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		/* names come from the file and need not be UTF-8 */
		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void json_counts(FILE *f, const unsigned count[N_KINDS])
{
	const char *comma = "";

	fprintf(f, "{");
	for (unsigned k = 0; k < N_KINDS; k++) {
		if (!k || k == IVMM_PGTABLE ? !count[k] : false)
			continue;
		fprintf(f, "%s\"%s\": %u", comma, kinds[k], count[k]);
		comma = ", ";
	}
	fprintf(f, "}");
}

static void json_finding(FILE *f, const struct image *image, const struct finding *x)
{
	uint64_t offset;
	const char *symbol = symbol_name(image, x->at, &offset);
	char insn[128];

	disassemble(image, x->at, insn, sizeof insn);
	fprintf(f, "{\"what\": \"%s\", \"symbol\": ", keys[x->kind]);
	json_string(f, symbol);
	fprintf(f, ", \"offset\": %lu, \"section\": ", offset);
	json_string(f, section_name(image, x->at));
	fprintf(f, ", \"instruction\": ");
	json_string(f, insn);
	fprintf(f, ", \"why\": \"%s\"", x->why);
	if (x->excepted) {
		fprintf(f, ", \"excepted\": ");
		json_string(f, x->excepted);
	}
	fprintf(f, "}");
}

void report_json(FILE *f, const char *name, const struct image *image, const struct report *r)
{
	unsigned count[N_KINDS], total = count_sites(image, 0, count);
	const char *comma = "";

	fprintf(f, "{\n  \"file\": ");
	json_string(f, name);
	fprintf(f, ",\n  \"sites\": %u,\n  \"instructions\": %u,\n  \"kinds\": ", total, r->n_insns);
	json_counts(f, count);
	fprintf(f, ",\n  \"sections\": {");
	for (uint32_t i = 1; i < image->n_sections; i++) {
		if (!count_sites(image, i, count))
			continue;
		fprintf(f, "%s\n    ", comma);
		json_string(f, image->sections[i].name);
		fprintf(f, ": ");
		json_counts(f, count);
		comma = ",";
	}
	fprintf(f, "\n  },\n  \"alternatives\": [");
	for (size_t i = 0; i < r->n_features; i++)
		fprintf(f,
			"%s\n    {\"feature\": %u, \"inverted\": %s, \"in\": \"%s\", \"instruction\": \"%s\", \"count\": %u}",
			i ? "," : "", r->features[i].feature, r->features[i].inverted ? "true" : "false",
			r->features[i].original ? "original" : "replacement", r->features[i].insn, r->features[i].n);
	fprintf(f, "\n  ],\n  \"findings\": [");
	for (size_t i = 0; i < r->n_findings; i++) {
		fprintf(f, "%s\n    ", i ? "," : "");
		json_finding(f, image, &r->findings[i]);
	}
	fprintf(f, "\n  ]\n}\n");
}
