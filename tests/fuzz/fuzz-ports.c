/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The devices behind ports: serial port and 8259 pair, which K has, and clock, power and reset ports of the monitor. Input: accesses
 * of four bytes each: what, port, value; between them the outside does things.
 */
#include <stdlib.h>

#include "cpu/k.h"
#include "devices/bus.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "devices/serial8250.h"

static bool room;
static uint64_t sent;

void k_lock(struct klock *l)
{
	if (l->word)
		abort();
	l->word = 1;
}

void k_unlock(struct klock *l)
{
	if (!l->word)
		abort();
	l->word = 0;
}

void vcpu_kick_devices(void)
{
}

static bool tx(void *ctx, uint8_t byte)
{
	(void)ctx;
	(void)byte;
	sent += room;
	return room;
}

static void irq(void *ctx, bool level)
{
	(void)ctx;
	pic_set(4, level);
}

static void power_event(void *ctx, enum power_event event)
{
	(void)ctx;
	if (event != POWER_OFF && event != POWER_RESET && event != POWER_PANIC)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct uart_ops ops = {tx, irq};
	static const uint16_t ports[] = {0x60, 0x64, 0x70, 0x71, 0xcf8, 0xcf9, 0x4c4c, 0x4c4d, 0x4c4e, 0xffff};
	struct bus bus;
	struct uart uart;

	bus_init(&bus);
	struct rtc *rtc = rtc_create(&bus);
	struct power *power = power_create(&bus, power_event, NULL);
	if (!rtc || !power)
		abort();
	uart_init(&uart, &ops, NULL);
	pic_init();
	sent = 0;
	for (size_t i = 0; i + 4 <= size; i += 4) {
		uint8_t what = data[i], at = data[i + 1], byte = data[i + 2];
		uint64_t value = byte | (uint64_t)data[i + 3] << 8 | (uint64_t)data[i + 3] << 29;
		unsigned access = 1u << (what >> 4 & 3);
		uint16_t port = at < 128 ? ports[at % ARRAY_LEN(ports)] : (uint16_t)value;
		room = what & 0x40;
		switch (what & 15) {
		case 0:
			uart_write(&uart, at & 15, byte);
			break;
		case 1:
			uart_read(&uart, at & 15);
			break;
		case 2:
			uart_rx_push(&uart, byte);
			break;
		case 3:
			uart_rx_break(&uart);
			break;
		case 4:
			uart_tx_resume(&uart);
			break;
		case 5:
			pic_port((uint16_t)(at & 1 ? 0x20 + (at & 0x83) : value), true, &byte);
			break;
		case 6:
			pic_port((uint16_t)(at & 1 ? 0x20 + (at & 0x83) : value), false, &byte);
			break;
		case 7:
			pic_raise(at % 16);
			break;
		case 8:
			pic_set(at % 16, byte & 1);
			break;
		case 9: {
			int highest = pic_highest(), vector = pic_acknowledge();
			if (highest > 255 || vector > 255)
				abort();
			break;
		}
		case 10:
			power_ask(power, byte);
			break;
		case 11:
		case 12:
			bus_write(&bus, BUS_PORT, port, value, access);
			break;
		default: {
			uint64_t got = bus_read(&bus, BUS_PORT, port, access);
			if (access < 8 && got >> (8 * access))
				abort();
		}
		}
		if (uart_rx_room(&uart) > UART_FIFO || uart.tx.count > UART_FIFO || uart.rx.count > UART_FIFO)
			abort();
	}
	if (sent > size + 2 * UART_FIFO)
		abort();
	power_destroy(power);
	rtc_destroy(rtc);
	bus_fini(&bus);
	return 0;
}
