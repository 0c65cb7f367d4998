/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stub: the only code of LoL in a U process.  Guest user code shares the
 * address space with it, can read it, and can jump to any byte of it with any
 * registers; none of that may gain it anything:
 *
 *  - The filter (usandbox.c) lets system calls through at few instructions
 *    only: the one that runs K's batch (each call must carry the secret in
 *    argument bits), futex wait and wake on turn and bells, and sched_yield.
 *  - The secret comes through a pipe and is in registers and in the batch only
 *    while the stub runs it; the batch is wiped and the registers are cleared
 *    before guest code runs.  K sees by a token that the batch was run.
 *    A kick that arrives meanwhile wipes the registers in its signal frame and
 *    starts the batch loop again (mmap, munmap, mprotect are idempotent).
 *  - Nothing here leaves by sigreturn: handlers end in xrstor and iretq, the
 *    signal mask is always empty, and rt_sigreturn is not in the filter.
 *
 * Linked at USTUB_BASE in a segment of its own; all data is in the U's slice of
 * the ushare memfd, addressed relative to rip.
 */
#include "mmu/ushare.h"

/* What the filter lets through at one instruction (usandbox.c has the conditions), collected by the build; there is no other list. */
#define U_ALLOW(...)

#define QUICK_LOOKS 2000
#define FL_UNWANTED 0x244500 /* TF, DF, NT, AC, ID */
#define FL_SAHF 0xd5
#define FL_ALWAYS 0x202 /* IF and the one without a name */
#define YIELDS 2
#define NR_futex 202
#define NR_munmap 11
#define NR_sched_yield 24
#define NR_seccomp 317
#define UC_GREGS 40
#define UC_FPREGS 0xe0
#define GREG(i) (UC_GREGS + 8 * (i))(%rbx)
#define US(off) (us_base + (off))(%rip)
#define UREG(i) (us_base + US_REGS + 8 * (i))(%rip)
#define OWN(i) (us_base + US_OWN + 8 * (i))(%rip)

/* The registers that a system call keeps, but rsp, from an array of the slice. */
.macro load_kept from
	mov	(us_base + \from + 8 * UR_R8)(%rip), %r8
	mov	(us_base + \from + 8 * UR_R9)(%rip), %r9
	mov	(us_base + \from + 8 * UR_R10)(%rip), %r10
	mov	(us_base + \from + 8 * UR_R12)(%rip), %r12
	mov	(us_base + \from + 8 * UR_R13)(%rip), %r13
	mov	(us_base + \from + 8 * UR_R14)(%rip), %r14
	mov	(us_base + \from + 8 * UR_R15)(%rip), %r15
	mov	(us_base + \from + 8 * UR_RDI)(%rip), %rdi
	mov	(us_base + \from + 8 * UR_RSI)(%rip), %rsi
	mov	(us_base + \from + 8 * UR_RBP)(%rip), %rbp
	mov	(us_base + \from + 8 * UR_RBX)(%rip), %rbx
	mov	(us_base + \from + 8 * UR_RDX)(%rip), %rdx
.endm

.macro compare number
	xor	UREG(\number), %rax
	neg	%rax
	adc	%r9d, %r9d
.endm

/* Keep a register in own[]; its bit of the mask in r9d, which moves up: is it another than regs[] says? Clobbers rax. */
.macro keep reg, number
	mov	\reg, OWN(\number)
	mov	\reg, %rax
	compare	\number
.endm

/* The same of one that own[] has already. */
.macro keep_again number
	mov	OWN(\number), %rax
	compare	\number
.endm

/* Eight registers from own[] to regs[], of which those that are not kept have no meaning. Clobbers rax. */
.macro copy_line from
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7
	mov	OWN(\from + \i), %rax
	mov	%rax, UREG(\from + \i)
	.endr
.endm

/* The register of a number in the site's hint (rbx). r9 = own[]; clobbers rdx. */
.macro hinted number, to
	movzbl	US_HINT_INDEX + \number(%rbx), %edx
	mov	(%r9,%rdx,8), \to
.endm

/* The number of the next changed register (rax: their mask) to the site's hint (rbx). Clobbers rdx (an index, also when none is left) and rsi. */
.macro next_hint number
	bsf	%rax, %rdx
	mov	%dl, US_HINT_INDEX + \number(%rbx)
	lea	-1(%rax), %rsi
	and	%rsi, %rax
.endm

/* Segment registers and bases to the slice, where they have changed. Clobbers rax and rcx. */
.macro save_segments
	rdfsbase %rax
	cmp	%rax, US(US_FSBASE)
	je	.Lfs\@
	mov	%rax, US(US_FSBASE)
.Lfs\@:
	rdgsbase %rax
	cmp	%rax, US(US_GSBASE)
	je	.Lgs\@
	mov	%rax, US(US_GSBASE)
.Lgs\@:
	mov	%gs, %eax
	mov	%fs, %ecx
	shl	$16, %eax
	or	%ecx, %eax
	mov	%es, %ecx
	shl	$16, %rax
	or	%rcx, %rax
	mov	%ds, %ecx
	shl	$16, %rax
	or	%rcx, %rax
	cmp	%rax, US(US_SEGS)
	je	.Lsegs\@
	mov	%rax, US(US_SEGS)
.Lsegs\@:
.endm

	.section .ustub, "ax", @progbits
	.globl stub_begin
stub_begin:
	.set us_base, stub_begin + (USHARE_BASE - USTUB_BASE)
	ud2
	.balign 8, 0xcc
/*
 * A system call from a trampoline (USTUB_SYSCALL): rcx = number of the site, r11 is free.
 * The guest's stack pointer may point anywhere, and below it is its red zone.
 *
 * All registers that the guest gets back stay here, in own[]. K learns of those that are not as regs[] says: mostly one to three,
 * whose values fit into the first line. Which ones, that is compared without a branch for each; what had changed at this site's last
 * call is a branch that the CPU predicts, and so nothing waits for the comparison.
 */
	mov	%rsp, %r11
	lea	(us_base + USHARE_STACK_TOP)(%rip), %rsp
	pushfq
	testl	$FL_UNWANTED, (%rsp)
	jnz	5f
6:	mov	%rbx, OWN(UR_RBX)
	mov	%r8, OWN(UR_R8)
	mov	%r9, OWN(UR_R9)
	mov	%r10, OWN(UR_R10)
	popq	%r8
	mov	%rax, %r10
	mov	%ecx, %ebx
	and	$(US_HINTS - 1), %ebx
	lea	US(US_HINT), %r9
	lea	(%r9,%rbx,8), %rbx
	cmpb	$0, US_HINT_MANY(%rbx)
	jne	7f
8:	xor	%r9d, %r9d
	keep	%r11, UR_RSP
	shl	$2, %r9d /* rcx and rax are not kept */
	keep	%rdx, UR_RDX
	keep_again UR_RBX
	keep	%rbp, UR_RBP
	keep	%rsi, UR_RSI
	keep	%rdi, UR_RDI
	keep	%r15, UR_R15
	keep	%r14, UR_R14
	keep	%r13, UR_R13
	keep	%r12, UR_R12
	shl	$1, %r9d /* r11 is not either */
	keep_again UR_R10
	keep_again UR_R9
	keep_again UR_R8
	mov	%ecx, %edi
	mov	%r9d, %r15d
	lea	OWN(0), %r9
3:	hinted	0, %r12
	hinted	1, %r13
	hinted	2, %r14
	cmp	%r15d, (%rbx)
	jne	1f
	mov	(%rbx), %r15d
	cmpb	$0, US_HINT_MANY(%rbx)
	jne	9f
4:	save_segments
	mov	%r8d, US(US_EFL)
	mov	%edi, US(US_NUMBER)
	mov	%r10, US(US_RAX)
	mov	%r12, US(US_WORD)
	mov	%r13, US(US_WORD + 8)
	mov	%r14, US(US_WORD + 16)
	mov	%r15d, US(US_CHANGED)
	movl	$WHY_SYSCALL, US(US_WHY)
	jmp	stub_give
5:	pushq	$2
	popfq
	jmp	6b
7:	prefetchw UREG(UR_RDI) /* a register of that line has changed as good as always then, and the way across takes time */
	jmp	8b
1:	mov	%r15d, (%rbx)
	mov	%r15d, %eax
	xor	%edx, %edx
	next_hint 0
	next_hint 1
	next_hint 2
	test	%eax, %eax
	setne	US_HINT_MANY(%rbx)
	jmp	3b
9:	test	$0xff, %r15d
	jz	1f
	copy_line 0
1:	test	$0xff00, %r15d
	jz	1f
	copy_line 8
1:	xor	%r15d, %r15d
	jmp	4b

/*
 * Signal handler: rdi = signal, rsi = siginfo, rdx = ucontext, on the alternate
 * stack.  The guest's flags are still in force (NT would make iretq fault).
 */
	.globl stub_handler
stub_handler:
	pushq	$2
	popfq
	mov	%rdx, %rbx
	mov	%edi, %r14d
	lea	stub_begin(%rip), %r8
	mov	GREG(UR_RIP), %rcx
	sub	%r8, %rcx
	cmp	$(stub_end - stub_begin), %rcx
	jb	in_stub
take_event:
	mov	28(%rsi), %eax
	mov	%eax, US(US_SI_ARCH)
	mov	16(%rsi), %rax
	mov	%rax, US(US_CALL_ADDR)
	lea	UC_GREGS(%rbx), %rsi
	lea	UREG(0), %rdi
	mov	$UR_COUNT, %ecx
	rep movsq
restore_fpu:
	/* Signal delivery has reset the vector registers: the guest's are in the frame. */
	mov	UC_FPREGS(%rbx), %rdi
	mov	$-1, %eax
	mov	%eax, %edx
	xrstor64 (%rdi)
	jmp	stub_post

/* The signal interrupted the stub itself; rcx = offset. */
in_stub:
	cmp	$U_SIG_KICK, %r14d
	jne	fault_in_stub
	cmp	$(stub_batch_end - stub_begin), %rcx
	jae	1f
	cmp	$(stub_batch - stub_begin), %rcx
	jb	1f
	/* In a batch: the frame holds the secret. Wipe it and begin the loop again. */
	mov	UC_FPREGS(%rbx), %rdi
	mov	$-1, %eax
	mov	%eax, %edx
	xrstor64 (%rdi)
	lea	UC_GREGS(%rbx), %rdi
	xor	%eax, %eax
	mov	$UR_COUNT, %ecx
	rep stosq
	jmp	stub_batch
1:	cmp	$(stub_resume_end - stub_begin), %rcx
	jae	2f
	cmp	$(stub_resume - stub_begin), %rcx
	jb	2f
	/* About to enter guest code: K still knows its registers. */
	mov	$WHY_KICKED, %r14d
	jmp	restore_fpu
2:	/* Anywhere else the kick has nothing to interrupt: go on. */
	mov	UC_FPREGS(%rbx), %rdi
	mov	$-1, %eax
	mov	%eax, %edx
	xrstor64 (%rdi)
	pushq	$0x2b
	pushq	GREG(UR_RSP)
	pushq	GREG(UR_EFL)
	pushq	$0x33
	pushq	GREG(UR_RIP)
	mov	GREG(UR_R8), %r8
	mov	GREG(UR_R9), %r9
	mov	GREG(UR_R10), %r10
	mov	GREG(UR_R11), %r11
	mov	GREG(UR_R12), %r12
	mov	GREG(UR_R13), %r13
	mov	GREG(UR_R14), %r14
	mov	GREG(UR_R15), %r15
	mov	GREG(UR_RDI), %rdi
	mov	GREG(UR_RSI), %rsi
	mov	GREG(UR_RBP), %rbp
	mov	GREG(UR_RDX), %rdx
	mov	GREG(UR_RAX), %rax
	mov	GREG(UR_RCX), %rcx
	mov	GREG(UR_RBX), %rbx
	iretq

/*
 * A fault at an instruction of the stub.  In the resume window it is iretq that
 * refuses the guest's registers (a non-canonical rip): those stay the event's
 * registers.  Anywhere else guest code has jumped here: its own fault.
 */
fault_in_stub:
	cmp	$(stub_touch - stub_begin), %rcx
	je	touch_failed
	cmp	$(stub_batch_end - stub_begin), %rcx
	jae	1f
	cmp	$(stub_batch - stub_begin), %rcx
	jae	fault_in_batch
1:
	cmp	$(stub_resume_end - stub_begin), %rcx
	jae	take_event
	cmp	$(stub_resume - stub_begin), %rcx
	jb	take_event
	mov	GREG(UR_ERR), %rax
	mov	%rax, UREG(UR_ERR)
	mov	GREG(UR_TRAPNO), %rax
	mov	%rax, UREG(UR_TRAPNO)
	mov	GREG(UR_CR2), %rax
	mov	%rax, UREG(UR_CR2)
	jmp	restore_fpu

/* Guest code has jumped here, maybe with TF set, and there may be a batch: nothing of it stays in frame or memory. */
fault_in_batch:
	lea	UC_GREGS(%rbx), %rdi
	xor	%eax, %eax
	mov	$UR_COUNT, %ecx
	rep stosq
	lea	(us_base + USHARE_BATCH)(%rip), %rdi
	mov	$(USHARE_BATCH_MAX * 8), %ecx
	rep stosq
	jmp	take_event

/* No guest code has run since the frame's vector registers were the guest's. */
touch_failed:
	mov	UC_FPREGS(%rbx), %rdi
	mov	$-1, %eax
	mov	%eax, %edx
	xrstor64 (%rdi)
	movl	$-14, US(US_BATCH_ERR)
	mov	GREG(UR_RBX), %rax
	movl	$UBATCH_SKIP, (%rax)
	jmp	stub_batch

/* Tell K what happened (r14d) and wait for its word. */
stub_post:
	lea	(us_base + USHARE_STACK_TOP)(%rip), %rsp
	save_segments
	mov	%r14d, US(US_WHY)
stub_give:
	mov	$TURN_K, %eax
	xchg	%eax, US(US_TURN)
	cmpl	$0, US(US_K_SLEEPS)
	je	stub_wait
	movl	$0, US(US_K_SLEEPS)
	mov	$NR_futex, %eax
	lea	US(US_TURN), %rdi
	mov	$1, %esi
	mov	$1, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	syscall
U_ALLOW(STUB_SYS_WAKE, futex, IN_PAGE(0, USHARE_BASE), LOW(1, FUTEX_WAKE))
	.globl stub_sys_wake
stub_sys_wake:

/* The first looks come without a pause, which costs 30 to 60 ns: most system calls are answered by then. */
stub_wait:
	movzwl	US(US_SPIN), %ecx /* at most some milliseconds, whoever has written there */
	xor	%edx, %edx
	test	%ecx, %ecx
	jz	2f
	mov	$QUICK_LOOKS, %edx
2:	inc	%ecx
1:	cmpl	$TURN_U, US(US_TURN)
	je	3f
	dec	%edx
	jg	1b
	pause
	dec	%ecx
	jnz	1b
stub_sleep:
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%rax, US(US_SLEPT_AT)
	lea	(us_base + USHARE_SIZE)(%rip), %rdi
	mov	US(US_SLOT), %eax
	and	$(MAX_U - 1), %eax
	lea	(%rdi,%rax,4), %rdi
	mov	(%rdi), %edx
	mov	$1, %eax
	xchg	%eax, US(US_U_SLEEPS)
	cmpl	$TURN_U, US(US_TURN)
	je	3f
	mov	$NR_futex, %eax
	xor	%esi, %esi
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	syscall
U_ALLOW(STUB_SYS_WAIT, futex, IS(0, UBELLS_BASE + 4 * slot), LOW(1, FUTEX_WAIT))
	.globl stub_sys_wait
stub_sys_wait:
	jmp	stub_wait

/* K goes on with another U on this CPU: ring its bell, then make room. */
stub_handoff:
	mov	$TURN_K, %eax
	xchg	%eax, US(US_TURN)
	test	$UCMD_RING, %ebp
	jz	stub_yield
	lea	(us_base + USHARE_SIZE)(%rip), %rdi
	mov	US(US_NEXT), %eax
	and	$(MAX_U - 1), %eax
	lea	(%rdi,%rax,4), %rdi
	mov	$NR_futex, %eax
	mov	$1, %esi
	mov	$1, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	syscall
U_ALLOW(STUB_SYS_RING, futex, IN_PAGE(0, UBELLS_BASE), LOW(1, FUTEX_WAKE))
	.globl stub_sys_ring
stub_sys_ring:

/*
 * Stay ready to run once more: two programs that talk to each other take turns by yielding the CPU, which costs a third of
 * going to sleep and being woken. Not longer: with a third one they would only go round.
 */
stub_yield:
	cmpl	$0, US(US_SPIN)
	je	stub_sleep
	mov	$YIELDS, %r12d
1:	mov	$NR_sched_yield, %eax
	syscall
U_ALLOW(STUB_SYS_YIELD, sched_yield)
	.globl stub_sys_yield
stub_sys_yield:
	cmpl	$TURN_U, US(US_TURN)
	je	3f
	dec	%r12d
	jnz	1b
	jmp	stub_sleep

3:	cmpl	$0, US(US_U_SLEEPS)
	je	1f
	movl	$0, US(US_U_SLEEPS)
1:	mov	US(US_CMD), %ebp
	test	$UCMD_HANDOFF, %ebp
	jnz	stub_handoff
	test	$UCMD_SEGS, %ebp
	jz	1f
	mov	US(US_SEGS), %ds
	mov	US(US_SEGS + 2), %es
	mov	US(US_SEGS + 4), %fs
	mov	US(US_SEGS + 6), %gs
1:	test	$UCMD_BASES, %ebp
	jz	4f
	mov	US(US_FSBASE), %rax
	wrfsbase %rax
	mov	US(US_GSBASE), %rax
	wrgsbase %rax
4:	test	$UCMD_BATCH, %ebp
	jz	after_batch

/*
 * Run K's operations.  They come through a pipe, not through the slice: guest code that pretends to be waiting, and runs,
 * can read the slice; behind this read nothing but the stub runs until all is wiped.  The read may also find nothing:
 * a kick has begun the loop again, with the operations in memory, or guest code has jumped here.
 */
stub_batch:
	xor	%eax, %eax /* read */
	xor	%edi, %edi
	lea	(us_base + USHARE_BATCH)(%rip), %rsi
	mov	$(USHARE_BATCH_MAX * 64), %edx
	syscall
U_ALLOW(STUB_SYS_READ, read, LOW(0, U_FD_BATCH), IS(1, USHARE_BASE + USHARE_BATCH), IS(2, USHARE_BATCH_MAX * 64))
	.globl stub_sys_read
stub_sys_read:
	cld	/* whoever has jumped to the read */
	lea	(us_base + USHARE_BATCH)(%rip), %r12
	lea	(USHARE_BATCH_MAX * 64)(%r12), %r13
	mov	%r12, %rbx
5:	cmp	%r13, %rbx
	jae	6f
	mov	(%rbx), %rax
	test	%eax, %eax
	jz	6f
	cmp	$UBATCH_SKIP, %eax
	je	7f
	mov	8(%rbx), %rdi
	mov	16(%rbx), %rsi
	mov	24(%rbx), %rdx
	mov	32(%rbx), %r10
	mov	40(%rbx), %r8
	mov	48(%rbx), %r9
	cmp	$UBATCH_TOUCH, %eax
	je	stub_touch
	cmp	$UBATCH_DONE, %eax
	je	8f
	syscall
/* The secret is in argument bits that the kernel ignores. Guest memory only: RAM, or one of pmem's. */
U_ALLOW(STUB_SYS_BATCH, mmap, HIGH(2, secret[0]), HIGH(3, secret[0] >> 32), HIGH(4, secret[1]), LOW(3, MAP_SHARED | MAP_FIXED), LOW(4, U_FD_RAM))
U_ALLOW(STUB_SYS_BATCH, mmap, HIGH(2, secret[0]), HIGH(3, secret[0] >> 32), HIGH(4, secret[1]), LOW(3, MAP_SHARED | MAP_FIXED), RANGE(4, U_FD_PMEM, U_PMEM_MAX))
U_ALLOW(STUB_SYS_BATCH, munmap, IS(2, secret[2]), IS(3, secret[3]))
U_ALLOW(STUB_SYS_BATCH, mprotect, IS(3, secret[2]), IS(4, secret[3]))
	.globl stub_sys_batch
stub_sys_batch:
	cmp	$-4095, %rax
	jb	7f
	mov	%eax, US(US_BATCH_ERR)
7:	add	$64, %rbx
	jmp	5b

/* The mapping may have failed: a fault here ends the operation, see fault_in_stub. The secret is not in these operations. */
stub_touch:
	movb	(%rdi), %al
	add	$0x10000, %rdi
	cmp	%rsi, %rdi
	jb	stub_touch
	jmp	7b

8:	mov	%rdi, US(US_BATCH_DONE) /* K's token: nobody else has seen it */
6:	lea	(us_base + USHARE_BATCH)(%rip), %rdi
	mov	$(USHARE_BATCH_MAX * 8), %ecx /* all of it: a kick may have begun the loop again when the first ones were wiped */
	xor	%eax, %eax
	rep stosq
	xor	%edx, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	xor	%r9d, %r9d
stub_batch_end:
	mov	US(US_CMD), %ebp
	/* What the host has refused may have been to take a page away: guest code must not run on with it. */
	cmpl	$0, US(US_BATCH_ERR)
	je	after_batch
	and	$~UCMD_RESUME, %ebp

after_batch:
	lea	(us_base + USHARE_XAREA)(%rip), %rdi
	mov	US(US_XMASK), %eax
	mov	(us_base + US_XMASK + 4)(%rip), %edx
	test	$UCMD_XSAVE, %ebp
	jz	1f
	movq	$0, 512(%rdi)
	test	$UCMD_XINUSE, %ebp
	jz	8f
	mov	$1, %ecx
	xgetbv
	or	$3, %eax
	and	US(US_XMASK), %eax
	and	(us_base + US_XMASK + 4)(%rip), %edx
8:	xsave64	(%rdi)
	mov	US(US_XMASK), %eax
	mov	(us_base + US_XMASK + 4)(%rip), %edx
1:	test	$UCMD_XRSTOR, %ebp
	jz	2f
	xrstor64 (%rdi)
2:	test	$UCMD_RESUME, %ebp
	jnz	stub_resume
	test	$UCMD_PARK, %ebp
	jz	stub_done
	xor	%eax, %eax /* read */
	mov	$U_FD_TOKEN, %edi
	lea	US(US_TOKEN), %rsi
	mov	$8, %edx
	syscall
U_ALLOW(STUB_SYS_TOKEN, read, LOW(0, U_FD_TOKEN), IS(1, USHARE_BASE + US_TOKEN), IS(2, 8))
	.globl stub_sys_token
stub_sys_token:
/* From here on, whoever has come here and however, it goes to the wait and nowhere else: K takes the token for that. */
stub_done:
	mov	$WHY_DONE, %r14d
	jmp	stub_post
stub_kicked:
	mov	$WHY_KICKED, %r14d
	jmp	stub_post

/*
 * Enter guest code with the registers in the slice.  A kick whose signal came
 * before this window had nothing to interrupt, so its word is looked at here.
 */
stub_resume:
	cmpl	$0, US(US_KICK)
	jne	stub_kicked
	test	$UCMD_FAST, %ebp
	jnz	stub_resume_fast
	lea	(us_base + USHARE_STACK_TOP)(%rip), %rsp
	pushq	$0x2b
	pushq	UREG(UR_RSP)
	pushq	UREG(UR_EFL)
	pushq	UREG(UR_CSGSFS) /* iretq takes 16 bits of it */
	pushq	UREG(UR_RIP)
	load_kept US_REGS
	mov	UREG(UR_R11), %r11
	mov	UREG(UR_RAX), %rax
	mov	UREG(UR_RCX), %rcx
	iretq

/*
 * Back from a system call by a plain jump: rcx and r11 are rip and the flags, as syscall leaves them. Of the flags the stub has
 * none set but arithmetic ones, and popfq takes 15 ns.
 */
stub_resume_fast:
	mov	US(US_EFL), %r11d
	test	$~(FL_SAHF | FL_ALWAYS), %r11d
	jnz	2f
	test	$UCMD_OWN, %ebp
	jz	1f
	load_kept US_OWN
	mov	OWN(UR_RSP), %rsp
	xor	%eax, %eax /* no overflow */
	movb	US(US_EFL), %ah
	sahf
	mov	US(US_RCX), %rcx
	mov	US(US_RAX), %rax
	jmp	*US(US_RIP)
1:	load_kept US_REGS
	mov	UREG(UR_RSP), %rsp
	xor	%eax, %eax
	movb	US(US_EFL), %ah
	sahf
	mov	US(US_RCX), %rcx
	mov	US(US_RAX), %rax
	jmp	*US(US_RIP)
2:	lea	(us_base + USHARE_STACK_TOP)(%rip), %rsp
	push	%r11
	test	$UCMD_OWN, %ebp
	jz	1f
	load_kept US_OWN
	popfq
	mov	OWN(UR_RSP), %rsp
	jmp	3f
1:	load_kept US_REGS
	popfq
	mov	UREG(UR_RSP), %rsp
3:	mov	US(US_RCX), %rcx
	mov	US(US_RAX), %rax
	jmp	*US(US_RIP)
stub_resume_end:

/*
 * First code of a new U, still in the zygote's copy of the address space: give
 * all of it back, take the filter (a struct sock_fprog that lies at USHARE_XAREA)
 * and wipe it, as it holds the secret.
 */
	.globl stub_start
stub_start:
	mov	$NR_munmap, %eax
	xor	%edi, %edi
	mov	$USHARE_LOW, %esi
	syscall
	mov	$NR_munmap, %eax
	mov	$UPATCH_BASE, %edi
	movabs	$(USTUB_BASE - UPATCH_BASE), %rsi
	syscall
	mov	$NR_munmap, %eax
	lea	stub_begin(%rip), %rdi
	and	$-4096, %rdi
	add	$0x1000, %rdi
	movabs	$USHARE_BASE, %rsi
	sub	%rdi, %rsi
	syscall
	mov	$NR_munmap, %eax
	movabs	$(UBELLS_BASE + 0x1000), %rdi
	movabs	$0x7ffffffff000, %rsi
	sub	%rdi, %rsi
	syscall
	mov	$NR_seccomp, %eax
	mov	$1, %edi
	xor	%esi, %esi
	lea	(us_base + USHARE_XAREA)(%rip), %rdx
	syscall
	test	%rax, %rax
	jz	1f
	ud2
1:	lea	(us_base + USHARE_XAREA)(%rip), %rdi
	mov	$512, %ecx
	xor	%eax, %eax
	rep stosq
	xor	%eax, %eax
	wrfsbase %rax
	wrgsbase %rax
	mov	$WHY_DONE, %r14d
	jmp	stub_post

	/* The kernel wants a restorer; nothing ever returns to it. */
	.globl stub_restorer
stub_restorer:
	ud2
	.globl stub_end
stub_end:
	/* The zygote is linked too far away for direct references. */
	.section .rodata
	.balign 8
	.globl stub_table
stub_table:
	.quad	stub_handler, stub_restorer, stub_start, stub_sys_batch, stub_sys_wait, stub_sys_wake, stub_sys_ring, stub_sys_yield, stub_sys_read, stub_sys_token
	.section .note.GNU-stack, "", @progbits
