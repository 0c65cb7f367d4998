/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LOL_RAM_FILE_H
#define LOL_RAM_FILE_H

#include "types.h"

/*
 * A deleted file of `size` bytes, executable, sparse, backed by memory in pieces of 2 MiB, close-on-exec; -1 where the host has no
 * such thing for this user, a memfd has to do then. Its size is not sealed: no such file's can be.
 */
int ram_file_create(uint64_t size);

#endif
