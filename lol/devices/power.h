/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ways a guest ends or restarts its machine by a port, and how it is asked to:
 *
 *   0x4c4c  LoL's own power port, bytes: write 1 = power off, 2 = reset, 3 = the kernel has panicked (notice only);
 *           it reads as 0x4c ('L'), so that a guest can tell that it is there; 4 = the guest listens to what comes at
 *   0x4c4d  the power button, and magic system requests: each read takes the next byte, 1 = power off in order, a
 *           printing character = that system request, 0 = no more. Line 0 says when to look
 *   0xcf9   reset control register of PC chip sets: bit 2 going from 0 to 1 resets
 *   0x64    keyboard controller: the command 0xfe pulses the CPU's reset line. There is no keyboard controller: it reads
 *           as all ones, which is how drivers see its absence
 *
 * Only byte accesses count.
 */
#ifndef LOL_DEVICES_POWER_H
#define LOL_DEVICES_POWER_H

#include "bus.h"

#define POWER_PORT 0x4c4c
#define POWER_LISTENS 4
#define POWER_LINE 0u /* of the 8259 pair: that of the PIT, which LoL has not */
#define POWER_BUTTON 1

enum power_event { POWER_OFF = 1, POWER_RESET = 2, POWER_PANIC = 3 };

typedef void (*power_fn)(void *ctx, enum power_event event);

struct power;

struct power *power_create(struct bus *bus, power_fn event, void *ctx); /* NULL: no memory, or a port is taken */
void power_destroy(struct power *power);

/* Give the guest a byte for 0x4c4d; then the caller raises POWER_LINE. False: it does not listen, or does not take them. */
bool power_ask(struct power *power, uint8_t what);

#endif
