/*
 * A guest's general registers into and out of struct x86_vcpu's gpr[] (the x86 encoding's order), for the
 * back ends' entry.S. Not RAX and RSP, whose ways differ.
 */
#pragma once

#include "arch/x86/guard_bits.h"

/* From RBX, which goes last. */
.macro load_guest_gprs
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
.endm

.macro store_guest_gprs to
	mov	%rcx, 0x08(\to)
	mov	%rdx, 0x10(\to)
	mov	%rbx, 0x18(\to)
	mov	%rbp, 0x28(\to)
	mov	%rsi, 0x30(\to)
	mov	%rdi, 0x38(\to)
	mov	%r8, 0x40(\to)
	mov	%r9, 0x48(\to)
	mov	%r10, 0x50(\to)
	mov	%r11, 0x58(\to)
	mov	%r12, 0x60(\to)
	mov	%r13, 0x68(\to)
	mov	%r14, 0x70(\to)
	mov	%r15, 0x78(\to)
.endm

/*
 * The guarded loop's additions (guard.h). First thing on the way in, any register but RBX is free: what keeps
 * the guests' predictions from the hypervisor slows the guest, and is taken back.
 */
.macro guard_leave_host
	testl	$GUARD_IBRS, guard_flags(%rip)
	jz	.Lno_ibrs\@
	mov	$GUARD_MSR_SPEC_CTRL, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
.Lno_ibrs\@:
.endm

/* Last thing before the entry: the guest's registers are loaded, and nothing is read after it. Changes flags. */
.macro guard_clear_buffers
	testl	$GUARD_VERW, guard_flags(%rip)
	jz	.Lno_verw\@
	verw	guard_selector(%rip)
.Lno_verw\@:
.endm

/*
 * First thing behind the exit once the guest's registers are stored and RSP is the stack's. No register but RBX and RSP
 * keeps what the guest left in it, for whoever speculates on; the predictions that the guest made are not the
 * hypervisor's, before its first indirect jump; nor what it left in the processor's stack of returns, before its first
 * return: 32 calls that do not return fill that with places where speculation stands still.
 */
.macro guard_enter_host
	xor	%ecx, %ecx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	xor	%edx, %edx
	testl	$GUARD_IBRS, guard_flags(%rip)
	jz	.Lno_ibrs\@
	mov	$GUARD_MSR_SPEC_CTRL, %ecx
	mov	$1, %eax
	wrmsr
.Lno_ibrs\@:
	testl	$GUARD_RSB, guard_flags(%rip)
	jz	.Lno_rsb\@
	mov	$16, %eax
.Lfill\@:
	call	.Lfirst\@
	int3
.Lfirst\@:
	call	.Lsecond\@
	int3
.Lsecond\@:
	dec	%eax
	jnz	.Lfill\@
	add	$(32 * 8), %rsp
.Lno_rsb\@:
	lfence
.endm
