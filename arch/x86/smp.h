/*
 * Starting the other processors, and telling one that it should look up from what it does. vmm sees
 * platform_cpus_start() and platform_kick() (vmm/platform.h). Source: SDM vol. 3A, "Multiple-Processor
 * (MP) Initialization", "Typical AP Initialization Sequence".
 */
#pragma once

#include "arch/x86/physmap.h"

/*
 * Once at boot, before the memory map is given away: finds a place below 1 MiB for the code that a
 * processor starts with. `found` says who told of the processors, for people ("ACPI MADT", "the
 * loader's list"). Without a list (count 0) whoever answers a broadcast is started.
 */
void smp_init(const struct physmap *m, const uint32_t *apic_ids, uint32_t count, const char *found);
/* By NMI, for good: this CPU has failed (dump_begin()). Any context. */
void smp_stop_others(void);
