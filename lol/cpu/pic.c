/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The 8259A pair (Intel 8259A data sheet), edge triggered, fixed priority.  Runs in K.
 * Not as on the chip: no rotation, no polling, no special fully nested mode.
 */
#include "cpu/k.h"

static struct chip {
	uint8_t irr, isr, imr, base, icw, read_isr, level;
	bool auto_eoi, init4;
} chip[2];
static struct klock lock; /* of both chips: any vCPU may reach their ports, only vCPU 0 takes their interrupts */

void pic_init(void)
{
	chip[0].imr = chip[1].imr = 0xff;
}

void pic_raise(unsigned line)
{
	k_lock(&lock);
	if (line < 16)
		chip[line / 8].irr |= (uint8_t)(1u << line % 8);
	k_unlock(&lock);
}

void pic_set(unsigned line, bool level)
{
	struct chip *c = &chip[line / 8 & 1];
	uint8_t bit = (uint8_t)(1u << line % 8);

	k_lock(&lock);
	if (level && !(c->level & bit))
		c->irr |= bit;
	if (level)
		c->level |= bit;
	else
		c->level &= (uint8_t)~bit;
	k_unlock(&lock);
}

static int chip_highest(const struct chip *c)
{
	uint8_t want = c->irr & (uint8_t)~c->imr;

	if (!want)
		return -1;
	int line = __builtin_ctz(want);
	return c->isr & ((2u << line) - 1) ? -1 : line;
}

static int highest(void)
{
	int slave = chip_highest(&chip[1]);

	if (slave >= 0)
		chip[0].irr |= 4;
	else
		chip[0].irr &= (uint8_t)~4;
	int line = chip_highest(&chip[0]);
	/* A further interrupt of the slave while one of its own is in service waits for the master's EOI. */
	return line == 2 ? slave + 8 : line;
}

int pic_highest(void)
{
	/* Mostly nothing at all is wanted; who changes that kicks afterwards. */
	if (!(((volatile struct chip *)chip)[0].irr | ((volatile struct chip *)chip)[1].irr))
		return -1;
	k_lock(&lock);
	int line = highest();
	k_unlock(&lock);
	return line;
}

static void accept(struct chip *c, int line)
{
	c->irr &= (uint8_t) ~(1u << line);
	if (!c->auto_eoi)
		c->isr |= (uint8_t)(1u << line);
}

static int acknowledge(void)
{
	int line = highest();

	if (line < 0)
		return chip[0].base + 7; /* spurious */
	if (line >= 8) {
		accept(&chip[1], line - 8);
		accept(&chip[0], 2);
		return chip[1].base + line - 8;
	}
	accept(&chip[0], line);
	return chip[0].base + line;
}

int pic_acknowledge(void)
{
	k_lock(&lock);
	int vector = acknowledge();
	k_unlock(&lock);
	return vector;
}

static void command(struct chip *c, uint8_t val)
{
	if (val & 0x10) {
		*c = (struct chip){.icw = 2, .init4 = val & 1, .level = c->level};
	} else if (val & 8) {
		if (val & 2)
			c->read_isr = val & 1;
	} else if ((val & 0xe0) == 0x20) { /* EOI of the highest */
		c->isr &= (uint8_t)(c->isr - 1);
	} else if ((val & 0xe0) == 0x60) {
		c->isr &= (uint8_t) ~(1u << (val & 7));
	}
}

static void data(struct chip *c, uint8_t val)
{
	if (c->icw == 2) {
		c->base = val & 0xf8;
		c->icw = 3;
	} else if (c->icw == 3) {
		c->icw = c->init4 ? 4 : 0;
	} else if (c->icw == 4) {
		c->auto_eoi = val & 2;
		c->icw = 0;
	} else {
		c->imr = val;
	}
}

bool pic_port(uint16_t port, bool write, uint8_t *val)
{
	struct chip *c = &chip[(port & 0xf0) == 0xa0];

	if (port == 0x4d0 || port == 0x4d1) { /* ELCR: all edges */
		if (!write)
			*val = 0;
		return true;
	}
	if (port != 0x20 && port != 0x21 && port != 0xa0 && port != 0xa1)
		return false;
	k_lock(&lock);
	if (write && port & 1)
		data(c, *val);
	else if (write)
		command(c, *val);
	else
		*val = port & 1 ? c->imr : c->read_isr ? c->isr : c->irr;
	bool due = write && highest() >= 0;
	k_unlock(&lock);
	if (due)
		vcpu_kick_devices();
	return true;
}
