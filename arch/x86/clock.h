/* TSC rate and time since boot; platform.h has the rest. */
#pragma once

#include "vmm/base/types.h"

/* Finds the TSC's rate, sets platform_tsc_khz. `entry_tsc` is time 0. */
void clock_init(uint64_t entry_tsc);
/* Waits about `us`; needs clock_init(). */
void clock_spin_us(uint64_t us);
const char *clock_source(void); /* how the rate was found: "PIT", "CPUID 0x15", ... */
