/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-k: the process in which the guest kernel runs, together with the in-place VMM.
 *
 * Linked at 0x7f000000, below 2 GiB, so that sites reach it by call rel32; its heap,
 * stack and libraries lie above 64 TiB, out of the guest kernel's way.  It owns guest
 * RAM, its doorbells and the right to ask for U processes; the guest kernel can do
 * whatever it likes in here, the walls are the sandbox (ksandbox.c).
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cpu/insn.h"
#include "mmu/upatch.h"

struct kctl *kctl;
struct guest_ram ram;
struct vcpu *vcpus[MAX_VCPUS];
uint64_t tsc_khz;
__thread struct vhot vh __attribute__((tls_model("local-exec")));

void trap_init(void);
const char *ksandbox_enter(void);
_Noreturn void ivmm_start(struct gregs *g);

static void open_shared(void)
{
	struct stat st;

	if (fstat(FD_CTL, &st) < 0 || st.st_size < (off_t)sizeof(*kctl)) {
		fprintf(stderr, "lol-k: started by lol-run only\n");
		_exit(125);
	}
	kctl = mmap(NULL, sizeof(*kctl), PROT_READ | PROT_WRITE, MAP_SHARED, FD_CTL, 0);
	if (kctl == MAP_FAILED)
		_exit(127);
	tsc_khz = kctl->tsc_khz;
	ram = (struct guest_ram){(void *)K_DIRECT_MAP, kctl->ram_size, kctl->ram_low, FD_RAM, kctl->npmem, {{0}}};
	memcpy(ram.pmem, kctl->pmem, sizeof(ram.pmem));
}

/* The direct map has the hole of guest-physical space, ram.base has not: give ram its own linear view where RAM is split. */
static void map_linear(void)
{
	if (ram.size == ram.low)
		return;
	uint8_t *p = mmap(NULL, ram_span(&ram), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED || mmap(p, ram.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, FD_RAM, 0) == MAP_FAILED)
		k_stop(KSTOP_START, "cannot map guest RAM");
	for (unsigned i = 0; i < ram.npmem; i++)
		if (!kmap_pmem((gva_t)p + ram.pmem[i].gpa, i))
			k_stop(KSTOP_START, "cannot map persistent memory");
	ram.base = p;
}

static struct vcpu *make_vcpu(unsigned id)
{
	struct vcpu *v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (v == MAP_FAILED)
		k_stop(KSTOP_START, "cannot allocate a vCPU");
	v->id = id;
	v->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	v->cr4 = 0x20 | 0x200 | 0x400; /* PAE OSFXSR OSXMMEXCPT */
	v->cr3 = kctl->boot.early_top_pgt;
	v->efer = 0xd01; /* NXE LMA LME SCE */
	v->xcr0 = 1;
	v->pat = 0x0007040600070406ull;
	v->misc_enable = 1;
	v->apic_base = 0xfee00c00 | (id == 0 ? 0x100 : 0);
	for (int i = 0; i < 6; i++)
		v->sel[i] = SEL_KERNEL_DS;
	v->user_cs = SEL_USER_CS;
	v->dr[6] = 0xffff0ff0;
	v->dr[7] = 0x400;
	*(uint16_t *)v->stage = 0x37f;
	*(uint32_t *)(v->stage + 24) = 0x1f80;
	lapic_init(v);
	return v;
}

/* What belongs to the thread that runs a vCPU. */
static void adopt(struct vcpu *v)
{
	stack_t ss = {.ss_sp = v->altstack, .ss_size = sizeof(v->altstack)};
	struct sigevent se = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};

	vh.vflags = 2;
	vh.vcpu = v;
	vh.ivmm_sp = (uint64_t)v->stack + sizeof(v->stack) - 8;
	v->tid = (int)syscall(SYS_gettid);
	se._sigev_un._tid = v->tid;
	if (sigaltstack(&ss, NULL) < 0 || syscall(SYS_timer_create, CLOCK_MONOTONIC, &se, &v->timer) < 0)
		k_stop(KSTOP_START, "cannot set up the signals of a vCPU");
	if (kctl->k_cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET((unsigned)kctl->k_cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	handoff_init(v);
}

int main(void)
{
	const struct kboot *b;

	open_shared();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	b = &kctl->boot;
	if (!(getauxval(AT_HWCAP2) & 2))
		k_stop(KSTOP_START, "the host does not let user code use FSGSBASE; LoL needs Linux 5.9 or later on a CPU from after 2012");
	vcpus[0] = make_vcpu(0);
	cpuid_init();
	kmap_init();
	map_linear();
	upool_init();
	upatch_init();
	pic_init();
	io_init();
	vh.vcpu = vcpus[0];
	sites_rewrite(b->sites, b->sites_end - b->sites, false);
	sites_rewrite_copies();
	trap_init();
	adopt(vcpus[0]);
	const char *err = ksandbox_enter();
	if (err)
		k_stop(KSTOP_START, "%s", err);
	atomic_store(&kctl->park[0].started, 1);
	atomic_store(&kctl->k_tid, (uint32_t)vcpus[0]->tid);
	park_notice(vcpus[0]);

	struct gregs *g = (struct gregs *)(vh.ivmm_sp - sizeof(struct gregs) - 8);
	memset(g, 0, sizeof(*g));
	g->rip = b->entry;
	g->rflags = 2;
	if (b->entry_is_c) {
		g->r[RDI] = K_DIRECT_MAP + b->boot_params;
		g->r[RSP] = b->initial_stack;
	}
	g->r[R15] = b->boot_params;
	wrgsbase(0);
	ivmm_start(g);
}
