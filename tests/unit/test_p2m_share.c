/* SHARED pages: mm/merge.h, mm/p2m_share.c and the ladder's rung. */
#include "tests/unit/p2m_share.h"

/* ---- what becomes of pages ----------------------------------------------------------------------- */

static void equal_pages_come_to_lie_in_one_frame(void **state)
{
	(void)state;
	write_page(0, 3, 5);
	write_page(0, 9, 5);
	write_page(1, 4, 5);
	uint64_t used = frame_pool.used;

	assert_int_equal(merge(0, 3), MERGE_UNIQUE);
	assert_int_equal(merge(0, 9), MERGE_SHARED);
	assert_int_equal(merge(1, 4), MERGE_SHARED);
	assert_int_equal(frame_at_gfn(0, 3).v, frame_at_gfn(1, 4).v);
	assert_int_equal(frame_at_gfn(0, 9).v, frame_at_gfn(1, 4).v);
	assert_int_equal(frame_pool.used, used - 2);
	assert_int_equal(shared_frames(), 1);
	assert_int_equal(p2m_resident(&guest[0]), 1); /* two halves */
	assert_int_equal(merge(0, 3), MERGE_SKIPPED);
	for (uint32_t g = 0; g < 2; g++)
		for (uint64_t gfn = 0; gfn < 10; gfn++)
			read_page(g, gfn);
	fake_audit_clean(all, GUESTS);
}

static void those_without_a_common_group_never_do(void **state)
{
	(void)state;
	for (uint32_t g = 0; g < GUESTS; g++)
		for (uint64_t gfn = 0; gfn < 64; gfn++)
			write_page(g, gfn, 1 + gfn % 4);
	for (uint32_t pass = 0; pass < 2; pass++)
		for (uint32_t g = 0; g < GUESTS; g++)
			for (uint64_t gfn = 0; gfn < 64; gfn++)
				(void)merge(g, gfn);
	assert_int_equal(shared_frames(), 3 * 4);
	assert_int_equal(guest[4].pages[P2M_SHARED], 0);
	for (uint32_t g = 0; g < 4; g++)
		for (uint32_t h = 0; h < g; h++)
			for (uint64_t gfn = 0; gfn < 4; gfn++)
				assert_int_equal(frame_at_gfn(g, gfn).v == frame_at_gfn(h, gfn).v, g < 2);
	fake_audit_clean(all, GUESTS);
}

static void a_write_takes_a_copy_and_the_last_the_frame(void **state)
{
	(void)state;
	write_page(0, 0, 5);
	write_page(1, 0, 5);
	(void)merge(0, 0);
	assert_int_equal(merge(1, 0), MERGE_SHARED);
	mfn_t frame = frame_at_gfn(0, 0);
	uint64_t flushes = guest[0].slat.flush_count;

	write_page(0, 0, 6);
	assert_int_equal(guest[0].cow_copied, 1);
	assert_true(guest[0].slat.flush_count > flushes);
	assert_int_not_equal(frame_at_gfn(0, 0).v, frame.v);
	read_page(1, 0);
	write_page(1, 0, 7);
	assert_int_equal(guest[1].cow_taken, 1);
	assert_int_equal(frame_at_gfn(1, 0).v, frame.v);
	assert_int_equal(shared_frames(), 0);
	read_page(0, 0);
	fake_audit_clean(all, GUESTS);
}

/* What a CPU of the guest, walking anew, finds at a page while the others are told: not the new frame yet. */
static uint64_t watched, breaks;

static void expect_broken(struct slat_space *s)
{
	assert_ptr_equal(s, &guest[0].slat);
	assert_null(fake_guest_access(&guest[0], gfn_to_gpa(GFN(watched)), P2M_READ));
	breaks++;
}

static void expect_break(uint64_t gfn)
{
	watched = gfn;
	breaks = 0;
	fake_flush_hook = expect_broken;
	write_page(0, gfn, 6);
	fake_flush_hook = NULL;
	assert_int_equal(breaks, 1);
	read_page(0, gfn);
}

static void no_cpu_sees_the_new_frame_before_all_have_left_the_old(void **state)
{
	(void)state;
	write_page(0, 0, 5);
	write_page(1, 0, 5);
	(void)merge(0, 0);
	assert_int_equal(merge(1, 0), MERGE_SHARED);
	expect_break(0);
	write_page(0, 2, 1); /* a table */
	read_page(0, 1);     /* the zero frame */
	expect_break(1);
	fake_audit_clean(all, GUESTS);
}

static void the_last_one_gets_his_frame_back_by_the_scan(void **state)
{
	(void)state;
	write_page(2, 0, 5);
	write_page(2, 1, 5);
	(void)merge(2, 0);
	assert_int_equal(merge(2, 1), MERGE_SHARED);
	write_page(2, 0, 3);
	assert_int_equal(merge(2, 1), MERGE_TAKEN);
	assert_int_equal(state_of(2, 1), P2M_RAM);
	assert_int_equal(p2m_resident(&guest[2]), 2);
	read_page(2, 1);
	fake_audit_clean(all, GUESTS);
}

static void the_hypervisors_own_writes_break_it_too(void **state)
{
	uint64_t page[PAGE_BYTES / 8], word = 1;
	void *va;

	(void)state;
	for (uint64_t gfn = 0; gfn < 4; gfn++)
		write_page(0, gfn, 5);
	for (uint64_t gfn = 0; gfn < 4; gfn++)
		(void)merge(0, gfn);
	assert_int_equal(guest[0].pages[P2M_SHARED], 4);
	assert_int_equal(p2m_copy_from(&guest[0], GPA(0), page, PAGE_BYTES), OK);
	expect_page(0, 0, page);
	assert_int_equal(guest[0].pages[P2M_SHARED], 4);
	content(0, 0, 8, page);
	assert_int_equal(p2m_copy_to(&guest[0], GPA(0), page, PAGE_BYTES), OK);
	kind[0][0] = 8;
	assert_int_equal(p2m_pin(&guest[0], GFN(1), &va), OK);
	expect_page(0, 1, va);
	p2m_unpin(&guest[0], GFN(1));
	content(0, 2, 5, page);
	assert_int_equal(p2m_copy_to(&guest[0], GPA(2 * PAGE_BYTES + 8), &word, 8), OK);
	page[1] = 1;
	assert_memory_equal(touch(0, 2, P2M_READ), page, PAGE_BYTES);
	assert_int_equal(guest[0].pages[P2M_SHARED], 1);
	read_page(0, 0);
	read_page(0, 3);
	fake_audit_clean(all, GUESTS);
}

static void the_balloon_gives_references_back(void **state)
{
	struct frame_batch batch;

	(void)state;
	for (uint64_t gfn = 0; gfn < 600; gfn++)
		write_page(0, gfn, (uint32_t)(1 + gfn % 5));
	for (uint64_t gfn = 0; gfn < 600; gfn++)
		(void)merge(0, gfn);
	assert_int_equal(guest[0].pages[P2M_SHARED], 600);
	p2m_batch_begin(&guest[0], &batch);
	assert_int_equal(p2m_inflate(&guest[0], GFN(512), 0, &batch), OK);
	assert_int_equal(p2m_inflate(&guest[0], GFN(0), ORDER_2M, &batch), OK);
	p2m_batch_finish(&guest[0], &batch);
	fake_audit_clean(all, GUESTS);
	assert_int_equal(shared_frames(), 5);
	p2m_batch_begin(&guest[0], &batch);
	for (uint64_t gfn = 513; gfn < 600; gfn++)
		assert_int_equal(p2m_inflate(&guest[0], GFN(gfn), 0, &batch), OK);
	p2m_batch_finish(&guest[0], &batch);
	assert_int_equal(shared_frames(), 0);
	fake_audit_clean(all, GUESTS);
}

static void zero_pages_are_given_up(void **state)
{
	(void)state;
	write_page(0, 0, 0);
	assert_int_equal(state_of(0, 0), P2M_RAM);
	assert_int_equal(merge(0, 0), MERGE_ZERO);
	assert_int_equal(state_of(0, 0), P2M_EMPTY);
	assert_int_equal(merge(0, 1), MERGE_SKIPPED);
	read_page(0, 0);
}

static void large_pages_are_broken_only_for_a_gain(void **state)
{
	gfn_t next;

	(void)state;
	guest[0].populate_2m = true;
	write_page(0, 0, 5);
	assert_int_equal(guest[0].pages_in_2m, 512);
	write_page(0, 600, 5);
	assert_int_equal(merge_page(&guest[0], GFN(0), false, p2m_of, &next), MERGE_SKIPPED);
	assert_int_equal(next.v, 512);
	assert_int_equal(merge(0, 600), MERGE_UNIQUE);
	assert_int_equal(merge(0, 0), MERGE_SHARED);
	assert_int_equal(guest[0].pages_in_2m, 0);
	read_page(0, 0);
	read_page(0, 600);
	fake_audit_clean(all, GUESTS);
}

/* ---- touched at every point of the protocol ------------------------------------------------------- */

enum how { HOW_READ, HOW_WRITE, HOW_COPY_TO, HOW_INFLATE, HOW_PIN, HOW_COUNT };

/* What another CPU may do to guest g's page meanwhile; kind[] is what it is after that. */
static void meanwhile(uint32_t g, uint64_t gfn, enum how how)
{
	uint64_t page[PAGE_BYTES / 8];
	struct frame_batch batch;
	void *va;

	switch (how) {
	case HOW_READ:
		read_page(g, gfn);
		break;
	case HOW_WRITE:
		write_page(g, gfn, 11);
		break;
	case HOW_COPY_TO:
		content(g, gfn, 12, page);
		assert_int_equal(p2m_copy_to(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES), OK);
		kind[g][gfn] = 12;
		break;
	case HOW_INFLATE:
		p2m_batch_begin(&guest[g], &batch);
		assert_int_equal(p2m_inflate(&guest[g], GFN(gfn), 0, &batch), OK);
		p2m_batch_finish(&guest[g], &batch);
		kind[g][gfn] = 0;
		ballooned[g][gfn] = true;
		break;
	case HOW_PIN:
		assert_int_equal(p2m_pin(&guest[g], GFN(gfn), &va), OK);
		content(g, gfn, 13, va);
		kind[g][gfn] = 13;
		p2m_unpin(&guest[g], GFN(gfn));
		break;
	default:
		break;
	}
}

/*
 * The steps of merging page 1 of guest `with` (0: the same guest) onto page 0 of guest 0, and at point
 * `point` one of the two is touched: nothing is lost, and no reference.
 */
static void touched_at(uint32_t point, uint32_t with, uint32_t who, enum how how)
{
	struct evict_page a, b;
	uint32_t n, m;
	mfn_t mfn = MFN_NONE;
	status_t s = ERR_NOENT;

	write_page(0, 0, 5);
	write_page(with, 1, 5);
	uint64_t hash = share_hash(touch(0, 0, P2M_READ));
#define POINT(i) (point == (i) ? meanwhile(who ? with : 0, who ? 1 : 0, how) : (void)0)
	(void)p2m_hold(&guest[with], GFN(1), 1, &b, &n);
	POINT(0);
	(void)p2m_hold(&guest[0], GFN(0), 1, &a, &m);
	bool equal = n && m && pages_equal(mfn_to_va(a.mfn), mfn_to_va(b.mfn));

	POINT(1);
	if (equal)
		s = p2m_share_held(&guest[0], &a, hash, &mfn);
	POINT(2);
	if (n) {
		b.to = s == OK ? P2M_SHARED : P2M_RAM;
		b.payload = s == OK ? mfn.v : 0;
		(void)p2m_settle(&guest[with], &b, 1);
	}
	if (s == OK && !(n && b.gone))
		share_put(mfn);
	if (m && s != OK) {
		a.to = P2M_RAM;
		(void)p2m_settle(&guest[0], &a, 1);
	}
	POINT(3);
	fake_audit_clean(all, GUESTS);
	bool expect_shared = point == 3 && how == HOW_READ;

	if (expect_shared)
		assert_int_equal(frame_at_gfn(0, 0).v, frame_at_gfn(with, 1).v);
	assert_int_equal(guest[0].pages[P2M_IN_FLIGHT] + guest[with].pages[P2M_IN_FLIGHT], 0);
	read_page(0, 0);
	read_page(with, 1);
	fake_audit_clean(all, GUESTS);
#undef POINT
}

static void what_is_touched_meanwhile_is_not_lost(void **state)
{
	(void)state;
	for (uint32_t point = 0; point < 4; point++)
		for (uint32_t with = 0; with < 2; with++)
			for (uint32_t who = 0; who < 2; who++)
				for (enum how how = HOW_READ; how < HOW_COUNT; how++)
					touched_at(point, with, who, how);
}

static uint32_t meddle_g, meddle_left;

/* Called while a page is held, before the hint's is: whoever it is, it is touched. */
static struct p2m *meddling_p2m_of(uint16_t owner)
{
	if (meddle_left) {
		meddle_left--;
		meanwhile(meddle_g, 1, (enum how)(test_random(&seed) % HOW_COUNT));
	}
	return p2m_of(owner);
}

static void a_merge_that_is_disturbed_leaves_all_as_it_was(void **state)
{
	gfn_t next;

	(void)state;
	for (uint32_t i = 0; i < 400; i++) {
		meddle_g = i % 2;
		write_page(0, 1, 5);
		write_page(1, 1, 5);
		share_init(hints, HINTS, i);
		assert_int_equal(merge(0, 1), MERGE_UNIQUE);
		meddle_left = 1;
		enum merge_result r = merge_page(&guest[1], GFN(1), true, meddling_p2m_of, &next);

		assert_true(r == MERGE_BUSY || r == MERGE_SHARED);
		meddle_left = 0;
		read_page(0, 1);
		read_page(1, 1);
		fake_audit_clean(all, GUESTS);
		/* The frames are dropped before the table is. */
		write_page(0, 1, 20);
		write_page(1, 1, 20);
		(void)merge(0, 1);
		(void)merge(1, 1);
		assert_int_equal(shared_frames(), 0);
	}
}

/* ---- the ladder ---------------------------------------------------------------------------------- */

static void the_ladder_shares_before_it_compresses(void **state)
{
	(void)state;
	for (uint64_t gfn = 0; gfn < 64; gfn++) {
		write_page(0, gfn, (uint32_t)(3 + 3 * (gfn % 4))); /* they would compress */
		write_page(1, gfn, (uint32_t)(3 + 3 * (gfn % 4)));
	}
	for (uint64_t gfn = 0; gfn < 64; gfn++)
		(void)merge(0, gfn);
	assert_int_equal(shared_frames(), 4);
	for (uint32_t i = 0; i < 400 && ladder[1].n.pages[RECLAIM_SHARE] < 64; i++)
		step(1, 32, 0);
	assert_int_equal(ladder[1].n.pages[RECLAIM_SHARE], 64);
	assert_int_equal(shared_frames(), 4);
	fake_audit_clean(all, GUESTS);
	for (uint64_t gfn = 0; gfn < 64; gfn++)
		read_page(1, gfn);
}

/* A target is reached even by one who has made all his pages equal. */
static void shared_pages_go_when_there_is_nothing_else(void **state)
{
	(void)state;
	for (uint64_t gfn = 0; gfn < 200; gfn++)
		write_page(2, gfn, (uint32_t)(3 + 3 * (gfn % 4)));
	for (uint64_t gfn = 0; gfn < 200; gfn++)
		(void)merge(2, gfn);
	assert_int_equal(p2m_resident(&guest[2]), 100);
	for (uint32_t i = 0; i < 400 && p2m_resident(&guest[2]) > 10; i++) {
		step(2, p2m_resident(&guest[2]) - 10, 0);
		answer();
	}
	assert_true(p2m_resident(&guest[2]) <= 10);
	fake_audit_clean(all, GUESTS);
	for (uint64_t gfn = 0; gfn < 200; gfn++)
		read_page(2, gfn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(equal_pages_come_to_lie_in_one_frame),
		TEST(those_without_a_common_group_never_do),
		TEST(a_write_takes_a_copy_and_the_last_the_frame),
		TEST(no_cpu_sees_the_new_frame_before_all_have_left_the_old),
		TEST(the_last_one_gets_his_frame_back_by_the_scan),
		TEST(the_hypervisors_own_writes_break_it_too),
		TEST(the_balloon_gives_references_back),
		TEST(zero_pages_are_given_up),
		TEST(large_pages_are_broken_only_for_a_gain),
		TEST(what_is_touched_meanwhile_is_not_lost),
		TEST(a_merge_that_is_disturbed_leaves_all_as_it_was),
		TEST(the_ladder_shares_before_it_compresses),
		TEST(shared_pages_go_when_there_is_nothing_else),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
