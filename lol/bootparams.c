/* SPDX-License-Identifier: BSD-2-Clause */
#include "bootparams.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

#define E820_RAM 1

static void memory_map(struct boot_params *bp, const struct guest_ram *ram)
{
	struct boot_e820_entry *e = bp->e820_table;

	*e++ = (struct boot_e820_entry){0, 0x9fc00, E820_RAM};
	*e++ = (struct boot_e820_entry){0x100000, ram->low - 0x100000, E820_RAM};
	if (ram->size > ram->low)
		*e++ = (struct boot_e820_entry){RAM_HIGH_BASE, ram->size - ram->low, E820_RAM};
	bp->e820_entries = (uint8_t)(e - bp->e820_table);
}

int bootparams_write(const struct guest_ram *ram, gpa_t image_end, const char *cmdline,
		     const struct loader_blob *initrd, unsigned ninitrd, gpa_t *where, struct lol_error *err)
{
	struct boot_params *bp = ram_ptr(ram, BOOT_PARAMS_GPA, sizeof(*bp));
	char *cmd = ram_ptr(ram, BOOT_CMDLINE_GPA, BOOT_CMDLINE_MAX);
	uint64_t total = 0;

	if (!bp || !cmd)
		return lol_error(err, -ENOMEM, "guest memory: too small to boot in; use a larger --mem");
	if (strlen(cmdline) >= BOOT_CMDLINE_MAX)
		return lol_error(err, -E2BIG, "kernel command line: is longer than %d bytes; shorten --append",
				 BOOT_CMDLINE_MAX - 1);
	strcpy(cmd, cmdline);
	for (unsigned i = 0; i < ninitrd; i++)
		total = ALIGN_UP(total, 4ull) + initrd[i].size;
	if (total > ram->low || ram->low - total < image_end + (16ull << 20))
		return lol_error(
			err, -ENOMEM,
			"initrd: its %llu MiB do not fit beside the kernel into %llu MiB of guest memory; use a larger --mem",
			(unsigned long long)(total >> 20), (unsigned long long)(ram->low >> 20));
	gpa_t at = ALIGN_DOWN(ram->low - total, (gpa_t)PAGE_SIZE), to = at;
	for (unsigned i = 0; i < ninitrd; i++) {
		to = ALIGN_UP(to, 4ull);
		memcpy(ram_ptr(ram, to, initrd[i].size), initrd[i].data, initrd[i].size);
		to += initrd[i].size;
	}
	memset(bp, 0, sizeof(*bp));
	bp->hdr.boot_flag = 0xaa55;
	bp->hdr.header = 0x53726448;
	bp->hdr.version = 0x020f;
	bp->hdr.type_of_loader = 0xff;
	bp->hdr.cmd_line_ptr = (uint32_t)BOOT_CMDLINE_GPA;
	bp->hdr.cmdline_size = BOOT_CMDLINE_MAX - 1;
	if (total) {
		bp->hdr.ramdisk_image = (uint32_t)at;
		bp->hdr.ramdisk_size = (uint32_t)(to - at);
	}
	memory_map(bp, ram);
	*where = BOOT_PARAMS_GPA;
	return 0;
}
