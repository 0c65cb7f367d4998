/* SPDX-License-Identifier: BSD-2-Clause */
#include "gdb/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdb/regs.h"

#define E_SYNTAX "E16" /* EINVAL in hex, as others number it */
#define E_MEMORY "E0e"

static void frame(struct gdb_session *s, const void *payload, size_t n)
{
	s->last.len = 0;
	gdb_packet_frame(&s->last, payload, n);
	gdb_out_put(&s->out, s->last.data, s->last.len);
}

static void reply(struct gdb_session *s, const char *text)
{
	frame(s, text, strlen(text));
}

static void reply_out(struct gdb_session *s, struct gdb_out *o)
{
	if (o->failed)
		reply(s, "E0c");
	else
		frame(s, o->data, o->len);
	gdb_out_free(o);
}

static const char *after(const char *p, const char *prefix)
{
	size_t n = strlen(prefix);
	return strncmp(p, prefix, n) ? NULL : p + n;
}

/* A thread: -1 all and 0 any become *cpu = ncpus and the current one. */
static bool thread(struct gdb_session *s, const char **p, unsigned *cpu)
{
	uint64_t n;

	if (!strncmp(*p, "-1", 2)) {
		*p += 2;
		*cpu = s->t->ncpus;
		return true;
	}
	if (!gdb_number(p, &n) || n > s->t->ncpus)
		return false;
	*cpu = n ? (unsigned)n - 1 : s->cpu;
	return true;
}

/* ---- stop and go ---- */

static void stop_reply(struct gdb_session *s)
{
	static const char *const watch[] = {"watch", "rwatch", "awatch"};
	static const unsigned quick[] = {GDB_RBP, GDB_RSP, GDB_RIP};
	struct gdb_out o = {0};
	const struct vcpu_state *state = s->t->state(s->t->ctx, s->why_cpu);
	uint8_t val[16];

	gdb_out_format(&o, "T%02xthread:%x;core:%x;", s->why == WHY_ASKED ? 2 : 5, s->why_cpu + 1, s->why_cpu);
	for (unsigned i = 0; state && i < ARRAY_LEN(quick); i++) {
		gdb_reg_read(state, quick[i], val);
		gdb_out_format(&o, "%02x:", quick[i]);
		gdb_out_hex(&o, val, 8);
		gdb_out_text(&o, ";");
	}
	if (s->why == WHY_BREAKPOINT && s->swbreak)
		gdb_out_text(&o, "swbreak:;");
	else if (s->why == WHY_HARDWARE && s->swbreak)
		gdb_out_text(&o, "hwbreak:;");
	else if (s->why >= WHY_WATCH_WRITE)
		gdb_out_format(&o, "%s:%llx;", watch[s->why - WHY_WATCH_WRITE], (unsigned long long)s->why_addr);
	reply_out(s, &o);
}

static void go(struct gdb_session *s, const enum gdb_go *how)
{
	s->running = true;
	s->t->go(s->t->ctx, how);
}

void gdb_session_stopped(struct gdb_session *s, unsigned cpu, enum gdb_why why, uint64_t addr)
{
	if (!s->running)
		return;
	const struct gdb_range *r = &s->range[cpu];
	const struct vcpu_state *state = s->t->state(s->t->ctx, cpu);
	if (why == WHY_STEPPED && r->end && state && state->rip >= r->start && state->rip < r->end) {
		enum gdb_go how[MAX_VCPUS] = {GO_STAY};
		how[cpu] = GO_STEP;
		s->t->go(s->t->ctx, how);
		return;
	}
	s->running = false;
	s->cpu = s->why_cpu = cpu;
	s->why = why;
	s->why_addr = addr;
	stop_reply(s);
}

void gdb_session_ended(struct gdb_session *s, unsigned status)
{
	char text[8];

	snprintf(text, sizeof(text), "W%02x", status & 255);
	reply(s, text);
	s->over = true;
}

static void cmd_vcont(struct gdb_session *s, const char *p)
{
	enum gdb_go how[MAX_VCPUS] = {GO_STAY};
	bool set[MAX_VCPUS] = {false}, any = false;

	memset(s->range, 0, sizeof(s->range));
	while (*p == ';') {
		char action = p[1];
		struct gdb_range range = {0};
		unsigned cpu = s->t->ncpus;
		uint64_t signal;
		p += 2;
		if (!action)
			break;
		if ((action == 'C' || action == 'S') && !gdb_number(&p, &signal))
			break;
		if (action == 'r' && !(gdb_number(&p, &range.start) && *p++ == ',' && gdb_number(&p, &range.end)))
			break;
		if (*p == ':') {
			p++;
			if (!thread(s, &p, &cpu))
				break;
		}
		if (!strchr("cCsSr", action) || (*p && *p != ';'))
			break;
		for (unsigned i = 0; i < s->t->ncpus; i++) {
			if (set[i] || (cpu < s->t->ncpus && cpu != i))
				continue;
			set[i] = any = true;
			how[i] = action == 'c' || action == 'C' ? GO_ON : GO_STEP;
			s->range[i] = range;
		}
		if (!*p) {
			if (any)
				go(s, how);
			else
				reply(s, E_SYNTAX);
			return;
		}
	}
	memset(s->range, 0, sizeof(s->range));
	reply(s, E_SYNTAX);
}

/* c, s, C, S: the current thread steps, or all go on. */
static void cmd_go(struct gdb_session *s, const char *p)
{
	enum gdb_go how[MAX_VCPUS];
	bool step = *p == 's' || *p == 'S';
	uint64_t n;
	const char *at = p + 1;

	if (*p == 'C' || *p == 'S') {
		if (!gdb_number(&at, &n) || (*at && *at++ != ';')) {
			reply(s, E_SYNTAX);
			return;
		}
	}
	if (*at) {
		struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
		if (!gdb_number(&at, &n) || *at || !state) {
			reply(s, E_SYNTAX);
			return;
		}
		state->rip = n;
		s->t->changed(s->t->ctx, s->cpu, PARK_CHANGED);
	}
	memset(s->range, 0, sizeof(s->range));
	for (unsigned i = 0; i < s->t->ncpus; i++)
		how[i] = !step ? GO_ON : i == s->cpu ? GO_STEP : GO_STAY;
	go(s, how);
}

/* ---- registers ---- */

static void cmd_read_all(struct gdb_session *s)
{
	const struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
	struct gdb_out o = {0};
	uint8_t val[16];

	for (unsigned i = 0; i < gdb_regs_count(); i++) {
		if (state && gdb_reg_read(state, i, val))
			gdb_out_hex(&o, val, gdb_reg_size(i));
		else
			for (unsigned k = 0; k < gdb_reg_size(i); k++)
				gdb_out_text(&o, state ? "00" : "xx");
	}
	reply_out(s, &o);
}

static void cmd_write_all(struct gdb_session *s, const char *p)
{
	struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
	uint32_t changed = 0;
	size_t left = strlen(p);

	for (unsigned i = 0; i < gdb_regs_count() && left; i++) {
		uint8_t val[16];
		unsigned n = gdb_reg_size(i);
		if (!state || left < 2 * n || !gdb_unhex(p, n, val)) {
			reply(s, E_SYNTAX);
			return;
		}
		changed |= gdb_reg_write(state, i, val);
		p += 2 * n;
		left -= 2 * n;
	}
	if (changed)
		s->t->changed(s->t->ctx, s->cpu, changed);
	reply(s, "OK");
}

static void cmd_read_one(struct gdb_session *s, const char *p)
{
	const struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
	struct gdb_out o = {0};
	uint8_t val[16];
	uint64_t n;

	if (!gdb_number(&p, &n) || *p || n >= gdb_regs_count() || !state) {
		reply(s, E_SYNTAX);
		return;
	}
	gdb_reg_read(state, (unsigned)n, val);
	gdb_out_hex(&o, val, gdb_reg_size((unsigned)n));
	reply_out(s, &o);
}

static void cmd_write_one(struct gdb_session *s, const char *p)
{
	struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
	uint8_t val[16];
	uint64_t n;
	uint32_t changed;

	if (!gdb_number(&p, &n) || *p != '=' || n >= gdb_regs_count() || !state ||
	    strlen(p + 1) != 2 * gdb_reg_size((unsigned)n) || !gdb_unhex(p + 1, gdb_reg_size((unsigned)n), val)) {
		reply(s, E_SYNTAX);
		return;
	}
	changed = gdb_reg_write(state, (unsigned)n, val);
	if (changed)
		s->t->changed(s->t->ctx, s->cpu, changed);
	reply(s,
	      changed ? "OK"
		      : "E.this register belongs to the guest kernel; only general registers, bases and vectors can be written");
}

/* ---- memory ---- */

static bool addr_len(const char **p, uint64_t *addr, uint64_t *len)
{
	return gdb_number(p, addr) && *(*p)++ == ',' && gdb_number(p, len);
}

static void cmd_read_memory(struct gdb_session *s, const char *p, bool binary)
{
	uint64_t addr, len;
	struct gdb_out o = {0};

	if (!addr_len(&p, &addr, &len) || *p) {
		reply(s, E_SYNTAX);
		return;
	}
	if (len > (GDB_PACKET_MAX - 16) / 2)
		len = (GDB_PACKET_MAX - 16) / 2;
	uint8_t *buf = malloc(len ? len : 1);
	/* What can be read of it: up to the first page that is not there. */
	while (buf && len && !s->t->read(s->t->ctx, s->cpu, s->physical, addr, buf, len)) {
		uint64_t first = PAGE_SIZE - (addr & (PAGE_SIZE - 1));
		len = len <= first               ? 0
		      : len - first <= PAGE_SIZE ? first
						 : ALIGN_DOWN(addr + len - 1, PAGE_SIZE) - addr;
		if (!len) {
			free(buf);
			reply(s, E_MEMORY);
			return;
		}
	}
	if (!buf) {
		reply(s, "E0c");
		return;
	}
	if (binary) {
		gdb_out_text(&o, "b");
		gdb_out_put(&o, buf, len);
	} else {
		gdb_out_hex(&o, buf, len);
	}
	free(buf);
	reply_out(s, &o);
}

static void cmd_write_memory(struct gdb_session *s, const char *p, bool binary)
{
	const char *end = (const char *)s->in.data + s->in.len;
	uint64_t addr, len;

	if (!addr_len(&p, &addr, &len) || *p++ != ':' || p > end || len > GDB_PACKET_MAX ||
	    (uint64_t)(end - p) != (binary ? len : 2 * len)) {
		reply(s, E_SYNTAX);
		return;
	}
	uint8_t *buf = malloc(len ? len : 1);
	bool ok = buf && (binary ? (memcpy(buf, p, len), true) : gdb_unhex(p, len, buf));
	if (!ok)
		reply(s, E_SYNTAX);
	else
		reply(s, !len || s->t->write(s->t->ctx, s->cpu, s->physical, addr, buf, len) ? "OK" : E_MEMORY);
	free(buf);
}

/* ---- breakpoints ---- */

/* ;X len,bytes ... : conditions; it stops when any holds. Only the first is taken, with more the debugger decides. */
static bool conditions(const char *p, uint8_t *code, size_t max, size_t *n)
{
	uint64_t len;
	unsigned count = 0;

	*n = 0;
	while (*p == ';') {
		p++;
		if (*p != 'X') /* commands, which this server does not offer */
			return !strncmp(p, "cmds:", 5);
		p++;
		if (!gdb_number(&p, &len) || *p++ != ',' || len > max || strlen(p) < 2 * len ||
		    !gdb_unhex(p, len, code))
			return false;
		p += 2 * len;
		*n = count++ ? 0 : len;
		if (count > 1)
			break;
	}
	return true;
}

static void cmd_point(struct gdb_session *s, const char *p, bool insert)
{
	uint8_t code[4096];
	size_t n = 0;
	uint64_t kind, addr, size;
	const char *why = NULL;

	if (!gdb_number(&p, &kind) || *p++ != ',' || !addr_len(&p, &addr, &size) || (*p && *p != ';') || size > 4096 ||
	    !conditions(p, code, sizeof(code), &n)) {
		reply(s, E_SYNTAX);
		return;
	}
	if (kind > POINT_ACCESS) {
		reply(s, "");
		return;
	}
	int ret = insert ? s->t->insert(s->t->ctx, s->cpu, (enum gdb_point)kind, addr, (unsigned)size, code, n, &why)
			 : s->t->remove(s->t->ctx, s->cpu, (enum gdb_point)kind, addr, (unsigned)size);
	if (!ret) {
		reply(s, "OK");
	} else {
		struct gdb_out o = {0};
		if (why)
			gdb_out_format(&o, "E.%s", why);
		else
			gdb_out_format(&o, "E%02x", (unsigned)ret & 255);
		reply_out(s, &o);
	}
}

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
	reply_out(s, &o);
}

/* Part of a document: offset,length in hex. */
static void document(struct gdb_session *s, const char *p, struct gdb_out *doc)
{
	uint64_t off, len;
	struct gdb_out o = {0};

	if (!addr_len(&p, &off, &len) || *p || off > doc->len) {
		reply(s, E_SYNTAX);
	} else {
		len = MIN(len, GDB_PACKET_MAX / 2);
		len = MIN(len, doc->len - off);
		gdb_out_text(&o, off + len == doc->len ? "l" : "m");
		gdb_out_put(&o, doc->data + off, len);
		reply_out(s, &o);
	}
	gdb_out_free(doc);
}

static void cmd_xfer(struct gdb_session *s, const char *p)
{
	struct gdb_out doc = {0};
	const char *at;

	if ((at = after(p, "features:read:target.xml:"))) {
		gdb_regs_xml(&doc);
		document(s, at, &doc);
	} else if ((at = after(p, "threads:read::"))) {
		gdb_out_text(&doc, "<?xml version=\"1.0\"?>\n<threads>\n");
		for (unsigned i = 0; i < s->t->ncpus; i++)
			gdb_out_format(&doc, "<thread id=\"%x\" core=\"%u\" name=\"CPU#%u\">%s</thread>\n", i + 1, i, i,
				       s->t->describe(s->t->ctx, i));
		gdb_out_text(&doc, "</threads>\n");
		document(s, at, &doc);
	} else {
		reply(s, strncmp(p, "features:read:", 14) ? "" : "E00");
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
	reply_out(s, &o);
}

static void cmd_monitor(struct gdb_session *s, const char *p)
{
	char line[512];
	size_t n = strlen(p) / 2;
	struct gdb_out text = {0}, o = {0};

	if (n >= sizeof(line) || strlen(p) % 2 || !gdb_unhex(p, n, (uint8_t *)line)) {
		reply(s, E_SYNTAX);
		return;
	}
	line[n] = 0;
	s->t->monitor(s->t->ctx, s->cpu, line, &text);
	for (size_t at = 0; at < text.len; at += 1024) {
		o.len = 0;
		gdb_out_text(&o, "O");
		gdb_out_hex(&o, text.data + at, MIN(text.len - at, 1024u));
		frame(s, o.data, o.len);
	}
	gdb_out_free(&o);
	gdb_out_free(&text);
	if (!s->over)
		reply(s, "OK");
}

static void cmd_query(struct gdb_session *s, const char *p)
{
	char text[64];
	const char *at;
	unsigned cpu;

	if ((at = after(p, "qSupported"))) {
		cmd_supported(s, at);
	} else if ((at = after(p, "qXfer:"))) {
		cmd_xfer(s, at);
	} else if (!strcmp(p, "qC")) {
		snprintf(text, sizeof(text), "QC%x", s->cpu + 1);
		reply(s, text);
	} else if (!strcmp(p, "qfThreadInfo") || !strcmp(p, "qsThreadInfo")) {
		cmd_threads(s, p[1] == 'f');
	} else if ((at = after(p, "qThreadExtraInfo,"))) {
		struct gdb_out o = {0};
		if (!thread(s, &at, &cpu) || cpu == s->t->ncpus) {
			reply(s, E_SYNTAX);
			return;
		}
		const char *words = s->t->describe(s->t->ctx, cpu);
		snprintf(text, sizeof(text), "CPU#%u ", cpu);
		gdb_out_hex(&o, text, strlen(text));
		gdb_out_hex(&o, words, strlen(words));
		reply_out(s, &o);
	} else if (!strcmp(p, "qOffsets")) {
		if (!s->t->text_segment && !s->t->data_segment) {
			reply(s, "");
			return;
		}
		snprintf(text, sizeof(text), "TextSeg=%llx;DataSeg=%llx", (unsigned long long)s->t->text_segment,
			 (unsigned long long)s->t->data_segment);
		reply(s, text);
	} else if ((at = after(p, "qRcmd,"))) {
		cmd_monitor(s, at);
	} else if (!strcmp(p, "qAttached")) {
		reply(s, "1");
	} else if (after(p, "qSymbol")) {
		reply(s, "OK");
	} else if (!strcmp(p, "qqemu.PhyMemMode")) {
		reply(s, s->physical ? "1" : "0");
	} else if ((at = after(p, "Qqemu.PhyMemMode:"))) {
		if ((*at != '0' && *at != '1') || at[1]) {
			reply(s, E_SYNTAX);
			return;
		}
		s->physical = *at == '1';
		reply(s, "OK");
	} else if (!strcmp(p, "qqemu.sstepbits")) {
		reply(s, "ENABLE=1,NOIRQ=2,NOTIMER=4");
	} else if (!strcmp(p, "qqemu.sstep")) {
		reply(s, "0x7"); /* always: a step takes no interrupts */
	} else if (!strcmp(p, "QStartNoAckMode")) {
		reply(s, "OK");
		s->quiet = true;
	} else {
		reply(s, "");
	}
}

static void cmd_thread(struct gdb_session *s, const char *p)
{
	unsigned cpu;
	char what = *p++;

	if ((what != 'g' && what != 'c') || !thread(s, &p, &cpu) || *p) {
		reply(s, E_SYNTAX);
		return;
	}
	if (what == 'g' && cpu < s->t->ncpus)
		s->cpu = cpu;
	reply(s, "OK");
}

static void cmd_alive(struct gdb_session *s, const char *p)
{
	unsigned cpu;

	reply(s, thread(s, &p, &cpu) && !*p ? "OK" : E_SYNTAX);
}

static void cmd_v(struct gdb_session *s, const char *p)
{
	const char *at;

	if (!strcmp(p, "vCont?")) {
		reply(s, "vCont;c;C;s;S;r");
	} else if ((at = after(p, "vCont"))) {
		cmd_vcont(s, at);
	} else if (after(p, "vKill")) {
		reply(s, "OK");
		s->over = true;
		s->t->end(s->t->ctx);
	} else {
		reply(s, "");
	}
}

static void packet(struct gdb_session *s)
{
	const char *p = (const char *)s->in.data;

	if (s->running) { /* only Ctrl-C makes sense now */
		reply(s, "E.the guest runs; interrupt it first");
		return;
	}
	switch (*p) {
	case '?':
		stop_reply(s);
		break;
	case 'g':
		cmd_read_all(s);
		break;
	case 'G':
		cmd_write_all(s, p + 1);
		break;
	case 'p':
		cmd_read_one(s, p + 1);
		break;
	case 'P':
		cmd_write_one(s, p + 1);
		break;
	case 'm':
	case 'x':
		cmd_read_memory(s, p + 1, *p == 'x');
		break;
	case 'M':
	case 'X':
		cmd_write_memory(s, p + 1, *p == 'X');
		break;
	case 'Z':
	case 'z':
		cmd_point(s, p + 1, *p == 'Z');
		break;
	case 'c':
	case 'C':
	case 's':
	case 'S':
		cmd_go(s, p);
		break;
	case 'H':
		cmd_thread(s, p + 1);
		break;
	case 'T':
		cmd_alive(s, p + 1);
		break;
	case 'q':
	case 'Q':
		cmd_query(s, p);
		break;
	case 'v':
		cmd_v(s, p);
		break;
	case 'D':
		reply(s, "OK");
		s->over = true;
		s->t->detach(s->t->ctx);
		break;
	case 'k':
		s->over = true;
		s->t->end(s->t->ctx);
		break;
	default:
		reply(s, "");
	}
}

struct gdb_session *gdb_session_create(const struct gdb_target *t)
{
	struct gdb_session *s = calloc(1, sizeof(*s));

	if (s)
		s->t = t;
	return s;
}

void gdb_session_destroy(struct gdb_session *s)
{
	if (!s)
		return;
	gdb_out_free(&s->out);
	gdb_out_free(&s->last);
	free(s);
}

void gdb_session_input(struct gdb_session *s, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n && !s->over; i++) {
		switch (gdb_in_byte(&s->in, p[i])) {
		case GDB_PACKET:
			if (!s->quiet)
				gdb_out_text(&s->out, "+");
			packet(s);
			break;
		case GDB_TOO_LONG:
			if (!s->quiet)
				gdb_out_text(&s->out, "+");
			reply(s, "E.the packet is longer than PacketSize");
			break;
		case GDB_BAD:
			if (!s->quiet)
				gdb_out_text(&s->out, "-");
			break;
		case GDB_NAK:
			if (!s->quiet)
				gdb_out_put(&s->out, s->last.data, s->last.len);
			break;
		case GDB_INTERRUPT:
			if (s->running)
				s->t->stop(s->t->ctx);
			break;
		case GDB_ACK:
		case GDB_NOTHING:
			break;
		}
	}
}
