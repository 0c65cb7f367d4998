/* SPDX-License-Identifier: BSD-2-Clause */
/* System calls of guest user code without a host signal: rewritten sites in private copies of text pages. See upatch.c. */
#ifndef LOL_UPATCH_H
#define LOL_UPATCH_H

#include "mmu/uproc.h"

void upatch_init(void);

/* A system call at va (its syscall instruction) came by signal: rewrite the site for next time, if that is safe. */
void upatch_site(struct vcpu *v, struct uproc *u, gva_t va);

/*
 * The number of the copy that is to be mapped at va of u for the page gpa, which u counts as having from now on; -1: there is
 * none (any more), or u has it at another address.
 */
int upatch_copy(struct vcpu *v, struct uproc *u, gva_t va, gpa_t gpa);
uint64_t upatch_copy_offset(unsigned number);           /* in the memfd of RAM */
uint64_t upatch_window_offset(const struct uproc *u);   /* likewise, of its trampolines */
void upatch_unmapped(struct uproc *u, unsigned number); /* u is about to be told to unmap the copy */
void upatch_let_go(struct uproc *u);                    /* u has unmapped all that it was told to, or it has ended */

/* Guest text may have been changed behind the back of all: let go of copies that are no longer right. */
void upatch_check(struct vcpu *v);

/* K cannot write at va: true when that is over: it was because of a copy. Signal context. */
bool upatch_written(struct vcpu *v, gva_t va);

/* One more or one less U mapping of the page gpa that can be written through. */
void upatch_writer(struct vcpu *v, gpa_t gpa, int more);

/*
 * With several vCPUs: may user code run in u now? Called when v->in_user is u already. False: leave, upatch_wait(), and
 * begin again; the U may have to let go of copies.
 */
bool upatch_enter(struct uproc *u);
void upatch_wait(void);

/* The guest's rip when U is at rip in a trampoline; any other rip comes back as it is. */
gva_t upatch_to_guest(struct uproc *u, gva_t rip);
/* The guest's return address of a system call from trampoline number id, which U says; 0: it lies. */
gva_t upatch_return(struct uproc *u, uint64_t id);
/* Where U goes on for the guest's rip. */
gva_t upatch_to_host(struct uproc *u, gva_t rip);

#endif
