/* SPDX-License-Identifier: BSD-2-Clause */
#include "gdb/packet.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Run-length encoding: a digit, '*', and how many more of it as a printable character. */
#define RUN_MIN 3
#define RUN_MAX 97

static int digit(uint8_t c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static void keep(struct gdb_in *in, uint8_t byte)
{
	if (in->len < GDB_PACKET_MAX)
		in->data[in->len++] = byte;
	else
		in->too_long = true;
}

static void begin(struct gdb_in *in)
{
	in->state = IN_DATA;
	in->len = 0;
	in->sum = 0;
	in->too_long = false;
}

static enum gdb_event idle(struct gdb_in *in, uint8_t byte)
{
	switch (byte) {
	case '$':
		begin(in);
		return GDB_NOTHING;
	case '+':
		return GDB_ACK;
	case '-':
		return GDB_NAK;
	case 3:
		return GDB_INTERRUPT;
	default:
		return GDB_NOTHING;
	}
}

enum gdb_event gdb_in_byte(struct gdb_in *in, uint8_t byte)
{
	switch (in->state) {
	case IN_IDLE:
		return idle(in, byte);
	case IN_DATA:
		if (byte == '#') {
			in->state = IN_SUM1;
		} else if (byte == '$') { /* the end of the last one was lost */
			begin(in);
		} else {
			in->sum = (uint8_t)(in->sum + byte);
			if (byte == '}')
				in->state = IN_ESCAPE;
			else
				keep(in, byte);
		}
		return GDB_NOTHING;
	case IN_ESCAPE:
		in->sum = (uint8_t)(in->sum + byte);
		keep(in, byte ^ 0x20);
		in->state = IN_DATA;
		return GDB_NOTHING;
	case IN_SUM1:
		in->want = (uint8_t)((unsigned)digit(byte) << 4);
		in->state = digit(byte) < 0 ? IN_IDLE : IN_SUM2;
		return digit(byte) < 0 ? GDB_BAD : GDB_NOTHING;
	case IN_SUM2:
		in->state = IN_IDLE;
		in->data[in->len] = 0;
		if (digit(byte) < 0 || (uint8_t)(in->want | digit(byte)) != in->sum)
			return GDB_BAD;
		return in->too_long ? GDB_TOO_LONG : GDB_PACKET;
	}
	return GDB_NOTHING;
}

void gdb_out_free(struct gdb_out *out)
{
	free(out->data);
	*out = (struct gdb_out){0};
}

void gdb_out_put(struct gdb_out *out, const void *bytes, size_t n)
{
	if (out->failed)
		return;
	if (out->size - out->len < n) {
		size_t size = out->size ? out->size : 256;
		while (size - out->len < n)
			size *= 2;
		uint8_t *more = realloc(out->data, size);
		if (!more) {
			out->failed = true;
			return;
		}
		out->data = more;
		out->size = size;
	}
	if (n)
		memcpy(out->data + out->len, bytes, n);
	out->len += n;
}

void gdb_out_text(struct gdb_out *out, const char *text)
{
	gdb_out_put(out, text, strlen(text));
}

void gdb_out_format(struct gdb_out *out, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		gdb_out_put(out, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void gdb_out_hex(struct gdb_out *out, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = bytes;
	char text[512];

	while (n) {
		size_t m = n < sizeof(text) / 2 ? n : sizeof(text) / 2;
		for (size_t i = 0; i < m; i++) {
			text[2 * i] = digits[p[i] >> 4];
			text[2 * i + 1] = digits[p[i] & 15];
		}
		gdb_out_put(out, text, 2 * m);
		p += m;
		n -= m;
	}
}

void gdb_packet_frame(struct gdb_out *out, const void *payload, size_t n)
{
	const uint8_t *p = payload ? payload : (const uint8_t *)"";
	uint8_t sum = 0;
	size_t plain = 0;

	gdb_out_put(out, "$", 1);
	for (size_t i = 0; i < n; i++) {
		if (p[i] != '$' && p[i] != '#' && p[i] != '}' && p[i] != '*') {
			sum = (uint8_t)(sum + p[i]);
			continue;
		}
		uint8_t escaped[2] = {'}', p[i] ^ 0x20};
		gdb_out_put(out, p + plain, i - plain);
		gdb_out_put(out, escaped, 2);
		sum = (uint8_t)(sum + escaped[0] + escaped[1]);
		plain = i + 1;
	}
	gdb_out_put(out, p + plain, n - plain);
	gdb_out_format(out, "#%02x", sum);
}

void gdb_packet_frame_hex(struct gdb_out *out, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = bytes;
	uint8_t text[512], sum = 0;
	size_t len = 0;

	gdb_out_put(out, "$", 1);
	for (size_t i = 0, total = 2 * n; i < total;) {
#define DIGIT(i) (p[(i) / 2] >> ((i)&1 ? 0 : 4) & 15)
		uint8_t digit = DIGIT(i);
		size_t more = 0; /* of the same */
		while (more < RUN_MAX && i + 1 + more < total && DIGIT(i + 1 + more) == digit)
			more++;
#undef DIGIT
		if (more == 6 || more == 7) /* would be '#' and '$' */
			more = 5;
		if (more < RUN_MIN)
			more = 0;
		if (len + 3 > sizeof(text)) {
			gdb_out_put(out, text, len);
			len = 0;
		}
		size_t from = len;
		text[len++] = (uint8_t)digits[digit];
		if (more) {
			text[len++] = '*';
			text[len++] = (uint8_t)(29 + more);
		}
		for (; from < len; from++)
			sum = (uint8_t)(sum + text[from]);
		i += 1 + more;
	}
	gdb_out_put(out, text, len);
	gdb_out_format(out, "#%02x", sum);
}

bool gdb_number(const char **p, uint64_t *val)
{
	uint64_t v = 0;
	const char *s = *p;

	for (; digit((uint8_t)*s) >= 0; s++) {
		if (v >> 60)
			return false;
		v = v << 4 | (uint64_t)digit((uint8_t)*s);
	}
	if (s == *p)
		return false;
	*p = s;
	*val = v;
	return true;
}

bool gdb_unhex(const char *text, size_t n, uint8_t *out)
{
	for (size_t i = 0; i < n; i++) {
		int high = digit((uint8_t)text[2 * i]), low = high < 0 ? -1 : digit((uint8_t)text[2 * i + 1]);
		if (low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}
