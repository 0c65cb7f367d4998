/* SPDX-License-Identifier: BSD-2-Clause */
#include "net-packet.h"

#include <string.h>

#define ETHER_BYTES 14u
#define ETHER_IPV4 0x0800u
#define ETHER_IPV6 0x86ddu
#define TCP 6
#define UDP 17

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint16_t net_sum(const void *bytes, size_t len, uint16_t start)
{
	const uint8_t *p = bytes;
	uint64_t sum = start;

	/* 2^16 is 1 in ones' complement of 16 bits, so words of any width may be added up; 2^32 of these fit. */
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v;
		memcpy(&v, p, sizeof(v));
		sum += (v & UINT32_MAX) + (v >> 32);
	}
	uint64_t tail = 0;
	if (len)
		memcpy(&tail, p, len);
	sum += (tail & UINT32_MAX) + (tail >> 32);
	return fold(sum);
}

bool net_finish_checksum(uint8_t *frame, size_t len, size_t start, size_t offset)
{
	if (start > len || offset > len - start || len - start - offset < 2)
		return false;
	uint16_t sum = (uint16_t)~net_sum(frame + start, len - start, 0);
	if (!sum)
		sum = 0xffff; /* the same number; 0 would mean "none" in UDP */
	memcpy(frame + start + offset, &sum, sizeof(sum));
	return true;
}

static uint32_t word_at(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

uint32_t net_flow(const uint8_t *frame, size_t len)
{
	uint32_t flow = 0;
	size_t ports;
	uint8_t proto;

	if (len < ETHER_BYTES + 20)
		return 0;
	const uint8_t *ip = frame + ETHER_BYTES;
	unsigned type = (unsigned)frame[12] << 8 | frame[13];
	if (type == ETHER_IPV4 && ip[0] >> 4 == 4) {
		flow = word_at(ip + 12) ^ word_at(ip + 16);
		proto = (ip[6] & 0x3f) | ip[7] ? 0 : ip[9]; /* fragments: not all of them have ports */
		ports = ETHER_BYTES + (ip[0] & 15) * 4u;
	} else if (type == ETHER_IPV6 && len >= ETHER_BYTES + 40) {
		for (int i = 8; i < 40; i += 4)
			flow ^= word_at(ip + i);
		proto = ip[6];
		ports = ETHER_BYTES + 40;
	} else {
		return 0;
	}
	if ((proto == TCP || proto == UDP) && ports + 4 <= len) {
		uint32_t both = word_at(frame + ports);
		flow ^= (both & 0xffff) ^ (both >> 16);
	}
	flow *= 0x9e3779b1u;
	return flow ^ flow >> 16;
}
