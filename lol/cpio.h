/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A cpio archive in memory, "newc" format, as the Linux kernel unpacks it into its initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Runs in the monitor.
 *
 * The kernel takes several archives behind each other, compressed or not, as long as an uncompressed one starts at a
 * multiple of four bytes; zeros may stand between them. So a small archive made here can follow any initrd of a user's:
 *
 *   struct cpio c;
 *   cpio_begin(&c);
 *   cpio_add_dir(&c, "dev", 0755);
 *   cpio_add_file(&c, "lol-init", 0755, program, size);
 *   err = cpio_end(&c);                       the first error of any call above
 *   ... cpio_append_offset(initrd_size) ... c.data, c.len ...
 *   cpio_free(&c);
 *
 * Errors are negative errno, and stick: after one, further calls do nothing.
 */
#ifndef LOL_CPIO_H
#define LOL_CPIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpio {
	uint8_t *data;
	size_t len, cap; /* bytes */
	uint32_t ino;    /* of the last entry */
	int err;
};

void cpio_begin(struct cpio *c);
/* name: without a leading slash, at most 255 bytes; folders before what is in them. mode: permission bits. Owner: root. */
int cpio_add_dir(struct cpio *c, const char *name, mode_t mode);
int cpio_add_file(struct cpio *c, const char *name, mode_t mode, const void *data, size_t len);
int cpio_add_link(struct cpio *c, const char *name, const char *target); /* symbolic */
/* mode with S_IFCHR, S_IFBLK or S_IFIFO */
int cpio_add_node(struct cpio *c, const char *name, mode_t mode, unsigned int major, unsigned int minor);
/* The closing entry. The archive's length is a multiple of 512 bytes. */
int cpio_end(struct cpio *c);
void cpio_free(struct cpio *c);

/* Where an archive may start behind an initrd of size bytes; the bytes between are zeros. */
static inline size_t cpio_append_offset(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

#endif
