/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which device answers at a guest-physical address or an I/O port. Runs in the monitor's loop thread. Addresses, sizes
 * and values of accesses come from the guest and may be anything.
 *
 * An access goes to a device only when all of it lies inside one region: on real machines a wide access that merely
 * touches a device's port (a dword to the PCI address port 0xcf8 covers the reset port 0xcf9) does not reach it.
 */
#ifndef LOL_DEVICES_BUS_H
#define LOL_DEVICES_BUS_H

#include "../types.h"

enum bus_space { BUS_MMIO, BUS_PORT };

struct bus_ops {
	/* offset is relative to the region, size 1, 2, 4 or 8; the result is cut to size. */
	uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
	void (*write)(void *dev, uint64_t offset, uint64_t value, unsigned size);
};

struct bus_region {
	uint64_t first, last; /* inclusive, so that a region may end at the top of the address space */
	const struct bus_ops *ops;
	void *dev;
};

struct bus {
	struct bus_table {
		struct bus_region *regions; /* sorted by first */
		size_t count;
	} spaces[2];
};

void bus_init(struct bus *bus);
void bus_fini(struct bus *bus);

/* 0, -EEXIST where another region overlaps, -EINVAL for an empty or wrapping range, -ENOMEM. */
int bus_add_mmio(struct bus *bus, gpa_t gpa, uint64_t len, const struct bus_ops *ops, void *dev);
int bus_add_ports(struct bus *bus, uint16_t first, unsigned count, const struct bus_ops *ops, void *dev);

uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size); /* unclaimed: all ones */
void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, uint64_t value, unsigned size);

#endif
