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
 * Returns RAX = the exit code, RBX as it was.
 */
#include "arch/x86/svm/offsets.h"

	.text
	.globl svm_entry
	.type svm_entry, @function
	.balign 16
svm_entry:
	push	%rbx
	pushq	SVM_OFF_HOST_HPA(%rbx)
	mov	SVM_OFF_VMCB(%rbx), %rax
	mov	0x00(%rbx), %rcx
	mov	%rcx, SVM_VMCB_RAX(%rax)
	mov	SVM_OFF_VMCB_HPA(%rbx), %rax
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
	clgi
	sti
	vmload	%rax
	vmrun	%rax
	vmsave	%rax
	pop	%rax
	vmload	%rax
	cli
	stgi
	pop	%rax
	mov	%rcx, 0x08(%rax)
	mov	%rdx, 0x10(%rax)
	mov	%rbx, 0x18(%rax)
	mov	%rbp, 0x28(%rax)
	mov	%rsi, 0x30(%rax)
	mov	%rdi, 0x38(%rax)
	mov	%r8, 0x40(%rax)
	mov	%r9, 0x48(%rax)
	mov	%r10, 0x50(%rax)
	mov	%r11, 0x58(%rax)
	mov	%r12, 0x60(%rax)
	mov	%r13, 0x68(%rax)
	mov	%r14, 0x70(%rax)
	mov	%r15, 0x78(%rax)
	mov	%rax, %rbx
	mov	SVM_OFF_VMCB(%rbx), %rax
	mov	SVM_VMCB_RAX(%rax), %rcx
	mov	%rcx, 0x00(%rbx)
	mov	SVM_VMCB_EXITCODE(%rax), %rax
	ret
	.size svm_entry, . - svm_entry

	.section .note.GNU-stack, "", @progbits
