/* The host's local APIC, as xAPIC or x2APIC, whichever the firmware left on; legacy PICs off. */
#pragma once

#include "vmm/base/types.h"

#define LAPIC_MMIO_BYTES PAGE_BYTES

/* Where the registers are, or 0 when they are MSRs (x2APIC). */
hpa_t lapic_mmio_base(void);
/* `mmio`: the uncached mapping of lapic_mmio_base(), or NULL. Calibrates the timer by the TSC. */
void lapic_init(volatile void *mmio);
uint32_t lapic_id(void);
void lapic_eoi(void);
/* One VECTOR_TIMER interrupt `ticks` of the TSC from now. */
void lapic_timer_arm(uint64_t now_tsc, uint64_t ticks);
void lapic_timer_disarm(void);
