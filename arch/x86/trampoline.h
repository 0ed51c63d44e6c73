/* What trampoline.S and smp.c share: offsets in the page that a processor starts in. */
#pragma once

#define TRAMPOLINE_CR3   0xf00 /* of the tables that also map this page where it lies */
#define TRAMPOLINE_ENTRY 0xf08 /* 64-bit C, its argument the token */
#define TRAMPOLINE_TOKEN 0xf10 /* struct pcpu, for the next that takes it; 0: wait; 1: go away */
#define TRAMPOLINE_GDTR  0xf20 /* limit, base: of the table behind it */
#define TRAMPOLINE_GDT   0xf28
#define TRAMPOLINE_FAR   0xf40 /* offset, selector: into 64-bit mode */

#define TRAMPOLINE_GO_AWAY 1

#define PCPU_STACK_TOP 24 /* percpu.h asserts it */
