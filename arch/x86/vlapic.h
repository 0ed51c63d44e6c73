/*
 * The local APIC that a guest sees: x2APIC only, in software. Time comes in as TSC values; the
 * timer counts TSC ticks divided by what the guest set. Source: SDM vol. 3A "Advanced Programmable
 * Interrupt Controller". A write to the ICR is only noted here: whoever has the other processors sends
 * it. Not offered: performance counters.
 */
#pragma once

#include "vmm/base/types.h"

enum vlapic_reg { /* MSR number - 0x800 */
	VLAPIC_ID = 0x02, VLAPIC_VERSION = 0x03, VLAPIC_TPR = 0x08, VLAPIC_PPR = 0x0a,
	VLAPIC_EOI = 0x0b, VLAPIC_LDR = 0x0d, VLAPIC_SVR = 0x0f, VLAPIC_ISR = 0x10,
	VLAPIC_TMR = 0x18, VLAPIC_IRR = 0x20, VLAPIC_ESR = 0x28, VLAPIC_LVT_CMCI = 0x2f,
	VLAPIC_ICR = 0x30, VLAPIC_LVT_TIMER = 0x32, VLAPIC_LVT_THERMAL = 0x33,
	VLAPIC_LVT_PERF = 0x34, VLAPIC_LVT_LINT0 = 0x35, VLAPIC_LVT_LINT1 = 0x36,
	VLAPIC_LVT_ERROR = 0x37, VLAPIC_TIMER_INITIAL = 0x38, VLAPIC_TIMER_CURRENT = 0x39,
	VLAPIC_TIMER_DIVIDE = 0x3e, VLAPIC_SELF_IPI = 0x3f
};

#define VLAPIC_LVT_COUNT  6u /* timer, thermal, performance, LINT0, LINT1, error */
#define VLAPIC_LVT_MASKED (1u << 16)
#define VLAPIC_SVR_ENABLE (1u << 8)
#define VLAPIC_TIMER_OFF  UINT64_MAX
#define VLAPIC_NONE       (-1)

struct vlapic {
	uint64_t irr[4], isr[4];
	uint32_t id;
	uint32_t tpr;   /* 8 bits */
	uint32_t svr;
	uint32_t esr;        /* as last latched by a write */
	uint32_t esr_raised; /* since then */
	uint32_t lvt[VLAPIC_LVT_COUNT];
	uint32_t divide;  /* the register */
	uint32_t initial; /* of the count-down timer */
	uint64_t icr;
	uint64_t timer_tsc; /* fires at this TSC, or VLAPIC_TIMER_OFF */
};

void vlapic_reset(struct vlapic *a, uint32_t id);

/* An MSR access to register `reg` (MSR - 0x800). false: #GP, nothing changed. */
bool vlapic_read(const struct vlapic *a, uint32_t reg, uint64_t now_tsc, uint64_t *value) MUST_CHECK;
bool vlapic_write(struct vlapic *a, uint32_t reg, uint64_t value, uint64_t now_tsc) MUST_CHECK;

/* IA32_TSC_DEADLINE: 0 and no effect unless the timer is in TSC-deadline mode. */
uint64_t vlapic_read_deadline(const struct vlapic *a);
void vlapic_write_deadline(struct vlapic *a, uint64_t tsc);

/* Makes an edge interrupt pending. Vectors below 16 are illegal: noted in ESR, dropped. */
void vlapic_raise(struct vlapic *a, uint32_t vector);
/* The same for every vector whose bit is set. */
void vlapic_raise_all(struct vlapic *a, const uint64_t vectors[4]);
/* What a write to the ICR asks for. */
enum vlapic_ipi_mode {
	VLAPIC_IPI_FIXED = 0, VLAPIC_IPI_LOWEST = 1, VLAPIC_IPI_SMI = 2, VLAPIC_IPI_NMI = 4,
	VLAPIC_IPI_INIT = 5, VLAPIC_IPI_STARTUP = 6
};
struct vlapic_ipi {
	uint32_t dest;
	uint8_t vector, mode, shorthand; /* shorthand: 0 none, 1 self, 2 all, 3 all but self */
	bool logical;
};
/* false: nothing is sent (an illegal vector, INIT's de-assert). */
bool vlapic_ipi_decode(uint64_t icr, struct vlapic_ipi *out) MUST_CHECK;
/* Is the x2APIC with id `id` meant, the sender's being `sender`? */
bool vlapic_ipi_is_for(const struct vlapic_ipi *ipi, uint32_t id, uint32_t sender);

/* The vector to deliver next: above the processor's priority, APIC enabled; or VLAPIC_NONE. */
int vlapic_pending(const struct vlapic *a);
/* It was delivered: IRR -> ISR. */
void vlapic_accept(struct vlapic *a, uint32_t vector);
/* Its delivery did not finish: ISR -> IRR. */
void vlapic_unaccept(struct vlapic *a, uint32_t vector);
/* Raises the timer's interrupt if it is due, and sets the next one if it is periodic. */
void vlapic_tick(struct vlapic *a, uint64_t now_tsc);
