/* Pure. Arithmetic of clock rates. */
#pragma once

#include "vmm/base/types.h"

#define CLOCK_PIT_HZ 1193182u

/* TSC kHz from two readings: `tsc` ticks while the PIT counted `pit`. 0 if `pit` is 0. */
uint64_t clock_khz_from_pit(uint64_t tsc, uint32_t pit);
/* TSC kHz by CPUID 0x15 (and 0x16 for the crystal, in MHz of the base clock), 0: not told. */
uint64_t clock_khz_from_cpuid15(uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t base_mhz);
/* |a - b| is at most `permille` of b. */
bool clock_close(uint64_t a, uint64_t b, uint32_t permille);
/* Scale such that ns = ticks * scale / 2^32. `khz` > 0. */
uint64_t clock_ns_scale(uint64_t khz);
static inline uint64_t clock_scale(uint64_t ticks, uint64_t scale)
{
	return (uint64_t)(((unsigned __int128)ticks * scale) >> 32);
}
