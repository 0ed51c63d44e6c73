/*
 * vCPUs that wait for memory (vmm/memwait.h), in the order in which their waits began, whatever CPU they
 * ran on. Any CPU adds; only the control plane takes away, so it may walk the list without the lock
 * held over a try.
 */
#include "vmm/memwait.h"
#include "vmm/platform.h"
#include "vmm/sched_cpu.h"

static struct {
	struct spinlock lock; /* LOCK_RANK_SCHED; never together with a queue's */
	struct list list;     /* by run_link; guarded by lock */
} waiters;

void sched_waiters_init(void)
{
	spinlock_init(&waiters.lock, LOCK_RANK_SCHED);
	list_init(&waiters.list);
}

/* However often one was entered since, its place is by when its wait began. Lock held. */
static struct list *behind_whom(const struct vcpu *v)
{
	struct list *at = waiters.list.prev;

	while (at != &waiters.list &&
		list_entry(at, struct vcpu, run_link)->wait_since_ns > v->wait_since_ns)
		at = at->prev;
	return at;
}

void sched_waiters_add(struct vcpu *v)
{
	spin_lock(&waiters.lock);
	bool stop = sched_stop_wanted(v), disk = v->wait_disk;

	if (!stop)
		list_insert(behind_whom(v), &v->run_link);
	sched_set_where(v, stop ? VCPU_STOPPED : VCPU_WAIT_MEMORY, 0);
	spin_unlock(&waiters.lock);
	/* The disk is quick, and CPU 0's turn may be a whole slice, begun when nobody waited for it. */
	if (disk && cpu_index() != 0)
		platform_kick(0);
	sched_poke_control();
}

bool sched_waiters_remove(struct vcpu *v)
{
	spin_lock(&waiters.lock);
	bool there = vcpu_state(v) == VCPU_WAIT_MEMORY;

	if (there)
		list_remove(&v->run_link);
	spin_unlock(&waiters.lock);
	return there;
}

bool sched_waiters_any(void)
{
	return !list_empty(&waiters.list);
}

/*
 * One waiter's turn: true if it should be entered. Its page is asked for here, in the order of the
 * list, so that whoever waits longest is served first and no entry is spent on a vain try. It is
 * also entered if it can take an interrupt where it stands: its guest's balloon runs from that.
 */
static bool ready(struct vcpu *v, uint64_t now)
{
	if (sched_stop_wanted(v) || memwait_poll(v, now))
		return true;
	return now >= v->wait_enter_tsc && v->wait_interruptible && virt_has_work(v->virt, now);
}

static struct vcpu *next_of(struct list *at)
{
	spin_lock(&waiters.lock);
	struct list *next = at->next;
	spin_unlock(&waiters.lock);
	return next == &waiters.list ? NULL : list_entry(next, struct vcpu, run_link);
}

void sched_waiters_poll(uint64_t now)
{
	struct vcpu *v = next_of(&waiters.list);

	while (v) {
		bool go = ready(v, now);
		struct vcpu *next = next_of(&v->run_link);

		if (go && sched_waiters_remove(v))
			sched_place(v);
		v = next;
	}
}

uint64_t sched_waiters_next_tsc(void)
{
	uint64_t next = UINT64_MAX;

	spin_lock(&waiters.lock);
	list_for_each(it, &waiters.list) {
		const struct vcpu *v = list_entry(it, struct vcpu, run_link);

		next = MIN(next, v->wait_retry_tsc);
	}
	spin_unlock(&waiters.lock);
	return next;
}
