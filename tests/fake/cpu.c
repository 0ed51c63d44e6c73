#include "tests/fake/cpu.h"

#include <sched.h>

_Thread_local uint32_t fake_cpu_index;
uint64_t fake_relax_count;

uint32_t cpu_index(void)
{
	return fake_cpu_index;
}

/* The thread waited for may have no processor: there are fewer of them than a test has threads. */
void cpu_relax(void)
{
	__atomic_fetch_add(&fake_relax_count, 1, __ATOMIC_RELAXED);
	sched_yield();
}
