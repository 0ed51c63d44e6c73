/* The CPU that a hosted test plays: one for each thread, 0 unless told. */
#pragma once

#include "vmm/base/cpu.h"

extern _Thread_local uint32_t fake_cpu_index;
extern uint64_t fake_relax_count; /* atomic: calls of cpu_relax() by all threads */
