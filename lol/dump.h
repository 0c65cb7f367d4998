/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest at rest as an ELF core file ("vmcore") for crash, drgn and gdb.
 *
 * Under LoL the kernel image and its modules are at low addresses (docs/ivmm-abi.md); tools know them at the addresses of
 * bare hardware only, -2 GiB and up, and have those as constants. So the dump shows the guest as tools know it, "as on
 * bare hardware": what in memory and registers looks like a pointer into the image, or into a mapped page of the module
 * area, is moved up to its link address, 0xffffffff80000000 above; three entries of the kernel's page table are set so
 * that these addresses lead to the same pages; and VMCOREINFO says so. A number that happens to be such an address is
 * changed with them. What the kernel has in variables (direct map, vmalloc, vmemmap) stays.
 * A dump with `raw` set changes nothing of all that.
 *
 *   PT_NOTE   PRSTATUS for each vCPU, VMCOREINFO
 *   PT_LOAD   the image (vaddr at its link address); RAM below and above the hole (vaddr in the direct map)
 *
 * Pages that nobody has touched, or that are zero, are holes of the file.
 */
#ifndef LOL_DUMP_H
#define LOL_DUMP_H

#include "error.h"
#include "kctl.h"
#include "ram.h"

#define DUMP_MAP_BASE 0xffffffff80000000ull

struct dump_source {
	struct guest_ram ram;
	bool raw;
	gva_t image, image_end;                 /* VA = gpa; 0: unknown */
	gpa_t top_pgt;                          /* the kernel's page table, 0: unknown */
	gpa_t vmcoreinfo_data, vmcoreinfo_size; /* the kernel's variables of these names, 0: it has none */
	unsigned nvcpus;
	const struct vcpu_state *vcpus; /* [nvcpus]; all zero: not known */
	_Atomic bool *cancel;           /* set it to true from elsewhere, and it ends with -ECANCELED */
};

/* To an empty regular file that fd can seek in. Guest memory is hostile: it decides about no more than its own content. */
int dump_write(int fd, const struct dump_source *src, struct lol_error *err);

/* For tests: the note's text, from a kernel's; at most size bytes with the NUL. */
void dump_vmcoreinfo(const struct dump_source *src, const char *text, size_t len, char *out, size_t size);

#endif
