/*
 * A vCPU that spins waits for another of its guest: for the holder of a lock, or for an answer. If that one waits
 * for a CPU, it gets this one's place. docs/scheduling.md, "Who spins".
 */
#include "vmm/platform.h"
#include "vmm/sched_cpu.h"

static bool meant(const struct vcpu *v, const struct vcpu *peer)
{
	uint64_t index = (uint64_t)(peer - v->guest->vcpu);

	return peer != v && (v->spin_for == SCHED_ANY_PEER || v->spin_for == index);
}

/* Whoever spun himself when he last ran hardly has what is waited for, unless he is meant by name. */
static bool may_help(const struct vcpu *v, const struct vcpu *peer)
{
	return v->spin_for != SCHED_ANY_PEER || !__atomic_load_n(&peer->spun, __ATOMIC_RELAXED);
}

enum exit_action sched_spins(struct vcpu *v, uint64_t peer)
{
	const struct guest *g = v->guest;
	bool runs = false;

	v->spin_for = peer;
	for (uint32_t i = 0; i < g->vcpu_count; i++) {
		const struct vcpu *p = &g->vcpu[i];

		if (!meant(v, p))
			continue;
		enum vcpu_state state = vcpu_state(p);

		if (state == VCPU_RUNNABLE && may_help(v, p))
			return EXIT_GIVE_WAY;
		runs |= state == VCPU_RUNNING;
	}
	return runs ? EXIT_RESUME : EXIT_YIELD;
}

/*
 * `peer` was RUNNABLE at `where`. Only if it is behind `v`: one that is before it runs first anyway. Once unlocked,
 * another CPU may run `v`.
 */
static bool exchange(struct sched_cpu *c, struct vcpu *v, struct vcpu *peer, uint32_t where)
{
	struct sched_cpu *there = &sched_cpus[where >> VCPU_CPU_SHIFT];

	sched_lock_both(c, there);
	c->left_tsc = platform_tsc();
	sched_charge(c, c->left_tsc);
	bool can = __atomic_load_n(&peer->where, __ATOMIC_ACQUIRE) == where && !sched_stop_wanted(v) &&
		v->fair.weight == peer->fair.weight && fair_allows(&peer->fair, c->index) &&
		fair_allows(&v->fair, there->index) && fair_before(v->fair.vtime, peer->fair.vtime);

	if (can) {
		c->running = NULL;
		v->gave_way++;
		fair_exchange(&v->fair, &peer->fair);
		sched_set_where(peer, VCPU_RUNNABLE, c->index);
		sched_set_where(v, VCPU_RUNNABLE, there->index);
	}
	sched_unlock_both(c, there);
	return can;
}

bool sched_give_way(struct sched_cpu *c, struct vcpu *v)
{
	struct guest *g = v->guest;
	uint32_t count = g->vcpu_count, me = (uint32_t)(v - g->vcpu);

	for (uint32_t i = 1; i < count; i++) {
		struct vcpu *p = &g->vcpu[(me + i) % count];
		uint32_t where = __atomic_load_n(&p->where, __ATOMIC_ACQUIRE);

		if (meant(v, p) && may_help(v, p) && (where & VCPU_STATE_MASK) == VCPU_RUNNABLE &&
			exchange(c, v, p, where))
			return true;
	}
	return false;
}
