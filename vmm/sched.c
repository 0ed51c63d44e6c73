/* Each CPU's loop: pick, run, put back, rest. docs/scheduling.md, "A CPU". */
#include "vmm/disk_turn.h"
#include "vmm/exit.h"
#include "vmm/gather.h"
#include "vmm/ladder.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"
#include "vmm/sched_cpu.h"
#include "vmm/sharing.h"

struct sched_cpu sched_cpus[CPU_MAX];
uint32_t sched_cpu_count;
uint64_t hv_entry_tsc, hv_first_guest_tsc;
static bool (*control_poll)(void); /* set once at boot */

/* Frames scrubbed in one go while idle: about a tenth of a millisecond. */
#define SCRUB_CHUNK 16u
/* CPU 0 looks at the serial port at least this often. */
#define CONTROL_MS  1u
/* While pages are taken from guests, or the disk is at work, a vCPU's turn lasts no longer than this. */
#define RECLAIM_US 200u

/* What comes between two turns is charged up to this much. */
#define SWITCH_US 10u

/* One vCPU of a guest has made another ready. */
static void wake_owner(struct virt_vcpu *v)
{
	sched_wake(v->owner);
}

void sched_init(void)
{
	uint64_t slice = platform_tsc_khz * SCHED_SLICE_US / 1000;

	sched_cpu_count = platform_cpu_count();
	for (uint32_t i = 0; i < sched_cpu_count; i++) {
		struct sched_cpu *c = &sched_cpus[i];

		*c = (struct sched_cpu){ .index = i };
		spinlock_init(&c->lock, LOCK_RANK_SCHED);
		fair_queue_init(&c->fair, i, slice);
		list_init(&c->halted);
	}
	sched_waiters_init();
	virt_wake_hook = wake_owner;
	disk_turn_init();
}

void sched_set_poll(bool (*poll)(void))
{
	control_poll = poll;
}

uint64_t sched_idle_tsc(void)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < sched_cpu_count; i++)
		sum += sched_cpus[i].idle_tsc;
	return sum;
}

void sched_cpu_stats(uint32_t cpu, struct sched_cpu_stats *out)
{
	struct sched_cpu *c = &sched_cpus[cpu];

	spin_lock(&c->lock);
	*out = (struct sched_cpu_stats){
		.idle_tsc = c->idle_tsc,
		.guest_tsc = c->guest_tsc,
		.switches = c->switches,
		.steals = c->steals,
		.wakes = c->wakes,
		.lock_contended = c->lock.contended_count,
		.waiting = c->fair.count - (c->fair.running != NULL),
		.running = c->fair.running ? sched_vcpu_of(c->fair.running) : NULL,
	};
	spin_unlock(&c->lock);
}

void sched_charge(struct sched_cpu *c, uint64_t now)
{
	fair_charge(&c->fair, now - MIN(c->charged_tsc, now));
	c->charged_tsc = now;
}

bool sched_must_leave(const struct vcpu *v)
{
	const struct sched_cpu *c = sched_this_cpu();

	return c->index == 0 || __atomic_load_n(&c->look, __ATOMIC_ACQUIRE) || sched_stop_wanted(v) ||
		sched_park_wanted();
}

/* ---- picking ----------------------------------------------------------------------------------- */

/* One that waits elsewhere and is owed more than any here. */
static void steal(struct sched_cpu *c)
{
	for (uint32_t i = 1; i < sched_cpu_count; i++) {
		struct sched_cpu *from = &sched_cpus[(c->index + i) % sched_cpu_count];

		if (!fair_behind(&from->fair, &c->fair))
			continue;
		spin_lock_pair(&c->lock, &from->lock);
		struct fair_entity *e = fair_steal(&from->fair, &c->fair);

		if (e) {
			sched_set_where(sched_vcpu_of(e), VCPU_RUNNABLE, c->index);
			c->steals++;
		}
		spin_unlock(&from->lock);
		spin_unlock(&c->lock);
		if (e)
			return;
	}
}

static void catch_up(struct sched_cpu *c)
{
	const struct fair_queue *queue[CPU_MAX];

	for (uint32_t i = 0; i < sched_cpu_count; i++)
		queue[i] = &sched_cpus[i].fair;
	fair_catch_up(&c->fair, queue, sched_cpu_count);
}

/* CPUs that those who wait on `c` may run on. Lock held. */
static uint64_t waiting_mask(const struct sched_cpu *c)
{
	uint64_t mask = 0;

	list_for_each(it, &c->fair.waiting)
		mask |= list_entry(it, struct fair_entity, link)->cpus;
	return mask;
}

static void stop_picked(struct sched_cpu *c, struct vcpu *v)
{
	spin_lock(&c->lock);
	fair_dequeue(&v->fair);
	c->running = NULL;
	sched_set_where(v, VCPU_STOPPED, 0);
	spin_unlock(&c->lock);
}

/*
 * Switching is the time of whom it is for, and so is what the loop looks at between two turns: who ends his turns at
 * once would have others pay for it. Not CPU 0's real work, hence a bound.
 */
static uint64_t turn_begin(const struct sched_cpu *c)
{
	uint64_t now = platform_tsc(), most = platform_tsc_khz * SWITCH_US / 1000;

	return now - MIN(now - c->left_tsc, most);
}

static struct vcpu *pick(struct sched_cpu *c)
{
	bool several = sched_cpu_count > 1;
	uint64_t begin = turn_begin(c);

	if (several)
		steal(c);
	spin_lock(&c->lock);
	if (several)
		catch_up(c);
	struct fair_entity *e = fair_pick(&c->fair);
	struct vcpu *v = e ? sched_vcpu_of(e) : NULL;
	uint64_t rest = several && v ? waiting_mask(c) : 0;

	__atomic_store_n(&c->look, 0, __ATOMIC_RELAXED);
	c->running = v;
	if (v) {
		sched_set_where(v, VCPU_RUNNING, c->index);
		c->charged_tsc = begin;
		c->slice_end_tsc = c->charged_tsc + fair_left(&c->fair);
		c->switches++;
	}
	spin_unlock(&c->lock);
	/* From here on who raises something kicks this CPU; what was raised before is seen. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (rest)
		(void)sched_wake_idle(rest & ~(1ull << c->index));
	if (v && UNLIKELY(sched_stop_wanted(v))) {
		stop_picked(c, v);
		return NULL;
	}
	return v;
}

/* ---- running ----------------------------------------------------------------------------------- */

/* Lock held. It sleeps unless something came meanwhile: the order of store and look matters. */
static void fall_asleep(struct sched_cpu *c, struct vcpu *v, uint64_t now)
{
	fair_dequeue(&v->fair);
	list_push_back(&c->halted, &v->run_link);
	sched_set_where(v, VCPU_HALTED, c->index);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	v->halted = !virt_has_work(v->virt, now);
	if (v->halted)
		return;
	list_remove(&v->run_link);
	fair_enqueue(&c->fair, &v->fair, &c->fair);
	sched_set_where(v, VCPU_RUNNABLE, c->index);
}

/* Where it goes after its turn. This CPU keeps nothing of it: another may run it from the unlock on. */
static void put_back(struct sched_cpu *c, struct vcpu *v, enum exit_action action, uint64_t now)
{
	virt_put(v->virt);
	__atomic_store_n(&v->spun, action == EXIT_GIVE_WAY, __ATOMIC_RELAXED);
	if (UNLIKELY(action == EXIT_GIVE_WAY) && sched_give_way(c, v))
		return;
	spin_lock(&c->lock);
	c->left_tsc = platform_tsc();
	sched_charge(c, c->left_tsc);
	c->running = NULL;
	bool stop = sched_stop_wanted(v);

	if (stop) {
		v->halted = action == EXIT_HALT && !virt_has_work(v->virt, now);
		fair_dequeue(&v->fair);
		sched_set_where(v, VCPU_STOPPED, 0);
	} else if (action == EXIT_HALT) {
		fall_asleep(c, v, now);
	} else if (action == EXIT_WAIT || action == EXIT_DISK) {
		fair_dequeue(&v->fair);
	} else {
		sched_set_where(v, VCPU_RUNNABLE, c->index);
		fair_put(&c->fair);
	}
	spin_unlock(&c->lock);
	if (stop)
		return;
	if (action == EXIT_WAIT)
		sched_waiters_add(v);
	else if (action == EXIT_DISK)
		disk_wait_add(v);
}

/* It got through a turn without waiting again. */
static void wait_over(struct vcpu *v)
{
	*(v->wait_disk ? &v->disk_wait_ns_total : &v->wait_ns_total) += platform_ns() - v->wait_since_ns;
	v->wait_since_ns = 0;
}

/* The slice's end, or sooner if this CPU has to look after pages on their way. */
static uint64_t turn_end(const struct sched_cpu *c)
{
	if (LIKELY(!platform_disk_busy() && !(c->index == 0 && ladder_active())))
		return c->slice_end_tsc;
	return MIN(c->slice_end_tsc, c->charged_tsc + platform_tsc_khz * RECLAIM_US / 1000);
}

static void run(struct sched_cpu *c, struct vcpu *v)
{
	uint64_t start = c->charged_tsc, deadline = turn_end(c);
	enum exit_action action;

	if (UNLIKELY(hv_first_guest_tsc == 0)) {
		uint64_t none = 0; /* the first of all CPUs */

		(void)__atomic_compare_exchange_n(&hv_first_guest_tsc, &none, start, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	do {
		enum virt_exit_kind kind = virt_run(v->virt, deadline);

		action = exit_table[kind](v);
	} while (LIKELY(action == EXIT_RESUME));
	uint64_t now = platform_tsc();

	v->cpu_tsc += now - start;
	c->guest_tsc += now - start;
	if (v->wait_since_ns && action != EXIT_WAIT)
		wait_over(v);
	put_back(c, v, action, now);
}

/* ---- the loop ---------------------------------------------------------------------------------- */

static void poll_halted(struct sched_cpu *c, uint64_t now)
{
	spin_lock(&c->lock);
	list_for_each_safe(it, next, &c->halted) {
		struct vcpu *v = list_entry(it, struct vcpu, run_link);

		if (!virt_has_work(v->virt, now))
			continue;
		list_remove(&v->run_link);
		v->halted = false;
		fair_enqueue(&c->fair, &v->fair, &c->fair);
		sched_set_where(v, VCPU_RUNNABLE, c->index);
		c->wakes++;
	}
	spin_unlock(&c->lock);
}

/* CPU 0's other work. True: there may be more at once. */
static bool control(uint64_t now)
{
	if (sched_waiters_any())
		sched_waiters_poll(now);
	disk_turn_poll(now);
	bool busy = control_poll && control_poll();

	busy |= ladder_poll();
	uint64_t now_ns = platform_ns();

	sampling_poll(now_ns);
	overcommit_poll(now_ns);
	sharing_poll(now_ns);
	(void)gather_poll(now_ns);
	guest_poll();
	return busy;
}

bool sched_pass(void)
{
	struct sched_cpu *c = sched_this_cpu();
	uint64_t now = platform_tsc();

	sched_park_point();
	platform_listen();
	if (platform_disk_busy())
		(void)platform_disk_poll();
	if (!list_empty(&c->halted))
		poll_halted(c, now);
	bool busy = c->index == 0 && control(now);
	struct vcpu *v = pick(c);

	if (v)
		run(c, v);
	return busy || v;
}

/* The next time that something is due here without anyone doing anything. */
static uint64_t next_deadline(struct sched_cpu *c)
{
	uint64_t next = UINT64_MAX;

	spin_lock(&c->lock);
	list_for_each(it, &c->halted) {
		uint64_t wake = virt_wake_tsc(list_entry(it, struct vcpu, run_link)->virt);

		next = MIN(next, wake);
	}
	spin_unlock(&c->lock);
	if (c->index == 0)
		next = MIN(MIN(next, sched_waiters_next_tsc()),
			platform_tsc() + platform_ms_to_tsc(CONTROL_MS));
	if (platform_disk_busy())
		next = MIN(next, platform_tsc() + platform_tsc_khz * RECLAIM_US / 4 / 1000);
	return next;
}

/* Is there one on any queue that may run here? */
static bool anyone_for(struct sched_cpu *c)
{
	for (uint32_t i = 0; i < sched_cpu_count; i++) {
		struct sched_cpu *from = &sched_cpus[i];

		if (list_empty(&from->fair.waiting))
			continue;
		spin_lock(&from->lock);
		bool found = waiting_mask(from) >> c->index & 1;
		spin_unlock(&from->lock);
		if (found)
			return true;
	}
	return false;
}

void sched_rest(void)
{
	struct sched_cpu *c = sched_this_cpu();
	uint64_t start = platform_tsc();

	if (!hv_config.scrub_idle || frame_scrub(SCRUB_CHUNK) == 0) {
		__atomic_store_n(&c->idle, 1, __ATOMIC_SEQ_CST);
		/* Whoever queues somebody now either is seen here or sees `idle`, and kicks. */
		if (!anyone_for(c) && !sched_park_wanted())
			platform_idle(next_deadline(c));
		__atomic_store_n(&c->idle, 0, __ATOMIC_SEQ_CST);
	}
	c->left_tsc = platform_tsc();
	c->idle_tsc += c->left_tsc - start;
}

_Noreturn void sched_loop(void)
{
	for (;;) {
		if (!sched_pass())
			sched_rest();
	}
}

void sched_cpu_main(void)
{
	sched_loop();
}
