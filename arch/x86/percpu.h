/*
 * What one CPU owns. GS base points to it on each CPU, so this_cpu() is one load. Fields are the
 * owner CPU's only, constant after init, unless said otherwise.
 */
#pragma once

#include "arch/x86/trampoline.h"
#include "vmm/base/types.h"

/* 64-bit task state segment (SDM vol. 3A, Task Management in 64-bit Mode). */
struct __attribute__((packed)) x86_tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t iomap_base;
};
_Static_assert(sizeof(struct x86_tss) == 104, "64-bit TSS is 104 bytes");

struct boot_stacks;
struct slat_space;

enum pcpu_state {
	PCPU_STARTING,
	PCPU_ONLINE,
	PCPU_FAILED,  /* it cannot run guests, and halts */
	PCPU_REFUSED, /* the boot CPU does not want it: it halts when it sees that */
};

struct pcpu {
	struct pcpu *self; /* first: this_cpu() reads gs:0 */
	uint32_t index;
	uint32_t apic_id;
	struct boot_stacks *stacks;
	uint64_t stack_top;                /* of stacks->main: trampoline.S */
	uint32_t state;                    /* enum pcpu_state: atomic; read by the boot CPU */
	const char *why;                   /* FAILED: what was missing */
	uint64_t start_tsc;                /* when it came up */
	volatile uint64_t nmi_count;       /* NMIs taken in root mode */
	volatile uint64_t interrupt_count; /* external interrupts taken in root mode */
	uint64_t fs_base;                  /* page with the stack protector's canary at 0x28 */
	uint64_t gdt[5];                   /* null, code, data, TSS (two entries) */
	struct x86_tss tss;
	struct slat_space *running; /* it is in guest mode with, or about to be: docs/shootdown.md; atomic */
	bool vector_used; /* between vector_begin() and vector_end(): vector.c */
	uint8_t vector[512] __attribute__((aligned(16))); /* FXSAVE's: what was in the registers then */
	void *virt; /* owned by the virtualisation code (vmx/): its per-CPU state */
};

_Static_assert(offsetof(struct pcpu, stack_top) == PCPU_STACK_TOP, "trampoline.S");

/* The boot CPU's; smp.c allocates one for each other. */
extern struct pcpu boot_pcpu;

struct pcpu *smp_cpu(uint32_t index); /* of those that run; smp.c */

static inline struct pcpu *this_cpu(void)
{
	struct pcpu *p;

	__asm__("mov %%gs:0, %0" : "=r"(p));
	return p;
}
