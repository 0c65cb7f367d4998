/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LOL_USANDBOX_H
#define LOL_USANDBOX_H

#include <linux/filter.h>
#include <stdint.h>

#include "mmu/ushare.h"

#define USANDBOX_MAX 192

/*
 * Write the filter of one U into f (room for USANDBOX_MAX) and return its length.
 * slot: number of its slice and of its bell, where it alone may sleep;
 * secret: 256 random bits that K puts into the calls of a batch.
 */
unsigned usandbox_filter(struct sock_filter *f, unsigned slot, const uint64_t secret[4]);

#endif
