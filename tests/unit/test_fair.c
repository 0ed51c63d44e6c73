/*
 * The fair run queues: a machine of 1 to 8 CPUs with vCPUs that sleep, wake, come, go and change
 * their masks and weights, simulated in ticks. Fixed seeds. Fairness is checked against sums of what
 * each one ran, kept here and not taken from the queues.
 */
#include "tests/unit/unit.h"

#include "vmm/fair.h"

#define SLICE	1000u
#define CPUS	8u
#define MEMBERS 24u
#define ROUND	(2.0 * MEMBERS) /* ticks: what integer virtual times may lose */

struct member {
	struct fair_entity e;
	bool exists;
	uint64_t ran, waited;		   /* ticks; `waited` since it last ran or woke */
	double ideal;			   /* fluid */
	double low[MEMBERS], high[MEMBERS]; /* of ran/w - the other's, while both wanted to run */
};

static struct machine {
	struct fair_queue q[CPUS];
	struct member m[MEMBERS];
	const struct fair_queue *all[CPUS];
	uint32_t cpus, members;
	uint32_t moves, picks;
	uint64_t seed, now;
} sim;

static uint64_t rnd(uint64_t below)
{
	return test_random(&sim.seed) % below;
}

static void begin(uint32_t cpus, uint64_t seed)
{
	memset(&sim, 0, sizeof(sim));
	sim.cpus = cpus;
	sim.seed = seed;
	for (uint32_t c = 0; c < cpus; c++) {
		fair_queue_init(&sim.q[c], c, SLICE);
		sim.q[c].vtime = (uint64_t)-5000000; /* it wraps soon */
		sim.all[c] = &sim.q[c];
	}
}

static double pair_drift(const struct member *a, const struct member *b)
{
	return (double)a->ran / a->e.weight - (double)b->ran / b->e.weight;
}

/* Its pairs are measured from now on. */
static void restart_pairs(uint32_t i)
{
	for (uint32_t j = 0; j < sim.members; j++) {
		struct member *a = &sim.m[i], *b = &sim.m[j];

		a->low[j] = a->high[j] = pair_drift(a, b);
		b->low[i] = b->high[i] = -a->low[j];
	}
	sim.m[i].waited = 0;
}

static void wake(uint32_t i, bool is_new)
{
	struct fair_entity *e = &sim.m[i].e;
	uint32_t cpu = fair_choose(e, sim.all, sim.cpus);

	assert_true(fair_allows(e, cpu));
	fair_catch_up(&sim.q[cpu], sim.all, sim.cpus);
	fair_enqueue(&sim.q[cpu], e, is_new ? NULL : &sim.q[e->cpu]);
	restart_pairs(i);
}

static uint32_t add(uint32_t weight, uint64_t cpus)
{
	uint32_t i = sim.members++;

	assert_true(i < MEMBERS);
	fair_entity_init(&sim.m[i].e, weight, cpus);
	sim.m[i].exists = true;
	wake(i, true);
	return i;
}

/* What the lead's loop does on each CPU between two turns. */
static void schedule(uint32_t c)
{
	struct fair_queue *q = &sim.q[c];

	if (q->running && fair_left(q) == 0)
		fair_put(q);
	if (q->running)
		return;
	fair_catch_up(q, sim.all, sim.cpus);
	for (uint32_t k = 1; k < sim.cpus; k++) {
		struct fair_queue *from = &sim.q[(c + k) % sim.cpus];

		const struct fair_entity *e = fair_behind(from, q) ? fair_steal(from, q) : NULL;

		if (e)
			assert_true(e->queue == q && fair_allows(e, c));
		sim.moves += e != NULL;
	}
	sim.picks += fair_pick(q) != NULL;
}

static void check_queue(uint32_t c)
{
	const struct fair_queue *q = &sim.q[c];
	uint32_t count = q->running != NULL;
	uint64_t weight = q->running ? q->running->weight : 0, last = q->vtime;

	list_for_each(it, &q->waiting) {
		const struct fair_entity *e = list_entry(it, struct fair_entity, link);

		assert_false(fair_before(e->vtime, last));
		assert_ptr_equal(e->queue, q);
		last = e->vtime;
		count++;
		weight += e->weight;
	}
	assert_int_equal(count, q->count);
	assert_int_equal(weight, q->weight);
}

/* No CPU idles while somebody it may run waits. */
static void check_conserving(void)
{
	for (uint32_t c = 0; c < sim.cpus; c++)
		for (uint32_t d = 0; !sim.q[c].running && d < sim.cpus; d++)
			list_for_each(it, &sim.q[d].waiting)
				assert_false(fair_allows(list_entry(it, struct fair_entity, link), c));
}

/* The fluid machine: each gets its share, and no more than one CPU (the heavy ones first). */
static void fluid(double dt)
{
	double cpus = sim.cpus, weight = 0;
	bool full[MEMBERS] = { false };

	for (uint32_t i = 0; i < sim.members; i++)
		weight += sim.m[i].e.queue ? sim.m[i].e.weight : 0;
	for (bool more = true; more;) {
		more = false;
		for (uint32_t i = 0; i < sim.members; i++) {
			struct member *m = &sim.m[i];

			if (!m->e.queue || full[i] || m->e.weight * cpus < weight)
				continue;
			full[i] = more = true;
			m->ideal += dt;
			weight -= m->e.weight;
			cpus -= 1;
			if (cpus < 0.5)
				cpus = 0;
		}
	}
	for (uint32_t i = 0; i < sim.members; i++)
		if (sim.m[i].e.queue && !full[i])
			sim.m[i].ideal += dt * cpus * sim.m[i].e.weight / weight;
}

/* Everybody runs for up to `most` ticks; nobody past its slice. */
static void step(uint64_t most)
{
	uint64_t dt = 1 + rnd(most);

	/* twice: who was put back may go to a CPU that looked before (a kick, in the real loop) */
	for (uint32_t c = 0; c < 2 * sim.cpus; c++)
		schedule(c % sim.cpus);
	check_conserving();
	for (uint32_t c = 0; c < sim.cpus; c++)
		if (sim.q[c].running && fair_left(&sim.q[c]) < dt)
			dt = fair_left(&sim.q[c]);
	fluid((double)dt);
	for (uint32_t i = 0; i < sim.members; i++)
		if (sim.m[i].e.queue)
			sim.m[i].waited += dt;
	for (uint32_t c = 0; c < sim.cpus; c++) {
		if (!sim.q[c].running)
			continue;
		struct member *m = container_of(sim.q[c].running, struct member, e);

		fair_charge(&sim.q[c], dt);
		m->ran += dt;
		m->waited = 0;
	}
	sim.now += dt;
	for (uint32_t c = 0; c < sim.cpus; c++)
		check_queue(c);
}

/* Start-time fair queueing, theorem 1, for each pair that wants to run. */
static void check_pairs(double slices)
{
	for (uint32_t i = 0; i < sim.members; i++) {
		for (uint32_t j = 0; j < sim.members; j++) {
			struct member *a = &sim.m[i], *b = &sim.m[j];

			if (i == j || !a->e.queue || !b->e.queue)
				continue;
			double d = pair_drift(a, b);
			double bound = (slices * SLICE + ROUND) *
				(1.0 / a->e.weight + 1.0 / b->e.weight);

			a->low[j] = d < a->low[j] ? d : a->low[j];
			a->high[j] = d > a->high[j] ? d : a->high[j];
			assert_true(a->high[j] - a->low[j] <= bound);
		}
	}
}

/* weight * (vtime - the weighted mean): what it is ahead of its share by, in ticks. */
static void check_ahead_of_mean(void)
{
	const struct fair_queue *q = &sim.q[0];
	double mean = 0, weight = 0;

	for (uint32_t i = 0; i < sim.members; i++) {
		const struct fair_entity *e = &sim.m[i].e;

		if (e->queue) {
			mean += (double)(e->vtime - q->vtime) * e->weight;
			weight += e->weight;
		}
	}
	for (uint32_t i = 0; i < sim.members; i++) {
		const struct fair_entity *e = &sim.m[i].e;

		if (e->queue)
			assert_true(((double)(e->vtime - q->vtime) - mean / weight) * e->weight / 65536 <=
				SLICE + ROUND);
	}
}

static uint32_t random_weight(void)
{
	static const uint32_t some[] = { 100, 250, 500, 1000, 1000, 2000, 4000 };

	return rnd(4) ? some[rnd(7)] : 20 + (uint32_t)rnd(5000);
}

static void one_cpu_within_a_slice(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		begin(1, seed);
		for (uint32_t n = 1 + (uint32_t)rnd(12); n; n--)
			add(random_weight(), 1);
		for (uint32_t t = 0; t < 1500; t++) {
			step(rnd(4) ? 900 : 3000);
			for (uint32_t i = 0; i < sim.members; i++)
				assert_true((double)sim.m[i].ran - sim.m[i].ideal <= SLICE + ROUND);
			check_pairs(1);
			check_ahead_of_mean();
		}
	}
}

static void some_event(void)
{
	uint32_t i = (uint32_t)rnd(sim.members);
	struct fair_entity *e = &sim.m[i].e;

	switch (rnd(8)) {
	case 0: /* leaves, running or not */
	case 1:
		fair_dequeue(e);
		break;
	case 2: /* the running one sleeps */
		e = sim.q[rnd(sim.cpus)].running;
		if (e)
			fair_dequeue(e);
		break;
	case 3:
		e->cpus = 1 + rnd((1u << sim.cpus) - 1);
		break;
	case 4:
		fair_set_weight(e, random_weight());
		restart_pairs(i);
		break;
	default:
		if (!e->queue) {
			wake(i, false);
			if (fair_should_preempt(e->queue, e))
				fair_put(e->queue);
		}
	}
}

static void events_on_one_cpu(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		begin(1, seed * 77);
		for (uint32_t n = 2 + (uint32_t)rnd(11); n; n--)
			add(random_weight(), 1);
		for (uint32_t t = 0; t < 1500; t++) {
			step(900);
			check_pairs(1);
			check_ahead_of_mean();
			if (rnd(3) == 0)
				some_event();
		}
	}
}

/* Everything at once; the queues stay whole, no CPU idles for nothing, nobody starves. */
static void events_on_many_cpus(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		begin(2u << rnd(3), seed * 1009);
		for (uint32_t n = 2 + (uint32_t)rnd(MEMBERS - 2); n; n--)
			add(random_weight(), 1 + rnd((1u << sim.cpus) - 1));
		for (uint32_t t = 0; t < 1500; t++) {
			step(900);
			if (rnd(3) == 0)
				some_event();
			for (uint32_t i = 0; i < sim.members; i++) {
				/* each of the others once in turn, and more often as it is heavier */
				const double most = 4.0 * SLICE * MEMBERS *
					(1 + 5020.0 / sim.m[i].e.weight);

				assert_true((double)sim.m[i].waited <= most);
			}
		}
	}
}

/* Several CPUs, all wanting to run all the time, against the fluid machine. */
static void expect_lag(bool wide, double slices)
{
	double ahead = 0, behind = 0;

	for (uint64_t seed = 1; seed <= 200; seed++) {
		begin(2u << rnd(3), seed * 31337);
		for (uint32_t n = 1 + (uint32_t)rnd(MEMBERS); n; n--)
			add(wide ? random_weight() : 500 + (uint32_t)rnd(1500), UINT64_MAX);
		for (uint32_t t = 0; t < 3000; t++) {
			step(900);
			for (uint32_t i = 0; i < sim.members; i++) {
				double d = ((double)sim.m[i].ran - sim.m[i].ideal) / SLICE;

				ahead = d > ahead ? d : ahead;
				behind = -d > behind ? -d : behind;
			}
		}
	}
	printf("several CPUs: ahead by %.2f slices at most, behind by %.2f\n", ahead, behind);
	assert_true(ahead <= slices && behind <= slices);
}

static void lag_on_many_cpus(void **state)
{
	(void)state;
	expect_lag(false, 3);
	expect_lag(true, 7);
}

static void two_to_one(void **state)
{
	(void)state;
	for (uint32_t cpus = 1; cpus <= CPUS; cpus *= 2) {
		begin(cpus, 5);
		for (uint32_t i = 0; i < cpus + cpus / 2 + (cpus == 1); i++) {
			add(2000, UINT64_MAX);
			add(1000, UINT64_MAX);
		}
		while (sim.now < 3000ull * SLICE)
			step(900);
		for (uint32_t i = 0; i + 1 < sim.members; i += 2) {
			double ratio = (double)sim.m[i].ran / (double)sim.m[i + 1].ran;

			assert_true(ratio > 1.96 && ratio < 2.04);
		}
		assert_true(sim.moves * 5 <= sim.picks); /* a move is dear: caches, a VMCS */
	}
}

static void sleeper_cannot_hoard(void **state)
{
	(void)state;
	begin(1, 9);
	uint32_t a = add(1000, 1), b = add(1000, 1);

	while (sim.now < 10 * SLICE)
		step(900);
	fair_dequeue(&sim.m[a].e);
	while (sim.now < 1000 * SLICE)
		step(900);
	uint64_t ran_a = sim.m[a].ran, ran_b = sim.m[b].ran, start = sim.now;

	wake(a, false);
	while (sim.now < start + 10 * SLICE)
		step(900);
	assert_true(sim.m[a].ran - ran_a <= 6 * SLICE);
	assert_true(sim.m[b].ran - ran_b >= 4 * SLICE);
}

/* Nor does a nap after each slice wipe out that it is ahead: the other has four times its share. */
static void debt_survives_a_nap(void **state)
{
	(void)state;
	begin(1, 10);
	uint32_t a = add(1000, 1), b = add(4000, 1);

	while (sim.now < 2000 * SLICE) {
		step(900);
		if (sim.q[0].running == &sim.m[a].e && fair_left(&sim.q[0]) == 0) {
			fair_dequeue(&sim.m[a].e);
			wake(a, false);
		}
	}
	assert_true(4 * sim.m[a].ran <= sim.m[b].ran + 8 * SLICE);
}

/*
 * A weight worth more than its one CPU earns no credit for what it could not use: when others as heavy
 * come, it has no more than its share from then on.
 */
static void heavy_alone_saves_nothing_up(void **state)
{
	(void)state;
	begin(2, 11);
	uint32_t heavy = add(50000, UINT64_MAX), rival[2];

	for (uint32_t i = 0; i < 3; i++)
		add(1000, UINT64_MAX);
	while (sim.now < 1000 * SLICE)
		step(900);
	assert_true(sim.m[heavy].ran >= 990 * SLICE);
	for (uint32_t i = 0; i < 2; i++)
		rival[i] = add(50000, UINT64_MAX);
	uint64_t ran = sim.m[heavy].ran, start = sim.now;

	while (sim.now < start + 100 * SLICE)
		step(900);
	assert_true(sim.m[heavy].ran - ran <= 73 * SLICE);
	assert_true(sim.m[rival[0]].ran >= 58 * SLICE && sim.m[rival[1]].ran >= 58 * SLICE);
}

static void woken_preempts(void **state)
{
	(void)state;
	begin(1, 12);
	uint32_t a = add(1000, 1), b = add(1000, 1);

	fair_dequeue(&sim.m[b].e);
	schedule(0);
	fair_charge(&sim.q[0], 200);
	wake(b, false);
	assert_false(fair_should_preempt(&sim.q[0], &sim.m[b].e)); /* nobody ran since: equal */
	fair_dequeue(&sim.m[b].e);
	sim.m[b].e.vtime -= 100ull << 20;
	uint32_t c = add(1000, 1);

	fair_charge(&sim.q[0], 200);
	assert_false(fair_should_preempt(&sim.q[0], &sim.m[c].e));
	fair_charge(&sim.q[0], 100);
	assert_true(fair_should_preempt(&sim.q[0], &sim.m[c].e));
	assert_int_equal(fair_left(&sim.q[0]), 500);
	(void)a;
}

static void weights_are_bounded(void **state)
{
	(void)state;
	struct fair_entity e;

	fair_entity_init(&e, 0, 0);
	assert_int_equal(e.weight, FAIR_WEIGHT_MIN);
	assert_true(fair_allows(&e, 63));
	fair_set_weight(&e, UINT32_MAX);
	assert_int_equal(e.weight, FAIR_WEIGHT_MAX);
	begin(1, 13);
	uint32_t a = add(1, 1);

	schedule(0);
	fair_charge(&sim.q[0], UINT64_MAX); /* no overflow */
	fair_set_weight(&sim.m[a].e, FAIR_WEIGHT_MAX);
	fair_dequeue(&sim.m[a].e);
	fair_dequeue(&sim.m[a].e); /* twice is harmless */
	assert_null(fair_pick(&sim.q[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_cpu_within_a_slice), cmocka_unit_test(events_on_one_cpu),
		cmocka_unit_test(events_on_many_cpus), cmocka_unit_test(lag_on_many_cpus),
		cmocka_unit_test(two_to_one), cmocka_unit_test(sleeper_cannot_hoard),
		cmocka_unit_test(debt_survives_a_nap), cmocka_unit_test(heavy_alone_saves_nothing_up),
		cmocka_unit_test(woken_preempts), cmocka_unit_test(weights_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
