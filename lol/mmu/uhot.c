/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages are worth mapping before they are touched.  Runs in K, site context.
 *
 * A page that guest user code faults on costs 5 to 6 us, one that is mapped in a batch on the way 2 us.  Around a fault
 * the guest has mostly made neighbours present too, but scattered over its RAM, and a program touches few of them.  Pages
 * of files are the same ones for every program that maps the file, so what was touched before tells: each page of RAM
 * has a credit.  A fault gives some, each mapping in advance takes one.  A page that is used has one fault in a while,
 * one that is not is left alone soon.
 */
#include <sys/mman.h>

#include "mmu/uproc.h"

#define CREDIT 8
#define CREDIT_MAX 32

static uint8_t *credit; /* by page of RAM */

void uhot_init(void)
{
	credit = mmap(NULL, ram_span(&ram) / PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (credit == MAP_FAILED)
		k_stop(KSTOP_START, "cannot reserve memory for the shadow tables");
}

void uhot_touched(gpa_t gpa)
{
	uint64_t off = ram_offset(&ram, gpa & PAGE_MASK, PAGE_SIZE);

	if (off != UINT64_MAX)
		credit[off / PAGE_SIZE] = (uint8_t)MIN(credit[off / PAGE_SIZE] + CREDIT, CREDIT_MAX);
}

bool uhot_spend(gpa_t gpa)
{
	uint64_t off = ram_offset(&ram, gpa & PAGE_MASK, PAGE_SIZE);

	if (off == UINT64_MAX || !credit[off / PAGE_SIZE])
		return false;
	credit[off / PAGE_SIZE]--;
	return true;
}
