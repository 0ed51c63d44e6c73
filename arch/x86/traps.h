/* Exceptions and interrupts taken in root mode. */
#pragma once

#include "vmm/base/types.h"

/* As trap_entry.S pushes it. */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, error_code;
	uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct trap_frame) == 176, "trap_entry.S lays this out");

struct pcpu;

/* The boot CPU's GDT, TSS and IDT; GS and FS base. The first thing of all. */
void desc_init(void);
/* The same on another CPU, whose `p` has its index and stacks. */
void desc_load(struct pcpu *p);

/*
 * A host interrupt that a VM exit acknowledged ("acknowledge interrupt on exit"): counts it and
 * signals its end to the local APIC. Also what the IDT's entries come to.
 */
void traps_external(uint8_t vector);

/* idle.S: interrupts on, halt until one comes, interrupts off. The places are for the NMI's handler. */
void cpu_idle(void);
extern const char cpu_idle_halt[], cpu_idle_behind[];

/* Prints the machine-check banks that hold an error; then stops the machine. Any context. */
_Noreturn void machine_check_stop(void);
