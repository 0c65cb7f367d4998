/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a rewritten site into the IVMM and back.  Runs in K, on whatever stack the
 * guest kernel has; nothing is pushed there except by ivmm_sti, whose site stands in
 * ordinary kernel code with a good stack.
 *
 * A signal that arrives inside these paths is sorted out by trap.c with the labels
 * given here: it finishes or restarts the last few instructions.
 */
#define VFLAGS %fs:vh@tpoff+0
#define VFLAGS1 %fs:vh@tpoff+1
#define PENDING %fs:vh@tpoff+8
#define PARK %fs:vh@tpoff+12
#define SAVE_RSP %fs:vh@tpoff+16
#define EXIT_RIP %fs:vh@tpoff+24
#define IVMM_SP %fs:vh@tpoff+32
#define FL_SET 0x3f7dd5 /* every flag but IF and the one that is always set */

	.text
/* sti: call ivmm_sti. Changes no register and no flag. */
	.globl ivmm_sti, ivmm_sti_check, ivmm_sti_pop, ivmm_sti_ret, ivmm_sti_slow
ivmm_sti:
	movb	$2, VFLAGS1
ivmm_sti_check:
	push	%rcx
	movzbl	PENDING, %ecx
	jrcxz	1f
	pop	%rcx
	jmp	ivmm_sti_slow
1:
ivmm_sti_pop:
	pop	%rcx
ivmm_sti_ret:
	ret
ivmm_sti_slow:
	popq	EXIT_RIP
	mov	%rsp, SAVE_RSP
	mov	IVMM_SP, %rsp
	pushq	$-1
	pushfq
	pushq	EXIT_RIP
	call	save_regs
	jmp	ivmm_exit

/*
 * Push struct gregs below rip and rflags, which are there already: called with the
 * return address on top, which goes back on top at the end.
 */
save_regs:
	popq	EXIT_RIP
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rbp
	pushq	SAVE_RSP
	push	%rbx
	push	%rdx
	push	%rcx
	push	%rax
	cld
	jmp	*EXIT_RIP

/* The other way round, from struct gregs at rsp up to the flags. */
.macro pop_regs
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rbx
	popq	SAVE_RSP
	pop	%rbp
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	popq	EXIT_RIP
.endm

/* Trampolines of sites come here: rsp = IVMM stack, the site's number on it. */
	.globl ivmm_site_entry
ivmm_site_entry:
	pushfq
	pushq	$0
	call	save_regs
	mov	%rsp, %rdi
	mov	18*8(%rsp), %rsi
	call	ivmm_site
	/* falls through */

/* Leave the IVMM with the struct gregs at rsp; an interrupt that is due goes first. */
	.globl ivmm_exit, ivmm_exit_end
ivmm_exit:
	cmpq	$0, PENDING	/* and PARK behind it */
	je	1f
	cmpl	$0, PARK
	jne	2f
	testb	$2, VFLAGS1
	jz	1f
2:	mov	%rsp, %rdi
	call	ivmm_deliver
	jmp	ivmm_exit
1:	testq	$FL_SET, 17*8(%rsp)
	jz	ivmm_exit_plain
	pop_regs
	popfq
	mov	SAVE_RSP, %rsp
	jmp	*EXIT_RIP

/* No flag to set, as after most events of user code: popfq takes longer than all of this. */
ivmm_exit_plain:
	mov	$1, %eax
	test	%eax, %eax /* all of the arithmetic flags are clear */
	pop_regs
	mov	SAVE_RSP, %rsp
	jmp	*EXIT_RIP
ivmm_exit_end:

/* First entry of a vCPU: rdi = struct gregs at the top of the IVMM stack. */
	.globl ivmm_start
ivmm_start:
	mov	%rdi, %rsp
	jmp	ivmm_exit

	.section .note.GNU-stack, "", @progbits
