/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-k: the process in which the guest kernel runs, together with the in-place VMM.
 *
 * Linked at 0x7f000000, below 2 GiB, so that sites reach it by call rel32; its heap,
 * stack and libraries lie above 64 TiB, out of the guest kernel's way.  It owns guest
 * RAM, its doorbells and the right to ask for U processes; the guest kernel can do
 * whatever it likes in here, the walls are the sandbox (ksandbox.c).
 */
#include <pthread.h>
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
	if (p == MAP_FAILED ||
	    mmap(p, ram.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, FD_RAM, 0) == MAP_FAILED)
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
	vcpu_reset(v);
	return v;
}

/* What belongs to the thread that runs a vCPU. */
static void adopt(struct vcpu *v)
{
	stack_t ss = {.ss_sp = v->altstack, .ss_size = sizeof(v->altstack)};
	struct sigevent se = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
	int cpu = kctl->k_cpu[v->id];

	vh.vflags = 2;
	vh.vcpu = v;
	vh.stats = &kctl->stats[v->id];
	vh.ivmm_sp = (uint64_t)v->stack + sizeof(v->stack) - 8;
	v->hot = &vh;
	v->tid = (int)syscall(SYS_gettid);
	se._sigev_un._tid = v->tid;
	if (sigaltstack(&ss, NULL) < 0 || syscall(SYS_timer_create, CLOCK_MONOTONIC, &se, &v->timer) < 0)
		k_stop(KSTOP_START, "cannot set up the signals of a vCPU");
	if (cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET((unsigned)cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	handoff_init(v);
}

static _Noreturn void run_vcpu(struct vcpu *v)
{
	struct gregs *g = (struct gregs *)(vh.ivmm_sp - sizeof(struct gregs) - 8);

	vcpu_start_regs(v, g);
	ivmm_start(g);
}

static _Atomic uint32_t ready; /* further vCPUs whose threads are set up */

static void *further_vcpu(void *arg)
{
	struct vcpu *v = arg;
	sigset_t none;

	adopt(v);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL); /* the handlers need vh */
	atomic_fetch_add(&ready, 1);
	vcpu_wait_start(v);
	run_vcpu(v);
}

/* The sandbox has no clone, and it is to hold for all threads, so they are made before it. */
static void make_threads(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536); /* until the guest starts */
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (unsigned i = 1; i < kctl->ncpus; i++)
		if (pthread_create(&thread, &attr, further_vcpu, vcpus[i]))
			k_stop(KSTOP_START,
			       "cannot make threads for %u vCPUs; is the limit of processes (ulimit -u) reached?",
			       kctl->ncpus);
	while (atomic_load(&ready) != kctl->ncpus - 1)
		usleep(100);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int main(void)
{
	const struct kboot *b;

	open_shared();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	b = &kctl->boot;
	if (!(getauxval(AT_HWCAP2) & 2))
		k_stop(KSTOP_START,
		       "the host does not let user code use FSGSBASE; LoL needs Linux 5.9 or later on a CPU from after 2012");
	for (unsigned i = 0; i < kctl->ncpus; i++)
		vcpus[i] = make_vcpu(i);
	vh.vcpu = vcpus[0];
	vh.stats = &kctl->stats[0];
	cpuid_init();
	kmap_init();
	map_linear();
	upool_init();
	upatch_init();
	pic_init();
	io_init();
	sites_rewrite(b->sites, b->sites_end - b->sites, false);
	sites_rewrite_copies();
	spin_replace();
	trap_init();
	adopt(vcpus[0]);
	make_threads();
	const char *err = ksandbox_enter();
	if (err)
		k_stop(KSTOP_START, "%s", err);
	atomic_store(&kctl->park[0].started, 1);
	atomic_store(&kctl->k_tid, (uint32_t)vcpus[0]->tid);
	park_notice(vcpus[0]);
	run_vcpu(vcpus[0]);
}
