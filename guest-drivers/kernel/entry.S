/* Entry from the hypervisor, traps, stack switches. Offsets match struct trap_frame. */
	.section .text
	.globl start
	.code64
start:
	cld
	lea boot_stack_top(%rip), %rsp
	xor %ebp, %ebp
	mov %rsi, %rdi
	call kernel_main
1:	hlt
	jmp 1b

	.globl load_tables
load_tables:
	lgdt (%rdi)
	lidt (%rsi)
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	ltr %dx
	pop %rax
	push $0x08
	push %rax
	lretq

/* Vectors 0 to 35. Those for which the processor pushes no error code push 0. */
	.altmacro
	.macro stub n
trap_\n:
	.if !((\n == 8) || (\n >= 10 && \n <= 14) || (\n == 17) || (\n == 21) || (\n == 29) || (\n == 30))
	pushq $0
	.endif
	pushq $\n
	jmp trap_common
	.endm
	.macro address n
	.quad trap_\n
	.endm
	.set i, 0
	.rept 36
	stub %i
	.set i, i + 1
	.endr

	.globl trap_syscall
trap_syscall:
	pushq $0
	pushq $0x80
	jmp trap_common

	.globl trap_spurious
trap_spurious:
	iretq

trap_common:
	cld
	push %rdi
	push %rsi
	push %rdx
	push %rcx
	push %rax
	push %r8
	push %r9
	push %r10
	push %r11
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, %rdi
	call trap_dispatch
	.globl trap_return
trap_return:
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rax
	pop %rcx
	pop %rdx
	pop %rsi
	pop %rdi
	add $16, %rsp
	iretq

	.globl stack_switch
stack_switch:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.globl thread_begin
thread_begin:
	mov %r12, %rdi
	mov %r13, %rsi
	xor %ebp, %ebp
	call sched_thread_main

	.globl user_enter
user_enter:
	cli
	push $0x1b
	push %rsi
	push $0x202
	push $0x23
	push %rdi
	mov $0x1b, %eax
	mov %eax, %ds
	mov %eax, %es
	mov (%rdx), %rdi
	mov 8(%rdx), %rsi
	mov 24(%rdx), %rcx
	mov 16(%rdx), %rdx
	xor %eax, %eax
	xor %ebx, %ebx
	xor %ebp, %ebp
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	xor %r12d, %r12d
	xor %r13d, %r13d
	xor %r14d, %r14d
	xor %r15d, %r15d
	iretq

	.section .rodata
	.balign 8
	.globl trap_stubs
trap_stubs:
	.set i, 0
	.rept 36
	address %i
	.set i, i + 1
	.endr

	.section .bss
	.balign 16
	.skip 8192
	.globl boot_stack_top
boot_stack_top:

	.section .note.GNU-stack,"",@progbits
