/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packets of the gdb remote protocol (GDB manual, appendix E): framing, checksums, escapes.  No state but the buffers; every
 * byte from the client is hostile.
 */
#ifndef LOL_GDB_PACKET_H
#define LOL_GDB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDB_PACKET_MAX 0x10000 /* bytes between $ and #, as told to the client */

/* What a byte from the client completed. */
enum gdb_event {
	GDB_NOTHING,
	GDB_PACKET,    /* data[0, len) is a packet, its checksum right, escapes undone, a 0 behind it */
	GDB_BAD,       /* a packet with a wrong checksum: to be sent again */
	GDB_TOO_LONG,  /* a packet that is longer than GDB_PACKET_MAX, thrown away */
	GDB_ACK,       /* + */
	GDB_NAK,       /* -: send the last packet again */
	GDB_INTERRUPT, /* Ctrl-C */
};

struct gdb_in {
	enum { IN_IDLE, IN_DATA, IN_ESCAPE, IN_SUM1, IN_SUM2 } state;
	bool too_long;
	uint8_t sum, want;
	size_t len;
	uint8_t data[GDB_PACKET_MAX + 1];
};

enum gdb_event gdb_in_byte(struct gdb_in *in, uint8_t byte);

/* A growing buffer. Out of memory: what does not fit is dropped, and failed is set. */
struct gdb_out {
	uint8_t *data;
	size_t len, size;
	bool failed;
};
void gdb_out_free(struct gdb_out *out);
void gdb_out_put(struct gdb_out *out, const void *bytes, size_t n);
void gdb_out_text(struct gdb_out *out, const char *text);
void gdb_out_format(struct gdb_out *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gdb_out_hex(struct gdb_out *out, const void *bytes, size_t n);

/* payload, framed: $...#cs with the four special bytes escaped. */
void gdb_packet_frame(struct gdb_out *out, const void *payload, size_t n);
/* n bytes as hexadecimal digits, framed, with runs of a digit shortened (GDB manual, E.1): what a client takes longest over is to read
 * characters one by one. */
void gdb_packet_frame_hex(struct gdb_out *out, const void *bytes, size_t n);

/* Numbers in hexadecimal, most significant digit first. *p goes to the first byte that is none. False: no digit, or more than 64 bits. */
bool gdb_number(const char **p, uint64_t *val);
/* 2 * n digits to n bytes; false: something else is there. */
bool gdb_unhex(const char *text, size_t n, uint8_t *out);

#endif
