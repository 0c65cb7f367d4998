/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands that read and write the guest's state: registers, memory, breakpoints. */
#include <stdlib.h>
#include <string.h>

#include "gdb/regs.h"
#include "gdb/session_int.h"

/* ---- registers ---- */

void session_read_all(struct gdb_session *s)
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
	session_reply_out(s, &o);
}

void session_write_all(struct gdb_session *s, const char *p)
{
	struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
	uint32_t changed = 0;
	size_t left = strlen(p);

	for (unsigned i = 0; i < gdb_regs_count() && left; i++) {
		uint8_t val[16];
		unsigned n = gdb_reg_size(i);
		if (!state || left < 2 * n || !gdb_unhex(p, n, val)) {
			session_reply(s, E_SYNTAX);
			return;
		}
		changed |= gdb_reg_write(state, i, val);
		p += 2 * n;
		left -= 2 * n;
	}
	if (changed)
		s->t->changed(s->t->ctx, s->cpu, changed);
	session_reply(s, "OK");
}

void session_read_one(struct gdb_session *s, const char *p)
{
	const struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
	struct gdb_out o = {0};
	uint8_t val[16];
	uint64_t n;

	if (!gdb_number(&p, &n) || *p || n >= gdb_regs_count() || !state) {
		session_reply(s, E_SYNTAX);
		return;
	}
	gdb_reg_read(state, (unsigned)n, val);
	gdb_out_hex(&o, val, gdb_reg_size((unsigned)n));
	session_reply_out(s, &o);
}

void session_write_one(struct gdb_session *s, const char *p)
{
	struct vcpu_state *state = s->t->state(s->t->ctx, s->cpu);
	uint8_t val[16];
	uint64_t n;
	uint32_t changed;

	if (!gdb_number(&p, &n) || *p != '=' || n >= gdb_regs_count() || !state ||
	    strlen(p + 1) != 2 * gdb_reg_size((unsigned)n) || !gdb_unhex(p + 1, gdb_reg_size((unsigned)n), val)) {
		session_reply(s, E_SYNTAX);
		return;
	}
	changed = gdb_reg_write(state, (unsigned)n, val);
	if (changed)
		s->t->changed(s->t->ctx, s->cpu, changed);
	session_reply(
		s,
		changed ? "OK"
			: "E.this register belongs to the guest kernel; only general registers, bases and vectors can be written");
}

/* ---- memory ---- */

void session_read_memory(struct gdb_session *s, const char *p, bool binary)
{
	uint64_t addr, len;
	struct gdb_out o = {0};

	if (!session_addr_len(&p, &addr, &len) || *p) {
		session_reply(s, E_SYNTAX);
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
			session_reply(s, E_MEMORY);
			return;
		}
	}
	if (!buf) {
		session_reply(s, "E0c");
		return;
	}
	if (binary) {
		gdb_out_text(&o, "b");
		gdb_out_put(&o, buf, len);
		session_reply_out(s, &o);
	} else {
		session_reply_hex(s, buf, len);
	}
	free(buf);
}

void session_write_memory(struct gdb_session *s, const char *p, bool binary)
{
	const char *end = (const char *)s->in.data + s->in.len;
	uint64_t addr, len;

	if (!session_addr_len(&p, &addr, &len) || *p++ != ':' || p > end || len > GDB_PACKET_MAX ||
	    (uint64_t)(end - p) != (binary ? len : 2 * len)) {
		session_reply(s, E_SYNTAX);
		return;
	}
	uint8_t *buf = malloc(len ? len : 1);
	bool ok = buf && (binary ? (memcpy(buf, p, len), true) : gdb_unhex(p, len, buf));
	if (!ok)
		session_reply(s, E_SYNTAX);
	else
		session_reply(s, !len || s->t->write(s->t->ctx, s->cpu, s->physical, addr, buf, len) ? "OK" : E_MEMORY);
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

void session_point(struct gdb_session *s, const char *p, bool insert)
{
	uint8_t code[4096];
	size_t n = 0;
	uint64_t kind, addr, size;
	const char *why = NULL;

	if (!gdb_number(&p, &kind) || *p++ != ',' || !session_addr_len(&p, &addr, &size) || (*p && *p != ';') ||
	    size > 4096 || !conditions(p, code, sizeof(code), &n)) {
		session_reply(s, E_SYNTAX);
		return;
	}
	if (kind > POINT_ACCESS) {
		session_reply(s, "");
		return;
	}
	int ret = insert ? s->t->insert(s->t->ctx, s->cpu, (enum gdb_point)kind, addr, (unsigned)size, code, n, &why)
			 : s->t->remove(s->t->ctx, s->cpu, (enum gdb_point)kind, addr, (unsigned)size);
	if (!ret) {
		session_reply(s, "OK");
	} else {
		struct gdb_out o = {0};
		if (why)
			gdb_out_format(&o, "E.%s", why);
		else
			gdb_out_format(&o, "E%02x", (unsigned)ret & 255);
		session_reply_out(s, &o);
	}
}
