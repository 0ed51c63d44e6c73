#include "vmm/base/lock.h"
#include "vmm/base/bug.h"
#include "vmm/base/cpu.h"

/* All frame caches and a few besides, in builds that check. */
#define HELD_MAX (LOCK_DEBUG ? CPU_MAX + 8 : 1)

/* The locks that each CPU holds, innermost last. Owner CPU only. */
static struct held {
	struct spinlock *lock[HELD_MAX];
	uint32_t count;
} held_by[CPU_MAX] __attribute__((aligned(64)));

static struct held *held_here(void)
{
	uint32_t cpu = cpu_index();

	if (cpu >= CPU_MAX)
		HV_BUG("CPU %u takes a lock: there are at most %u", cpu, CPU_MAX);
	return &held_by[cpu];
}

static uint32_t owner_of(const struct spinlock *l)
{
	return __atomic_load_n(&l->owner_plus_1, __ATOMIC_RELAXED);
}

void lock_order_check(const struct spinlock *l, bool nested)
{
	const struct held *h = held_here();

	/* Only this CPU ever writes its own number there. */
	if (owner_of(l) == cpu_index() + 1)
		HV_BUG("lock of rank %u taken twice by CPU %u", l->rank, cpu_index());
	for (uint32_t i = 0; i < h->count; i++) {
		uint32_t rank = h->lock[i]->rank;

		if (nested && rank == l->rank && (uintptr_t)h->lock[i] < (uintptr_t)l)
			continue;
		if (nested && rank == l->rank)
			HV_BUG("lock order: nested rank %u wanted while rank %u at a higher address is held",
				l->rank, rank);
		if (rank >= l->rank)
			HV_BUG("lock order: rank %u wanted while rank %u is held", l->rank, rank);
	}
	if (h->count == HELD_MAX)
		HV_BUG("more than %u locks held", HELD_MAX);
}

void lock_order_acquired(struct spinlock *l)
{
	struct held *h = held_here();

	if (owner_of(l))
		HV_BUG("lock of rank %u given to CPU %u while CPU %u holds it", l->rank, cpu_index(),
			owner_of(l) - 1);
	if (h->count == HELD_MAX)
		HV_BUG("more than %u locks held", HELD_MAX);
	h->lock[h->count++] = l;
	__atomic_store_n(&l->owner_plus_1, cpu_index() + 1, __ATOMIC_RELAXED);
}

void lock_order_release(struct spinlock *l)
{
	struct held *h = held_here();
	uint32_t i = h->count;

	while (i && h->lock[i - 1] != l)
		i--;
	if (!i && owner_of(l))
		HV_BUG("lock of rank %u released by CPU %u but held by CPU %u", l->rank, cpu_index(),
			owner_of(l) - 1);
	if (!i)
		HV_BUG("lock of rank %u released but not held", l->rank);
	for (; i < h->count; i++)
		h->lock[i - 1] = h->lock[i];
	h->count--;
	__atomic_store_n(&l->owner_plus_1, 0, __ATOMIC_RELAXED);
}

void spin_wait(struct spinlock *l, uint32_t ticket)
{
	uint64_t rounds = 0;

	do {
		cpu_relax();
		rounds++;
	} while (__atomic_load_n(&l->serving, __ATOMIC_ACQUIRE) != ticket);
	__atomic_store_n(&l->contended_count, l->contended_count + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&l->spin_count, l->spin_count + rounds, __ATOMIC_RELAXED);
}
