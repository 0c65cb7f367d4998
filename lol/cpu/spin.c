/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest kernel's spinning would do to a machine whose CPUs its vCPUs do not own.  Runs in K, at start.
 *
 * Linux's spin locks are queues: the lock goes to the next in line even when that vCPU's thread does not run, and all
 * others wait for it, a time slice of the host for each turn. So with several vCPUs the slow path of the lock is replaced,
 * as Linux does itself on hypervisors that it knows ("virt_spin_lock"): whoever runs and sees the lock free takes it, and
 * who has looked in vain for a while yields its host CPU. The loop stands in the function's own place, so that it is
 * guest code for everybody who asks, and interrupts are delivered in it.
 *
 * With more vCPUs than host CPUs, sleeping locks are no longer spun for either: osq_lock says no.
 */
#include "cpu/insn.h"

#define LOOKS 400u /* at some 20 ns each, before the CPU is given up */

static uint8_t *place(const gva_t f[2], size_t need)
{
	return f[0] && f[1] >= f[0] + need ? k_ptr(f[0]) : NULL;
}

void spin_replace(void)
{
	/*
	 *  0: mov $LOOKS, %ecx
	 *  5: mov (%rdi), %eax; test %eax, %eax; je 25
	 * 11: pause; dec %ecx; jne 5
	 * 17: the site of OP_YIELD, 5 bytes; 23: jmp 0
	 * 25: mov $1, %edx; lock cmpxchg %edx, (%rdi); jne 0; ret
	 */
	static const uint8_t loop[] = {0xb9, LOOKS & 0xff, LOOKS >> 8, 0,    0,    0x8b, 0x07, 0x85, 0xc0, 0x74,
				       14,   0xf3,         0x90,       0xff, 0xc9, 0x75, 0xf4, 0xcc, 0xcc, 0xcc,
				       0xcc, 0xcc,         0x90,       0xeb, 0xe7, 0xba, 1,    0,    0,    0,
				       0xf0, 0x0f,         0xb1,       0x17, 0x75, 0xdc, 0xc3};
	static const uint8_t no[] = {0x31, 0xc0, 0xc3}; /* xor %eax, %eax; ret */
	const struct kboot *b = &kctl->boot;
	uint8_t *p = several_vcpus() ? place(b->spin_slow, sizeof(loop)) : NULL;

	if (p) {
		__builtin_memcpy(p, loop, sizeof(loop));
		struct insn yield = {.op = OP_YIELD,
				     .len = 5,
				     .region = 5,
				     .va = b->spin_slow[0] + 17,
				     .start = b->spin_slow[0] + 17};
		if (!site_add(&yield, p + 17))
			p[17] = 0xeb, p[18] = 4;
	}
	p = kctl->crowded ? place(b->osq_lock, sizeof(no)) : NULL;
	if (p)
		__builtin_memcpy(p, no, sizeof(no));
}
