/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One U process as K sees it, and the record of what it has mapped.
 *
 * A U belongs to one (CR3, vCPU): an address space that runs on two vCPUs at once
 * has two U's, so a U has exactly one thread and nothing else can look into it
 * while its stub holds a secret.
 */
#ifndef LOL_UPROC_H
#define LOL_UPROC_H

#include "cpu/k.h"

/* Shadow entry: gpa of the page | what the host mapping allows; 0: not mapped. */
#define SH_R 1ull
#define SH_W 2ull
#define SH_X 4ull
#define SH_HUGE 8ull  /* from a leaf of 2 MiB or more: one invlpg forgets all of it */
#define SH_COPY 16ull /* a copy with rewritten sites is mapped instead (upatch.c) */
#define SH_PROT (SH_R | SH_W | SH_X)
#define SH_COPY_SHIFT 52 /* which one */

struct shnode {
	union {
		struct shnode *down[512];
		uint64_t entry[512];
	};
};

#define INVAL_MAX 33 /* Linux flushes whole address spaces above this many pages */
struct uproc {
	gpa_t root;    /* CR3 without PCID; 0: not bound */
	unsigned slot; /* slice of the ushare memfd */
	unsigned vcpu;
	int pid, pidfd;
	struct ushare *s;
	struct ubatch_op batch[USHARE_BATCH_MAX];
	unsigned queued;    /* operations in the batch */
	bool broken;        /* the host has refused one: what it has mapped is not what the record says */
	int pipe;           /* through which it goes */
	int tokens;         /* eventfd: a token for UCMD_PARK */
	uint64_t token[32]; /* random, one for each batch and each UCMD_PARK; those from ntokens on are used up */
	unsigned ntokens;
	uint32_t secret[8];
	uint16_t seg[4];           /* ds es fs gs that its thread has */
	uint64_t fs_base, gs_base; /* likewise */
	struct {
		uint64_t rax, rcx, rip, back;
		uint32_t efl;
	} first;          /* what UCMD_RESUME and UCMD_FAST go with, until they do */
	uint64_t own[16]; /* what its slice's own[] has, if its program leaves that alone */
	bool alive;
	bool loose;         /* guest code has run and could still run, with what is mapped: see user_park() */
	bool fpu_saved;     /* its vector registers are what its slice's XSAVE area has: no guest code has run since */
	bool handing_off;   /* has been told to ring another's bell, may not have done so yet */
	bool stepping;      /* guest code single-steps: no rewritten copies */
	bool stale_copies;  /* a copy that it maps is no longer the page's content */
	bool copies_gone;   /* there are copies that it has been told to unmap */
	bool window;        /* table and trampolines are mapped: for good, they stay when all else goes */
	bool window_queued; /* ... or will be when the batch has been run */
	bool kicked;        /* a signal frame may lie below another one */
	bool strange;       /* the program that it ran last may have been another than the next one */
	bool resync;        /* compare everything with the tables before guest code runs */
	unsigned ninval;
	gva_t inval[INVAL_MAX];
	uint64_t maps;           /* upper bound of the host mappings */
	uint64_t used;           /* clock of the last run, for eviction */
	struct shnode *top[128]; /* 512 GiB each */
};

#define U_MAPS_MAX 48000 /* vm.max_map_count is 65530 by default */

/* umap.c */
/* Make the translation of va real. 0: done; otherwise the error code for the guest's #PF. */
#define UFILL_RETRY 0x80000000u
uint32_t umap_fill(struct vcpu *v, struct uproc *u, gva_t va, uint32_t access);
uint32_t umap_fill_fresh(struct vcpu *v, struct uproc *u, gva_t va,
			 uint32_t access); /* the guest has just made it present */
/* A U that has nothing mapped yet: what its first instruction needs. */
void umap_first(struct vcpu *v, struct uproc *u, const struct gregs *g);
void umap_sync(struct vcpu *v, struct uproc *u); /* apply what flushes asked for */
void umap_drop(struct vcpu *v, struct uproc *u); /* forget and unmap everything */
void umap_forget_page(struct vcpu *v, struct uproc *u, gva_t va);
void umap_forget_copies(struct vcpu *v, struct uproc *u);
bool umap_has_copy(struct uproc *u, gva_t va,
		   unsigned *number);              /* is a copy with rewritten sites mapped at va, and which? */
void umap_window(struct vcpu *v, struct uproc *u); /* map the low window, once */

/* uhot.c */
void uhot_init(void);
void uhot_touched(gpa_t gpa); /* guest user code has faulted on this page */
bool uhot_spend(gpa_t gpa);   /* is it worth being mapped in advance, once more? */

#define U_SPIN \
	2000u /* turns of a U's wait loop before it sleeps, 25 to 60 ns each; more where that pays, see handoff.c */
#define U_SPIN_PER_US 28u /* so that it is no longer than K's bound */
/* handoff.c: give U its turn with these commands, wait for it. False: the U is dead. */
/* With UCMD_BATCH the queued operations are sent first. */
bool user_run(struct vcpu *v, struct uproc *u, uint32_t cmd);
void user_signal(struct uproc *u); /* the kick: out of guest code, or out of a sleep */
void user_kill(struct uproc *u);
void user_nap(long ns); /* under a second: K's filter has no nanosleep */
/* user.c: what u has to be told so that its slice has the guest's vector registers; 0: it has them, or they are elsewhere. */
uint32_t fpu_save_cmd(struct vcpu *v, struct uproc *u);

/* upool.c */
/* Before a program runs where another may have run: nothing of that one's registers stays in the slice. */
void upool_wipe(struct vcpu *v, struct uproc *u);
/*
 * Compare what the U's of v but u have mapped with the guest's tables now. Otherwise that waits until they run again, and those of
 * processes that have ended never do: Linux flushes nothing for these, whose tables nobody uses. False: it was done a moment ago.
 */
bool upool_sync_others(struct vcpu *v, struct uproc *u);
struct uproc *upool_by_slot(unsigned slot);
_Atomic uint32_t *upool_bell(unsigned slot);
struct shnode *shnode_alloc(void); /* zeroed, NULL when the bound is reached */
void shnode_free(struct shnode *n);

#endif
