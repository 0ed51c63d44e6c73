/*
 * Interrupts on, halt, interrupts off: STI's shadow closes the gap before HLT to interrupts, but not to an NMI, whose
 * delivery ends the shadow (SDM vol. 2B, "STI - Set Interrupt Flag"). What interrupts its handler's return let in would
 * be over when HLT is executed: so that handler (traps.c) returns behind it.
 */
	.text
	.globl cpu_idle, cpu_idle_halt, cpu_idle_behind
	.type cpu_idle, @function
	.balign 16
cpu_idle:
	sti
cpu_idle_halt:
	hlt
cpu_idle_behind:
	cli
	ret
	.size cpu_idle, . - cpu_idle

	.section .note.GNU-stack, "", @progbits
