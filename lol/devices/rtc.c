/* SPDX-License-Identifier: BSD-2-Clause */
#include "rtc.h"

#include <stdlib.h>
#include <time.h>

enum {
	SECONDS = 0x00,
	SECONDS_ALARM,
	MINUTES,
	MINUTES_ALARM,
	HOURS,
	HOURS_ALARM,
	WEEKDAY,
	DAY,
	MONTH,
	YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	CENTURY = 0x32,
	REG_A_32KHZ = 0x26, /* time base running, 1024 Hz */
	REG_B_SET = 0x80,
	REG_B_BINARY = 0x04,
	REG_B_24H = 0x02,
	REG_D_VALID = 0x80,
	HOURS_PM = 0x80,
};

struct rtc {
	uint8_t index;
	uint8_t ram[128]; /* the time bytes are live in it only while SET stops the clock */
	int64_t offset_s; /* guest's clock minus the host's */
};

static uint8_t encode(const struct rtc *rtc, int value)
{
	return (uint8_t)(rtc->ram[REG_B] & REG_B_BINARY ? value : value / 10 * 16 + value % 10);
}

static int decode(const struct rtc *rtc, uint8_t byte)
{
	return rtc->ram[REG_B] & REG_B_BINARY ? byte : (byte >> 4) * 10 + (byte & 15);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
	if (rtc->ram[REG_B] & REG_B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOURS_PM : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t byte)
{
	if (rtc->ram[REG_B] & REG_B_24H)
		return decode(rtc, byte);
	return decode(rtc, byte & (uint8_t)~HOURS_PM) % 12 + (byte & HOURS_PM ? 12 : 0);
}

/* Put the time of now into the bytes. */
static void latch(struct rtc *rtc)
{
	struct tm tm;
	time_t now = time(NULL) + rtc->offset_s;
	if (!gmtime_r(&now, &tm))
		return;
	rtc->ram[SECONDS] = encode(rtc, MIN(tm.tm_sec, 59)); /* no leap second */
	rtc->ram[MINUTES] = encode(rtc, tm.tm_min);
	rtc->ram[HOURS] = encode_hour(rtc, tm.tm_hour);
	rtc->ram[WEEKDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->ram[DAY] = encode(rtc, tm.tm_mday);
	rtc->ram[MONTH] = encode(rtc, tm.tm_mon + 1);
	rtc->ram[YEAR] = encode(rtc, tm.tm_year % 100);
	rtc->ram[CENTURY] = encode(rtc, 19 + tm.tm_year / 100);
}

/* The guest has set the bytes: from them the new offset. timegm() takes any number, so bytes need no check. */
static void unlatch(struct rtc *rtc)
{
	struct tm tm = {
		.tm_sec = decode(rtc, rtc->ram[SECONDS]),
		.tm_min = decode(rtc, rtc->ram[MINUTES]),
		.tm_hour = decode_hour(rtc, rtc->ram[HOURS]),
		.tm_mday = decode(rtc, rtc->ram[DAY]),
		.tm_mon = decode(rtc, rtc->ram[MONTH]) - 1,
		.tm_year = (decode(rtc, rtc->ram[CENTURY]) - 19) * 100 + decode(rtc, rtc->ram[YEAR]),
	};
	rtc->offset_s = timegm(&tm) - time(NULL);
}

static bool is_time(uint8_t index)
{
	return index == CENTURY || index == SECONDS || index == MINUTES || index == HOURS ||
	       (index >= WEEKDAY && index <= YEAR);
}

static uint8_t read_byte(struct rtc *rtc)
{
	if (is_time(rtc->index) && !(rtc->ram[REG_B] & REG_B_SET))
		latch(rtc);
	return rtc->ram[rtc->index];
}

static void write_byte(struct rtc *rtc, uint8_t v)
{
	bool was_set = rtc->ram[REG_B] & REG_B_SET;
	switch (rtc->index) {
	case REG_A:
		rtc->ram[REG_A] = v & 0x7f; /* UIP is read-only */
		return;
	case REG_B:
		if (!was_set && v & REG_B_SET)
			latch(rtc);
		/* The bytes were written in the format that is in force until now. */
		if (was_set && !(v & REG_B_SET))
			unlatch(rtc);
		rtc->ram[REG_B] = v;
		return;
	case REG_C:
	case REG_D:
		return; /* read-only */
	}
	if (is_time(rtc->index) && !was_set) {
		latch(rtc);
		rtc->ram[rtc->index] = v;
		unlatch(rtc);
		return;
	}
	rtc->ram[rtc->index] = v;
}

static uint64_t port_read(void *dev, uint64_t offset, unsigned size)
{
	struct rtc *rtc = dev;
	return size == 1 && offset == 1 ? read_byte(rtc) : UINT64_MAX; /* the index cannot be read back */
}

static void port_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct rtc *rtc = dev;
	if (size > 2)
		return;
	if (offset == 0) {
		rtc->index = value & 0x7f; /* bit 7 masks the NMI, of which there is none */
		if (size == 2)
			write_byte(rtc, (uint8_t)(value >> 8));
	} else {
		write_byte(rtc, (uint8_t)value);
	}
}

static const struct bus_ops rtc_ops = {.read = port_read, .write = port_write};

struct rtc *rtc_create(struct bus *bus)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	if (!rtc)
		return NULL;
	rtc->ram[REG_A] = REG_A_32KHZ;
	rtc->ram[REG_B] = REG_B_24H;
	rtc->ram[REG_D] = REG_D_VALID;
	if (bus_add_ports(bus, 0x70, 2, &rtc_ops, rtc)) {
		free(rtc);
		return NULL;
	}
	return rtc;
}

void rtc_destroy(struct rtc *rtc)
{
	free(rtc);
}
