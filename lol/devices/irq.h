/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interrupt wire of a device. Edge-triggered: raise() is called each time the device wants attention and must be
 * safe from any thread (it sets a pending bit and kicks a vCPU).
 */
#ifndef LOL_DEVICES_IRQ_H
#define LOL_DEVICES_IRQ_H

struct irq_line {
	void (*raise)(void *ctx, unsigned line);
	void *ctx;
	unsigned line;
};

static inline void irq_raise(const struct irq_line *irq)
{
	if (irq->raise)
		irq->raise(irq->ctx, irq->line);
}

#endif
