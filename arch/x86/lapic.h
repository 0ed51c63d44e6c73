/* The host's local APIC, as xAPIC or x2APIC, whichever the firmware left on; legacy PICs off. */
#pragma once

#include "vmm/base/types.h"

#define LAPIC_MMIO_BYTES PAGE_BYTES

/* Where the registers are, or 0 when they are MSRs (x2APIC). */
hpa_t lapic_mmio_base(void);
/* `mmio`: the uncached mapping of lapic_mmio_base(), or NULL. Calibrates the timer by the TSC. */
void lapic_init(volatile void *mmio);
/* The same for another CPU's own, after lapic_init(). */
void lapic_cpu_init(void);
uint32_t lapic_id(void);
uint32_t lapic_id_max(void); /* the highest that an IPI reaches in this mode */
void lapic_eoi(void);
/*
 * Sends `command` (the low half of the ICR: vector, delivery mode) to one local APIC, or to all but
 * this one. All that was stored before is seen by whoever takes it. Interrupts off.
 */
#define IPI_NMI 0x400u
void lapic_ipi(uint32_t apic_id, uint32_t command);
void lapic_ipi_others(uint32_t command);
/* One VECTOR_TIMER interrupt `ticks` of the TSC from now. */
void lapic_timer_arm(uint64_t now_tsc, uint64_t ticks);
void lapic_timer_disarm(void);
