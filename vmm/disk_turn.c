#include "vmm/disk_turn.h"

#include "vmm/platform.h"
#include "vmm/sched_cpu.h"

/* It may have been paused meanwhile, or wait behind others for a CPU. */
#define TURN_MS 5u

static struct {
	struct spinlock lock; /* LOCK_RANK_SCHED; never together with a queue's */
	/* guarded by lock */
	struct list waiting;  /* by run_link, in order of arrival */
	bool claimed;
	const struct vcpu *next; /* only it may claim until `next_until`; NULL: anyone. Never followed */
	uint64_t next_until_tsc;
} turn;

void disk_turn_init(void)
{
	spinlock_init(&turn.lock, LOCK_RANK_SCHED);
	list_init(&turn.waiting);
	turn.claimed = false;
	turn.next = NULL;
}

/* Lock held. What the hypervisor itself has at the disk is waited for like another guest's request. */
static bool is_free_for(const struct vcpu *v)
{
	return !turn.claimed &&
		(!turn.next || turn.next == v || platform_tsc() >= turn.next_until_tsc) &&
		platform_disk_ready(v->guest->disk.disk);
}

/* Lock held: the first in line is let through. NULL: nobody waits. */
static struct vcpu *call_next(void)
{
	turn.next = NULL;
	if (list_empty(&turn.waiting))
		return NULL;
	struct vcpu *v = list_entry(turn.waiting.next, struct vcpu, run_link);

	list_remove(&v->run_link);
	/* On no list and on no CPU: whoever stops it meanwhile waits for sched_place() to do it. */
	sched_set_where(v, VCPU_RUNNING, cpu_index());
	turn.next = v;
	turn.next_until_tsc = platform_tsc() + platform_ms_to_tsc(TURN_MS);
	return v;
}

bool disk_claim(struct vcpu *v)
{
	spin_lock(&turn.lock);
	bool mine = is_free_for(v);

	if (mine) {
		turn.claimed = true;
		turn.next = NULL;
	}
	spin_unlock(&turn.lock);
	return mine;
}

void disk_release(void)
{
	spin_lock(&turn.lock);
	turn.claimed = false;
	struct vcpu *v = call_next();

	spin_unlock(&turn.lock);
	if (v)
		sched_place(v);
}

void disk_wait_add(struct vcpu *v)
{
	spin_lock(&turn.lock);
	bool go = is_free_for(v) || sched_stop_wanted(v);

	if (!go && turn.next == v) { /* its turn, but not the disk's: it keeps its place */
		turn.next = NULL;
		list_push_front(&turn.waiting, &v->run_link);
		sched_set_where(v, VCPU_WAIT_DISK, 0);
	} else if (!go) {
		list_push_back(&turn.waiting, &v->run_link);
		sched_set_where(v, VCPU_WAIT_DISK, 0);
	}
	spin_unlock(&turn.lock);
	if (go)
		sched_place(v);
	else
		/* who looks whether it is free: it may sleep a millisecond, knowing of nothing at the disk */
		sched_poke_control();
}

bool disk_wait_remove(struct vcpu *v)
{
	spin_lock(&turn.lock);
	bool there = vcpu_state(v) == VCPU_WAIT_DISK;

	if (there) {
		list_remove(&v->run_link);
		sched_set_where(v, VCPU_STOPPED, 0);
	}
	spin_unlock(&turn.lock);
	return there;
}

void disk_turn_poll(uint64_t now_tsc)
{
	struct vcpu *v = NULL;

	if (list_empty(&turn.waiting))
		return;
	spin_lock(&turn.lock);
	if (!list_empty(&turn.waiting) && !turn.claimed &&
		(!turn.next || now_tsc >= turn.next_until_tsc) &&
		platform_disk_ready(list_entry(turn.waiting.next, struct vcpu, run_link)->guest->disk.disk))
		v = call_next();
	spin_unlock(&turn.lock);
	if (v)
		sched_place(v);
}
