#include "vmm/base/lock.h"
#include "vmm/base/bug.h"

#define HELD_MAX 8

/* The locks this CPU holds, innermost last. Owner CPU only; one CPU runs so far. */
static struct spinlock *held[HELD_MAX];
static uint32_t held_count;

void lock_order_acquire(struct spinlock *l)
{
	if (l->owner_plus_1)
		HV_BUG("lock of rank %u taken twice", l->rank);
	for (uint32_t i = 0; i < held_count; i++)
		if (held[i]->rank >= l->rank)
			HV_BUG("lock order: rank %u wanted while rank %u is held", l->rank, held[i]->rank);
	if (held_count == HELD_MAX)
		HV_BUG("more than %u locks held", HELD_MAX);
	held[held_count++] = l;
	l->owner_plus_1 = 1;
}

void lock_order_release(struct spinlock *l)
{
	uint32_t i = held_count;

	while (i && held[i - 1] != l)
		i--;
	if (!i)
		HV_BUG("lock of rank %u released but not held", l->rank);
	for (; i < held_count; i++)
		held[i - 1] = held[i];
	held_count--;
	l->owner_plus_1 = 0;
}
