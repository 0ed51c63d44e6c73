/* What the scheduler's files share. Only vmm/sched*.c and vmm/disk_turn.c include it. */
#pragma once

#include "vmm/base/cpu.h"
#include "vmm/sched.h"

struct sched_cpu {
	struct spinlock lock; /* LOCK_RANK_SCHED; two of them by spin_lock_pair() */
	/* guarded by lock */
	struct fair_queue fair;
	struct list halted;   /* vCPUs that are HALTED here, by run_link */
	uint64_t charged_tsc; /* when the running one was last charged */
	uint64_t wakes;
	/* atomic */
	uint32_t idle;        /* 1: halts or is about to; whoever takes it to 0 kicks */
	uint32_t look;        /* somebody better waits: leave the guest */
	/* written by the owner; others read hints */
	struct vcpu *running;
	uint64_t slice_end_tsc;
	uint64_t left_tsc; /* when the last turn, or the last rest, was over */
	uint64_t idle_tsc, guest_tsc, switches, steals;
	uint32_t index;
} __attribute__((aligned(64)));

extern struct sched_cpu sched_cpus[CPU_MAX];
extern uint32_t sched_cpu_count; /* constant after sched_init() */

static inline struct sched_cpu *sched_this_cpu(void)
{
	return &sched_cpus[cpu_index()];
}

/*
 * The time since it came to where it is, to what it did there. Time in line for a CPU is nobody's; so is that
 * in line for a disk that is to write: what a guest pages out it can miss. As sched_set_where().
 */
static inline void sched_count_where(struct vcpu *v, uint64_t now)
{
	uint64_t since = now - MIN(v->where_since_tsc, now);
	enum vcpu_state was = vcpu_state(v);

	if (was == VCPU_HALTED || was == VCPU_STOPPED)
		v->idle_tsc += since;
	else if (was == VCPU_WAIT_MEMORY || (was == VCPU_WAIT_DISK && v->disk_reads))
		v->stalled_tsc += since;
	v->where_since_tsc = now;
}

/* With the lock of that CPU's queue held, or by who owns a vCPU that is on none. */
static inline void sched_set_where(struct vcpu *v, enum vcpu_state state, uint32_t cpu)
{
	sched_count_where(v, platform_tsc());
	__atomic_store_n(&v->where, (uint32_t)state | cpu << VCPU_CPU_SHIFT, __ATOMIC_RELEASE);
}

static inline bool sched_stop_wanted(const struct vcpu *v)
{
	return __atomic_load_n(&v->stop, __ATOMIC_ACQUIRE);
}

static inline struct vcpu *sched_vcpu_of(struct fair_entity *e)
{
	return container_of(e, struct vcpu, fair);
}

static inline void sched_lock_both(struct sched_cpu *a, struct sched_cpu *b)
{
	if (a == b)
		spin_lock(&a->lock);
	else
		spin_lock_pair(&a->lock, &b->lock);
}

static inline void sched_unlock_both(struct sched_cpu *a, struct sched_cpu *b)
{
	spin_unlock(&a->lock);
	if (a != b)
		spin_unlock(&b->lock);
}

/* sched_spin.c. `v` ran on `c` and leaves for EXIT_GIVE_WAY; no lock held. True: it waits elsewhere now. */
bool sched_give_way(struct sched_cpu *c, struct vcpu *v);
/* Lock of `c` held: the running one has used what it used until now. */
void sched_charge(struct sched_cpu *c, uint64_t now);
/* `v`, on no queue or list and owned by the caller, becomes RUNNABLE somewhere; or STOPPED. */
void sched_place(struct vcpu *v);
/* A waiting vCPU that may run on `cpus` (mask): if one of them idles, it is woken. */
bool sched_wake_idle(uint64_t cpus);
bool sched_park_wanted(void);
/* Stands still while another CPU wants that. No lock held, no vCPU on this CPU. */
void sched_park_point(void);

/* sched_wait.c: the vCPUs that wait for memory. */
void sched_waiters_init(void);
void sched_waiters_add(struct vcpu *v);       /* any CPU */
bool sched_waiters_remove(struct vcpu *v);    /* control; false: it was not there */
void sched_waiters_poll(uint64_t now);        /* control */
bool sched_waiters_any(void);
uint64_t sched_waiters_next_tsc(void);        /* control: when one looks again by itself */
