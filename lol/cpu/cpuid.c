/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPUID that the guest *kernel* sees: the host's, less what LoL cannot honour.
 * Guest user code executes the host's own CPUID natively.
 *
 * Masked and why: SMEP, SMAP, PKU, UMIP, CET, LA57, VMX, SVM (ring 0 business that ring 3
 * cannot imitate); INVPCID, RDPID (silent or dear in ring 3); XSAVEC, XSAVES,
 * XSAVEOPT, XGETBV1 (standard format only, the IVMM moves whole images); MONITOR, MCE,
 * MCA, MTRR, PAT, thermal and performance leaves (no such device); speculation controls
 * (the host's business). FSRM and FSRS are forced on, and ERMS, which Linux takes FSRM to imply: the IVMM does the user
 * copies, and one site each is all they need.
 */
#include <cpuid.h>

#include "cpu/k.h"
#include "ivmm-sites.h"

#define XCR0_LOL 0xe7ull /* x87, SSE, AVX, AVX-512 */

static uint64_t xcr0;
static uint32_t xoff[16], xsize[16]; /* multiples of 8 */
static bool xinuse;

static uint32_t bit(unsigned n)
{
	return 1u << n;
}

void cpuid_init(void)
{
	uint32_t a, b, c, d, lo, hi;

	__cpuid(1, a, b, c, d);
	if (!(c & bit(27)))
		k_stop(KSTOP_START, "this CPU has no XSAVE; LoL needs one from after 2011");
	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	xcr0 = (lo | (uint64_t)hi << 32) & XCR0_LOL;
	if ((xcr0 & 0xe0) != 0xe0)
		xcr0 &= 7;
	for (unsigned i = 2; i < 16; i++) {
		__cpuid_count(0xd, i, a, b, c, d);
		xsize[i] = a;
		xoff[i] = b;
	}
	__cpuid_count(0xd, 1, a, b, c, d);
	xinuse = a & bit(2);
}

void xstate_components(uint8_t *to, const uint8_t *from, uint64_t bv)
{
	for (unsigned i = 2; i < 16; i++)
		if (bv & xcr0 & 1u << i)
			__builtin_memcpy(to + xoff[i], from + xoff[i], xsize[i]);
}

void xstate_copy(uint8_t *to, const uint8_t *from, uint64_t bv)
{
	uint64_t *header = (uint64_t *)(to + XSTATE_HEADER);

	__builtin_memcpy(to, from, XSTATE_LEGACY);
	header[0] = bv & xcr0;
	for (unsigned i = 1; i < 8; i++)
		header[i] = 0;
	xstate_components(to, from, bv);
}

static bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
	for (size_t i = 0; i < n; i += 8)
		if (*(const uint64_t *)(a + i) != *(const uint64_t *)(b + i))
			return false;
	return true;
}

bool xstate_same(const uint8_t *a, const uint8_t *b)
{
	uint64_t bv = xstate_bv(a);

	if (bv != xstate_bv(b) || !same_bytes(a, b, XSTATE_LEGACY))
		return false;
	for (unsigned i = 2; i < 16; i++)
		if (bv & xcr0 & 1u << i && !same_bytes(a + xoff[i], b + xoff[i], xsize[i]))
			return false;
	return true;
}

bool xstate_inuse_known(void)
{
	return xinuse;
}

uint64_t xcr0_allowed(void)
{
	return xcr0;
}

/* Bytes of the standard-format image with these components (SDM vol. 1, 13.4). */
uint32_t xstate_size(uint64_t mask)
{
	uint32_t size = 576;

	for (unsigned i = 2; i < 16; i++)
		if (mask >> i & 1 && xoff[i] + xsize[i] > size)
			size = xoff[i] + xsize[i];
	return size;
}

static void leaf1(struct vcpu *v, uint32_t o[4])
{
	const uint32_t ecx = bit(0) | bit(1) | bit(9) | bit(12) | bit(13) | bit(17) | bit(19) | bit(20) | bit(22) |
			     bit(23) | bit(25) | bit(26) | bit(28) | bit(29) | bit(30);
	const uint32_t edx = bit(0) | bit(2) | bit(3) | bit(4) | bit(5) | bit(6) | bit(8) | bit(11) | bit(13) |
			     bit(15) | bit(17) | bit(19) | bit(23) | bit(24) | bit(25) | bit(26);

	o[1] = (o[1] & 0xff00) | v->id << 24 | 1u << 16;
	o[2] = (o[2] & ecx) | bit(17) | bit(21) | bit(24) |
	       bit(31); /* PCID, x2APIC, TSC deadline, hypervisor: LoL's own */
	if (!(xcr0 & 4))
		o[2] &= ~(bit(12) | bit(28) | bit(29));
	if (v->cr4 & 1u << 18)
		o[2] |= bit(27);
	o[3] = (o[3] & edx) | bit(9);
}

static void leaf7(uint32_t sub, uint32_t o[4])
{
	const uint32_t avx512b = bit(16) | bit(17) | bit(21) | bit(28) | bit(30) | bit(31);

	if (sub == 0) {
		uint32_t ebx = bit(0) | bit(3) | bit(5) | bit(8) | bit(18) | bit(19) | bit(23) | bit(24) | bit(29);
		uint32_t ecx = bit(8) | bit(9) | bit(10);
		if (!(xcr0 & 4))
			ebx &= ~bit(5);
		if (xcr0 & 0xe0) {
			ebx |= avx512b;
			ecx |= bit(1) | bit(6) | bit(11) | bit(12) | bit(14);
		}
		o[0] = MIN(o[0], 1u);
		o[1] = (o[1] & ebx) | bit(9);
		o[2] &= ecx;
		o[3] = bit(4);
		if (o[0] == 0)
			o[0] = 1;
	} else if (sub == 1) {
		o[0] = (o[0] & (bit(4) | bit(5))) | bit(10) | bit(11) | bit(12);
		o[1] = o[2] = o[3] = 0;
	} else {
		o[0] = o[1] = o[2] = o[3] = 0;
	}
}

static void leaf_d(struct vcpu *v, uint32_t sub, uint32_t o[4])
{
	if (sub == 0) {
		o[0] = (uint32_t)xcr0;
		o[1] = xstate_size(v->xcr0);
		o[2] = xstate_size(xcr0);
		o[3] = 0;
	} else if (sub == 1 || sub >= 16 || !(xcr0 >> sub & 1)) {
		o[0] = o[1] = o[2] = o[3] = 0;
	}
}

void cpuid_read(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t o[4])
{
	o[0] = o[1] = o[2] = o[3] = 0;
	if (leaf == IVMM_CPUID_BASE) {
		o[0] = IVMM_CPUID_INFO;
		__builtin_memcpy(&o[1], IVMM_CPUID_SIGNATURE, 12);
		return;
	}
	if (leaf == IVMM_CPUID_INFO) {
		o[0] = IVMM_ABI_VERSION;
		o[1] = kctl->ncpus;
		o[2] = (uint32_t)tsc_khz;
		return;
	}
	uint32_t max = leaf >= 0x80000000 ? 0x80000008 : 0xd;
	if (leaf > max || (leaf >= 0x40000000 && leaf < 0x80000000))
		return;
	__cpuid_count(leaf, sub, o[0], o[1], o[2], o[3]);
	switch (leaf) {
	case 0:
		o[0] = 0xd;
		break;
	case 1:
		leaf1(v, o);
		break;
	case 7:
		leaf7(sub, o);
		break;
	case 0xd:
		leaf_d(v, sub, o);
		break;
	case 2:
	case 4:
		if (leaf == 4)
			o[0] &= 0x3ffu; /* one thread shares each cache */
		break;
	case 0x80000000:
		o[0] = 0x80000008;
		break;
	case 0x80000001:
		o[2] &= bit(0) | bit(5) | bit(6) | bit(7) | bit(8);
		o[3] &= bit(11) | bit(20) | bit(22) | bit(25) | bit(26) | bit(27) | bit(29) | 0x0183f3ff;
		o[3] &= ~(bit(7) | bit(12) | bit(14) | bit(16)); /* MCE, MTRR, MCA, PAT */
		o[3] |= bit(9);
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
	case 0x80000005:
	case 0x80000006:
		break;
	case 0x80000007:
		o[0] = o[1] = o[2] = 0;
		o[3] = bit(8);
		break;
	case 0x80000008:
		o[0] = (o[0] & ~0xff00u) | 48u << 8;
		o[1] &= bit(0) | bit(2);
		o[2] = 0;
		break;
	default:
		o[0] = o[1] = o[2] = o[3] = 0;
	}
}
