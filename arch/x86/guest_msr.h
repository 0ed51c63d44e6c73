/*
 * The MSRs that a guest may touch; any other gets #GP. A table says what each one is; vcpu.c does it.
 * Source: SDM vol. 4.
 */
#pragma once

#include "vmm/base/types.h"

enum guest_msr_kind {
	GUEST_MSR_NONE,    /* #GP */
	GUEST_MSR_CONST,   /* reads `value`; only `value` may be written */
	GUEST_MSR_IGNORE,  /* reads `value`; writes do nothing */
	GUEST_MSR_LAPIC,   /* x2APIC register */
	GUEST_MSR_DEADLINE,
	GUEST_MSR_TSC,     /* the processor's; not writable */
	GUEST_MSR_BACKEND, /* the back end keeps it, somewhere: enum x86_field */
	GUEST_MSR_TSC_AUX, /* in the processor while the vCPU is live; only where there is RDTSCP */
};

/* What a written value must look like. */
enum guest_msr_check {
	GUEST_MSR_ANY, GUEST_MSR_CANONICAL, GUEST_MSR_32BIT, GUEST_MSR_IS_EFER, GUEST_MSR_IS_PAT
};

struct guest_msr {
	uint32_t msr;
	uint8_t kind;  /* enum guest_msr_kind */
	uint8_t check; /* enum guest_msr_check */
	bool pass;     /* guests may access it without an exit, if the hardware can do that */
	uint64_t value;
};

extern const struct guest_msr guest_msr_table[];
extern const uint32_t guest_msr_count;

/* NULL: no such MSR, #GP. */
const struct guest_msr *guest_msr_find(uint32_t msr);
bool guest_msr_value_ok(const struct guest_msr *m, uint64_t value);
