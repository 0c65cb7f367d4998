/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands behind gdb's "monitor". The kernel's gdb scripts take a server that answers "info version" for a machine. */
#include "config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdb/server_int.h"
#include "ivmm-sites.h"

static void do_help(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o);

static void do_version(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	(void)g, (void)cpu, (void)arg;
	gdb_out_text(o, PACKAGE_NAME " " PACKAGE_VERSION "\n");
}

static void do_registers(struct gdb_server *g, unsigned only, const char *arg, struct gdb_out *o)
{
	static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	static const char *const sels[6] = {"es", "cs", "ss", "ds", "fs", "gs"};

	(void)only, (void)arg;
	for (unsigned cpu = 0; cpu < g->target.ncpus; cpu++) {
		const struct vcpu_state *s = server_state(g, cpu);
		gdb_out_format(o, "CPU#%u %s\n", cpu, g->target.describe(g, cpu));
		if (!s)
			continue;
		for (unsigned i = 0; i < 16; i++)
			gdb_out_format(o, "%-3s %016llx%s", names[i], (unsigned long long)s->r[i],
				       i % 4 == 3 ? "\n" : "  ");
		gdb_out_format(o, "rip %016llx  rflags %08llx  cpl %u\n", (unsigned long long)s->rip,
			       (unsigned long long)s->rflags, s->cpl);
		for (unsigned i = 0; i < 6; i++)
			gdb_out_format(o, "%s %04x%s", sels[i], s->sel[i], i == 5 ? "\n" : "  ");
		gdb_out_format(o, "fs_base %016llx  gs_base %016llx  k_gs_base %016llx\n",
			       (unsigned long long)s->fs_base, (unsigned long long)s->gs_base,
			       (unsigned long long)s->kernel_gs_base);
		gdb_out_format(o, "cr0 %016llx  cr2 %016llx  cr3 %016llx  cr4 %016llx\n", (unsigned long long)s->cr0,
			       (unsigned long long)s->cr2, (unsigned long long)s->cr3, (unsigned long long)s->cr4);
		gdb_out_format(o, "efer %llx  xcr0 %llx  gdt %016llx %04x  idt %016llx %04x  tr %04x %016llx\n",
			       (unsigned long long)s->efer, (unsigned long long)s->xcr0,
			       (unsigned long long)s->gdt_base, s->gdt_limit, (unsigned long long)s->idt_base,
			       s->idt_limit, s->tr, (unsigned long long)s->tss_base);
	}
}

static bool address(const char *arg, uint64_t *va)
{
	char *end;

	*va = strtoull(arg, &end, 0);
	return *arg && !*end;
}

static void do_mmu(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	static const char *const level[4] = {"pgd", "pud", "pmd", "pte"};
	struct gmem_walk w;
	uint64_t va;

	if (!address(arg, &va)) {
		gdb_out_text(o, "info mmu ADDRESS: give an address, as 0x...\n");
		return;
	}
	gpa_t kernel = gmem_kernel_root(&g->mem, va), root = kernel ? kernel : server_cr3(g, cpu);
	bool there = gmem_walk(&g->m->ram, root, va, &w);
	gdb_out_format(o, "table of %s at %llx\n", kernel ? "the kernel" : "the process",
		       (unsigned long long)(root & 0xffffffffff000));
	for (unsigned i = 0; i < w.levels; i++) {
		uint64_t e = w.entry[i];
		gdb_out_format(o, "%s %016llx %c%c%c%c%c%c%c%c\n", level[i], (unsigned long long)e, e & 1 ? 'p' : '-',
			       e & 2 ? 'w' : 'r', e & 4 ? 'u' : 's', e >> 63 ? '-' : 'x', e & 0x20 ? 'a' : '-',
			       e & 0x40 ? 'd' : '-', e & 0x100 ? 'g' : '-', i && i < 3 && e & 0x80 ? 'L' : '-');
	}
	if (there)
		gdb_out_format(o, "%llx is physical %llx, %s, in a page of %llu KiB\n", (unsigned long long)va,
			       (unsigned long long)w.gpa, ram_ptr(&g->m->ram, w.gpa, 1) ? "memory" : "no memory",
			       (unsigned long long)(w.size >> 10));
	else
		gdb_out_format(o, "%llx is not mapped\n", (unsigned long long)va);
}

static void do_sites(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	static const char *const names[] = {
		[IVMM_FLAGS] = "flags", [IVMM_PRIV] = "privileged",     [IVMM_SILENT] = "silent in ring 3",
		[IVMM_STATE] = "state", [IVMM_UACCESS] = "user access", [IVMM_MMIO] = "device access",
		[IVMM_CALL] = "call"};
	unsigned count[256] = {0};
	uint64_t va;

	(void)cpu;
	if (*arg) {
		const struct gmem_site *s = address(arg, &va) ? gmem_site(&g->mem, va) : NULL;
		if (s)
			gdb_out_format(o, "site at %llx: %u bytes, instruction at %llx, %u bytes, kind %s\n",
				       (unsigned long long)s->start, s->region, (unsigned long long)s->start + s->off,
				       s->len, s->kind < ARRAY_LEN(names) && names[s->kind] ? names[s->kind] : "?");
		else
			gdb_out_text(o, "there is no rewritten site\n");
		return;
	}
	gmem_site(&g->mem, 0);
	for (unsigned i = 0; i < g->mem.nsites; i++)
		count[g->mem.sites[i].kind]++;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (names[i])
			gdb_out_format(o, "%6u %s\n", count[i], names[i]);
	gdb_out_format(o, "%6u sites rewritten\n", g->mem.nsites);
}

static void do_stats(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	struct kstats s = stats_sum(g->m);

	(void)cpu, (void)arg;
#define X(name) gdb_out_format(o, "%-20s %llu\n", #name, (unsigned long long)s.name);
	KSTATS(X)
#undef X
	gdb_out_format(o, "%-20s %llu\n", "breakpoint_hits", (unsigned long long)atomic_load(&g->m->ctl->debug.hits));
	gdb_out_format(o, "%-20s %llu\n", "breakpoint_misses",
		       (unsigned long long)atomic_load(&g->m->ctl->debug.misses));
}

static void do_sysrq(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	(void)cpu;
	if (!arg[0] || arg[1]) {
		gdb_out_text(o, "sysrq KEY: give one key, as in the kernel's admin-guide/sysrq\n");
		return;
	}
	gdb_out_text(o, machine_sysrq(g->m, arg[0]) ? "it will be seen when the guest goes on\n"
						    : "the guest has not taken the last one yet; let it go on first\n");
}

static void do_low(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	(void)cpu;
	if (!strcmp(arg, "user") || !strcmp(arg, "kernel"))
		g->mem.low = *arg == 'u' ? LOW_USER : LOW_KERNEL;
	else if (*arg)
		gdb_out_text(o, "low user|kernel\n");
	gdb_out_format(o, "addresses below 2 GiB that the kernel has too are the %s's\n",
		       g->mem.low == LOW_USER ? "process" : "kernel");
}

static void do_quit(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	(void)cpu, (void)arg, (void)o;
	g->target.end(g);
}

static const struct {
	const char *name, *arg, *help;
	void (*run)(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o);
} commands[] = {
	{"help", "", "this list", do_help},
	{"info version", "", "the version of LoL", do_version},
	{"info registers", "", "of every vCPU", do_registers},
	{"info mmu", "ADDRESS", "the page table's entries for an address", do_mmu},
	{"info sites", "[ADDRESS]", "rewritten sites: how many of each kind, or the one at an address", do_sites},
	{"low", "[user|kernel]", "whose are the addresses below 2 GiB that the kernel's image and modules have, too?",
	 do_low},
	{"stats", "", "counters", do_stats},
	{"sysrq", "KEY", "a magic SysRq key", do_sysrq},
	{"quit", "", "end the VM", do_quit},
};

static void do_help(struct gdb_server *g, unsigned cpu, const char *arg, struct gdb_out *o)
{
	(void)g, (void)cpu, (void)arg;
	for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
		char what[64];
		snprintf(what, sizeof(what), "%s %s", commands[i].name, commands[i].arg);
		gdb_out_format(o, "%-24s %s\n", what, commands[i].help);
	}
}

void monitor_command(void *ctx, unsigned cpu, char *line, struct gdb_out *out)
{
	size_t len = strlen(line);

	while (len && isspace((unsigned char)line[len - 1]))
		line[--len] = 0;
	for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
		size_t n = strlen(commands[i].name);
		if (strncmp(line, commands[i].name, n) != 0 || (line[n] && line[n] != ' '))
			continue;
		const char *arg = line + n;
		while (*arg == ' ')
			arg++;
		commands[i].run(ctx, cpu, arg, out);
		return;
	}
	gdb_out_format(out, "%s: no such command; 'monitor help' has the list\n", line);
}
