// SPDX-License-Identifier: BSD-2-Clause
/* Writer of cpio archives; see cpio.h. */
#include "cpio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HEADER_LEN 110 /* "070701" and 13 numbers of 8 hex digits */
#define NAME_MAX_LEN 255
#define TRAILER "TRAILER!!!"

/* len bytes, and zeros up to a multiple of align. */
static void put(struct cpio *c, const void *data, size_t len, size_t align)
{
	size_t need = (c->len + len + align - 1) / align * align;

	if (c->err)
		return;
	if (need > c->cap) {
		size_t cap = need + need / 2 + 4096;
		uint8_t *bigger = realloc(c->data, cap);

		if (!bigger) {
			c->err = -ENOMEM;
			return;
		}
		c->data = bigger;
		c->cap = cap;
	}
	if (len)
		memcpy(c->data + c->len, data, len);
	memset(c->data + c->len + len, 0, need - c->len - len);
	c->len = need;
}

static int entry(struct cpio *c, const char *name, mode_t mode, unsigned int major, unsigned int minor,
		 const void *data, size_t len)
{
	char header[HEADER_LEN + 1];
	size_t name_len = strlen(name);

	if (c->err)
		return c->err;
	if (len > UINT32_MAX || name_len == 0 || name_len > NAME_MAX_LEN || name[0] == '/')
		return c->err = len > UINT32_MAX ? -EFBIG : -EINVAL;
	/* ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check */
	snprintf(header, sizeof(header), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++c->ino,
		 (unsigned int)mode, 0, 0, S_ISDIR(mode) ? 2 : 1, 0, (unsigned int)len, 0, 0, major, minor,
		 (unsigned int)name_len + 1, 0);
	put(c, header, HEADER_LEN, 1);
	put(c, name, name_len + 1, 4);
	put(c, data, len, 4);
	return c->err;
}

void cpio_begin(struct cpio *c)
{
	*c = (struct cpio){0};
}

int cpio_add_dir(struct cpio *c, const char *name, mode_t mode)
{
	return entry(c, name, S_IFDIR | (mode & 07777), 0, 0, NULL, 0);
}

int cpio_add_file(struct cpio *c, const char *name, mode_t mode, const void *data, size_t len)
{
	return entry(c, name, S_IFREG | (mode & 07777), 0, 0, data, len);
}

int cpio_add_link(struct cpio *c, const char *name, const char *target)
{
	return entry(c, name, S_IFLNK | 0777, 0, 0, target, strlen(target));
}

int cpio_add_node(struct cpio *c, const char *name, mode_t mode, unsigned int major, unsigned int minor)
{
	if (!S_ISCHR(mode) && !S_ISBLK(mode) && !S_ISFIFO(mode))
		return c->err = c->err ? c->err : -EINVAL;
	return entry(c, name, mode, major, minor, NULL, 0);
}

int cpio_end(struct cpio *c)
{
	c->ino = UINT32_MAX; /* its number is 0, as other writers have it */
	entry(c, TRAILER, 0, 0, 0, NULL, 0);
	put(c, NULL, 0, 512);
	return c->err;
}

void cpio_free(struct cpio *c)
{
	free(c->data);
	*c = (struct cpio){0};
}
