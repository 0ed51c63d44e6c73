/*
 * Spinlocks with a rank. The order (docs/locks.md) is: a CPU may take a lock only of a higher rank
 * than any it holds. Debug builds check owner and order per CPU; both builds take the lock.
 * No lock is held across disk I/O, scrubbing of more than one 2 MiB block, or a guest's answer.
 * Never taken from NMI or machine-check context. Hosted: the same code (tests are one thread).
 */
#pragma once

#include "vmm/base/types.h"

enum lock_rank {
	LOCK_RANK_GUESTS = 10, /* the list of guests */
	LOCK_RANK_GUEST = 20,  /* one guest's life cycle */
	LOCK_RANK_BALLOON = 30,
	LOCK_RANK_P2M = 40,    /* one guest's p2m */
	LOCK_RANK_HEAP = 45,   /* the hypervisor's heap */
	LOCK_RANK_FRAME = 50,  /* the frame allocator */
	LOCK_RANK_SCHED = 60,
	LOCK_RANK_LOG = 90,
};

struct spinlock {
	uint32_t next;    /* ticket to hand out */
	uint32_t serving; /* ticket being served */
	uint32_t rank;
	uint32_t owner_plus_1; /* debug: CPU index + 1, 0 if free */
};

#define SPINLOCK_INIT(rank_) { .rank = (rank_) }

static inline void spinlock_init(struct spinlock *l, enum lock_rank rank)
{
	*l = (struct spinlock)SPINLOCK_INIT(rank);
}

void lock_order_acquire(struct spinlock *l); /* debug checks; HV_BUG on a violation */
void lock_order_release(struct spinlock *l);

#ifdef AEROSTAT_DEBUG
#define LOCK_DEBUG 1
#else
#define LOCK_DEBUG 0
#endif

static inline void spin_lock(struct spinlock *l)
{
	if (LOCK_DEBUG)
		lock_order_acquire(l);
	uint32_t ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&l->serving, __ATOMIC_ACQUIRE) != ticket)
		__builtin_ia32_pause();
}

static inline void spin_unlock(struct spinlock *l)
{
	if (LOCK_DEBUG)
		lock_order_release(l);
	__atomic_store_n(&l->serving, l->serving + 1, __ATOMIC_RELEASE);
}
