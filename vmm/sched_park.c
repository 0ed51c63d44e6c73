/* All other CPUs stand still: for the auditor, which reads what any of them may be changing. */
#include "vmm/platform.h"
#include "vmm/sched_cpu.h"

#define PARK_CPU_BITS 8u

/*
 * `order`: 0, or who wants it (its index + 1) and, above that, a number that no order had before: a
 * CPU that is slow to leave one order must not count for the next.
 */
static struct {
	uint64_t order;		    /* atomic */
	uint64_t number;	    /* of the last one; its owner's */
	uint64_t parked[CPU_MAX];   /* atomic: the order by which that CPU stands still */
} park;

static uint64_t current_order(void)
{
	return __atomic_load_n(&park.order, __ATOMIC_ACQUIRE);
}

void sched_park_point(void)
{
	uint32_t me = cpu_index();
	uint64_t order = current_order();

	if (LIKELY(!order) || (order & ((1u << PARK_CPU_BITS) - 1)) == me + 1)
		return;
	__atomic_store_n(&park.parked[me], order, __ATOMIC_RELEASE);
	while (current_order() == order)
		cpu_relax();
}

bool sched_park_wanted(void)
{
	return current_order() != 0;
}

static void give_order(void)
{
	uint64_t none = 0;
	uint64_t number = __atomic_add_fetch(&park.number, 1, __ATOMIC_RELAXED);
	uint64_t mine = number << PARK_CPU_BITS | (cpu_index() + 1);

	while (!__atomic_compare_exchange_n(&park.order, &none, mine, false, __ATOMIC_SEQ_CST,
		__ATOMIC_RELAXED)) {
		sched_park_point();
		none = 0;
		cpu_relax();
	}
}

void sched_park_others(void)
{
	uint32_t me = cpu_index();

	give_order();
	uint64_t order = current_order();

	for (uint32_t i = 0; i < sched_cpu_count; i++)
		if (i != me)
			platform_kick(i);
	for (uint32_t i = 0; i < sched_cpu_count; i++)
		while (i != me && __atomic_load_n(&park.parked[i], __ATOMIC_ACQUIRE) != order)
			cpu_relax();
}

void sched_unpark(void)
{
	__atomic_store_n(&park.order, 0, __ATOMIC_RELEASE);
}
