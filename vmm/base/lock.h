/*
 * Spinlocks with a rank. The order (docs/locks.md) is: a CPU may wait for a lock only of a higher
 * rank than any it holds; of two locks of one rank the one at the higher address comes second, by
 * spin_lock_nested() or spin_lock_pair(). Debug builds check owner and order per CPU.
 * No lock is held across disk I/O, scrubbing of more than one 2 MiB block, or a guest's answer.
 * Interrupts are off wherever a lock is taken (the host runs with them on only while it idles), so
 * there is no form that saves them. Never taken from NMI or machine-check context.
 * Hosted: the same code; each thread plays a CPU (tests/fake/cpu.h).
 */
#pragma once

#include "vmm/base/types.h"

enum lock_rank {
	LOCK_RANK_GUESTS = 10, /* the list of guests */
	LOCK_RANK_GUEST = 20,  /* one guest's life cycle */
	LOCK_RANK_BALLOON = 30,
	LOCK_RANK_P2M = 40,    /* one guest's p2m */
	LOCK_RANK_SHARE = 41,  /* content hints */
	LOCK_RANK_SWAP = 42,   /* slots and swap buffers */
	LOCK_RANK_ZSTORE = 43, /* the compressed store */
	LOCK_RANK_HEAP = 45,   /* the hypervisor's heap */
	LOCK_RANK_FRAME_CACHE = 48, /* one CPU's frames ahead */
	LOCK_RANK_FRAME = 50,  /* the frame allocator */
	LOCK_RANK_SCHED = 60,
	LOCK_RANK_DISK = 70,   /* the queue of one disk channel */
	LOCK_RANK_LOG = 90,
};

struct spinlock {
	uint32_t next;    /* ticket to hand out; atomic */
	uint32_t serving; /* ticket being served; written by the holder */
	uint32_t rank;    /* constant after init */
	uint32_t owner_plus_1; /* debug: CPU index + 1, 0 if free; atomic */
	/* Guarded by the lock itself; written only by a CPU that had to wait. */
	uint64_t contended_count; /* acquisitions that had to wait */
	uint64_t spin_count;      /* rounds waited in all of them */
};

#define SPINLOCK_INIT(rank_) { .rank = (rank_) }

static inline void spinlock_init(struct spinlock *l, enum lock_rank rank)
{
	*l = (struct spinlock)SPINLOCK_INIT(rank);
}

/* Debug checks; HV_BUG on a violation. check: before waiting for `l`; the others: owning it. */
void lock_order_check(const struct spinlock *l, bool nested);
void lock_order_acquired(struct spinlock *l);
void lock_order_release(struct spinlock *l);

void spin_wait(struct spinlock *l, uint32_t ticket); /* until `ticket` is served, counting */

#ifdef AEROSTAT_DEBUG
#define LOCK_DEBUG 1
#else
#define LOCK_DEBUG 0
#endif

static inline void spin_acquire(struct spinlock *l)
{
	uint32_t ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);

	if (UNLIKELY(__atomic_load_n(&l->serving, __ATOMIC_ACQUIRE) != ticket))
		spin_wait(l, ticket);
	if (LOCK_DEBUG)
		lock_order_acquired(l);
}

static inline void spin_lock(struct spinlock *l)
{
	if (LOCK_DEBUG)
		lock_order_check(l, false);
	spin_acquire(l);
}

/* A lock of the same rank as one that is held, at a higher address than each such. */
static inline void spin_lock_nested(struct spinlock *l)
{
	if (LOCK_DEBUG)
		lock_order_check(l, true);
	spin_acquire(l);
}

/* Two different locks of one rank (the run queues of two CPUs), in the order of their addresses. */
static inline void spin_lock_pair(struct spinlock *a, struct spinlock *b)
{
	spin_lock((uintptr_t)a < (uintptr_t)b ? a : b);
	spin_lock_nested((uintptr_t)a < (uintptr_t)b ? b : a);
}

/* True: taken. Never waits, so any order will do; false also if this CPU holds it. */
static inline MUST_CHECK bool spin_trylock(struct spinlock *l)
{
	/* next is never behind serving: if it equals what was served before, the lock is free. */
	uint32_t ticket = __atomic_load_n(&l->serving, __ATOMIC_ACQUIRE);

	if (!__atomic_compare_exchange_n(&l->next, &ticket, ticket + 1, false, __ATOMIC_ACQUIRE,
		    __ATOMIC_RELAXED))
		return false;
	if (LOCK_DEBUG)
		lock_order_acquired(l);
	return true;
}

static inline void spin_unlock(struct spinlock *l)
{
	if (LOCK_DEBUG)
		lock_order_release(l);
	__atomic_store_n(&l->serving, l->serving + 1, __ATOMIC_RELEASE);
}
