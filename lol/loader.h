/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a vmlinux file to guest RAM and the facts that K needs.  Runs in the monitor; the
 * file, the initrd and the command line are input of unknown quality.
 */
#ifndef LOL_LOADER_H
#define LOL_LOADER_H

#include "error.h"
#include "kctl.h"
#include "ram.h"

struct loader_blob {
	const void *data;
	size_t size; /* bytes */
};

/*
 * Load the kernel for so many vCPUs, move it to its place under LoL, write the boot parameters.  initrd: one or more archives, laid
 * behind each other at multiples of 4 bytes.  0 or a negative errno with *err filled.
 */
int loader_load(const struct guest_ram *ram, const char *path, unsigned cpus, const char *cmdline,
		const struct loader_blob *initrd, unsigned ninitrd, struct kboot *boot, struct lol_error *err);

#endif
