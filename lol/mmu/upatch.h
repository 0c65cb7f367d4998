/* SPDX-License-Identifier: BSD-2-Clause */
/* System calls of guest user code without a host signal: rewritten sites in private copies of text pages. See upatch.c. */
#ifndef LOL_UPATCH_H
#define LOL_UPATCH_H

#include "mmu/uproc.h"

void upatch_init(void);

/* A system call at va (its syscall instruction) came by signal: rewrite the site for next time, if that is safe. */
void upatch_site(struct vcpu *v, struct uproc *u, gva_t va);

/* memfd offset of the private copy to be mapped at va for the page gpa; UINT64_MAX: there is none (any more). */
uint64_t upatch_copy(gva_t va, gpa_t gpa);
bool upatch_has(gpa_t gpa);

/* Where the guest believes to be when U is at rip; and where U goes on for the guest's rip. */
gva_t upatch_to_guest(gva_t rip);
gva_t upatch_to_host(struct uproc *u, gva_t rip);

#endif
