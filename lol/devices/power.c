/* SPDX-License-Identifier: BSD-2-Clause */
#include "power.h"

#include <stdlib.h>
#include <string.h>

#define RESET_CONTROL_PORT 0xcf9
#define RESET_CPU 0x04
#define KEYBOARD_PORT 0x64
#define KEYBOARD_PULSE_RESET 0xfe

struct power {
	power_fn event;
	void *ctx;
	uint8_t reset_control;
	bool listens;
	uint8_t asked[8]; /* oldest first */
	unsigned nasked;
};

static uint64_t power_port_read(void *dev, uint64_t offset, unsigned size)
{
	struct power *p = dev;
	if (size != 1)
		return UINT64_MAX;
	if (offset == 0)
		return 'L';
	if (!p->nasked)
		return 0;
	uint8_t what = p->asked[0];
	memmove(p->asked, p->asked + 1, --p->nasked);
	return what;
}

static void power_port_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct power *p = dev;
	if (size != 1 || offset)
		return;
	if (value == POWER_LISTENS)
		p->listens = true;
	else if (value >= POWER_OFF && value <= POWER_PANIC)
		p->event(p->ctx, (enum power_event)value);
}

static uint64_t reset_control_read(void *dev, uint64_t offset, unsigned size)
{
	(void)offset;
	return size == 1 ? ((struct power *)dev)->reset_control : UINT64_MAX;
}

static void reset_control_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct power *p = dev;
	(void)offset;
	if (size != 1)
		return;
	bool rising = value & ~p->reset_control & RESET_CPU;
	p->reset_control = (uint8_t)value;
	if (rising)
		p->event(p->ctx, POWER_RESET);
}

/* Ready for a command: Linux asks up to 65536 times before it gives the one that it resets by. */
static uint64_t keyboard_read(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	return size == 1 ? 0 : UINT64_MAX;
}

static void keyboard_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct power *p = dev;
	(void)offset;
	if (size == 1 && value == KEYBOARD_PULSE_RESET)
		p->event(p->ctx, POWER_RESET);
}

static const struct bus_ops power_port_ops = {.read = power_port_read, .write = power_port_write};
static const struct bus_ops reset_control_ops = {.read = reset_control_read, .write = reset_control_write};
static const struct bus_ops keyboard_ops = {.read = keyboard_read, .write = keyboard_write};

struct power *power_create(struct bus *bus, power_fn event, void *ctx)
{
	struct power *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->event = event;
	p->ctx = ctx;
	if (bus_add_ports(bus, POWER_PORT, 2, &power_port_ops, p) ||
	    bus_add_ports(bus, RESET_CONTROL_PORT, 1, &reset_control_ops, p) ||
	    bus_add_ports(bus, KEYBOARD_PORT, 1, &keyboard_ops, p)) {
		free(p);
		return NULL;
	}
	return p;
}

void power_destroy(struct power *power)
{
	free(power);
}

bool power_ask(struct power *power, uint8_t what)
{
	if (!power->listens || power->nasked == sizeof(power->asked))
		return false;
	power->asked[power->nasked++] = what;
	return true;
}
