/* SHARED pages, at random: between the ladder's look at a page and what becomes of it, and on several CPUs. */
#include "tests/fake/cpu.h"
#include "tests/unit/p2m_share.h"

#include <pthread.h>

/* ---- between look and settle ----------------------------------------------------------------------- */

static uint32_t asked;

static uint64_t write_what_was_put_away(void)
{
	if (++asked == 2) {
		write_page(2, 3, 7);
		assert_int_equal(state_of(2, 3), P2M_RAM);
	}
	return now();
}

/*
 * A SHARED page is put away without being unmapped. Its guest then writes to it, which takes the frame over;
 * the next page of the ring is like it, and finds it by an old hint: it would be SHARED again, in the same
 * frame, and what was put away of it before would be taken for its content.
 */
static void a_shared_page_that_is_shared_again_is_another(void **state)
{
	struct evict_page *held = ladder[2].held;
	uint32_t n;

	(void)state;
	write_page(2, 3, 7);
	assert_int_equal(merge(2, 3), MERGE_UNIQUE); /* the hint */
	write_page(2, 3, 5);
	write_page(2, 9, 5);
	assert_int_equal(merge(2, 9), MERGE_UNIQUE);
	assert_int_equal(merge(2, 3), MERGE_SHARED);
	write_page(2, 9, 11); /* a copy: page 3 is the last one of the frame */
	write_page(2, 40, 7);
	mfn_t frame = frame_at_gfn(2, 3);

	assert_int_equal(p2m_hold_shared(&guest[2], GFN(3), 1, held), 1);
	assert_int_equal(p2m_hold(&guest[2], GFN(40), 1, held + 1, &n), EVICT_PAGES);
	assert_int_equal(n, 1);
	ladder[2].count = 2;
	asked = 0;
	step_clock = write_what_was_put_away;
	step(2, 2, 0);
	step_clock = now;
	assert_true(asked >= 2);
	read_page(2, 3);
	assert_int_equal(frame_at_gfn(2, 3).v, frame.v);
	fake_audit_clean(all, GUESTS);
	step(2, 1, 0);
	read_page(2, 40);
	read_page(2, 3);
	read_page(2, 9);
	fake_audit_clean(all, GUESTS);
}

/* ---- everything at random ------------------------------------------------------------------------- */

static void balloon_some(uint32_t g, uint64_t gfn, bool block)
{
	struct frame_batch batch;
	bool in = ballooned[g][gfn];
	uint64_t first = block ? 0 : gfn, pages = block ? 512 : 1;
	uint32_t order = block ? ORDER_2M : ORDER_4K;

	p2m_batch_begin(&guest[g], &batch);
	status_t s = in ? p2m_deflate(&guest[g], GFN(first), order) : p2m_inflate(&guest[g], GFN(first), order, &batch);

	p2m_batch_finish(&guest[g], &batch);
	for (uint64_t i = first; s == OK && i < first + pages; i++) {
		ballooned[g][i] = !in;
		kind[g][i] = 0;
	}
}

static void copy_some(uint32_t g, uint64_t gfn, uint32_t k, bool to)
{
	uint64_t page[PAGE_BYTES / 8];
	status_t s;

	if (to)
		content(g, gfn, k, page);
	while ((s = to ? p2m_copy_to(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES) :
			 p2m_copy_from(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES)) == ERR_BUSY)
		answer();
	if (s != OK)
		return;
	if (to)
		kind[g][gfn] = k;
	ballooned[g][gfn] = false;
	if (!to)
		expect_page(g, gfn, page);
}

static void one_of_all(uint64_t r)
{
	uint32_t g = (uint32_t)(r >> 8) % GUESTS, dice = (uint32_t)r % 256;
	uint64_t gfn = (r >> 20) % 4 ? (r >> 24) % 150 : (r >> 24) % PAGES;
	uint32_t k = (r >> 34) % 4 ? (uint32_t)(r >> 40) % 12 : (uint32_t)(r >> 40) | 16;
	void *va;

	if (dice < 50) {
		write_page(g, gfn, k);
	} else if (dice < 100) {
		read_page(g, gfn);
	} else if (dice < 180) {
		(void)merge(g, gfn);
	} else if (dice < 200) {
		step(g, (r >> 30) % 60, (r >> 36) % 50);
	} else if (dice < 210) {
		answer();
	} else if (dice < 230) {
		copy_some(g, gfn, k, r >> 50 & 1);
	} else if (dice < 243) {
		balloon_some(g, gfn, (r >> 50 & 31) == 0);
	} else if (dice < 247) {
		status_t s = r >> 50 & 1 ? p2m_join(&guest[g], GFN(gfn)) : p2m_split(&guest[g], GFN(gfn));

		(void)s;
	} else if (dice < 251) {
		if (p2m_pin(&guest[g], GFN(gfn), &va) != OK)
			return;
		if (ballooned[g][gfn])
			kind[g][gfn] = 0;
		ballooned[g][gfn] = false;
		expect_page(g, gfn, va);
		(void)merge(g, gfn);
		p2m_unpin(&guest[g], GFN(gfn));
	} else if (dice == 251) {
		reclaim_let_go(&ladder[g], &guest[g]);
	} else if (dice == 252) {
		(void)reclaim_write_back(8, p2m_of);
	} else if (dice == 253 && (r >> 50) % 16 == 0) {
		close_guest(g);
		open_guest(g);
		guest[g].populate_2m = r >> 60 & 1;
	}
}

static void a_million_random_steps(void **state)
{
	uint64_t most = 0;

	(void)state;
	memset(results, 0, sizeof(results));
	for (uint32_t i = 0; i < 1000000; i++) {
		one_of_all(test_random(&seed));
		if (i % 1000 == 0)
			most = MAX(most, shared_frames());
		if (i % 10000 == 0)
			fake_audit_clean(all, GUESTS);
	}
	fake_audit_clean(all, GUESTS);
	for (uint32_t g = 0; g < GUESTS; g++)
		for (uint64_t gfn = 0; gfn < PAGES; gfn++)
			read_page(g, gfn);
	fake_audit_clean(all, GUESTS);
	print_message("unique %llu shared %llu zero %llu taken %llu busy %llu, by the ladder %llu, "
		      "%llu frames at most\n",
		(unsigned long long)results[MERGE_UNIQUE], (unsigned long long)results[MERGE_SHARED],
		(unsigned long long)results[MERGE_ZERO], (unsigned long long)results[MERGE_TAKEN],
		(unsigned long long)results[MERGE_BUSY], (unsigned long long)reclaim_total.pages[RECLAIM_SHARE],
		(unsigned long long)most);
	for (enum merge_result r = MERGE_UNIQUE; r <= MERGE_BUSY; r++)
		assert_true(results[r] > 100);
	assert_true(reclaim_total.pages[RECLAIM_SHARE] > 1000 && most > 10);
}

/* One access of another CPU's, at once or not at all. */
static void one_of_another_cpu(uint64_t r)
{
	uint32_t g = (uint32_t)(r >> 8) % GUESTS, k = (uint32_t)(r >> 40) % 12;
	uint64_t gfn = (r >> 24) % 40, page[PAGE_BYTES / 8];
	uint32_t access = r >> 60 & 1 ? P2M_WRITE : P2M_READ;

	if (ballooned[g][gfn])
		return;
	if (r % 8 == 0) {
		balloon_some(g, gfn, false);
	} else if (r % 8 == 1) {
		content(g, gfn, k, page);
		if (p2m_copy_to(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES) == OK)
			kind[g][gfn] = k;
	} else {
		uint64_t *at = fake_guest_access(&guest[g], gfn_to_gpa(GFN(gfn)), access);

		if (!at && p2m_fault(&guest[g], gfn_to_gpa(GFN(gfn)), access) == P2M_FAULT_MAPPED)
			at = fake_guest_access(&guest[g], gfn_to_gpa(GFN(gfn)), access);
		if (at)
			expect_page(g, gfn, at);
		if (at && access == P2M_WRITE) {
			kind[g][gfn] = k;
			content(g, gfn, k, at);
		}
	}
}

static uint64_t meddle(void)
{
	for (uint32_t n = (uint32_t)(test_random(&seed) % 4); n; n--)
		one_of_another_cpu(test_random(&seed));
	return now();
}

/* Few pages of few contents, so that a page is touched, held again, shared and shared again while it is in
 * the ring, more than once by the same name, and between the look at it and what becomes of it. */
static void what_was_looked_at_before_a_write_is_never_settled(void **state)
{
	uint64_t back = reclaim_total.wanted_back, gone = 0, shared = reclaim_total.pages[RECLAIM_SHARE];

	(void)state;
	for (uint32_t i = 0; i < 400000; i++) {
		uint64_t r = test_random(&seed);
		uint32_t g = (uint32_t)(r >> 8) % GUESTS;

		if (r % 8 < 3)
			one_of_another_cpu(test_random(&seed));
		else if (r % 8 < 5)
			(void)merge(g, (r >> 24) % 40);
		else if (r % 64 == 5)
			reclaim_let_go(&ladder[g], &guest[g]);
		else if (r % 8 == 6)
			answer();
		else {
			step_clock = meddle;
			step(g, (r >> 30) % 40, (r >> 36) % 20);
			step_clock = now;
		}
		if (i % 32 == 0)
			read_page((uint32_t)(r >> 50) % GUESTS, (r >> 40) % 40);
		if (i % 20000 == 0)
			fake_audit_clean(all, GUESTS);
	}
	fake_audit_clean(all, GUESTS);
	for (uint32_t g = 0; g < GUESTS; g++)
		for (uint64_t gfn = 0; gfn < 40; gfn++)
			read_page(g, gfn);
	for (uint32_t g = 0; g < GUESTS; g++)
		for (uint32_t rung = 0; rung < RECLAIM_RUNGS; rung++)
			gone += ladder[g].n.pages[rung];
	print_message("%llu pages went, %llu of them to be shared, %llu were wanted back\n", (unsigned long long)gone,
		(unsigned long long)(reclaim_total.pages[RECLAIM_SHARE] - shared),
		(unsigned long long)(reclaim_total.wanted_back - back));
	assert_true(gone > 5000 && reclaim_total.wanted_back > back + 5000);
	assert_true(reclaim_total.pages[RECLAIM_SHARE] > shared + 500);
}

/* ---- several CPUs --------------------------------------------------------------------------------- */

#define THREADS 2u
#define HOT     64u
#define ROUNDS  60000u

static uint32_t threads_end;

/* A guest's CPU: writes whole pages, and finds what it wrote. */
static void *guest_thread(void *which)
{
	uint32_t g = (uint32_t)(uintptr_t)which;
	uint64_t page[PAGE_BYTES / 8], s = g + 100;
	struct frame_batch batch;

	fake_cpu_index = g + 1;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint64_t r = test_random(&s), gfn = (r >> 16) % HOT;
		gpa_t at = gfn_to_gpa(GFN(gfn));

		if (r % 8 < 3) {
			uint32_t k = (uint32_t)(r >> 32) % 5;

			content(g, gfn, k, page);
			if (p2m_copy_to(&guest[g], at, page, PAGE_BYTES) != OK)
				abort();
			kind[g][gfn] = k;
		} else if (r % 8 < 7) {
			if (p2m_copy_from(&guest[g], at, page, PAGE_BYTES) != OK)
				abort();
			expect_page(g, gfn, page);
		} else {
			p2m_batch_begin(&guest[g], &batch);
			if (p2m_inflate(&guest[g], GFN(gfn), 0, &batch) != OK ||
				p2m_deflate(&guest[g], GFN(gfn), 0) != OK)
				abort();
			p2m_batch_finish(&guest[g], &batch);
			kind[g][gfn] = 0;
		}
	}
	__atomic_fetch_add(&threads_end, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void cpus_write_while_another_merges(void **state)
{
	pthread_t cpu[THREADS];
	uint64_t rounds = 0, shared = 0;

	(void)state;
	threads_end = 0;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&cpu[i], NULL, guest_thread, (void *)i), 0);
	while (__atomic_load_n(&threads_end, __ATOMIC_RELAXED) < THREADS) {
		uint32_t g = (uint32_t)(rounds / HOT % THREADS);

		shared += merge(g, rounds++ % HOT) == MERGE_SHARED;
		if (rounds % 64 == 0)
			step(g, 8, 0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(cpu[i], NULL), 0);
	for (uint32_t g = 0; g < THREADS; g++) {
		reclaim_let_go(&ladder[g], &guest[g]);
		for (uint64_t gfn = 0; gfn < HOT; gfn++)
			read_page(g, gfn);
	}
	fake_audit_clean(all, GUESTS);
	print_message("%llu pages shared, %llu copies, %llu taken\n", (unsigned long long)shared,
		(unsigned long long)(guest[0].cow_copied + guest[1].cow_copied),
		(unsigned long long)(guest[0].cow_taken + guest[1].cow_taken));
	assert_true(shared > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_shared_page_that_is_shared_again_is_another),
		TEST(what_was_looked_at_before_a_write_is_never_settled),
		TEST(a_million_random_steps),
		TEST(cpus_write_while_another_merges),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
