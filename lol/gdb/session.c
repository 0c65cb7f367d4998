/* SPDX-License-Identifier: BSD-2-Clause */
#include "gdb/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdb/regs.h"
#include "gdb/session_int.h"

static void send_last(struct gdb_session *s)
{
	gdb_out_put(&s->out, s->last.data, s->last.len);
	s->out.failed |= s->last.failed;
}

void session_frame(struct gdb_session *s, const void *payload, size_t n)
{
	s->last.len = 0;
	gdb_packet_frame(&s->last, payload, n);
	send_last(s);
}

void session_reply_hex(struct gdb_session *s, const void *bytes, size_t n)
{
	s->last.len = 0;
	gdb_packet_frame_hex(&s->last, bytes, n);
	send_last(s);
}

void session_reply(struct gdb_session *s, const char *text)
{
	session_frame(s, text, strlen(text));
}

void session_reply_out(struct gdb_session *s, struct gdb_out *o)
{
	if (o->failed)
		session_reply(s, "E0c");
	else
		session_frame(s, o->data, o->len);
	gdb_out_free(o);
}

const char *session_after(const char *p, const char *prefix)
{
	size_t n = strlen(prefix);
	return strncmp(p, prefix, n) ? NULL : p + n;
}

/* A thread: -1 all and 0 any become *cpu = ncpus and the current one. */
bool session_thread(struct gdb_session *s, const char **p, unsigned *cpu)
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

bool session_addr_len(const char **p, uint64_t *addr, uint64_t *len)
{
	return gdb_number(p, addr) && *(*p)++ == ',' && gdb_number(p, len);
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
	session_reply_out(s, &o);
}

static void go(struct gdb_session *s, const enum gdb_go *how, const struct gdb_range *range)
{
	s->running = true;
	s->t->go(s->t->ctx, how, range);
}

void gdb_session_stopped(struct gdb_session *s, unsigned cpu, enum gdb_why why, uint64_t addr)
{
	if (!s->running)
		return;
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
	session_reply(s, text);
	s->over = true;
}

static void cmd_vcont(struct gdb_session *s, const char *p)
{
	enum gdb_go how[MAX_VCPUS] = {GO_STAY};
	bool set[MAX_VCPUS] = {false}, any = false;
	struct gdb_range ranges[MAX_VCPUS] = {0};

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
			if (!session_thread(s, &p, &cpu))
				break;
		}
		if (!strchr("cCsSr", action) || (*p && *p != ';'))
			break;
		for (unsigned i = 0; i < s->t->ncpus; i++) {
			if (set[i] || (cpu < s->t->ncpus && cpu != i))
				continue;
			set[i] = any = true;
			how[i] = action == 'c' || action == 'C' ? GO_ON : GO_STEP;
			ranges[i] = range;
		}
		if (!*p) {
			if (any)
				go(s, how, ranges);
			else
				session_reply(s, E_SYNTAX);
			return;
		}
	}
	session_reply(s, E_SYNTAX);
}

/* c, s, C, S: the current thread steps, or all go on. */
static void cmd_go(struct gdb_session *s, const char *p)
{
	static const struct gdb_range none[MAX_VCPUS];
	enum gdb_go how[MAX_VCPUS];
	bool step = *p == 's' || *p == 'S';
	uint64_t n;
	const char *at = p + 1;

	if (*p == 'C' || *p == 'S') {
		if (!gdb_number(&at, &n) || (*at && *at++ != ';')) {
			session_reply(s, E_SYNTAX);
			return;
		}
	}
	if (*at) {
		struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
		if (!gdb_number(&at, &n) || *at || !state) {
			session_reply(s, E_SYNTAX);
			return;
		}
		state->rip = n;
		s->t->changed(s->t->ctx, s->cpu, PARK_CHANGED);
	}
	for (unsigned i = 0; i < s->t->ncpus; i++)
		how[i] = !step ? GO_ON : i == s->cpu ? GO_STEP : GO_STAY;
	go(s, how, none);
}

static void cmd_thread(struct gdb_session *s, const char *p)
{
	unsigned cpu;
	char what = *p++;

	if ((what != 'g' && what != 'c') || !session_thread(s, &p, &cpu) || *p) {
		session_reply(s, E_SYNTAX);
		return;
	}
	if (what == 'g' && cpu < s->t->ncpus)
		s->cpu = cpu;
	session_reply(s, "OK");
}

static void cmd_alive(struct gdb_session *s, const char *p)
{
	unsigned cpu;

	session_reply(s, session_thread(s, &p, &cpu) && !*p ? "OK" : E_SYNTAX);
}

static void cmd_v(struct gdb_session *s, const char *p)
{
	const char *at;

	if (!strcmp(p, "vCont?")) {
		session_reply(s, "vCont;c;C;s;S;r");
	} else if ((at = session_after(p, "vCont"))) {
		cmd_vcont(s, at);
	} else if (session_after(p, "vKill")) {
		session_reply(s, "OK");
		s->over = true;
		s->t->end(s->t->ctx);
	} else {
		session_reply(s, "");
	}
}

static void packet(struct gdb_session *s)
{
	const char *p = (const char *)s->in.data;

	if (s->running) { /* only Ctrl-C makes sense now */
		session_reply(s, "E.the guest runs; interrupt it first");
		return;
	}
	switch (*p) {
	case '?':
		stop_reply(s);
		break;
	case 'g':
		session_read_all(s);
		break;
	case 'G':
		session_write_all(s, p + 1);
		break;
	case 'p':
		session_read_one(s, p + 1);
		break;
	case 'P':
		session_write_one(s, p + 1);
		break;
	case 'm':
	case 'x':
		session_read_memory(s, p + 1, *p == 'x');
		break;
	case 'M':
	case 'X':
		session_write_memory(s, p + 1, *p == 'X');
		break;
	case 'Z':
	case 'z':
		session_point(s, p + 1, *p == 'Z');
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
		session_query(s, p);
		break;
	case 'v':
		cmd_v(s, p);
		break;
	case 'D':
		session_reply(s, "OK");
		s->over = true;
		s->t->detach(s->t->ctx);
		break;
	case 'k':
		s->over = true;
		s->t->end(s->t->ctx);
		break;
	default:
		session_reply(s, "");
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
			session_reply(s, "E.the packet is longer than PacketSize");
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
