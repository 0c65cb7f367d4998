/* SPDX-License-Identifier: BSD-2-Clause */
/* The loader on hostile kernel files: it may refuse them in one line, and write inside guest RAM only. */
#include "loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t *memory;
	const uint64_t size = 64ull << 20;
	struct guest_ram ram = {.size = size, .low = size, .fd = -1};
	struct loader_blob initrd = {"070701", 6};
	struct kboot boot = {0};
	struct lol_error err = {{0}};
	char path[64];

	if (!memory) /* with a page behind it that nothing may touch */
		memory = mmap(NULL, size + PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory, size, PROT_READ | PROT_WRITE))
		return 0;
	ram.base = memory;
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, n) != (ssize_t)n)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (loader_load(&ram, path, 1, "console=ttyS0", &initrd, 1, &boot, &err) && !err.text[0])
		abort(); /* a refusal says why */
	close(fd);
	madvise(memory, size, MADV_DONTNEED);
	return 0;
}
