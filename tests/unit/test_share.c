/* SHARED frames and the hints that lead to them. */
#include "mm/hash.h"
#include "mm/zero.h"
#include "tests/fake/bug.h"
#include "tests/fake/cpu.h"
#include "tests/unit/share.h"

static struct frame_account a, b;

/* Of one page of hints: 32 sets. Account a has no min, b has one of 10. */
static int setup(void **state)
{
	(void)state;
	fake_machine(FRAMES);
	assert_int_equal(frame_pool_init(1000, 0, EMERGENCY), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	assert_int_equal(frame_account_open(&b, 2, 10, NULL), OK);
	share_init(table_memory, 1, SALT);
	return 0;
}

static mfn_t page_of(struct frame_account *acc, uint64_t gfn)
{
	mfn_t mfn;

	assert_int_equal(frame_alloc(acc, FRAME_PRIVATE, 0, GFN(gfn), MFN_NONE, 0, &mfn), OK);
	return mfn;
}

static uint64_t refs(mfn_t mfn)
{
	assert_int_equal(frame_of(mfn)->state, FRAME_SHARED);
	return frame_of(mfn)->u.shared.refs;
}

static void check_two(void)
{
	check_pool((struct frame_account *[]){ &a, &b }, 2);
}

/* ---- frames ------------------------------------------------------------------------------------ */

static void a_frame_is_shared_and_dies(void **state)
{
	mfn_t mfn = page_of(&a, 7);
	int64_t before = frame_pool.headroom;

	(void)state;
	*(uint64_t *)mfn_to_va(mfn) = 99;
	assert_int_equal(frame_share_make(&a, mfn, 1), OK);
	assert_int_equal(refs(mfn), 1);
	assert_int_equal(frame_of(mfn)->owner, FRAME_OWNER_SHARED);
	assert_int_equal(a.used_pages, 0);
	assert_int_equal(frame_pool.shared.used_pages, 1);
	assert_int_equal(frame_pool.headroom, before);
	check_two();
	assert_true(frame_share_get_if(mfn, 1));
	assert_false(frame_share_get_if(mfn, 2)); /* another domain's */
	frame_share_get(mfn);
	assert_int_equal(refs(mfn), 3);
	assert_false(frame_share_put(mfn));
	assert_int_equal(frame_share_take(&a, mfn, GFN(7), 0), ERR_BUSY);
	assert_false(frame_share_put(mfn));
	assert_int_equal(*(uint64_t *)mfn_to_va(mfn), 99);
	assert_true(frame_share_put(mfn));
	assert_int_equal(frame_of(mfn)->state, FRAME_DIRTY); /* to be scrubbed, as any other */
	assert_int_equal(frame_of(mfn)->owner, FRAME_OWNER_NONE);
	assert_int_equal(frame_pool.shared.used_pages, 0);
	assert_false(frame_share_get_if(mfn, 1));
	check_two();
}

static void the_last_writer_takes_it(void **state)
{
	mfn_t mfn = page_of(&a, 7);

	(void)state;
	*(uint64_t *)mfn_to_va(mfn) = 99;
	assert_int_equal(frame_share_make(&a, mfn, 0x10007), OK);
	assert_true(frame_share_get_if(mfn, 0x10007));
	assert_false(frame_share_put(mfn));
	assert_int_equal(frame_share_take(&b, mfn, GFN(55), 0), OK); /* another of the group */
	assert_int_equal(frame_of(mfn)->state, FRAME_PRIVATE);
	assert_int_equal(frame_of(mfn)->owner, 2);
	assert_int_equal(frame_of(mfn)->u.gfn, 55);
	assert_int_equal(*(uint64_t *)mfn_to_va(mfn), 99);
	assert_int_equal(a.used_pages, 0);
	assert_int_equal(b.used_pages, 1);
	check_two();
	assert_false(frame_share_get_if(mfn, 0x10007));
	/* Its max binds, but not reclaim's own needs. */
	assert_int_equal(frame_share_make(&b, mfn, 2), OK);
	frame_account_set_max(&b, 0);
	assert_int_equal(frame_share_take(&b, mfn, GFN(55), 0), ERR_LIMIT);
	assert_int_equal(refs(mfn), 1);
	assert_int_equal(frame_share_take(&b, mfn, GFN(55), FRAME_ALLOC_EMERGENCY), OK);
	check_two();
	frame_free(&b, mfn, 0);
	check_two();
}

/* What a guest is guaranteed it may have as private frames, whatever it shares. */
static void sharing_below_the_min_is_paid_for(void **state)
{
	mfn_t own[5], mfn;
	uint64_t taken = 0;

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		own[i] = page_of(&b, i);
	while (frame_alloc(&a, FRAME_PRIVATE, 0, GFN(0), MFN_NONE, 0, &mfn) == OK)
		taken++;
	assert_int_equal(taken, 1000 - 10 - EMERGENCY);
	assert_int_equal(frame_share_make(&b, own[0], 2), ERR_LIMIT);
	assert_int_equal(frame_of(own[0])->state, FRAME_PRIVATE);
	assert_int_equal(frame_share_make(&a, mfn, 1), OK); /* beyond a min it costs nothing */
	check_two();
	assert_true(frame_share_put(mfn));
	assert_int_equal(frame_share_make(&b, own[0], 2), OK);
	assert_int_equal(frame_share_make(&b, own[1], 2), ERR_LIMIT);
	check_two();
	for (uint32_t i = 1; i < 7; i++) /* all ten, and the shared one */
		page_of(&b, 100 + i);
	assert_int_equal(b.used_pages, 10);
	assert_int_equal(frame_alloc(&b, FRAME_PRIVATE, 0, GFN(0), MFN_NONE, 0, &mfn), ERR_NOMEM);
	assert_int_equal(frame_share_take(&b, own[0], GFN(0), 0), OK); /* it is there already */
	assert_int_equal(b.used_pages, 11);
	check_two();
}

static void wrong_frames_stop_the_machine(void **state)
{
	static mfn_t mfn; /* not lost by a longjmp() */
	mfn_t zero = frame_zero_mfn();

	(void)state;
	mfn = page_of(&a, 7);
	assert_false(frame_share_get_if(zero, FRAME_LINK_NONE)); /* nobody takes that for a page's */
	assert_false(frame_share_get_if(MFN(3), 1));
	assert_false(frame_share_get_if(MFN_NONE, 1));
	assert_false(frame_share_get_if(mfn, 1));
	assert_false(frame_share_get_if(mfn, FRAME_LINK_NONE));
	frame_share_get(zero);
	assert_int_equal(frame_share_take(&a, zero, GFN(1), 0), ERR_BUSY);
	assert_false(frame_share_put(zero));
	assert_true(FAKE_BUG_REACHED(frame_share_put(mfn)));
	setup(NULL);
	mfn = page_of(&a, 7);
	assert_int_equal(frame_share_make(&a, mfn, 1), OK);
	assert_true(frame_share_put(mfn));
	assert_true(FAKE_BUG_REACHED(frame_share_put(mfn)));
	/* These stop with the lock held: each on a CPU of its own. */
	for (fake_cpu_index = 60; fake_cpu_index < 62; fake_cpu_index++) {
		setup(NULL);
		mfn = page_of(&a, 7);
		if (fake_cpu_index == 60)
			assert_true(FAKE_BUG_REACHED((void)!frame_share_make(&b, mfn, 1)));
		else
			assert_true(FAKE_BUG_REACHED((void)!frame_share_take(&a, mfn, GFN(7), 0)));
	}
	fake_cpu_index = 0;
}

/* So many references that one more could not be counted: others get another frame. */
static void references_do_not_overflow(void **state)
{
	mfn_t mfn = page_of(&a, 7);

	(void)state;
	assert_int_equal(frame_share_make(&a, mfn, 1), OK);
	frame_of(mfn)->u.shared.refs = (1u << 31) - 1;
	assert_true(frame_share_get_if(mfn, 1));
	assert_false(frame_share_get_if(mfn, 1));
	frame_of(mfn)->u.shared.refs = 0; /* somebody is about to free it */
	assert_false(frame_share_get_if(mfn, 1));
	frame_of(mfn)->u.shared.refs = 1;
	assert_true(frame_share_put(mfn));
}

/* ---- hints ------------------------------------------------------------------------------------- */

static struct share_hint hint;

static enum share_found find(uint64_t hash, uint16_t owner, uint16_t group)
{
	return share_find(hash, owner, group, GFN_NONE, &hint);
}

static mfn_t shared_frame(uint64_t hash, uint16_t group)
{
	mfn_t mfn = page_of(&a, 7);

	assert_int_equal(share_make(&a, mfn, hash, group), OK);
	return mfn;
}

static void a_page_is_found_again(void **state)
{
	(void)state;
	assert_int_equal(find(1234, 1, 0), SHARE_NOTHING);
	share_offer(1234, 1, 0, GFN(50));
	assert_int_equal(share_find(1234, 1, 0, GFN(50), &hint), SHARE_NOTHING); /* that is itself */
	assert_int_equal(share_find(1234, 1, 0, GFN(51), &hint), SHARE_PAGE);
	assert_int_equal(hint.owner, 1);
	assert_int_equal(hint.gfn.v, 50);
	assert_int_equal(find(1235, 1, 0), SHARE_NOTHING);
	assert_int_equal(find(1234 | 1ull << 40, 1, 0), SHARE_NOTHING); /* each part of the hash counts */
	share_offer(1234, 1, 0, GFN(51)); /* a newer one */
	assert_int_equal(find(1234, 1, 0), SHARE_PAGE);
	assert_int_equal(hint.gfn.v, 51);
	assert_int_equal(counts().pages, 1);
	struct share_hint old = hint;

	share_offer(1234, 1, 0, GFN(52));
	share_wrong(SHARE_PAGE, &old); /* it has been replaced: stays */
	assert_int_equal(find(1234, 1, 0), SHARE_PAGE);
	share_wrong(SHARE_PAGE, &hint);
	assert_int_equal(find(1234, 1, 0), SHARE_NOTHING);
	assert_int_equal(counts().pages, 0);
	assert_int_equal(counts().wrong, 2);
	/* Numbers that no page has. */
	share_offer(1, FRAME_OWNER_SHARED, 0, GFN(1));
	share_offer(1, 1, 0, GFN(1ull << 32));
	assert_int_equal(find(1, 1, 0), SHARE_NOTHING);
	check_two();
}

static void guests_share_only_by_group(void **state)
{
	(void)state;
	share_offer(9, 1, 0, GFN(5));
	assert_int_equal(find(9, 2, 0), SHARE_NOTHING);
	assert_int_equal(find(9, 2, 1), SHARE_NOTHING); /* a group is not a guest's number */
	assert_int_equal(find(9, 1, 7), SHARE_NOTHING);
	share_offer(9, 3, 7, GFN(6));
	assert_int_equal(find(9, 4, 7), SHARE_PAGE);
	assert_int_equal(hint.owner, 3);
	assert_int_equal(find(9, 4, 8), SHARE_NOTHING);
	assert_int_equal(find(9, 7, 0), SHARE_NOTHING);
	assert_int_equal(find(9, 1, 0), SHARE_PAGE); /* each in its own domain */
	assert_int_equal(hint.owner, 1);
	mfn_t mfn = shared_frame(10, 0);

	assert_int_equal(find(10, 2, 0), SHARE_NOTHING);
	assert_int_equal(find(10, 2, 1), SHARE_NOTHING);
	assert_int_equal(find(10, 1, 0), SHARE_FRAME);
	assert_int_equal(refs(mfn), 2);
	check_two();
}

static void a_frame_goes_before_a_page(void **state)
{
	mfn_t mfn, other;

	(void)state;
	share_offer(77, 1, 0, GFN(5));
	mfn = shared_frame(77, 0);
	share_offer(77, 1, 0, GFN(6));
	assert_int_equal(find(77, 1, 0), SHARE_FRAME);
	assert_true(mfn_eq(hint.mfn, mfn));
	assert_int_equal(refs(mfn), 2);
	assert_int_equal(counts().frames, 1);
	assert_int_equal(counts().pages, 0);
	check_two();
	/* Another content with the same hash: the hint is refuted, the frame lives on without one. */
	share_wrong(SHARE_FRAME, &hint);
	assert_false(share_put(mfn));
	assert_int_equal(find(77, 1, 0), SHARE_NOTHING);
	other = shared_frame(77, 0);
	assert_true(share_put(mfn)); /* takes nothing away from the other */
	assert_int_equal(find(77, 1, 0), SHARE_FRAME);
	assert_true(mfn_eq(hint.mfn, other));
	assert_false(share_put(other));
	check_two();
	assert_true(share_put(other));
	assert_int_equal(find(77, 1, 0), SHARE_NOTHING);
	assert_int_equal(counts().frames, 0);
	mfn = shared_frame(77, 0);
	assert_int_equal(share_take(&a, mfn, GFN(9), 0), OK);
	assert_int_equal(find(77, 1, 0), SHARE_NOTHING);
	assert_int_equal(counts().made, 3);
	assert_int_equal(counts().freed, 2);
	assert_int_equal(counts().taken, 1);
	assert_int_equal(counts().stale, 0);
	check_two();
}

/* Hints that were not taken back in time: the frame is dead, or another domain's by now. */
static void stale_hints_are_not_followed(void **state)
{
	mfn_t mfn;

	(void)state;
	mfn = shared_frame(5, 0);
	assert_true(frame_share_put(mfn)); /* behind the table's back */
	assert_int_equal(find(5, 1, 0), SHARE_NOTHING);
	assert_int_equal(counts().stale, 1);
	mfn = shared_frame(5, 0);
	assert_true(frame_share_put(mfn));
	frame_scrub(UINT64_MAX);
	mfn_t again;

	assert_int_equal(frame_alloc(&b, FRAME_PRIVATE, 0, GFN(1), mfn, 0, &again), OK);
	assert_true(mfn_eq(again, mfn));
	assert_int_equal(frame_share_make(&b, again, share_domain(2, 0)), OK);
	assert_int_equal(find(5, 1, 0), SHARE_NOTHING); /* though it is SHARED */
	assert_int_equal(refs(mfn), 1);
	assert_true(share_put(mfn));
	check_two();
}

static void guests_are_forgotten(void **state)
{
	mfn_t mfn;

	(void)state;
	share_init(table_memory, 4, SALT);
	assert_int_equal(counts().entries, 1024);
	for (uint64_t i = 0; i < 100; i++) {
		share_offer(i * 0x123456789abcdefull, 1, 0, GFN(i));
		share_offer(i * 0x3456789abcdef12ull, 2, 0, GFN(i));
		share_offer(i * 0x6789abcdef12345ull, (uint16_t)(1 + i % 2), 4, GFN(i));
	}
	mfn = shared_frame(99, 4);
	share_forget(1);
	for (uint64_t i = 0; i < 100; i++) {
		assert_int_equal(find(i * 0x123456789abcdefull, 1, 0), SHARE_NOTHING);
		assert_int_equal(find(i * 0x3456789abcdef12ull, 2, 0), SHARE_PAGE);
		assert_int_equal(find(i * 0x6789abcdef12345ull, 9, 4), i % 2 ? SHARE_PAGE : SHARE_NOTHING);
	}
	assert_int_equal(find(99, 2, 4), SHARE_FRAME); /* the others' of the group, too */
	assert_false(share_put(mfn));
	assert_true(share_put(mfn));
	check_two();
}

/* A full set: pages' hints go at random, frames' stay. */
static void replacement_is_random(void **state)
{
	uint32_t left[32] = { 0 };
	(void)state;
	for (uint32_t trial = 0; trial < 1000; trial++) {
		share_init(table_memory, 1, trial);
		mfn_t mfn = shared_frame(0, 0);

		for (uint32_t i = 1; i < 16; i++) /* all in the first set */
			share_offer(i, 1, 0, GFN(i));
		assert_int_equal(counts().replaced, 8);
		assert_int_equal(counts().pages, 7);
		assert_int_equal(find(0, 1, 0), SHARE_FRAME);
		for (uint32_t i = 1; i < 16; i++)
			left[i] += find(i, 1, 0) == SHARE_PAGE;
		if (trial % 100 == 0)
			check_two();
		assert_false(share_put(mfn));
		assert_true(share_put(mfn));
	}
	assert_int_equal(left[15], 1000);
	for (uint32_t i = 1; i < 8; i++) /* (6/7)^8 of 1000 = 291: none is safe, none is doomed */
		assert_in_range(left[i], 200, 400);
	/* Only frames: one of them has to go, and lives on. */
	setup(NULL);
	for (uint32_t i = 0; i < 9; i++)
		shared_frame(i, 0);
	assert_int_equal(counts().frames, 8);
	assert_int_equal(find(8, 1, 0), SHARE_FRAME);
	check_two();
}

static void without_a_table(void **state)
{
	mfn_t mfn;

	(void)state;
	share_init(NULL, 0, SALT);
	share_offer(1, 1, 0, GFN(1));
	assert_int_equal(find(1, 1, 0), SHARE_NOTHING);
	mfn = shared_frame(1, 0);
	assert_int_equal(find(1, 1, 0), SHARE_NOTHING);
	share_wrong(SHARE_FRAME, &hint);
	share_forget(1);
	assert_int_equal(counts().entries, 0);
	assert_int_equal(counts().shared_frames, 1);
	assert_true(share_put(mfn));
	check_two();
}

static void hashes_are_salted(void **state)
{
	static uint8_t page[PAGE_BYTES];
	uint64_t first = page_hash(page, 1);

	(void)state;
	assert_true(page_hash(page, 2) != first);
	for (uint32_t i = 0; i < PAGE_BYTES; i += 97) {
		page[i] ^= 1;
		assert_true(page_hash(page, 1) != first);
		page[i] ^= 1;
	}
	assert_int_equal(page_hash(page, 1), first);
	share_init(table_memory, 1, 1);
	assert_int_equal(share_hash(page), first);
}

static void equal_is_equal_in_every_word(void **state)
{
	static uint64_t one[512], two[512];

	(void)state;
	assert_true(pages_equal(one, two));
	for (uint32_t i = 0; i < 512; i++) {
		two[i] ^= 1ull << i % 64;
		assert_false(pages_equal(one, two));
		assert_false(pages_equal(two, one));
		two[i] = 0;
	}
	assert_true(pages_equal(one, two));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_frame_is_shared_and_dies, setup),
		cmocka_unit_test_setup(the_last_writer_takes_it, setup),
		cmocka_unit_test_setup(sharing_below_the_min_is_paid_for, setup),
		cmocka_unit_test_setup(wrong_frames_stop_the_machine, setup),
		cmocka_unit_test_setup(references_do_not_overflow, setup),
		cmocka_unit_test_setup(a_page_is_found_again, setup),
		cmocka_unit_test_setup(guests_share_only_by_group, setup),
		cmocka_unit_test_setup(a_frame_goes_before_a_page, setup),
		cmocka_unit_test_setup(stale_hints_are_not_followed, setup),
		cmocka_unit_test_setup(guests_are_forgotten, setup),
		cmocka_unit_test_setup(replacement_is_random, setup),
		cmocka_unit_test_setup(without_a_table, setup),
		cmocka_unit_test_setup(hashes_are_salted, setup),
		cmocka_unit_test(equal_is_equal_in_every_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
