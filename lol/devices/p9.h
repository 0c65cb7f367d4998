/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What stands between a guest's 9P2000.L client and the host's file server: every message of the guest is checked here
 * before the server sees it, and what it says about owners is translated. The server keeps to the directory by walls of
 * its own (lol/share.c); this is the first one, it makes `ro` true, and it keeps from the server what has cost servers
 * dearly: absurd lengths, names that are paths.
 *
 * Owners: the server has the rights of one ordinary user. In the guest everything on a share belongs to root, and what the
 * guest's root makes belongs to that user on the host; no other owner can be given.
 *
 * Pure functions on one message in memory of the monitor (never of the guest: it could change). Layouts: the header of
 * Linux's client, include/net/9p/9p.h, and the protocol description of diod.
 */
#ifndef LOL_DEVICES_P9_H
#define LOL_DEVICES_P9_H

#include "../types.h"

#define P9_MSIZE_MAX 65536u /* bytes of the longest message; diod takes no more */
#define P9_HEADER 7u        /* size[4] type[1] tag[2], little-endian */
#define P9_ERROR_SIZE 11u   /* of an Rlerror */

enum p9_type { P9_RLERROR = 7, P9_TFLUSH = 108, P9_RFLUSH = 109, P9_TVERSION = 100 };

struct p9_policy {
	bool ro;
	uint32_t uid, gid; /* of the server */
	const char
		*root; /* what "/" of the guest's attach is for the server: "" or a path without a slash at its end */
};

static inline uint32_t p9_size(const uint8_t *msg)
{
	return (uint32_t)msg[0] | (uint32_t)msg[1] << 8 | (uint32_t)msg[2] << 16 | (uint32_t)msg[3] << 24;
}

static inline uint16_t p9_tag(const uint8_t *msg)
{
	return (uint16_t)(msg[5] | msg[6] << 8);
}

void p9_set_tag(uint8_t *msg, uint16_t tag);

/*
 * A message of the guest with p9_size(msg) == *len, at least P9_HEADER. 0: it may go to the server, *len is its new length
 * (at most cap, which is at least P9_MSIZE_MAX + the length of the policy's root). Else the errno to answer it with.
 */
int p9_request(const struct p9_policy *policy, uint8_t *msg, uint32_t *len, uint32_t cap);

/* An answer of the server: owners become root. False: it is no well-formed answer. */
bool p9_reply(uint8_t *msg, uint32_t len);

/* The tag that a Tflush is about, and its replacement. Only after p9_request() has taken the message. */
uint16_t p9_flush_tag(const uint8_t *msg);
void p9_set_flush_tag(uint8_t *msg, uint16_t tag);

/* Writes an Rlerror; msg has P9_ERROR_SIZE bytes. */
void p9_error(uint8_t *msg, uint16_t tag, int error);

#endif
