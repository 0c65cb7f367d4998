/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the monitor and K (the process of the guest kernel) share: one memfd,
 * mapped by both.  K can be under the control of a hostile guest kernel, so the
 * monitor reads each field once and believes nothing.
 *
 * The writer of every field is named: [M] monitor, [K] guest-kernel process.
 */
#ifndef LOL_KCTL_H
#define LOL_KCTL_H

#include <stdatomic.h>
#include "devices/byte-ring.h"
#include "kdebug.h"
#include "ram.h"
#include "types.h"
#include "vstate.h"

#define MAX_VCPUS 64
#define MAX_VIRTIO 16

/* Addresses in K; docs/ivmm-abi.md has the table. */
#define K_IMAGE_MIN 0x01000000ull
#define K_MODULES 0x40000000ull
#define K_LOW_END 0x7f000000ull /* end of what can be guest kernel text; lol-k is linked here */
#define K_USER_END 0x400000000000ull
#define K_DIRECT_MAP 0x400000000000ull
#define K_VMALLOC 0x490000000000ull
#define K_VMEMMAP 0x6a0000000000ull
#define K_CPU_ENTRY_AREA 0x700000000000ull
#define K_FIXMAP_SLOT 0x718000000000ull
#define K_KERNEL_END 0x720000000000ull

/* The memfd of guest RAM goes on behind RAM with what K maps into U's on its own account, see lol/mmu/upatch.c. */
#define PATCH_AREA (72ull << 20) /* touched as needed */

/* File descriptors that K and the zygote inherit, by number. */
enum {
	FD_RAM = 3,
	FD_CTL = 4,
	FD_USHARE = 5,
	FD_DOORBELL = 6,
	FD_ZYGOTE = 7,
	FD_MONITOR = 8,
	FD_K_EXE = 9,
	FD_K_SOCK = 10,
	FD_PMEM = 11 /* RAM_PMEM_MAX of them, /dev/null where there is none */
};

/* What K must know about the loaded kernel; addresses are those under LoL (gva in K), 0 = has no such symbol. */
struct kboot {
	gva_t entry;
	gva_t text_start, image_end; /* image: [text_start, image_end), VA = gpa */
	gva_t sites, sites_end;
	gpa_t early_top_pgt, init_top_pgt;
	gpa_t level3_kernel_pgt, level2_fixmap_pgt;
	gva_t copy_from_user[2], copy_to_user[2]; /* [start, end) of the symbols */
	gva_t nofault[5][2];                      /* labelled as user accesses, but both operands are the kernel's */
	gva_t nontemporal[2]; /* copies from user memory; that its stores are labelled too is for machine checks */
	gva_t csum_copy[2];   /* csum_partial_copy_generic: a user address only when called from one of the next two */
	gva_t csum_from_user[2], csum_to_user[2];
	gva_t sigframe_save[2],
		sigframe_restore[2];     /* the functions that save and restore vector state in user memory */
	gva_t spin_slow[2], osq_lock[2]; /* replaced where there are several vCPUs (cpu/spin.c) */
	gva_t ex_table, ex_table_end;
	gva_t fixaddr_top;
	gpa_t boot_params;
	gpa_t vmcoreinfo_data, vmcoreinfo_size; /* variables of the kernel, for dumps */
};

enum krpc_op { KRPC_NONE, KRPC_READ, KRPC_WRITE };
enum krpc_state { KRPC_IDLE, KRPC_ASKED, KRPC_ANSWERED };

/* A register access that the monitor must answer, one slot a vCPU. */
struct krpc {
	_Atomic uint32_t state; /* [K] IDLE->ASKED, [M] ASKED->ANSWERED, [K] ->IDLE; a futex */
	uint32_t op;            /* [K] enum krpc_op */
	uint32_t port;          /* [K] 1: port space, 0: MMIO */
	uint32_t size;          /* [K] bytes: 1, 2, 4, 8 */
	uint64_t addr;          /* [K] */
	uint64_t value;         /* [K] for a write, [M] for a read */
} __attribute__((aligned(64)));

/* Why K stopped. */
enum kstop { KSTOP_NONE, KSTOP_POWEROFF, KSTOP_RESET, KSTOP_PANIC, KSTOP_BUG, KSTOP_START };

/* Counters for --stats, all [K]. */
/* clang-format off */
#define KSTATS(X) \
	X(ipis) X(yields) X(kicks_halted) X(kicks_kernel) \
	X(site_calls) X(site_traps) X(traps_segv) X(traps_other) X(user_access) X(user_access_faults) X(k_fills) \
	X(k_flushes) X(u_fills) X(u_fill_pages) X(u_ahead) X(u_enter) X(u_syscalls) X(u_pf_injected) X(u_exceptions) X(u_kicks) \
	X(u_resyncs) X(u_switches) X(u_parks) X(u_created) X(u_ended) X(u_evicted) X(u_batch_ops) X(irqs) X(timer_arms) X(hlt) X(hlt_sleeps) X(cr3_writes) \
	X(invlpg) X(rpc) X(notify) X(fpu_save) X(fpu_load) X(inline_sites) X(sites) X(u_sleeps) X(k_sleeps) X(mmio_traps) X(mmio_sites) X(port_io) X(iret_kernel) X(u_sites) X(u_copies_evicted) X(u_fast_syscalls) X(u_short_returns) X(handoff_moves) X(u_displaced) X(ram_ahead)
/* clang-format on */
struct kstats {
#define X(n) uint64_t n;
	KSTATS(X)
#undef X
};

#define KCTL_UART_RING 65536
struct kctl {
	/* [M], before K starts */
	uint64_t ram_size, ram_low;
	struct ram_pmem pmem[RAM_PMEM_MAX];
	uint32_t npmem;
	uint32_t ncpus, tsc_khz;
	uint32_t host_cpus;                         /* that the VM may use */
	uint32_t crowded;                           /* there are more vCPUs than host CPUs for them */
	uint32_t spin_us;                           /* bound of a spin in a hand-over; 0: never spin */
	int32_t k_cpu[MAX_VCPUS], u_cpu[MAX_VCPUS]; /* host CPUs for the two sides of a vCPU, -1: anywhere */
	uint32_t ndevices;                          /* virtio-mmio devices, at DEV_MMIO_BASE */
	uint32_t verbose;
	struct kboot boot;

	/* interrupts: lines of the 8259 pair raised by the monitor (edge) */
	_Atomic uint32_t irq_raised;   /* [M] sets bits, [K] clears */
	_Atomic uint32_t k_tid;        /* [K] nonzero once ready for kicks */
	_Atomic uint32_t k_polls;      /* [K] looks at irq_raised all the time: no kick for it */
	_Atomic uint32_t k_home;       /* [K] vCPU 0 runs on u_cpu[0], not on k_cpu[0] */
	_Atomic uint32_t monitor_near; /* [M] it runs on K's CPU: K does not look for interrupts in hlt, it sleeps */
	_Atomic uint64_t monitor_ns;   /* [M] CPU time of its thread, every few ms */

	/* doorbells */
	_Atomic uint32_t notify[MAX_VIRTIO]; /* [K] sets bit of the queue, [M] clears */
	_Atomic uint32_t isr[MAX_VIRTIO];    /* [M] sets bits, [K] clears by the guest's ACK */
	_Atomic uint32_t uart_tx_bell;       /* [K] sets 1 when it put bytes in, [M] clears before it drains */
	_Atomic uint32_t
		uart_break; /* [M] key << 8 | 1: a break and this key come before the bytes in uart_rx; [K] clears */
	_Atomic uint32_t uart_tx_wait; /* [K] futex: K waits for room; [M] bumps */
	_Atomic uint32_t uart_tx_held; /* [K] sets 1: bytes wait in the chip, kick when there is room; [M] clears */

	struct krpc rpc[MAX_VCPUS];
	struct park park[MAX_VCPUS]; /* pause, dumps, gdb */

	struct kdebug debug;

	/* the end */
	_Atomic uint32_t stop;          /* [K] enum kstop */
	char report[4096];              /* [K] text, maybe not terminated */
	struct kstats stats[MAX_VCPUS]; /* [K] */

	struct byte_ring uart_tx, uart_rx; /* [K] -> [M], [M] -> [K] */
	uint8_t uart_tx_bytes[KCTL_UART_RING], uart_rx_bytes[KCTL_UART_RING];
};

#define DEV_MMIO_BASE 0xd0000000ull
#define DEV_MMIO_STRIDE 0x1000ull
#define DEV_IRQ_FIRST 5u /* line of device n: see dev_irq() */

/* Line of virtio-mmio device n on the 8259 pair: those that nothing else uses. */
static inline unsigned dev_irq(unsigned n)
{
	static const uint8_t lines[] = {5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 1, 3};
	return lines[n % sizeof(lines)];
}

#endif
