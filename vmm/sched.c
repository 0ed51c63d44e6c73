#include "vmm/sched.h"

#include "vmm/memwait.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"

/* What `run_link` is on: one list for each state but RUNNING and STOPPED (on none). */
static struct {
	struct spinlock lock; /* guards the lists and each vCPU's state */
	struct list runnable, halted, waiting;
	/* owner CPU only */
	uint64_t idle_tsc;
	bool (*poll)(void); /* set once at boot */
} sched;

uint64_t hv_entry_tsc, hv_first_guest_tsc;

/* Frames scrubbed in one go while idle: about a tenth of a millisecond. */
#define SCRUB_CHUNK 16u

static uint64_t slice_tsc(void)
{
	return platform_tsc_khz * SCHED_SLICE_US / 1000;
}

void sched_init(void)
{
	spinlock_init(&sched.lock, LOCK_RANK_SCHED);
	list_init(&sched.runnable);
	list_init(&sched.halted);
	list_init(&sched.waiting);
}

void sched_set_poll(bool (*poll)(void))
{
	sched.poll = poll;
}

uint64_t sched_idle_tsc(void)
{
	return sched.idle_tsc;
}

/* Lock held. `v` is on no list. */
static void enqueue(struct vcpu *v, enum vcpu_state state, struct list *to)
{
	v->state = state;
	list_push_back(to, &v->run_link);
}

static void make_runnable(struct vcpu *v)
{
	list_remove(&v->run_link);
	v->halted = false;
	enqueue(v, VCPU_RUNNABLE, &sched.runnable);
}

void sched_add(struct vcpu *v)
{
	spin_lock(&sched.lock);
	if (v->halted)
		enqueue(v, VCPU_HALTED, &sched.halted);
	else
		enqueue(v, VCPU_RUNNABLE, &sched.runnable);
	spin_unlock(&sched.lock);
}

void sched_remove(struct vcpu *v)
{
	spin_lock(&sched.lock);
	list_remove(&v->run_link);
	v->state = VCPU_STOPPED;
	spin_unlock(&sched.lock);
	v->wait_since_ns = 0;
}

void sched_wake(struct vcpu *v)
{
	spin_lock(&sched.lock);
	if (v->state == VCPU_HALTED)
		make_runnable(v);
	spin_unlock(&sched.lock);
}

/* Waiters stand in the order in which their waits began, however often one was entered since. */
static struct list *waiter_behind(const struct vcpu *v)
{
	struct list *at = sched.waiting.prev;

	while (at != &sched.waiting &&
		list_entry(at, struct vcpu, run_link)->wait_since_ns > v->wait_since_ns)
		at = at->prev;
	return at;
}

void sched_wait_memory(struct vcpu *v)
{
	spin_lock(&sched.lock);
	if (v->state != VCPU_STOPPED) {
		list_remove(&v->run_link);
		v->state = VCPU_WAIT_MEMORY;
		list_insert(waiter_behind(v), &v->run_link);
	}
	spin_unlock(&sched.lock);
}

/* It got through a turn without waiting again. */
static void wait_over(struct vcpu *v)
{
	v->wait_ns_total += platform_ns() - v->wait_since_ns;
	v->wait_since_ns = 0;
}

/*
 * One waiter's turn: true if it should be entered. Its page is asked for here, in the order of the
 * queue, so that whoever waits longest is served first and no entry is spent on a vain try. It is
 * also entered if it can take an interrupt where it stands: its guest's balloon runs from that.
 */
static bool waiter_ready(struct vcpu *v, uint64_t now)
{
	if (memwait_poll(v, now))
		return true;
	return now >= v->wait_enter_tsc && virt_has_work(v->virt, now) &&
		virt_interruptible(v->virt);
}

static void poll_waiting(uint64_t now)
{
	list_for_each_safe(it, next, &sched.waiting) {
		struct vcpu *v = list_entry(it, struct vcpu, run_link);

		if (waiter_ready(v, now)) {
			spin_lock(&sched.lock);
			make_runnable(v);
			spin_unlock(&sched.lock);
		}
	}
}

static void poll_halted(uint64_t now)
{
	spin_lock(&sched.lock);
	list_for_each_safe(it, next, &sched.halted) {
		struct vcpu *v = list_entry(it, struct vcpu, run_link);

		if (virt_has_work(v->virt, now))
			make_runnable(v);
	}
	spin_unlock(&sched.lock);
}

static struct vcpu *pick(void)
{
	struct vcpu *v = NULL;

	spin_lock(&sched.lock);
	if (!list_empty(&sched.runnable)) {
		v = list_entry(sched.runnable.next, struct vcpu, run_link);
		list_remove(&v->run_link);
		v->state = VCPU_RUNNING;
	}
	spin_unlock(&sched.lock);
	return v;
}

/* Where it goes after its turn, unless its exit path has put it somewhere already. */
static void put_back(struct vcpu *v, enum exit_action action)
{
	spin_lock(&sched.lock);
	if (v->state == VCPU_RUNNING) {
		v->halted = action == EXIT_HALT && !virt_has_work(v->virt, platform_tsc());
		if (v->halted)
			enqueue(v, VCPU_HALTED, &sched.halted);
		else
			enqueue(v, VCPU_RUNNABLE, &sched.runnable);
	}
	spin_unlock(&sched.lock);
}

static void run(struct vcpu *v)
{
	uint64_t start = platform_tsc(), deadline = start + slice_tsc();
	enum exit_action action;

	if (UNLIKELY(hv_first_guest_tsc == 0))
		hv_first_guest_tsc = start;
	do {
		enum virt_exit_kind kind = virt_run(v->virt, deadline);

		action = exit_table[kind](v);
	} while (LIKELY(action == EXIT_RESUME));
	v->cpu_tsc += platform_tsc() - start;
	put_back(v, action);
	if (v->wait_since_ns && v->state != VCPU_WAIT_MEMORY)
		wait_over(v);
}

/* The next time that something is due without anyone doing anything. */
static uint64_t next_deadline(void)
{
	uint64_t next = UINT64_MAX;

	spin_lock(&sched.lock);
	list_for_each(it, &sched.halted) {
		uint64_t wake = virt_wake_tsc(list_entry(it, struct vcpu, run_link)->virt);

		next = MIN(next, wake);
	}
	list_for_each(it, &sched.waiting) {
		struct vcpu *v = list_entry(it, struct vcpu, run_link);

		next = MIN(next, v->wait_retry_tsc);
	}
	spin_unlock(&sched.lock);
	return next;
}

static void idle(void)
{
	uint64_t start = platform_tsc();

	if (!hv_config.scrub_idle || frame_scrub(SCRUB_CHUNK) == 0)
		platform_idle(next_deadline());
	sched.idle_tsc += platform_tsc() - start;
}

bool sched_pass(void)
{
	uint64_t now = platform_tsc();

	if (!list_empty(&sched.halted))
		poll_halted(now);
	if (!list_empty(&sched.waiting))
		poll_waiting(now);
	bool busy = sched.poll && sched.poll();

	overcommit_poll(platform_ns());
	guest_poll();
	struct vcpu *v = pick();

	if (v)
		run(v);
	return busy || v;
}

_Noreturn void sched_loop(void)
{
	for (;;) {
		if (!sched_pass())
			idle();
	}
}

void sched_cpu_main(void)
{
	for (;;)
		platform_idle(UINT64_MAX);
}
