/*
 * A processor's first instructions after INIT-SIPI-SIPI: 16-bit real mode, CS:IP = the page's start
 * (SDM vol. 3A, "Typical AP Initialization Sequence"). smp.c copies them to a page below 1 MiB and fills
 * in what trampoline.h names. From real mode to 64-bit mode in one step: PE and PG go on together.
 *
 * Processors that start at once take turns: each waits for a token, which is its struct pcpu.
 */
#include "arch/x86/trampoline.h"

	.section .rodata, "a", @progbits
	.globl trampoline_start, trampoline_end, trampoline_long
	.balign 16
	.code16
trampoline_start:
	cli
	cld
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	TRAMPOLINE_GDTR
	mov	$0x20, %eax		/* CR4.PAE */
	mov	%eax, %cr4
	mov	TRAMPOLINE_CR3, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	/* EFER: LME, NXE */
	rdmsr
	or	$0x900, %eax
	wrmsr
	mov	$0x80000011, %eax	/* CR0: PG, ET, PE; caches on */
	mov	%eax, %cr0
	ljmpl	*TRAMPOLINE_FAR

	.code64
trampoline_long:
	mov	$0x10, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	%eax, %es
	lea	trampoline_start(%rip), %rbx
1:	xor	%eax, %eax
	xchg	%rax, TRAMPOLINE_TOKEN(%rbx)
	test	%rax, %rax
	jnz	2f
	pause
	jmp	1b
2:	cmp	$TRAMPOLINE_GO_AWAY, %rax
	je	3f
	mov	PCPU_STACK_TOP(%rax), %rsp
	mov	%rax, %rdi
	xor	%ebp, %ebp
	push	%rbp			/* a return address of 0 ends backtraces */
	jmp	*TRAMPOLINE_ENTRY(%rbx)
3:	mov	%rax, TRAMPOLINE_TOKEN(%rbx)	/* for the next that is late */
4:	cli
	hlt
	jmp	4b
trampoline_end:

	.section .note.GNU-stack, "", @progbits
