/*
 * Into a guest and back. The C side (vmx_run.c) calls these with RBX = struct x86_vcpu and says that
 * all registers but RSP are lost, so nothing of the hypervisor's is saved here but RSP.
 *
 * HOST_RSP in the VMCS is the vCPU itself: at the exit RSP points to gpr[], and each register is
 * stored with one instruction. Nothing may be pushed until RSP is the stack's again: interrupts are
 * off, and NMI and machine check have stacks of their own (IST).
 *
 * The second of each pair is the guarded loop's (arch/x86/guard.h).
 *
 * Returns EAX = the exit reason, or VMX_FAIL_*. RBX is as it was after an exit, lost after VMfail.
 */
#include "arch/x86/guest_gprs.h"
#include "arch/x86/vmx/offsets.h"

.macro enter name, instruction, guarded
	.globl \name
	.type \name, @function
	.balign 16
\name:
	mov	%rsp, VMX_OFF_HOST_RSP(%rbx)
	.if \guarded
	guard_leave_host
	.endif
	mov	0x00(%rbx), %rax
	load_guest_gprs
	.if \guarded
	guard_clear_buffers
	.endif
	\instruction
	/* Still here: VMfail. ZF: valid, CF: invalid. */
	mov	$VMX_FAIL_VALID, %eax
	jz	1f
	mov	$VMX_FAIL_INVALID, %eax
1:	ret
	.size \name, . - \name
.endm

	.text
	enter vmx_entry_resume, vmresume, 0
	enter vmx_entry_launch, vmlaunch, 0
	enter vmx_entry_resume_guarded, vmresume, 1
	enter vmx_entry_launch_guarded, vmlaunch, 1

.macro leave name, guarded
	.globl \name
	.type \name, @function
	.balign 16
\name:
	mov	%rax, 0x00(%rsp)
	store_guest_gprs %rsp
	mov	%rsp, %rbx
	mov	VMX_OFF_HOST_RSP(%rbx), %rsp
	.if \guarded
	guard_enter_host
	.endif
	mov	$0x4402, %eax		/* VMCS_EXIT_REASON */
	vmread	%rax, %rax
	ret
	.size \name, . - \name
.endm

	leave vmx_entry_exit, 0
	leave vmx_entry_exit_guarded, 1

	.section .note.GNU-stack, "", @progbits
