/*
 * Into a guest and back. The C side (svm_run.c) calls svm_entry with RBX = struct x86_vcpu and says
 * that all registers but RSP are lost. VMRUN itself switches RAX, RSP, RIP, RFLAGS, the control
 * registers and most segments; VMLOAD and VMSAVE the rest of the segments and SYSCALL's MSRs.
 *
 * From CLGI to STGI nothing is delivered on this CPU, not even an NMI: between VMLOAD and VMLOAD the
 * guest's GS and TR are in the processor. RFLAGS.IF is set when VMRUN saves the host's flags, which
 * lets a physical interrupt end the guest's time (V_INTR_MASKING; APM vol. 2 "Masking Virtual
 * Interrupts"); it waits until somebody turns interrupts on.
 *
 * The second form is the guarded loop's (arch/x86/guard.h).
 *
 * Returns RAX = the exit code, RBX as it was.
 */
#include "arch/x86/guest_gprs.h"
#include "arch/x86/svm/offsets.h"

.macro enter name, guarded
	.globl \name
	.type \name, @function
	.balign 16
\name:
	push	%rbx
	pushq	SVM_OFF_HOST_HPA(%rbx)
	.if \guarded
	guard_leave_host
	.endif
	mov	SVM_OFF_VMCB(%rbx), %rax
	mov	0x00(%rbx), %rcx
	mov	%rcx, SVM_VMCB_RAX(%rax)
	mov	SVM_OFF_VMCB_HPA(%rbx), %rax
	load_guest_gprs
	clgi
	sti
	vmload	%rax
	.if \guarded
	guard_clear_buffers
	.endif
	vmrun	%rax
	vmsave	%rax
	pop	%rax
	vmload	%rax
	cli
	stgi
	pop	%rax
	store_guest_gprs %rax
	mov	%rax, %rbx
	.if \guarded
	guard_enter_host
	.endif
	mov	SVM_OFF_VMCB(%rbx), %rax
	mov	SVM_VMCB_RAX(%rax), %rcx
	mov	%rcx, 0x00(%rbx)
	mov	SVM_VMCB_EXITCODE(%rax), %rax
	ret
	.size \name, . - \name
.endm

	.text
	enter svm_entry, 0
	enter svm_entry_guarded, 1

	.section .note.GNU-stack, "", @progbits
