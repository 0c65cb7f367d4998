/* SPDX-License-Identifier: BSD-2-Clause */
/* The zero page (Linux: Documentation/arch/x86/boot.rst, zero-page.rst), command line, memory map and initrd. */
#ifndef LOL_BOOTPARAMS_H
#define LOL_BOOTPARAMS_H

#include "loader.h"

#define BOOT_PARAMS_GPA 0x10000ull
#define BOOT_CMDLINE_GPA 0x20000ull
#define BOOT_CMDLINE_MAX 2048 /* bytes with the NUL: COMMAND_LINE_SIZE of x86 */

int bootparams_write(const struct guest_ram *ram, gpa_t image_end, const char *cmdline,
		     const struct loader_blob *initrd, unsigned ninitrd, gpa_t *where, struct lol_error *err);

#endif
