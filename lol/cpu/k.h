/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * K, the process of the guest kernel: what its parts share.
 *
 * Code in lol/cpu and lol/mmu runs in K in one of two contexts:
 *
 *   site    called from a rewritten site, on the vCPU's IVMM stack; the guest
 *           kernel's vector registers are live, so this code is built with
 *           -mgeneral-regs-only and calls no libc function that could use them;
 *           kicks and timer signals may arrive at any time;
 *   signal  in a handler of SIGSEGV, SIGILL...: the host has saved everything,
 *           kicks and the timer are blocked.
 *
 * The guest's general registers are a struct gregs in both.
 */
#ifndef LOL_K_H
#define LOL_K_H

#include <stdatomic.h>
#include "kctl.h"
#include "mmu/ushare.h"
#include "ram.h"
#include "types.h"

/*
 * What K may ask of the host is declared in the file that asks: the call's name and libseccomp's conditions on its arguments, on one
 * line. The build collects these lines (local.mk) and ksandbox.c makes K's filter of them; there is no other list.
 * K_ALLOW_EACH(i, MORE, ...): for i from 0, as long as MORE.
 */
#define K_ALLOW(...) _Static_assert(1, "collected by the build")
#define K_ALLOW_EACH(...) _Static_assert(1, "collected by the build")

/* Guest registers, in the order of x86 register numbers. */
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
struct gregs {
	uint64_t r[16];
	uint64_t rip, rflags;
};

#define FL_CF 0x1u
#define FL_ZF 0x40u
#define FL_TF 0x100u
#define FL_IF 0x200u
#define FL_DF 0x400u
#define FL_IOPL 0x3000u
#define FL_NT 0x4000u
#define FL_RF 0x10000u
#define FL_AC 0x40000u
#define FL_ARITH 0x8d5u

/* Selectors that Linux uses; the guest kernel's own values as it would see them. */
#define SEL_KERNEL_CS 0x10
#define SEL_KERNEL_DS 0x18
#define SEL_USER32_CS 0x23
#define SEL_USER_DS 0x2b
#define SEL_USER_CS 0x33

enum {
	VEC_DE = 0,
	VEC_DB = 1,
	VEC_NMI = 2,
	VEC_BP = 3,
	VEC_UD = 6,
	VEC_DF = 8,
	VEC_NP = 11,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
	VEC_AC = 17,
	VEC_XM = 19
};
#define PFEC_P 1u
#define PFEC_W 2u
#define PFEC_U 4u
#define PFEC_RSVD 8u
#define PFEC_I 16u

/*
 * The part of a vCPU that sites reach through %fs: thread-local, so one encoding
 * serves every vCPU.  entry.S and rewrite.c know the offsets.
 */
struct vhot {
	uint64_t vflags;             /* 0: bit 1 set, bit 9 = the virtual IF; pushf pushes this word */
	uint32_t pending;            /* 8: not 0: an interrupt may be waiting */
	uint32_t park;               /* 12: not 0: this vCPU is to come to rest (park.c) */
	uint64_t save_rsp;           /* 16 */
	uint64_t exit_rip;           /* 24 */
	uint64_t ivmm_sp;            /* 32: top of the IVMM stack */
	struct vcpu *vcpu;           /* 40 */
	uint64_t swapped_gs;         /* 48: IA32_KERNEL_GS_BASE, what swapgs brings */
	uint64_t save_rax, save_rcx; /* 56, 64: of a site's own code while it needs registers (rewrite.c) */
	struct kstats *stats;
};
extern __thread struct vhot vh __attribute__((tls_model("local-exec")));

/* lock.c: a lock of K's; who waits sleeps soon. Never held where guest code runs or a guest kernel address is touched. */
struct klock {
	_Atomic uint32_t word; /* 0 free, 1 held, 2 held and somebody sleeps */
};
void k_lock(struct klock *l);
void k_unlock(struct klock *l);

struct lapic {
	_Atomic uint32_t irr[8];
	uint32_t isr[8];
	uint32_t tpr, svr, lvt[7], esr, dcr;
	uint64_t deadline; /* TSC, 0: not armed */
};
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_CMCI };

#define UTLB_SIZE 256
struct utlb_entry {
	uint64_t tag; /* gva of the page | 1 readable | 2 writable, 0 empty */
	uint8_t *page;
};

#define XSTATE_MAX 4096 /* bytes; x87, SSE, AVX, AVX-512 need 2696 */
#define IVMM_STACK 65536

/* One step of user code under breakpoints (watch.c). */
struct watch {
	bool on;
	uint8_t kind;  /* of the instruction, STEP_* */
	uint32_t hits; /* of the data accesses, as in DR6 */
	uint64_t tf;   /* the program's own TF */
	uint64_t rf;   /* where it runs free: its RF, and the rip that this is for */
	gva_t rip;
};

/* One step of the debugger's (debug.c). */
struct step {
	bool on;            /* wanted, and not done yet */
	bool tf;            /* kernel code runs with the host's TF for it */
	bool leaving;       /* ... but is still on the way out of the IVMM */
	bool site;          /* the next way out of the IVMM ends it */
	bool done;          /* user code: the instruction has been executed */
	bool held;          /* an interrupt came meanwhile */
	bool watch;         /* a host debug register was hit inside the IVMM */
	uint8_t user_break; /* user code stands at a breakpoint whose condition holds */
	uint16_t lifted;    /* number of the breakpoint whose byte is put back, + 1 */
	uint8_t *lifted_byte;
	gva_t watch_addr;
	bool busy; /* user code: any of it */
	uint64_t guest_tf;
};

/* How K waits for the U's of a vCPU (handoff.c). Times in TSC ticks. */
struct handoff {
	bool home;          /* on the CPU of its U's */
	bool idled;         /* the vCPU was halted since a U was woken last */
	bool rested;        /* the vCPU was stopped: what the scheduler has counted since the last look says nothing */
	int32_t long_share; /* of the waits that were longer than a spin, in 1/1024 */
	int32_t kept;       /* share of the time that it was kept waiting for its CPU, in 1/1024 */
	uint32_t waits, sleeps;
	uint32_t u_spin; /* turns of a U's wait loop before it sleeps */
	uint64_t home_until, backoff;
	uint64_t check_at, checked, waited; /* waited: ns, as the scheduler says */
	uint64_t monitor;                   /* ns, its CPU time when checked */
	int schedstat;                      /* descriptor, -1: none */
};

enum { HALT_NOT, HALT_SLEEPS, HALT_POLLS };

struct uproc;
struct vcpu {
	uint8_t stage[XSTATE_MAX] __attribute__((aligned(64)));     /* XSAVE image of the user state when not in a U */
	uint8_t image[XSTATE_MAX] __attribute__((aligned(64)));     /* on the way to or from user memory (state.c) */
	uint8_t kernel_vectors[16384] __attribute__((aligned(64))); /* see vector_registers_save() */
	struct uproc *fpu_in;                                       /* the U whose registers hold it, NULL: stage */
	uint64_t cr0, cr2, cr3, cr4, xcr0, efer, dr[8];
	uint64_t gdt_base, idt_base;
	uint16_t gdt_limit, idt_limit, tr, ldtr, sel[6]; /* sel[]: es cs ss ds fs gs; not cs and ss of user code */
	uint16_t user_cs;                                /* of the user code that runs or was interrupted */
	uint64_t tss_base;
	uint64_t fs_base; /* of user code */
	uint64_t star, lstar, cstar, fmask, sysenter[3], tsc_aux, misc_enable, pat, apic_base;
	struct lapic lapic;
	unsigned id;
	int tid;
	int timer; /* timer_t of the host */
	bool timer_armed;
	_Atomic uint32_t event;          /* bumped by whatever wakes a halted vCPU; a futex */
	_Atomic uint32_t halted;         /* HALT_*; sleeps on event, or is about to */
	uint64_t idle_poll;              /* TSC ticks that hlt looks for events before it sleeps, see idle.c */
	struct vhot *hot;                /* its thread's vh; other threads write pending and park only */
	_Atomic bool nmi;                /* one is due */
	bool nmi_blocked;                /* until the next iretq */
	bool init, sipi, dead;           /* smp.c, under its lock */
	struct uproc *last_u;            /* the U that had its turn last, maybe still spinning */
	_Atomic(struct uproc *) in_user; /* the U that runs guest code for this vCPU now */
	const struct insn *entry_swapgs; /* see syscall_entry(), valid while lstar is entry_for */
	uint64_t entry_for;
	struct handoff handoff;
	struct watch watch;
	struct step step;
	bool watch_step; /* the next instruction may touch the page of a breakpoint */
	gva_t last_pf;   /* user address of the #PF that was injected last, 0: none */
	gpa_t last_pf_root;
	uint32_t last_pf_access;
	struct utlb_entry utlb[UTLB_SIZE];
	uint8_t stack[IVMM_STACK] __attribute__((aligned(64)));
	uint8_t altstack[65536] __attribute__((aligned(64)));
};

extern struct kctl *kctl;
extern struct guest_ram ram;
extern struct vcpu *vcpus[MAX_VCPUS];
extern uint64_t tsc_khz;
extern _Atomic uint32_t vcpus_active; /* that are not halted */

#define STAT(n) (vh.stats->n++)
#define STAT_ADD(n, x) (vh.stats->n += (uint64_t)(x))

static inline uint64_t rdtsc(void)
{
	return __builtin_ia32_rdtsc();
}
static inline uint64_t us_to_tsc(uint64_t us)
{
	return us * tsc_khz / 1000;
}
static inline uint64_t rdgsbase(void)
{
	uint64_t v;
	asm volatile("rdgsbase %0" : "=r"(v));
	return v;
}
static inline void wrgsbase(uint64_t v)
{
	asm volatile("wrgsbase %0" ::"r"(v));
}
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	long ret;
	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}
#define sys3(n, a, b, c) sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)

static inline bool virtual_if(void)
{
	return vh.vflags & FL_IF;
}

/* report.c: the guest did something no hardware allows, or LoL has a bug; neither returns. printf-like, no libc. */
_Noreturn void k_stop(enum kstop why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define k_bug(...) k_stop(KSTOP_BUG, __VA_ARGS__)
void k_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int k_format(char *out, size_t size, const char *fmt, __builtin_va_list ap);

/* decode.c, rewrite.c, emulate.c */
struct insn;
void sites_rewrite(gva_t first, uint64_t bytes, bool module);
void sites_rewrite_copies(void);
bool site_add(const struct insn *in, uint8_t *code);
void spin_replace(void); /* spin.c */
const struct insn *site_at(gva_t rip);
const struct insn *site_around(gva_t va);     /* the site whose region has the byte va, or NULL */
gva_t site_trampoline(const struct insn *in); /* where to go on for it to be emulated in site context; 0: it has none */
bool rip_in_guest(uint64_t rip);

/* Emulate the sensitive instruction at regs->rip; on return regs is where the guest goes on. False: not one of ours. */
bool emulate_at(struct vcpu *v, struct gregs *regs);
void emulate(struct vcpu *v, struct gregs *regs, const struct insn *in);
/* May sel be loaded into ds, es, fs, gs at this privilege level? Null selectors may. */
bool segment_loadable(struct vcpu *v, uint16_t sel, unsigned cpl);

/* event.c */
struct exception {
	uint8_t vector;
	bool has_error;
	uint32_t error;
};
bool gate_usable(struct vcpu *v, unsigned vector); /* present, and int N may use it in ring 3 */
void inject(struct vcpu *v, struct gregs *regs, unsigned cpl, unsigned vector, bool has_error, uint32_t error);
void inject_pf(struct vcpu *v, struct gregs *regs, unsigned cpl, gva_t va, uint32_t error);
void inject_gp(struct vcpu *v, struct gregs *regs, unsigned cpl, uint32_t error);
/* Vector of the interrupt to take now, acknowledged; -1: none. */
int interrupt_take(struct vcpu *v);
bool interrupt_waiting(struct vcpu *v);
void vcpu_idle(struct vcpu *v);
void vcpu_kick(struct vcpu *v); /* from another thread, or from a device in this one */
void vcpu_kick_devices(void);   /* the one that device interrupts go to */
/* vh.park is set: is it an NMI? Then regs is at its handler now. */
bool nmi_take(struct vcpu *v, struct gregs *regs, unsigned cpl);

/* smp.c */
void vcpu_reset(struct vcpu *v);
void vcpu_dead(struct vcpu *v, struct gregs *regs); /* hlt with interrupts off: until another vCPU starts it again */
void vcpu_wait_start(struct vcpu *v);
void vcpu_init_ipi(struct vcpu *v);
void vcpu_sipi(struct vcpu *v);
void vcpu_start_regs(struct vcpu *v, struct gregs *regs);
static inline bool several_vcpus(void)
{
	return kctl->ncpus > 1;
}

/* lapic.c, pic.c */
void lapic_init(struct vcpu *v); /* as after INIT */
bool lapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool lapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
int lapic_highest(struct vcpu *v);
void lapic_accept(struct vcpu *v, unsigned vector);
void lapic_timer_check(struct vcpu *v);
void lapic_deadline(struct vcpu *v, uint64_t tsc);
void pic_init(void);
void pic_raise(unsigned line);
void pic_set(unsigned line, bool level);
int pic_highest(void);
int pic_acknowledge(void);
bool pic_port(uint16_t port, bool write, uint8_t *val);

/* msr.c, cpuid.c, io.c */
bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
void cpuid_init(void);
void cpuid_read(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4]);
uint64_t xcr0_allowed(void);
uint32_t xstate_size(uint64_t mask);
/*
 * XSAVE images in standard format (SDM vol. 1, 13.4). Components whose bit in XSTATE_BV is clear are in their initial
 * state and their bytes mean nothing: few programs use all, so images are copied and compared without those.
 */
#define XSTATE_LEGACY 416 /* bytes of x87 and SSE state that are not reserved */
#define XSTATE_HEADER 512
static inline uint64_t xstate_bv(const uint8_t *image)
{
	return *(const uint64_t *)(image + XSTATE_HEADER);
}
void xstate_copy(uint8_t *to, const uint8_t *from, uint64_t bv);       /* the components of bv; to's header says so */
void xstate_components(uint8_t *to, const uint8_t *from, uint64_t bv); /* those beyond x87 and SSE only */
bool xstate_same(const uint8_t *a, const uint8_t *b);
bool xstate_inuse_known(void); /* does the CPU say which components are not in their initial state? */
void io_init(void);
uint64_t io_port_read(struct vcpu *v, uint16_t port, unsigned size);
void io_port_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t val);
uint64_t io_mmio_read(struct vcpu *v, gpa_t gpa, unsigned size);
void io_mmio_write(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t val);
void io_poll_uart(void);

/*
 * user.c: run guest user code with these registers until the guest kernel is needed; regs becomes the kernel's.
 * swapped: the swapgs on the way out has not been done.
 */
void enter_user(struct vcpu *v, struct gregs *regs, bool swapped);
void handoff_init(struct vcpu *v); /* handoff.c, by the vCPU's thread, before the sandbox */
void fpu_save(struct vcpu *v);     /* user state to v->stage; it is no U's any more */
const uint8_t *
fpu_image(struct vcpu *v); /* an image of the user state, in v->stage or the slice of the U that has it */
void user_flush_all(struct vcpu *v);
void kick_user(struct uproc *u);

/* park.c: rest where the guest is, until the monitor says go on; what p points to may have other values then. */
void park_notice(struct vcpu *v); /* in the handler of a kick */
struct parked;                    /* debug.h */
/* How to go on: PARK_GO_ON, PARK_GO_STEP; go, when it need not rest or nobody says otherwise. */
uint32_t park_here(struct vcpu *v, const struct parked *p, uint32_t go);
uint32_t park_self(struct vcpu *v, const struct parked *p, uint32_t reason, uint64_t addr); /* unasked: a breakpoint */

/* watch.c: breakpoints of DR0 to DR3 in user code. */
bool watch_active(const struct vcpu *v);
bool watch_page(const struct vcpu *v, gva_t va);           /* does the page of va have one? */
void watch_hide(struct vcpu *v, struct uproc *u);          /* take such pages out of u, so that touching them faults */
void watch_free(struct vcpu *v, const struct gregs *regs); /* before code runs without steps */
void watch_fault(struct vcpu *v, struct gregs *regs, gva_t va); /* after a fault at va: is it for a step? */
bool watch_begin(
	struct vcpu *v, struct gregs *regs,
	uint64_t
		gs_base); /* before a step; true: #DB is due at this instruction, DR6 is set; the debugger may want to stop here, too */
void watch_end(struct vcpu *v, struct gregs *regs,
	       bool stepped);   /* after it: the program's own TF; stepped: #DB ended it */
bool watch_hit(struct vcpu *v); /* is the #DB that ended it the guest's? Then DR6 is set. */

/* uaccess.c */
/* Host pointer to user byte va for the current CR3, or NULL with *error for #PF. A/D bits are set. */
uint8_t *user_ptr(struct vcpu *v, gva_t va, bool write, uint32_t *error);
void utlb_flush(struct vcpu *v);
void utlb_flush_page(struct vcpu *v, gva_t va);
void emulate_uaccess(struct vcpu *v, struct gregs *regs, const struct insn *in);
bool user_read(struct vcpu *v, gva_t va, void *buf, size_t n, gva_t *bad, uint32_t *error);
bool user_write(struct vcpu *v, gva_t va, const void *buf, size_t n, gva_t *bad, uint32_t *error);

/* mmu/walk.c */
#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PS 0x80ull
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull
struct walk {
	gpa_t gpa;     /* of va itself */
	uint64_t size; /* bytes the leaf maps: 4 KiB, 2 MiB, 1 GiB */
	bool writable, user, nx, dirty, accessed;
	bool up_writable, up_user, up_nx; /* the part of the levels above the leaf */
	_Atomic uint64_t *pte; /* the leaf; where nothing is present, that of 4 KiB where it would be, or NULL */
};
/* Walk the tables at root as the MMU would for an access: upper levels become accessed. False: not present (or nonsense). */
bool pt_walk(gpa_t root, gva_t va, struct walk *w);
/* The same, and nothing is written: also for a root that may be no page table any more. */
bool pt_look(gpa_t root, gva_t va, struct walk *w);
/* Set A, and D for a write, as the MMU would. False: the entry changed meanwhile, walk again. */
bool pt_set_ad(struct walk *w, bool write);

/* mmu/kmap.c */
void kmap_init(void);
bool kmap_pmem(gva_t va, unsigned i); /* a view of persistent memory i at va */
void *k_ptr(gva_t va); /* host pointer to guest kernel byte va (until the end of its page), NULL: not mapped */
/* The same for n bytes in the linear part of the direct map or in the image, where K has them at their own address; NULL: elsewhere. */
static inline void *k_linear(gva_t va, size_t n)
{
	if (va - K_DIRECT_MAP < ram.low && n <= ram.low - (va - K_DIRECT_MAP))
		return (void *)va;
	if (va >= kctl->boot.text_start && va < kctl->boot.image_end && n <= kctl->boot.image_end - va)
		return (void *)va;
	return NULL;
}
bool k_read(gva_t va, void *buf, size_t n);
bool k_write(gva_t va, const void *buf, size_t n);
bool k_is_kernel(gva_t va);
enum kfill { KFILL_DONE, KFILL_FAULT, KFILL_MMIO, KFILL_AGAIN }; /* AGAIN: inside kmap.c only */
enum kfill k_fill(struct vcpu *v, gva_t va, uint32_t error, gpa_t *mmio);
void k_flush_all(void);
void k_flush_page(gva_t va);
gpa_t k_root(struct vcpu *v);

/* mmu/umap.c, upool.c */
void upool_init(void);
struct uproc *upool_get(struct vcpu *v, gpa_t root);
/* CR3 written without the no-flush bit; other: it was another address space, so this may be a new one in an old place */
void upool_flush(struct vcpu *v, gpa_t root, bool other);
void upool_flush_everything(struct vcpu *v); /* all address spaces (CR4) */
void upool_invlpg(struct vcpu *v, gva_t va);
/*
 * Before the guest kernel may take it for granted that translations are gone (CR3, CR4, invlpg): see that the last U's thread
 * waits in its stub and will, until it is entered again, or end its process. handoff.c.
 */
void user_park(struct vcpu *v, bool leaving); /* leaving: another address space comes next */

#endif
