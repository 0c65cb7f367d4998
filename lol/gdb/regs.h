/* SPDX-License-Identifier: BSD-2-Clause */
/* The registers of a vCPU as gdb counts them, and the target description that says so. */
#ifndef LOL_GDB_REGS_H
#define LOL_GDB_REGS_H

#include "gdb/packet.h"
#include "vstate.h"

enum { GDB_RBP = 6, GDB_RSP = 7, GDB_RIP = 16 };

unsigned gdb_regs_count(void);
unsigned gdb_reg_size(unsigned n); /* bytes; 0: there is no such register */
bool gdb_reg_read(const struct vcpu_state *s, unsigned n, uint8_t out[16]);
/* What was changed, PARK_CHANGED*; 0: this register cannot be written. */
uint32_t gdb_reg_write(struct vcpu_state *s, unsigned n, const uint8_t in[16]);
void gdb_regs_xml(struct gdb_out *out); /* target.xml */

#endif
