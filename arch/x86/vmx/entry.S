/*
 * Into a guest and back. The C side (vmx_run.c) calls these with RBX = struct x86_vcpu and says that
 * all registers but RSP are lost, so nothing of the hypervisor's is saved here but RSP.
 *
 * HOST_RSP in the VMCS is the vCPU itself: at the exit RSP points to gpr[], and each register is
 * stored with one instruction. Nothing may be pushed until RSP is the stack's again: interrupts are
 * off, and NMI and machine check have stacks of their own (IST).
 *
 * Returns EAX = the exit reason, or VMX_FAIL_*. RBX is as it was after an exit, lost after VMfail.
 */
#include "arch/x86/vmx/offsets.h"

.macro enter name, instruction
	.globl \name
	.type \name, @function
	.balign 16
\name:
	mov	%rsp, VMX_OFF_HOST_RSP(%rbx)
	mov	0x00(%rbx), %rax
	mov	0x08(%rbx), %rcx
	mov	0x10(%rbx), %rdx
	mov	0x28(%rbx), %rbp
	mov	0x30(%rbx), %rsi
	mov	0x38(%rbx), %rdi
	mov	0x40(%rbx), %r8
	mov	0x48(%rbx), %r9
	mov	0x50(%rbx), %r10
	mov	0x58(%rbx), %r11
	mov	0x60(%rbx), %r12
	mov	0x68(%rbx), %r13
	mov	0x70(%rbx), %r14
	mov	0x78(%rbx), %r15
	mov	0x18(%rbx), %rbx
	\instruction
	/* Still here: VMfail. ZF: valid, CF: invalid. */
	mov	$VMX_FAIL_VALID, %eax
	jz	1f
	mov	$VMX_FAIL_INVALID, %eax
1:	ret
	.size \name, . - \name
.endm

	.text
	enter vmx_entry_resume, vmresume
	enter vmx_entry_launch, vmlaunch

	.globl vmx_entry_exit
	.type vmx_entry_exit, @function
	.balign 16
vmx_entry_exit:
	mov	%rax, 0x00(%rsp)
	mov	%rcx, 0x08(%rsp)
	mov	%rdx, 0x10(%rsp)
	mov	%rbx, 0x18(%rsp)
	mov	%rbp, 0x28(%rsp)
	mov	%rsi, 0x30(%rsp)
	mov	%rdi, 0x38(%rsp)
	mov	%r8, 0x40(%rsp)
	mov	%r9, 0x48(%rsp)
	mov	%r10, 0x50(%rsp)
	mov	%r11, 0x58(%rsp)
	mov	%r12, 0x60(%rsp)
	mov	%r13, 0x68(%rsp)
	mov	%r14, 0x70(%rsp)
	mov	%r15, 0x78(%rsp)
	mov	%rsp, %rbx
	mov	VMX_OFF_HOST_RSP(%rbx), %rsp
	mov	$0x4402, %eax		/* VMCS_EXIT_REASON */
	vmread	%rax, %rax
	ret
	.size vmx_entry_exit, . - vmx_entry_exit

	.section .note.GNU-stack, "", @progbits
