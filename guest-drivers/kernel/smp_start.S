/*
 * What `smp-start` (cmd_smp.c) has another vCPU do: from a start-up IPI in real mode to 64-bit mode by the
 * tables that the guest began with, then one interrupt after the other. Copied to SMP_PAGE.
 */
#include "guest-drivers/kernel/smp_start.h"

	.section .rodata
	.globl smp_code, smp_code_end, smp_interrupt
	.code16
smp_code:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	movl	$1, SMP_STAGE
	lgdtl	SMP_GDTR
	mov	%cr4, %eax
	or	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$SMP_TABLES, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x900, %eax		/* LME, NXE */
	wrmsr
	mov	%cr0, %eax
	and	$0x9fffffff, %eax	/* caches on */
	or	$0x80000001, %eax	/* PG, PE: at once */
	mov	%eax, %cr0
	ljmpl	$0x08, $SMP_PAGE + (smp_long - smp_code)
	.code64
smp_long:
	mov	$0x10, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	$SMP_STACK, %rsp
	movq	$2, SMP_STAGE
	mov	SMP_ENTRY, %rax
	test	%rax, %rax
	jz	1f
	mov	SMP_CR0, %rcx		/* into the kernel, whose tables do not execute this page */
	mov	SMP_CR3, %rbx
	mov	SMP_ARG, %rdi
	mov	SMP_RSP, %rsp		/* not used before the kernel's tables */
	xor	%ebp, %ebp
	jmp	*%rax
1:
	mov	$0x80f, %ecx		/* the APIC on */
	mov	$0x1ff, %eax
	xor	%edx, %edx
	wrmsr
	mov	$0x802, %ecx		/* its id */
	rdmsr
	mov	%rax, SMP_ID
	lidt	SMP_IDTR
	movq	$3, SMP_STAGE
2:	sti
	hlt
	jmp	2b
smp_interrupt:
	push	%rax
	push	%rcx
	push	%rdx
	lock incq SMP_COUNT
	mov	$0x80b, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq
smp_code_end:

	.section .text
	.globl smp_kernel_entry
smp_kernel_entry:
	mov	%rbx, %cr3
	mov	%rcx, %cr0
	push	%rbp
	call	smp_vcpu_main

	.section .note.GNU-stack, "", @progbits
