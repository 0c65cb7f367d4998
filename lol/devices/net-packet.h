/* SPDX-License-Identifier: BSD-2-Clause */
/* The little that the monitor itself does to packets. Frames are hostile bytes of any length. */
#ifndef LOL_DEVICES_NET_PACKET_H
#define LOL_DEVICES_NET_PACKET_H

#include "../types.h"

/* The 16-bit ones' complement sum (RFC 1071) of len bytes on top of sum, folded, not inverted; as stored in memory. */
uint16_t net_sum(const void *bytes, size_t len, uint16_t sum);

/*
 * Finish a checksum that the driver has begun: sum from start to the end of the frame, stored at start + offset, where the
 * sum of the pseudo header is already. False: they lie outside of the frame.
 */
bool net_finish_checksum(uint8_t *frame, size_t len, size_t start, size_t offset);

/* A number for the connection that a frame belongs to, the same in both directions; 0 for what is not IP. */
uint32_t net_flow(const uint8_t *frame, size_t len);
#define NET_FLOW_BYTES 58u /* of the beginning of a frame are enough: Ethernet, IPv6 and the ports */

#endif
