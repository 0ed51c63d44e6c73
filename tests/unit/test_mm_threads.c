/*
 * Memory with several CPUs at once, each a thread: guests of their own and one that all share fault,
 * inflate, deflate, copy and give back, while others scrub and count. What is stamped into a page is
 * found there again, frames are conserved, and the auditor is content.
 */
#include "mm/frame_pool.h"
#include "tests/fake/audit.h"
#include "tests/fake/cpu.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"
#include "vmm/base/directmap.h"

#include <pthread.h>

#define CPUS   4u
#define PAGES  2048u
#define POOL   6144u /* less than CPUS + 1 guests want */
#define STEPS  40000u
#define SHARED CPUS  /* the guest that all use */

static struct p2m guest[CPUS + 1];
static uint64_t stamp[CPUS + 1][PAGES]; /* the owner thread's; 0: reads as zero */
static uint64_t refused[CPUS];		/* its thread's */
static bool stop;

static void write_page(struct p2m *p, uint32_t g, uint64_t gfn, uint64_t value, uint32_t me)
{
	status_t s = p2m_copy_to(p, gfn_to_gpa(GFN(gfn)), &value, sizeof(value));

	refused[me] += s != OK;
	if (s == OK && g != SHARED)
		stamp[g][gfn] = value;
}

static void read_page(struct p2m *p, uint32_t g, uint64_t gfn, uint32_t me)
{
	uint64_t value = 0;
	status_t s = p2m_copy_from(p, gfn_to_gpa(GFN(gfn)), &value, sizeof(value));

	refused[me] += s != OK;
	if (s == OK && g != SHARED && value != stamp[g][gfn])
		abort();
}

/* A few neighbours into the balloon, or out of it. */
static void balloon(struct p2m *p, uint32_t g, uint64_t gfn, bool inflate)
{
	struct frame_batch out;

	p2m_batch_begin(p, &out);
	for (uint64_t i = gfn; i < MIN(gfn + 16, (uint64_t)PAGES); i++) {
		status_t s = inflate ? p2m_inflate(p, GFN(i), ORDER_4K, &out) : p2m_deflate(p, GFN(i), ORDER_4K);

		if (s == OK && g != SHARED)
			stamp[g][i] = 0;
	}
	p2m_batch_finish(p, &out);
}

static void one_step(uint32_t me, uint64_t *seed)
{
	uint32_t g = test_random(seed) % 4 ? me : SHARED, what = (uint32_t)(test_random(seed) % 16);
	uint64_t gfn = test_random(seed) % PAGES;
	struct p2m *p = &guest[g];

	switch (what) {
	case 0 ... 7:
		for (uint64_t i = gfn; i < MIN(gfn + 8, (uint64_t)PAGES); i++)
			write_page(p, g, i, test_random(seed) | 1, me);
		break;
	case 8 ... 10:
		read_page(p, g, gfn, me);
		break;
	case 11 ... 13:
		balloon(p, g, gfn, true);
		break;
	case 14:
		balloon(p, g, gfn, false);
		break;
	default: {
		struct frame_counts n;
		mfn_t hv;

		frame_counts(&n);
		if (n.pool_used > n.pool_limit || n.pool_free > n.pool_limit - n.pool_used)
			abort();
		if (frame_alloc(NULL, FRAME_HV, ORDER_4K, GFN(0), MFN_NONE, FRAME_ALLOC_ZEROED, &hv) == OK) {
			if (*(const uint64_t *)mfn_to_va(hv))
				abort();
			frame_free(NULL, hv, ORDER_4K);
		}
	}
	}
}

static void *cpu_thread(void *index)
{
	uint64_t seed = (uintptr_t)index + 100;

	fake_cpu_index = (uint32_t)(uintptr_t)index;
	for (uint32_t n = 0; n < STEPS; n++)
		one_step(fake_cpu_index, &seed);
	return NULL;
}

static void *scrub_thread(void *index)
{
	fake_cpu_index = (uint32_t)(uintptr_t)index;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (frame_scrub(64) == 0)
			cpu_relax();
	}
	return NULL;
}

static void everything_at_once(void **state)
{
	pthread_t cpu[CPUS], scrubber[2];
	struct p2m *all[CPUS + 1];
	uint64_t used = 0, sum = 0;

	(void)state;
	stop = false;
	fake_machine(POOL + 512);
	assert_int_equal(frame_pool_init(POOL, 256, 32), OK);
	for (uint32_t i = 0; i <= CPUS; i++) {
		all[i] = &guest[i];
		memset(stamp[i], 0, sizeof(stamp[i]));
		assert_int_equal(p2m_create(&guest[i], (uint16_t)(i + 1), PAGES, 512, NULL), OK);
	}
	for (uintptr_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&cpu[i], NULL, cpu_thread, (void *)i), 0);
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&scrubber[i], NULL, scrub_thread, (void *)(i + CPUS)), 0);
	for (uint32_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_join(cpu[i], NULL), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(pthread_join(scrubber[i], NULL), 0);
	for (uint32_t i = 0; i < CPUS; i++)
		for (uint64_t gfn = 0; gfn < PAGES; gfn++)
			read_page(&guest[i], i, gfn, i);
	fake_audit_clean(all, CPUS + 1);
	for (uint32_t i = 0; i <= CPUS; i++)
		used += guest[i].account.used_pages;
	for (uint32_t i = 0; i < CPUS; i++)
		sum += refused[i];
	assert_int_equal(frame_pool.used, used);
	assert_true(sum > 0); /* it was tight at times */
	for (uint32_t i = 0; i <= CPUS; i++)
		p2m_destroy(&guest[i]);
	assert_int_equal(frame_pool_free(), POOL);
	fake_audit_clean(NULL, 0);
}

/* What lies ahead of one CPU is had by another before it is refused. */
static void nobody_is_refused_what_another_holds(void **state)
{
	struct frame_account a, b;
	mfn_t mfn;
	uint64_t n = 0;

	(void)state;
	fake_machine(1024 + 512);
	assert_int_equal(frame_pool_init(1024, 256, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	assert_int_equal(frame_account_open(&b, 2, 0, NULL), OK);
	mfn = frame_alloc_page(&a, GFN(0), MFN(FAKE_MFN_BASE + 64), 0);
	assert_false(mfn_is_none(mfn));
	for (uint64_t i = 1; i < 5; i++)
		assert_int_equal(frame_alloc_page(&a, GFN(i), mfn_add(mfn, i), 0).v, mfn.v + i);
	assert_true(frame_caches[0].left > 0);
	assert_int_equal(frame_pool_free(), 1024 - 5);
	fake_cpu_index = 1;
	while (!mfn_is_none(frame_alloc_page(&b, GFN(n), MFN_NONE, 0)))
		n++;
	fake_cpu_index = 0;
	assert_int_equal(n, 1024 - 5);
	assert_int_equal(frame_caches[0].left, 0);
	assert_int_equal(frame_pool_free(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_at_once),
		cmocka_unit_test(nobody_is_refused_what_another_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
