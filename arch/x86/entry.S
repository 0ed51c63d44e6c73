/*
 * The hypervisor's first instructions. The loader's machine state is described in boot/handoff.h:
 * RDI = struct handoff in the direct map. BOOT_STACK_TOP is checked in image.h.
 */
#define BOOT_STACK_TOP (4096 + 64 * 1024)

	.section .text.entry, "ax", @progbits
	.globl _start
	.type _start, @function
_start:
	cli
	cld
	lea boot_stacks + BOOT_STACK_TOP(%rip), %rsp
	xor %ebp, %ebp
	push %rbp			/* a return address of 0 ends backtraces */
	jmp x86_start
	.size _start, . - _start

	.section .note.GNU-stack, "", @progbits
