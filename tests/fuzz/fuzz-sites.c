/* SPDX-License-Identifier: BSD-2-Clause */
/* lol-sites reads any file: its ELF reader and all checks on hostile input. */
#include "sites.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1); /* libelf may write to it */
	struct report report = {0};
	struct image image;

	if (!copy)
		return 0;
	memcpy(copy, data, n);
	insn_init();
	if (!image_open(&image, copy, n))
		check_image(&image, &report);
	report_free(&report);
	image_close(&image);
	free(copy);
	return 0;
}
