/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model-specific registers (SDM vol. 4).  Runs in K, any context.  Those that LoL does not
 * model read as 0 and ignore writes: kernels probe many.
 */
#include "cpu/k.h"

#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

static uint64_t *plain(struct vcpu *v, uint32_t msr)
{
	switch (msr) {
	case 0x174:
	case 0x175:
	case 0x176:
		return &v->sysenter[msr - 0x174];
	case 0x1a0:
		return &v->misc_enable;
	case 0x277:
		return &v->pat;
	case 0xc0000080:
		return &v->efer;
	case 0xc0000081:
		return &v->star;
	case 0xc0000082:
		return &v->lstar;
	case 0xc0000083:
		return &v->cstar;
	case 0xc0000084:
		return &v->fmask;
	case MSR_FS_BASE:
		return &v->fs_base;
	case MSR_KERNEL_GS_BASE:
		return &vh.swapped_gs;
	case 0xc0000103:
		return &v->tsc_aux;
	}
	return NULL;
}

bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	uint64_t *p = plain(v, msr);

	*val = 0;
	if (p)
		*val = *p;
	else if (msr == MSR_GS_BASE)
		*val = rdgsbase();
	else if (msr == 0x10)
		*val = rdtsc();
	else if (msr == 0x1b)
		*val = v->apic_base;
	else
		lapic_msr_read(v, msr, val);
	return true;
}

bool msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	uint64_t *p = plain(v, msr);
	bool address = (msr >= 0x175 && msr <= 0x176) || msr == 0xc0000082 || msr == 0xc0000083 ||
		       (msr >= MSR_FS_BASE && msr <= MSR_KERNEL_GS_BASE);

	if (address && val >= 1ull << 47 && val < ~0ull << 47)
		return false; /* #GP: not canonical */
	if (msr == MSR_GS_BASE) {
		if (val >= 1ull << 47)
			return false;
		wrgsbase(val);
	} else if (p) {
		*p = val;
	} else {
		lapic_msr_write(v, msr, val);
	}
	return true;
}
