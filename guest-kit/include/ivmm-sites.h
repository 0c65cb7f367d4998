/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The site table: what the afterburner writes, what the IVMM reads.
 * docs/ivmm-abi.md is the prose to this header.
 *
 * A *site* is one virtualization-sensitive instruction plus the NOPs that pad
 * it to IVMM_SITE_MIN bytes.  Each has one entry in the ELF section
 * IVMM_SITES_SECTION of vmlinux and of every module.
 */
#ifndef IVMM_SITES_H
#define IVMM_SITES_H

#include <stdint.h>

#define IVMM_ABI_VERSION 1
#define IVMM_SITES_SECTION ".ivmm.sites"
#define IVMM_SITE_MIN 8 /* bytes of every region: instruction and padding */

/* ELF note in vmlinux: section ".note.ivmm", name "LoL", type 1, desc = struct ivmm_note */
#define IVMM_NOTE_SECTION ".note.ivmm"
#define IVMM_NOTE_NAME "LoL"
#define IVMM_NOTE_TYPE 1
struct ivmm_note {
	uint32_t abi_version; /* IVMM_ABI_VERSION of the kit that built it */
	uint32_t flags;       /* 0 */
};

/* What a site does; numbers are ABI. */
enum ivmm_kind {
	IVMM_FLAGS = 1, /* cli sti pushf popf */
	IVMM_PRIV =
		2, /* traps in ring 3: mov cr/dr, lgdt lidt lldt ltr, wrmsr rdmsr, invlpg, hlt, in out, iret, sysret, ... */
	IVMM_SILENT =
		3, /* does not trap in ring 3: sgdt sidt sldt str smsw, mov from/to segment, lar lsl verr verw, cpuid, rdpid, ... */
	IVMM_STATE = 4,   /* xsave* xrstor* fxsave fxrstor: state of the current guest user thread */
	IVMM_UACCESS = 5, /* memory operand may be a guest user address (exception-table entry of a user-access type) */
	IVMM_MMIO = 6,    /* the move inside readl/writel and friends */
	IVMM_PGTABLE = 7, /* reserved: store to a page table */
	IVMM_CALL = 8, /* explicit call of the guest kernel into the IVMM (vmcall); never executed on bare hardware */
};

/* One entry, 8 bytes, little endian. */
struct ivmm_site {
	int32_t start;      /* address of the region, relative to this field */
	uint8_t kind;       /* enum ivmm_kind */
	uint8_t insn_off;   /* instruction starts at region + insn_off (not 0 only for sti) */
	uint8_t insn_len;   /* bytes */
	uint8_t region_len; /* bytes, >= IVMM_SITE_MIN */
};

/*
 * IVMM_CALL: "vmcall" with the function in %eax; arguments in %rdi %rsi %rdx,
 * result in %rax, everything else preserved.
 */
#define IVMM_CALL_MODULE 1 /* rdi = first entry, rsi = bytes: rewrite the sites of a module that was just loaded */

/* CPUID leaves under LoL (the signature is 12 bytes in ebx, ecx, edx, as for other hypervisors). */
#define IVMM_CPUID_BASE 0x40000000u
#define IVMM_CPUID_SIGNATURE "LinuxOnLinux"
#define IVMM_CPUID_INFO 0x40000001u /* eax = ABI version, ebx = number of vCPUs, ecx = TSC kHz, edx = 0 */

#endif
