/* SPDX-License-Identifier: BSD-2-Clause */
#include "bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof(*bus));
}

void bus_fini(struct bus *bus)
{
	free(bus->spaces[BUS_MMIO].regions);
	free(bus->spaces[BUS_PORT].regions);
	bus_init(bus);
}

static int add_region(struct bus_table *t, const struct bus_region *r)
{
	size_t at = 0;
	while (at < t->count && t->regions[at].first < r->first)
		at++;
	if ((at > 0 && t->regions[at - 1].last >= r->first) || (at < t->count && t->regions[at].first <= r->last))
		return -EEXIST;

	struct bus_region *regions = realloc(t->regions, (t->count + 1) * sizeof(*regions));
	if (!regions)
		return -ENOMEM;
	memmove(regions + at + 1, regions + at, (t->count - at) * sizeof(*regions));
	regions[at] = *r;
	t->regions = regions;
	t->count++;
	return 0;
}

int bus_add_mmio(struct bus *bus, gpa_t gpa, uint64_t len, const struct bus_ops *ops, void *dev)
{
	if (!len || gpa + (len - 1) < gpa)
		return -EINVAL;
	struct bus_region r = {.first = gpa, .last = gpa + (len - 1), .ops = ops, .dev = dev};
	return add_region(&bus->spaces[BUS_MMIO], &r);
}

int bus_add_ports(struct bus *bus, uint16_t first, unsigned count, const struct bus_ops *ops, void *dev)
{
	if (!count || count > 0x10000u - first)
		return -EINVAL;
	struct bus_region r = {.first = first, .last = first + (count - 1), .ops = ops, .dev = dev};
	return add_region(&bus->spaces[BUS_PORT], &r);
}

static bool size_valid(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static uint64_t size_mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

/* The region that holds all size bytes at addr, or NULL. */
static const struct bus_region *find(const struct bus *bus, enum bus_space space, uint64_t addr, unsigned size)
{
	if ((unsigned)space > BUS_PORT || !size_valid(size))
		return NULL;
	const struct bus_table *t = &bus->spaces[space];
	size_t lo = 0, hi = t->count;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct bus_region *r = &t->regions[mid];
		if (addr < r->first)
			hi = mid;
		else if (addr > r->last)
			lo = mid + 1;
		else
			return r->last - addr >= size - 1 ? r : NULL;
	}
	return NULL;
}

uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned size)
{
	const struct bus_region *r = find(bus, space, addr, size);
	uint64_t value = r && r->ops->read ? r->ops->read(r->dev, addr - r->first, size) : UINT64_MAX;
	return value & size_mask(size);
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, uint64_t value, unsigned size)
{
	const struct bus_region *r = find(bus, space, addr, size);
	if (r && r->ops->write)
		r->ops->write(r->dev, addr - r->first, value & size_mask(size), size);
}
