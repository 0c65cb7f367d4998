/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The real-time clock of a PC: MC146818A at ports 0x70 and 0x71 (Motorola data sheet), with the century in byte 0x32 and
 * the rest as non-volatile memory that lasts as long as the machine. The time is the host's in UTC; a guest that sets the
 * clock sets an offset to it.
 *
 * Deviations: there are no interrupts (alarm, periodic, update-ended) and no update cycle: the UIP bit is never set.
 */
#ifndef LOL_DEVICES_RTC_H
#define LOL_DEVICES_RTC_H

#include "bus.h"

struct rtc;

struct rtc *rtc_create(struct bus *bus); /* NULL: no memory, or the ports are taken */
void rtc_destroy(struct rtc *rtc);       /* after the last bus access */

#endif
