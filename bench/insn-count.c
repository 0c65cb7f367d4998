/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A plugin for qemu's TCG (-plugin FILE.so,out=REPORT,sites=FILE,at=ADDRESS):
 * how many instructions a machine executed, in the kernel's half of the address
 * space and in the user's, and how many of them were the padding of a site.
 * FILE is the content of .ivmm.sites and ADDRESS where it is linked; both may
 * be left out.  Counts, no times: with -icount and -seed the same in every run.
 *
 * A string instruction with a rep prefix is one instruction.  qemu runs each of
 * its repetitions as one that jumps to itself, always the last of a block; the
 * repetitions are told apart and reported beside.
 *
 *	cc -O2 -shared -fPIC -o insn-count.so \
 *		-I../guest-kit/include insn-count.c
 *
 * Distributions ship qemu without the plugin interface's header, so what is
 * used of version 1 of that interface is declared here.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ivmm-sites.h"

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
typedef uint64_t plugin_id;
enum { INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*cb)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned, void *), int flags,
						 void *arg);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *counter, uint64_t add);
extern void qemu_plugin_register_atexit_cb(plugin_id id, void (*cb)(plugin_id, void *), void *arg);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv);

#define IMAGE 0xffffffff80000000ull
#define IMAGE_MAX (64u << 20)

/* A block that ends in a repeated string instruction. */
struct rep_block {
	uint64_t vaddr; /* of that instruction */
	uint64_t insns; /* of the block */
};

static uint64_t kernel_insns, user_insns, padding_insns, kernel_reps, user_reps;
static uint64_t rep_vaddr, rep_end; /* the last one that ran, and the count of all instructions behind it */
static bool padding[IMAGE_MAX];     /* by offset in the image: a byte behind, or before, a site's instruction */
static const char *out, *sites;
static uint64_t sites_at;

static bool is_rep_string(const struct qemu_plugin_insn *insn)
{
	const uint8_t *byte = qemu_plugin_insn_data(insn), *end = byte + qemu_plugin_insn_size(insn);
	bool rep = false;

	for (; byte < end; byte++) {
		if (*byte == 0xf2 || *byte == 0xf3)
			rep = true;
		else if (!memchr("\x66\x67\x26\x2e\x36\x3e\x64\x65", *byte, 8) && (*byte & 0xf0) != 0x40)
			break;
	}
	/* ins and outs, movs and cmps, stos to scas */
	return rep && byte < end &&
	       ((*byte >= 0x6c && *byte <= 0x6f) || (*byte >= 0xa4 && *byte <= 0xa7) ||
		(*byte >= 0xaa && *byte <= 0xaf));
}

/* Called before the block is counted. Nothing has run since the same instruction: this is it, once more. */
static void rep_runs(unsigned vcpu, void *arg)
{
	const struct rep_block *block = arg;
	uint64_t all = kernel_insns + user_insns;

	(void)vcpu;
	if (block->insns == 1 && block->vaddr == rep_vaddr && all == rep_end)
		++*((int64_t)block->vaddr < 0 ? &kernel_reps : &user_reps);
	rep_vaddr = block->vaddr;
	rep_end = all + block->insns;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), pads = 0;
	bool kernel = (int64_t)qemu_plugin_tb_vaddr(tb) < 0;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, kernel ? &kernel_insns : &user_insns, n);
	for (size_t i = 0; i < n; i++) {
		uint64_t offset = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i)) - IMAGE;

		pads += offset < IMAGE_MAX && padding[offset];
	}
	if (pads)
		qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &padding_insns, pads);
	if (is_rep_string(qemu_plugin_tb_get_insn(tb, n - 1))) {
		struct rep_block *block = malloc(sizeof *block);

		if (!block)
			abort();
		*block = (struct rep_block){qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, n - 1)), n};
		qemu_plugin_register_vcpu_tb_exec_cb(tb, rep_runs, 0, block);
	}
}

static void report(plugin_id id, void *arg)
{
	FILE *f = fopen(out, "w");

	(void)id;
	(void)arg;
	if (!f)
		return;
	fprintf(f, "kernel %" PRIu64 "\nuser %" PRIu64 "\npadding %" PRIu64 "\nrepetitions %" PRIu64 " %" PRIu64 "\n",
		kernel_insns - kernel_reps, user_insns - user_reps, padding_insns, kernel_reps, user_reps);
	fclose(f);
}

static bool read_sites(void)
{
	FILE *f = fopen(sites, "r");
	struct ivmm_site site;

	for (uint64_t at = sites_at; f && fread(&site, sizeof site, 1, f) == 1; at += sizeof site) {
		uint64_t offset = at + (uint64_t)(int64_t)site.start - IMAGE;

		for (unsigned i = 0; i < site.region_len && offset + i < IMAGE_MAX; i++)
			padding[offset + i] = i < site.insn_off || i >= site.insn_off + site.insn_len;
	}
	return f && !fclose(f);
}

int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = argv[i] + 4;
		else if (!strncmp(argv[i], "sites=", 6))
			sites = argv[i] + 6;
		else if (!strncmp(argv[i], "at=", 3))
			sites_at = strtoull(argv[i] + 3, NULL, 16);
	}
	out = strdup(out ? out : "/dev/stderr");
	if (!out || (sites && !read_sites())) {
		fprintf(stderr, "insn-count: %s: cannot be read\n", sites);
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, report, NULL);
	return 0;
}
