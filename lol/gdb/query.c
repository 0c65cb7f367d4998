/* SPDX-License-Identifier: BSD-2-Clause */
/* Queries: what the server can do, the target description, threads, the place of the kernel, "monitor". */
#include <stdio.h>
#include <string.h>

#include "gdb/regs.h"
#include "gdb/session_int.h"

/* ---- queries ---- */

static void cmd_supported(struct gdb_session *s, const char *p)
{
	struct gdb_out o = {0};

	s->swbreak = strstr(p, "swbreak+") != NULL;
	gdb_out_format(
		&o,
		"PacketSize=%x;qXfer:features:read+;qXfer:threads:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+;"
		"ConditionalBreakpoints+;binary-upload+",
		GDB_PACKET_MAX);
	session_reply_out(s, &o);
}

/* Part of a document: offset,length in hex. */
static void document(struct gdb_session *s, const char *p, struct gdb_out *doc)
{
	uint64_t off, len;
	struct gdb_out o = {0};

	if (!session_addr_len(&p, &off, &len) || *p || off > doc->len) {
		session_reply(s, E_SYNTAX);
	} else {
		len = MIN(len, GDB_PACKET_MAX / 2);
		len = MIN(len, doc->len - off);
		gdb_out_text(&o, off + len == doc->len ? "l" : "m");
		gdb_out_put(&o, doc->data + off, len);
		session_reply_out(s, &o);
	}
	gdb_out_free(doc);
}

static void cmd_xfer(struct gdb_session *s, const char *p)
{
	struct gdb_out doc = {0};
	const char *at;

	if ((at = session_after(p, "features:read:target.xml:"))) {
		gdb_regs_xml(&doc);
		document(s, at, &doc);
	} else if ((at = session_after(p, "threads:read::"))) {
		gdb_out_text(&doc, "<?xml version=\"1.0\"?>\n<threads>\n");
		for (unsigned i = 0; i < s->t->ncpus; i++)
			gdb_out_format(&doc, "<thread id=\"%x\" core=\"%u\" name=\"CPU#%u\">%s</thread>\n", i + 1, i, i,
				       s->t->describe(s->t->ctx, i));
		gdb_out_text(&doc, "</threads>\n");
		document(s, at, &doc);
	} else {
		session_reply(s, strncmp(p, "features:read:", 14) ? "" : "E00");
	}
}

static void cmd_threads(struct gdb_session *s, bool first)
{
	struct gdb_out o = {0};

	if (first)
		s->listed = 0;
	if (s->listed < s->t->ncpus) {
		gdb_out_text(&o, "m");
		for (bool comma = false; s->listed < s->t->ncpus; comma = true)
			gdb_out_format(&o, comma ? ",%x" : "%x", ++s->listed);
	} else {
		gdb_out_text(&o, "l");
	}
	session_reply_out(s, &o);
}

static void cmd_monitor(struct gdb_session *s, const char *p)
{
	char line[512];
	size_t n = strlen(p) / 2;
	struct gdb_out text = {0}, o = {0};

	if (n >= sizeof(line) || strlen(p) % 2 || !gdb_unhex(p, n, (uint8_t *)line)) {
		session_reply(s, E_SYNTAX);
		return;
	}
	line[n] = 0;
	s->t->monitor(s->t->ctx, s->cpu, line, &text);
	for (size_t at = 0; at < text.len; at += 1024) {
		o.len = 0;
		gdb_out_text(&o, "O");
		gdb_out_hex(&o, text.data + at, MIN(text.len - at, 1024u));
		session_frame(s, o.data, o.len);
	}
	gdb_out_free(&o);
	gdb_out_free(&text);
	if (!s->over)
		session_reply(s, "OK");
}

void session_query(struct gdb_session *s, const char *p)
{
	char text[64];
	const char *at;
	unsigned cpu;

	if ((at = session_after(p, "qSupported"))) {
		cmd_supported(s, at);
	} else if ((at = session_after(p, "qXfer:"))) {
		cmd_xfer(s, at);
	} else if (!strcmp(p, "qC")) {
		snprintf(text, sizeof(text), "QC%x", s->cpu + 1);
		session_reply(s, text);
	} else if (!strcmp(p, "qfThreadInfo") || !strcmp(p, "qsThreadInfo")) {
		cmd_threads(s, p[1] == 'f');
	} else if ((at = session_after(p, "qThreadExtraInfo,"))) {
		struct gdb_out o = {0};
		if (!session_thread(s, &at, &cpu) || cpu == s->t->ncpus) {
			session_reply(s, E_SYNTAX);
			return;
		}
		const char *words = s->t->describe(s->t->ctx, cpu);
		snprintf(text, sizeof(text), "CPU#%u ", cpu);
		gdb_out_hex(&o, text, strlen(text));
		gdb_out_hex(&o, words, strlen(words));
		session_reply_out(s, &o);
	} else if (!strcmp(p, "qOffsets")) {
		if (!s->t->text_segment && !s->t->data_segment) {
			session_reply(s, "");
			return;
		}
		snprintf(text, sizeof(text), "TextSeg=%llx;DataSeg=%llx", (unsigned long long)s->t->text_segment,
			 (unsigned long long)s->t->data_segment);
		session_reply(s, text);
	} else if ((at = session_after(p, "qRcmd,"))) {
		cmd_monitor(s, at);
	} else if (!strcmp(p, "qAttached")) {
		session_reply(s, "1");
	} else if (session_after(p, "qSymbol")) {
		session_reply(s, "OK");
	} else if (!strcmp(p, "qqemu.PhyMemMode")) {
		session_reply(s, s->physical ? "1" : "0");
	} else if ((at = session_after(p, "Qqemu.PhyMemMode:"))) {
		if ((*at != '0' && *at != '1') || at[1]) {
			session_reply(s, E_SYNTAX);
			return;
		}
		s->physical = *at == '1';
		session_reply(s, "OK");
	} else if (!strcmp(p, "qqemu.sstepbits")) {
		session_reply(s, "ENABLE=1,NOIRQ=2,NOTIMER=4");
	} else if (!strcmp(p, "qqemu.sstep")) {
		session_reply(s, "0x7"); /* always: a step takes no interrupts */
	} else if (!strcmp(p, "QStartNoAckMode")) {
		session_reply(s, "OK");
		s->quiet = true;
	} else {
		session_reply(s, "");
	}
}
