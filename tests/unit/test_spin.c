/*
 * Who spins gives his place to whom he spins for: the exchange of places (vmm/fair.h), and what the scheduler's loop
 * makes of it, turn by turn.
 */
#include "tests/unit/unit.h"

#include "tests/fake/cpu.h"
#include "tests/fake/hv.h"
#include "vmm/fair.h"
#include "vmm/sched_cpu.h"

#define SLICE	   100000u /* ticks: SCHED_SLICE_US on the fake's clock */
#define SPIN_TICKS 1000u   /* until a spinner is noticed */
#define HOLD_TICKS (5 * SLICE / 2)
#define WAKE	   50u

/* ---- the policy -------------------------------------------------------------------------------- */

#define ENTITIES 12u

static struct fair_queue queue[2];
static struct fair_entity entity[ENTITIES];

/* Virtual times of a queue in order, the running one's behind them. */
static uint32_t times(const struct fair_queue *q, uint64_t out[ENTITIES])
{
	uint32_t n = 0;

	list_for_each(it, &q->waiting)
		out[n++] = list_entry(it, struct fair_entity, link)->vtime;
	for (uint32_t i = 1; i < n; i++)
		assert_false(fair_before(out[i], out[i - 1]));
	return n;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void check_exchange(struct fair_entity *r, struct fair_entity *w)
{
	struct fair_queue *at = r->queue, *there = w->queue;
	uint64_t before[2][ENTITIES], after[2][ENTITIES], weight[2] = { at->weight, there->weight };
	uint32_t count[2] = { times(at, before[0]), times(there, before[1]) };
	uint64_t r_time = r->vtime, w_time = w->vtime;

	before[0][count[0]++] = r->vtime; /* it ran, and waits then */
	if (at == there)
		before[1][count[1]++] = r->vtime;
	fair_exchange(r, w);
	assert_true(r->queue == there && w->queue == at && !at->running);
	assert_true(r->cpu == there->cpu && w->cpu == at->cpu);
	assert_true(r->vtime == w_time && w->vtime == r_time);
	assert_true(at->weight == weight[0] && there->weight == weight[1]);
	struct fair_queue *both[2] = { at, there };

	for (uint32_t k = 0; k < 2; k++) {
		uint32_t n = times(both[k], after[k]);

		assert_int_equal(n, count[k]);
		assert_int_equal(both[k]->count, n + (both[k]->running != NULL));
		qsort(before[k], n, sizeof(uint64_t), compare);
		assert_memory_equal(before[k], after[k], n * sizeof(uint64_t));
	}
}

static void an_exchange_changes_no_queues_times(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (uint32_t round = 0; round < 20000; round++) {
		memset(entity, 0, sizeof(entity));
		for (uint32_t c = 0; c < 2; c++)
			fair_queue_init(&queue[c], c, SLICE);
		for (uint32_t i = 0; i < ENTITIES; i++) {
			fair_entity_init(&entity[i], i % 3 ? 1000 : 250, 3);
			fair_enqueue(&queue[i % 2], &entity[i], NULL);
		}
		for (uint32_t n = (uint32_t)(test_random(&seed) % 30); n; n--) {
			struct fair_queue *q = &queue[test_random(&seed) % 2];

			fair_put(q);
			(void)fair_pick(q);
			fair_charge(q, test_random(&seed) % SLICE);
		}
		struct fair_entity *r = queue[test_random(&seed) % 2].running;
		struct fair_entity *w = &entity[test_random(&seed) % ENTITIES];

		if (r && w != queue[0].running && w != queue[1].running && w->weight == r->weight)
			check_exchange(r, w);
	}
}

/* ---- the loop ---------------------------------------------------------------------------------- */

static struct guest *smp, *other;
static struct vcpu *holder; /* of smp's lock */
static uint64_t held, useful, spun;
static bool by_hypercall;

static struct vcpu *vcpu_of(struct fake_vcpu *v)
{
	return v->virt.owner;
}

/* Each vCPU of smp takes a lock, works with it for longer than a slice, and gives it up. */
static enum virt_exit_kind code(struct fake_vcpu *v, uint64_t deadline)
{
	struct vcpu *me = vcpu_of(v);
	uint64_t start = fake_tsc;

	while (fake_virt_take(v) >= 0)
		;
	if (me->guest != smp) {
		fake_tsc = deadline;
		return VIRT_EXIT_DEADLINE;
	}
	if (holder == NULL) {
		holder = me;
		held = 0;
	}
	if (holder != me) {
		fake_tsc += SPIN_TICKS;
		spun += SPIN_TICKS;
		return by_hypercall ? fake_virt_hypercall(v, AERO_HC_YIELD, (uint64_t)(holder - smp->vcpu), 0, 0) :
				      VIRT_EXIT_SPIN;
	}
	fake_tsc = MIN(deadline, start + HOLD_TICKS - held);
	held += fake_tsc - start;
	useful += fake_tsc - start;
	if (held >= HOLD_TICKS)
		holder = NULL;
	return VIRT_EXIT_DEADLINE;
}

static struct guest *make(const char *name, uint32_t vcpus)
{
	struct config_guest c = fake_hv_config(name, 4);
	char error[CONFIG_ERROR_BYTES];
	struct guest *g;

	c.vcpus = vcpus;
	assert_int_equal(guest_create(&c, &g, error), OK);
	for (uint32_t i = 1; i < vcpus; i++) {
		virt_raise(g->vcpu[i].virt, WAKE);
		sched_wake(&g->vcpu[i]);
	}
	return g;
}

static int setup(void **state)
{
	(void)state;
	virt_caps.real_mode = true;
	fake_hv_start(4096);
	fake_virt_code = code;
	fake_tsc_step = 1;
	holder = NULL;
	held = useful = spun = 0;
	by_hypercall = false;
	smp = make("smp", 3);
	other = make("other", 3);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_hv_destroy_all();
	fake_tsc_step = 0;
	virt_caps.real_mode = false;
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

static void passes(uint32_t n)
{
	while (n--)
		if (!sched_pass())
			fake_tsc += SLICE;
}

static uint64_t ran(const struct guest *g)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < g->vcpu_count; i++)
		sum += g->vcpu[i].cpu_tsc;
	return sum;
}

/* Spinning costs next to nothing, and the other guest has its half: neither more nor less. */
static void little_is_spent_spinning(void **state)
{
	(void)state;
	passes(6000);
	assert_true(useful > 100 * (uint64_t)SLICE);
	assert_true(spun < ran(smp) / 20);
	assert_true(smp->vcpu[0].gave_way + smp->vcpu[1].gave_way + smp->vcpu[2].gave_way > 10);
	uint64_t mine = ran(smp), theirs = ran(other), off = mine > theirs ? mine - theirs : theirs - mine;

	assert_true(off <= 6 * (uint64_t)SLICE);
}

static void nor_if_it_says_for_whom(void **state)
{
	by_hypercall = true;
	little_is_spent_spinning(state);
}

static enum virt_exit_kind nothing(struct fake_vcpu *v, uint64_t deadline)
{
	(void)v;
	fake_tsc = deadline;
	return VIRT_EXIT_DEADLINE;
}

/* What sched_spins() answers, by where the one is that is spun for. */
static void answers(void **state)
{
	(void)state;
	fake_virt_code = nothing;
	struct vcpu *v = &smp->vcpu[0], *peer = &smp->vcpu[1];

	assert_int_equal(vcpu_state(peer), VCPU_RUNNABLE);
	assert_int_equal(sched_spins(v, 1), EXIT_GIVE_WAY);
	assert_int_equal(sched_spins(v, SCHED_ANY_PEER), EXIT_GIVE_WAY);
	assert_int_equal(sched_spins(v, 0), EXIT_YIELD); /* itself */
	/* Both others spun when they last ran: by name one is still meant. */
	peer->spun = smp->vcpu[2].spun = true;
	assert_int_equal(sched_spins(v, SCHED_ANY_PEER), EXIT_YIELD);
	assert_int_equal(sched_spins(v, 1), EXIT_GIVE_WAY);
	assert_int_equal(guest_pause(smp), OK);
	assert_int_equal(sched_spins(v, 1), EXIT_YIELD);
	assert_int_equal(guest_unpause(smp), OK);
	/* Another's vCPUs are none of a guest's business, nor is one that it has not. */
	assert_int_equal(fake_hv_call(smp, AERO_HC_YIELD, 3, 0, 0), -AERO_EINVAL);
	assert_int_equal(fake_hv_call(smp, AERO_HC_YIELD, 1ull << 32, 0, 0), -AERO_EINVAL);
}

static bool two_behind; /* it has run, so that its place is behind */

static enum virt_exit_kind in_turn(struct fake_vcpu *v, uint64_t deadline)
{
	while (fake_virt_take(v) >= 0)
		;
	if (vcpu_of(v) == &smp->vcpu[0] && two_behind) {
		fake_tsc += SPIN_TICKS;
		return VIRT_EXIT_SPIN;
	}
	fake_tsc = deadline;
	return VIRT_EXIT_DEADLINE;
}

/* Where weights differ places are not exchanged, and the turn ends all the same. */
static void not_for_all(void **state)
{
	(void)state;
	fake_virt_code = in_turn;
	passes(60);
	two_behind = true;
	const uint32_t weight = smp->vcpu[0].fair.weight; /* a part of the guest's */

	for (uint32_t i = 1; i < 3; i++)
		sched_set(&smp->vcpu[i], weight / 2, UINT64_MAX);
	uint64_t before = smp->vcpu[0].gave_way;

	passes(300);
	assert_int_equal(smp->vcpu[0].gave_way, before);
	for (uint32_t i = 1; i < 3; i++)
		sched_set(&smp->vcpu[i], weight, UINT64_MAX);
	passes(300);
	assert_true(smp->vcpu[0].gave_way > before);
	two_behind = false;
}

/* Turns that are over at once: each look at the clock takes a while here, and there are some between two turns. */
static enum virt_exit_kind storm(struct fake_vcpu *v, uint64_t deadline)
{
	while (fake_virt_take(v) >= 0)
		;
	if (vcpu_of(v)->guest != smp)
		return nothing(v, deadline);
	fake_tsc += 100;
	return by_hypercall ? fake_virt_hypercall(v, AERO_HC_YIELD, SCHED_ANY_PEER, 0, 0) : VIRT_EXIT_SPIN;
}

static void switching_is_paid_by_who_switches(void **state)
{
	(void)state;
	for (uint32_t k = 0; k < 2; k++) {
		by_hypercall = k;
		fake_virt_code = storm;
		fake_tsc_step = 50;
		passes(1000);
		uint64_t start = fake_tsc, before = ran(other);

		passes(30000);
		assert_true(fake_tsc - start > 50 * (uint64_t)SLICE);
		assert_true(ran(other) - before >= (fake_tsc - start) * 45 / 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exchange_changes_no_queues_times),
		cmocka_unit_test_setup_teardown(little_is_spent_spinning, setup, teardown),
		cmocka_unit_test_setup_teardown(nor_if_it_says_for_whom, setup, teardown),
		cmocka_unit_test_setup_teardown(answers, setup, teardown),
		cmocka_unit_test_setup_teardown(not_for_all, setup, teardown),
		cmocka_unit_test_setup_teardown(switching_is_paid_by_who_switches, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
