/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests/system/gdb-state.sh: known values in vector and x87 registers at `here`, and what the debugger makes of them. */
#include <stdio.h>
#include <unistd.h>

volatile int wish, spinning;

int main(void)
{
	long before = 0x1122334455667788, after;
	int avx = !!__builtin_cpu_supports("avx");

	getsid(0); /* which nobody else calls */
	__asm__ volatile("fldpi");
	if (avx)
		__asm__ volatile("vpcmpeqb %%xmm6, %%xmm6, %%xmm6; vinsertf128 $1, %%xmm6, %%ymm6, %%ymm6" ::: "xmm6");
	__asm__ volatile("movq %1, %%xmm5\n\t"
			 ".globl here\n"
			 "here:\n\t"
			 "nop\n\t"
			 "movq %%xmm5, %0"
			 : "=r"(after)
			 : "r"(before)
			 : "xmm5");
	__asm__ volatile("fstp %%st(0)" ::: "st");
	printf("xmm5 %lx wish %d avx %d\n", after, wish, avx);
	fflush(stdout);
	spinning = 1;
	while (spinning)
		;
	printf("spun\n");
	return 0;
}
