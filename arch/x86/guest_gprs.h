/*
 * A guest's general registers into and out of struct x86_vcpu's gpr[] (the x86 encoding's order), for the
 * back ends' entry.S. Not RAX and RSP, whose ways differ.
 */
#pragma once

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
