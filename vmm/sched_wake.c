/* Waking, placing and stopping a vCPU, from any CPU: docs/scheduling.md, "A waker". */
#include "vmm/disk_turn.h"
#include "vmm/platform.h"
#include "vmm/sched_cpu.h"

static const struct fair_queue *queues[CPU_MAX]; /* of each CPU; constant after sched_init() */

void sched_vcpu_init(struct vcpu *v, uint32_t weight, uint64_t cpus)
{
	/* The queues are known once there is a vCPU to put on one. */
	for (uint32_t i = 0; i < sched_cpu_count; i++)
		queues[i] = &sched_cpus[i].fair;
	list_init(&v->run_link);
	fair_entity_init(&v->fair, weight, cpus);
	v->fair.cpu = FAIR_CPU_MAX; /* none yet */
	sched_set_where(v, VCPU_STOPPED, 0);
}

static bool claim_idle(struct sched_cpu *c)
{
	return __atomic_load_n(&c->idle, __ATOMIC_RELAXED) &&
		__atomic_exchange_n(&c->idle, 0, __ATOMIC_SEQ_CST);
}

bool sched_wake_idle(uint64_t cpus)
{
	for (uint32_t i = 0; i < sched_cpu_count; i++) {
		if ((cpus >> i & 1) && claim_idle(&sched_cpus[i])) {
			platform_kick(i);
			return true;
		}
	}
	return false;
}

/* `v` waits on the queue of `c` since just now. The exchange is the fence between the two. */
static void announce(struct sched_cpu *c, uint64_t cpus, bool preempt)
{
	if (__atomic_exchange_n(&c->idle, 0, __ATOMIC_SEQ_CST)) {
		platform_kick(c->index);
		return;
	}
	if (sched_cpu_count > 1 && sched_wake_idle(cpus))
		return;
	if (preempt) {
		__atomic_store_n(&c->look, 1, __ATOMIC_RELEASE);
		platform_kick(c->index);
	}
}

/* Lock of `c` held; `v` is on no queue. Returns whether the running one should make room for it. */
static bool enqueue(struct sched_cpu *c, struct vcpu *v)
{
	bool is_new = v->fair.cpu >= sched_cpu_count;

	if (sched_cpu_count > 1)
		fair_catch_up(&c->fair, queues, sched_cpu_count);
	fair_enqueue(&c->fair, &v->fair, is_new ? NULL : queues[v->fair.cpu]);
	sched_set_where(v, VCPU_RUNNABLE, c->index);
	if (!c->fair.running)
		return false;
	sched_charge(c, platform_tsc());
	return fair_should_preempt(&c->fair, &v->fair);
}

static struct sched_cpu *choose(const struct vcpu *v)
{
	return &sched_cpus[fair_choose(&v->fair, queues, sched_cpu_count)];
}

void sched_place(struct vcpu *v)
{
	struct sched_cpu *c = choose(v);

	if (sched_stop_wanted(v)) {
		sched_set_where(v, VCPU_STOPPED, 0);
		return;
	}
	v->halted = false;
	spin_lock(&c->lock);
	bool preempt = enqueue(c, v);
	uint64_t cpus = v->fair.cpus;
	spin_unlock(&c->lock);
	announce(c, cpus, preempt);
}

/* False: it was not HALTED there any more. */
static bool wake_halted(struct vcpu *v, uint32_t where)
{
	struct sched_cpu *from = &sched_cpus[where >> VCPU_CPU_SHIFT], *to = choose(v);
	bool still, preempt = false;
	uint64_t cpus = 0;

	sched_lock_both(from, to);
	still = __atomic_load_n(&v->where, __ATOMIC_ACQUIRE) == where;
	if (still) {
		list_remove(&v->run_link);
		v->halted = false;
		preempt = enqueue(to, v);
		to->wakes++;
		cpus = v->fair.cpus;
	}
	sched_unlock_both(from, to);
	if (still)
		announce(to, cpus, preempt);
	return still;
}

void sched_wake(struct vcpu *v)
{
	for (;;) {
		uint32_t where = __atomic_load_n(&v->where, __ATOMIC_SEQ_CST);
		uint32_t cpu = where >> VCPU_CPU_SHIFT;

		switch ((enum vcpu_state)(where & VCPU_STATE_MASK)) {
		case VCPU_RUNNING:
			if (cpu != cpu_index())
				platform_kick(cpu); /* here, it is seen at the next entry */
			return;
		case VCPU_HALTED:
			if (wake_halted(v, where))
				return;
			break;
		case VCPU_WAIT_MEMORY:
			sched_poke_control();
			return;
		case VCPU_RUNNABLE:
		case VCPU_WAIT_DISK:
		case VCPU_STOPPED:
			return; /* it looks before it goes on */
		}
	}
}

void sched_poke_control(void)
{
	if (cpu_index() != 0 && claim_idle(&sched_cpus[0]))
		platform_kick(0);
}

/*
 * As on its way into HLT, all with the lock held: whoever raised something before the store is seen after
 * it, and whoever does so after it waits for the lock. Once the lock is given up another CPU may run it.
 */
static void add_halted(struct vcpu *v)
{
	struct sched_cpu *c = choose(v);
	uint64_t cpus = v->fair.cpus;
	bool preempt = false;

	spin_lock(&c->lock);
	list_push_back(&c->halted, &v->run_link);
	sched_set_where(v, VCPU_HALTED, c->index);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	bool work = virt_has_work(v->virt, platform_tsc());

	if (work) {
		list_remove(&v->run_link);
		v->halted = false;
		preempt = enqueue(c, v);
	}
	spin_unlock(&c->lock);
	if (work)
		announce(c, cpus, preempt);
	else if (claim_idle(c))
		platform_kick(c->index); /* it counts with the timer of this one, too */
}

void sched_add(struct vcpu *v)
{
	__atomic_store_n(&v->stop, false, __ATOMIC_SEQ_CST);
	virt_put(v->virt);
	if (!v->halted || virt_has_work(v->virt, platform_tsc()))
		sched_place(v);
	else
		add_halted(v);
	/* Another of its guest's may have failed meanwhile, and its wish to stop this one been lost above. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->guest->state, __ATOMIC_RELAXED) != GUEST_RUNNING)
		sched_stop(v);
}

/* RUNNABLE or HALTED on a CPU as `where` says. False: not any more. */
static bool take_off(struct vcpu *v, uint32_t where)
{
	struct sched_cpu *c = &sched_cpus[where >> VCPU_CPU_SHIFT];

	spin_lock(&c->lock);
	bool still = __atomic_load_n(&v->where, __ATOMIC_ACQUIRE) == where;

	if (still) {
		if ((where & VCPU_STATE_MASK) == VCPU_HALTED)
			list_remove(&v->run_link);
		else
			fair_dequeue(&v->fair);
		sched_set_where(v, VCPU_STOPPED, 0);
	}
	spin_unlock(&c->lock);
	return still;
}

/* One look at where it is. True: it is STOPPED now. */
static bool try_stop(struct vcpu *v)
{
	uint32_t where = __atomic_load_n(&v->where, __ATOMIC_SEQ_CST);
	uint32_t cpu = where >> VCPU_CPU_SHIFT;

	switch ((enum vcpu_state)(where & VCPU_STATE_MASK)) {
	case VCPU_STOPPED:
		return true;
	case VCPU_RUNNABLE:
	case VCPU_HALTED:
		return take_off(v, where);
	case VCPU_WAIT_DISK:
		return disk_wait_remove(v);
	case VCPU_WAIT_MEMORY:
		if (cpu_index() != 0) {
			sched_poke_control(); /* its to take away */
			return false;
		}
		if (!sched_waiters_remove(v))
			return false;
		sched_set_where(v, VCPU_STOPPED, 0);
		return true;
	case VCPU_RUNNING:
		if (cpu != cpu_index())
			platform_kick(cpu);
		return false;
	}
	return false;
}

void sched_stop(struct vcpu *v)
{
	__atomic_store_n(&v->stop, true, __ATOMIC_SEQ_CST);
	if (try_stop(v))
		v->wait_since_ns = 0;
}

/* Kicked again only after a while: it is on its way already. */
#define STOP_ROUNDS 4096u

void sched_stop_wait(struct vcpu *v)
{
	__atomic_store_n(&v->stop, true, __ATOMIC_SEQ_CST);
	for (uint32_t round = 0; vcpu_state(v) != VCPU_STOPPED; round++) {
		if (round % STOP_ROUNDS == 0)
			(void)try_stop(v);
		sched_park_point();
		cpu_relax();
	}
	v->wait_since_ns = 0;
}

/* Off all queues first, so that no CPU reads them meanwhile. */
void sched_set(struct vcpu *v, uint32_t weight, uint64_t cpus)
{
	sched_stop_wait(v);
	fair_set_weight(&v->fair, weight);
	v->fair.cpus = cpus;
	if (v->guest->state == GUEST_RUNNING)
		sched_add(v);
}
