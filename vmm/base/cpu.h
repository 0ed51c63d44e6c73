/*
 * Which CPU runs this. Implemented in arch/x86/percpu.c; hosted tests fake it (tests/fake/cpu.h).
 * An index is constant after the CPU's start, and valid from desc_init() on.
 */
#pragma once

#include "vmm/base/types.h"

#define CPU_MAX 64u /* CPUs that the hypervisor uses */

uint32_t cpu_index(void); /* of this CPU, below CPU_MAX; the boot CPU's is 0 */
void cpu_relax(void);     /* once in each round of a loop that waits for another CPU */
