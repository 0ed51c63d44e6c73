#include "tests/unit/unit.h"

#include <pthread.h>
#include <string.h>

#include "tests/fake/bug.h"
#include "tests/fake/cpu.h"
#include "vmm/base/lock.h"

#define THREADS 4u
#define ROUNDS  5000u

static struct spinlock low = SPINLOCK_INIT(LOCK_RANK_P2M);
static struct spinlock high = SPINLOCK_INIT(LOCK_RANK_FRAME);
static struct spinlock queue[3] = { SPINLOCK_INIT(LOCK_RANK_SCHED),
	SPINLOCK_INIT(LOCK_RANK_SCHED), SPINLOCK_INIT(LOCK_RANK_SCHED) };

#define SAYS(text) assert_non_null(strstr(fake_bug_message, (text)))

static void test_order(void **state)
{
	(void)state;
	spin_lock(&low);
	spin_lock(&high);
	spin_unlock(&low); /* not the innermost first: allowed */
	spin_unlock(&high);

	spin_lock(&high);
	assert_true(FAKE_BUG_REACHED(spin_lock(&low)));
	SAYS("rank 40 wanted while rank 50 is held");
	assert_true(FAKE_BUG_REACHED(spin_lock(&high)));
	SAYS("rank 50 taken twice by CPU 0");
	spin_unlock(&high);
	assert_true(FAKE_BUG_REACHED(spin_unlock(&high)));
	SAYS("rank 50 released but not held");

	/* Nothing stayed behind. */
	spin_lock(&low);
	spin_lock(&high);
	spin_unlock(&high);
	spin_unlock(&low);
}

static void test_each_cpu_has_its_own(void **state)
{
	(void)state;
	spin_lock(&high);
	fake_cpu_index = 5;
	spin_lock(&low); /* CPU 5 holds nothing */
	assert_int_equal(low.owner_plus_1, 6);
	assert_true(FAKE_BUG_REACHED(spin_unlock(&high)));
	SAYS("rank 50 released by CPU 5 but held by CPU 0");
	fake_cpu_index = CPU_MAX - 1;
	spin_lock(&queue[0]);
	spin_unlock(&queue[0]);
	fake_cpu_index = CPU_MAX;
	assert_true(FAKE_BUG_REACHED(spin_lock(&queue[0])));
	fake_cpu_index = 5;
	spin_unlock(&low);
	fake_cpu_index = 0;
	spin_unlock(&high);
	assert_int_equal(high.owner_plus_1, 0);
}

static void test_same_rank(void **state)
{
	(void)state;
	spin_lock(&queue[1]);
	assert_true(FAKE_BUG_REACHED(spin_lock(&queue[2])));
	SAYS("rank 60 wanted while rank 60 is held");
	spin_lock_nested(&queue[2]);
	assert_true(FAKE_BUG_REACHED(spin_lock_nested(&queue[0])));
	SAYS("nested rank 60 wanted while rank 60 at a higher address");
	assert_true(FAKE_BUG_REACHED(spin_lock_nested(&queue[2])));
	SAYS("taken twice");
	assert_true(FAKE_BUG_REACHED(spin_lock_nested(&high)));
	SAYS("rank 50 wanted while rank 60 is held");
	spin_unlock(&queue[1]);
	spin_unlock(&queue[2]);

	spin_lock_pair(&queue[2], &queue[0]);
	assert_true(queue[0].owner_plus_1 && queue[2].owner_plus_1);
	spin_unlock(&queue[2]);
	spin_unlock(&queue[0]);
}

static void test_trylock(void **state)
{
	(void)state;
	assert_true(spin_trylock(&high));
	assert_false(spin_trylock(&high));
	assert_true(spin_trylock(&low)); /* it does not wait: any order */
	fake_cpu_index = 1;
	assert_false(spin_trylock(&low));
	fake_cpu_index = 0;
	spin_unlock(&high);
	assert_true(FAKE_BUG_REACHED(spin_lock(&low)));
	spin_unlock(&low);
	/* The tickets wrap. */
	high.next = high.serving = UINT32_MAX;
	assert_true(spin_trylock(&high));
	assert_false(spin_trylock(&high));
	spin_unlock(&high);
	assert_int_equal(high.serving, 0);
	spin_lock(&high);
	spin_unlock(&high);
}

static void test_too_many(void **state)
{
	enum { MOST = CPU_MAX + 8 }; /* all frame caches, and what else one CPU may hold */
	static struct spinlock many[MOST + 1];

	(void)state;
	for (uint32_t i = 0; i <= MOST; i++)
		spinlock_init(&many[i], (enum lock_rank)(i + 1));
	for (uint32_t i = 0; i < MOST; i++)
		spin_lock(&many[i]);
	assert_true(FAKE_BUG_REACHED(spin_lock(&many[MOST])));
	SAYS("more than 72");
	for (uint32_t i = 0; i < MOST; i++)
		spin_unlock(&many[i]);
}

static void *take_once(void *arg)
{
	fake_cpu_index = 1;
	spin_lock(arg);
	spin_unlock(arg);
	return NULL;
}

static void test_contention_is_counted(void **state)
{
	struct spinlock l = SPINLOCK_INIT(LOCK_RANK_HEAP);
	uint64_t before = __atomic_load_n(&fake_relax_count, __ATOMIC_RELAXED);
	pthread_t t;

	(void)state;
	spin_lock(&l);
	assert_int_equal(l.contended_count, 0);
	assert_int_equal(pthread_create(&t, NULL, take_once, &l), 0);
	while (__atomic_load_n(&fake_relax_count, __ATOMIC_RELAXED) < before + 2)
		;
	spin_unlock(&l);
	pthread_join(t, NULL);
	assert_int_equal(l.contended_count, 1);
	assert_true(l.spin_count >= 2);
	spin_lock(&l);
	spin_unlock(&l);
	assert_int_equal(l.contended_count, 1);
}

/* Plain variables, guarded by `low` and `high`, or by a pair of `queue`. */
static uint64_t sum, pair_sum, tried;

static void *worker(void *arg)
{
	fake_cpu_index = (uint32_t)(uintptr_t)arg;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct spinlock *a = &queue[(i + fake_cpu_index) % 3], *b = &queue[1];

		spin_lock(&low);
		spin_lock(&high);
		sum++;
		spin_unlock(&high);
		spin_unlock(&low);
		if (a != b) {
			spin_lock_pair(fake_cpu_index & 1 ? a : b, fake_cpu_index & 1 ? b : a);
			pair_sum++;
			spin_unlock(a);
			spin_unlock(b);
		}
		while (!spin_trylock(&high))
			cpu_relax();
		tried++;
		spin_unlock(&high);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t t[THREADS];
	uint64_t pairs = 0;

	(void)state;
	for (uint32_t c = 0; c < THREADS; c++)
		for (uint32_t i = 0; i < ROUNDS; i++)
			pairs += (i + c) % 3 != 1;
	for (uintptr_t c = 0; c < THREADS; c++)
		assert_int_equal(pthread_create(&t[c], NULL, worker, (void *)c), 0);
	for (uint32_t c = 0; c < THREADS; c++)
		pthread_join(t[c], NULL);
	assert_int_equal(sum, THREADS * ROUNDS);
	assert_int_equal(tried, THREADS * ROUNDS);
	assert_int_equal(pair_sum, pairs);
	assert_int_equal(low.next, low.serving);
	assert_int_equal(high.next, high.serving);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_each_cpu_has_its_own),
		cmocka_unit_test(test_same_rank),
		cmocka_unit_test(test_trylock),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_contention_is_counted),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
