/*
 * Memory with several CPUs at once, each a thread: guests of their own and one that all share fault,
 * inflate, deflate, copy, pin, split, join and give back, while others scrub and count and a guest comes and
 * goes. What is stamped into a page is found there again (in the shared guest: something that was
 * written to this very page, or zero), frames are conserved, and the auditor is content.
 */
#include "mm/frame_pool.h"
#include "mm/zero.h"
#include "tests/fake/audit.h"
#include "tests/fake/bug.h"
#include "tests/fake/cpu.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"
#include "vmm/base/directmap.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#define CPUS   4u
#define PAGES  2048u
#define POOL   6144u /* less than CPUS + 1 guests want */
#define STEPS  40000u
#define SHARED CPUS  /* the guest that all use */

static struct p2m guest[CPUS + 1];
static uint64_t stamp[CPUS + 1][PAGES]; /* the owner thread's; 0: reads as zero */
static uint64_t refused[CPUS];		/* its thread's */
static bool stop;
static uint64_t guests_gone; /* atomic */

/* In the shared guest a value names its page, whoever wrote it. */
static uint64_t tagged(uint64_t gfn, uint64_t value)
{
	return (gfn + 1) << 48 | (value >> 16);
}

static void write_page(struct p2m *p, uint32_t g, uint64_t gfn, uint64_t value, uint32_t me)
{
	if (g == SHARED)
		value = tagged(gfn, value);
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
	if (s == OK && g == SHARED && value && value >> 48 != gfn + 1)
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

/* Pins a page, writes to it where it lies, and lets it go: it must stay there meanwhile. */
static void pin(struct p2m *p, uint32_t g, uint64_t gfn, uint64_t value, uint32_t me)
{
	struct p2m_entry e;
	void *va;
	status_t s = p2m_pin(p, GFN(gfn), &va);

	if (s != OK) { /* ERR_BUSY: another CPU has it pinned */
		refused[me] += s == ERR_NOMEM;
		return;
	}
	__atomic_store_n((uint64_t *)va, g == SHARED ? tagged(gfn, value) : value, __ATOMIC_RELAXED);
	p2m_lookup(p, GFN(gfn), &e);
	if (e.state != P2M_RAM || !e.pinned || mfn_to_va(e.mfn) != va)
		abort();
	if (g != SHARED)
		stamp[g][gfn] = value;
	p2m_unpin(p, GFN(gfn));
}

/* Any result is right, but no page may change by it; the reads that follow see to that. */
static void split_or_join(struct p2m *p, uint64_t gfn, bool split)
{
	status_t s = split ? p2m_split(p, GFN(gfn)) : p2m_join(p, GFN(gfn));

	if (s != OK && s != ERR_NOENT && s != ERR_BUSY && s != ERR_NOMEM && s != ERR_LIMIT)
		abort();
}

/* A vCPU's own fault. */
static void touch(struct p2m *p, uint64_t gfn, uint32_t access, uint32_t me)
{
	enum p2m_fault_result r = p2m_fault(p, gfn_to_gpa(GFN(gfn)), access);

	if (r == P2M_FAULT_NOT_RAM)
		abort();
	refused[me] += r == P2M_FAULT_WAIT;
}

/* A whole 2 MiB into the balloon, and written anew in order: what joins. */
static void renew_block(struct p2m *p, uint32_t g, uint64_t gfn, uint64_t *seed, uint32_t me)
{
	uint64_t first = ALIGN_DOWN(gfn, 512);
	struct frame_batch out;

	p2m_batch_begin(p, &out);
	if (p2m_inflate(p, GFN(first), ORDER_2M, &out) == OK && g != SHARED)
		memset(&stamp[g][first], 0, 512 * sizeof(stamp[0][0]));
	p2m_batch_finish(p, &out);
	for (uint64_t i = first; i < first + 512; i++)
		write_page(p, g, i, test_random(seed) | 1, me);
	split_or_join(p, gfn, test_random(seed) % 2);
}

static void one_step(uint32_t me, uint64_t *seed)
{
	uint32_t g = test_random(seed) % 4 ? me : SHARED, what = (uint32_t)(test_random(seed) % 22);
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
	case 15:
	case 16:
		pin(p, g, gfn, test_random(seed) | 1, me);
		break;
	case 17:
		split_or_join(p, gfn, test_random(seed) % 2);
		break;
	case 18:
	case 19:
		touch(p, gfn, what == 18 ? P2M_READ : P2M_WRITE, me);
		break;
	case 20:
		if (test_random(seed) % 32 == 0)
			renew_block(p, g, gfn, seed, me);
		break;
	default: {
		struct frame_counts n;
		mfn_t hv;

		frame_counts(&n);
		uint64_t sum = 0;

		for (uint32_t i = 0; i < FRAME_STATE_COUNT; i++)
			sum += n.by_state[i];
		/* Exact at any time: hv_reserve is more than ever is in HV hands here. */
		if (n.pool_used > n.pool_limit || n.pool_free != n.pool_limit - n.pool_used ||
			sum != POOL + 512 || n.by_state[FRAME_PRIVATE] + n.by_state[FRAME_TABLE] > n.pool_used)
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
	for (uint32_t n = 0; n < 3; n++) /* while there is room: blocks, which are split later */
		renew_block(&guest[fake_cpu_index], fake_cpu_index, n * 512, &seed, fake_cpu_index);
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

/* A guest comes, has its min, and goes, again and again. */
static void *guest_thread(void *index)
{
	static struct p2m p;
	uint64_t seed = 7, value = 0;

	fake_cpu_index = (uint32_t)(uintptr_t)index;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (p2m_create(&p, 77, 1024, 64, NULL) != OK)
			continue; /* no frame for its root: the others hold all */
		p.populate_2m = test_random(&seed) % 2;
		for (uint64_t i = 0; i < 40; i++) {
			uint64_t gfn = test_random(&seed) % 1024;

			if (p2m_copy_from(&p, gfn_to_gpa(GFN(gfn)), &value, sizeof(value)) == OK && value &&
				value != gfn + 1)
				abort(); /* another guest's */
			value = gfn + 1;
			(void)!p2m_copy_to(&p, gfn_to_gpa(GFN(gfn)), &value, sizeof(value));
		}
		p2m_destroy(&p);
		__atomic_fetch_add(&guests_gone, 1, __ATOMIC_RELAXED);
		sched_yield();
	}
	return NULL;
}

/* What came about by chance, of which some must have. */
struct seen {
	uint64_t refused, joins, splits;
};

static void all_at_once(struct seen *seen)
{
	pthread_t cpu[CPUS], scrubber[2], coming;
	struct p2m *all[CPUS + 1];
	uint64_t used = 0;

	stop = false;
	memset(refused, 0, sizeof(refused));
	fake_machine(POOL + 512);
	assert_int_equal(frame_pool_init(POOL, 256, 32), OK);
	for (uint32_t i = 0; i <= CPUS; i++) {
		all[i] = &guest[i];
		memset(stamp[i], 0, sizeof(stamp[i]));
		assert_int_equal(p2m_create(&guest[i], (uint16_t)(i + 1), PAGES, 512, NULL), OK);
		guest[i].populate_2m = i % 2;
	}
	for (uintptr_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&cpu[i], NULL, cpu_thread, (void *)i), 0);
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&scrubber[i], NULL, scrub_thread, (void *)(i + CPUS)), 0);
	assert_int_equal(pthread_create(&coming, NULL, guest_thread, (void *)(uintptr_t)(CPUS + 2)), 0);
	for (uint32_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_join(cpu[i], NULL), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(pthread_join(scrubber[i], NULL), 0);
	assert_int_equal(pthread_join(coming, NULL), 0);
	assert_true(guests_gone > 10);
	for (uint32_t i = 0; i < CPUS; i++)
		for (uint64_t gfn = 0; gfn < PAGES; gfn++)
			read_page(&guest[i], i, gfn, i);
	fake_audit_clean(all, CPUS + 1);
	for (uint32_t i = 0; i <= CPUS; i++)
		used += guest[i].account.used_pages;
	for (uint32_t i = 0; i < CPUS; i++)
		seen->refused += refused[i];
	assert_int_equal(frame_pool.used, used);
	for (uint32_t i = 0; i <= CPUS; i++) {
		seen->joins += guest[i].join_2m + guest[i].fault_2m;
		seen->splits += guest[i].split_2m;
		assert_int_equal(guest[i].pinned, 0);
	}
	for (uint32_t i = 0; i <= CPUS; i++)
		p2m_destroy(&guest[i]);
	assert_int_equal(frame_pool_free(), POOL);
	fake_audit_clean(NULL, 0);
}

/* On a busy machine one round may see no join: another is made then. */
static void everything_at_once(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	for (uint32_t round = 0; round < 10 && !(seen.refused && seen.joins && seen.splits); round++)
		all_at_once(&seen);
	print_message("%llu refused, %llu joins, %llu splits, %llu guests gone\n",
		(unsigned long long)seen.refused, (unsigned long long)seen.joins,
		(unsigned long long)seen.splits, (unsigned long long)guests_gone);
	assert_true(seen.refused && seen.joins && seen.splits);
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

/* The second half of frame_scrub(), on a CPU that is slow with its 16 pages. */
static void *slow_scrubber(void *index)
{
	uint32_t at = (uint32_t)(uintptr_t)index;

	fake_cpu_index = 1;
	usleep(20000);
	zero_pages(frame_mfn(at), 16);
	spin_lock(&frame_pool.lock);
	frame_mark(at, 16, 0);
	frame_scrubbed(at, 4);
	buddy_put(&frame_pool.buddy, at, 4);
	frame_pool.scrubbing -= 16;
	spin_unlock(&frame_pool.lock);
	return NULL;
}

/* Nor what is being scrubbed just then: a guest has all of its min, whatever idle CPUs do. */
static void nobody_is_refused_what_is_being_scrubbed(void **state)
{
	struct frame_account a;
	struct frame_counts n;
	pthread_t scrubber;
	mfn_t mfn;

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(1023, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 1023, NULL), OK);
	spin_lock(&frame_pool.lock);
	uint32_t at = buddy_take(&frame_pool.buddy, BUDDY_DIRTY, 4);

	frame_mark(at, 16, FRAME_ORDER_AWAY);
	frame_pool.scrubbing += 16;
	spin_unlock(&frame_pool.lock);
	frame_counts(&n);
	assert_int_equal(n.pool_free, 1023);
	assert_int_equal(pthread_create(&scrubber, NULL, slow_scrubber, (void *)(uintptr_t)at), 0);
	for (uint64_t i = 0; i < 1023; i++)
		assert_false(mfn_is_none(frame_alloc_page(&a, GFN(i), MFN_NONE, 0)));
	assert_true(mfn_is_none(frame_alloc_page(&a, GFN(0), MFN_NONE, 0)));
	assert_int_equal(frame_alloc(NULL, FRAME_HV, ORDER_4K, GFN(0), MFN_NONE, 0, &mfn), ERR_NOMEM);
	assert_int_equal(pthread_join(scrubber, NULL), 0);
}

/* A guest at its max is refused without the other CPUs' frames being taken from them. */
static void a_max_is_no_shortage(void **state)
{
	struct frame_account a, b;
	mfn_t first = MFN(FAKE_MFN_BASE + 64);

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(900, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	assert_int_equal(frame_account_open(&b, 2, 0, NULL), OK);
	for (uint64_t i = 0; i < 5; i++)
		assert_false(mfn_is_none(frame_alloc_page(&a, GFN(i), mfn_add(first, i), 0)));
	uint64_t left = frame_caches[0].left;

	assert_true(left > 0);
	frame_account_set_max(&b, 0);
	fake_cpu_index = 1;
	assert_true(mfn_is_none(frame_alloc_page(&b, GFN(0), MFN_NONE, 0)));
	fake_cpu_index = 0;
	assert_int_equal(b.denied, 1);
	assert_int_equal(frame_caches[0].left, left);
}

/* The pool's lock is given up after each 512 pages of a batch, however large its blocks are. */
static void a_batch_holds_the_lock_for_a_bounded_time(void **state)
{
	struct frame_account a;
	struct frame_batch all;
	mfn_t mfn;

	(void)state;
	fake_machine(8192);
	assert_int_equal(frame_pool_init(8000, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	frame_batch_init(&all);
	for (uint64_t i = 0; i < 8; i++) {
		assert_int_equal(frame_alloc(&a, FRAME_PRIVATE, ORDER_2M, GFN(i * 512), MFN_NONE, 0, &mfn), OK);
		frame_batch_add(&all, mfn, ORDER_2M);
		assert_int_equal(frame_alloc(&a, FRAME_PRIVATE, ORDER_4K, GFN(i), MFN_NONE, 0, &mfn), OK);
		frame_batch_add(&all, mfn, ORDER_4K);
	}
	uint32_t tickets = frame_pool.lock.next;

	frame_batch_free(&a, &all);
	assert_true(frame_pool.lock.next - tickets >= 8);
	assert_int_equal(a.used_pages, 0);
	frame_account_close(&a);
	fake_audit_clean(NULL, 0);
}

/* After a HV_BUG with them held. */
static void forget_locks(void)
{
	spin_unlock(&frame_pool.lock);
	spin_unlock(&frame_caches[0].lock);
}

static void damage_is_found(uint32_t damage)
{
	struct frame_cache *c = &frame_caches[0];
	struct frame_account a;
	mfn_t mfn = MFN_NONE;

	fake_machine(1024);
	assert_int_equal(frame_pool_init(900, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	for (uint64_t i = 0; i < 5; i++)
		mfn = frame_alloc_page(&a, GFN(i), MFN(FAKE_MFN_BASE + 64 + i), 0);
	assert_true(c->left > 0);
	if (damage == 0) /* a page that was given */
		c->mask |= 1ull << (mfn.v - FAKE_MFN_BASE - c->first);
	else if (damage == 1) /* one short */
		c->mask &= c->mask - 1;
	else if (damage == 2) /* another 64 */
		c->first += 128;
	else
		c->left--;
	assert_true(FAKE_BUG_REACHED(frame_lock_all()));
	forget_locks();
}

/* A cache that names a frame it has not got, or counts wrong, stops the machine: it frees nobody's page. */
static void a_damaged_cache_is_found(void **state)
{
	(void)state;
	for (uint32_t damage = 0; damage < 4; damage++)
		damage_is_found(damage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_at_once),
		cmocka_unit_test(nobody_is_refused_what_another_holds),
		cmocka_unit_test(nobody_is_refused_what_is_being_scrubbed),
		cmocka_unit_test(a_max_is_no_shortage),
		cmocka_unit_test(a_batch_holds_the_lock_for_a_bounded_time),
		cmocka_unit_test(a_damaged_cache_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
