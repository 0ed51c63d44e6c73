/* SHARED frames and the hints that lead to them. */
#include "mm/frame_pool.h"
#include "mm/hash.h"
#include "mm/share.h"
#include "tests/fake/bug.h"
#include "tests/fake/cpu.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"
#include "vmm/base/directmap.h"

#include <pthread.h>

#define FRAMES    4096u
#define EMERGENCY 8u
#define SALT      0x5a17u

static struct frame_account a, b;
static uint64_t table_memory[4 * PAGE_BYTES / 8] __attribute__((aligned(4096)));

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

/* The pool's numbers are what they must be, given the accounts. */
static void check_pool(struct frame_account **accounts, uint32_t count)
{
	uint64_t used = frame_pool.shared.used_pages, states = 0;
	int64_t owed = 0;

	frame_lock_all();
	for (uint32_t i = 0; i < count; i++) {
		used += accounts[i]->used_pages;
		owed += (int64_t)frame_owed(accounts[i]);
	}
	assert_int_equal(frame_pool.used, used);
	assert_int_equal(frame_pool.headroom, (int64_t)(frame_pool.limit - used) - owed);
	assert_int_equal(frame_pool.by_state[FRAME_SHARED] - 1, frame_pool.shared.used_pages);
	for (uint32_t i = 0; i < FRAME_STATE_COUNT; i++)
		states += frame_pool.by_state[i];
	assert_int_equal(states, frame_table.count);
	frame_unlock_all();
	assert_null(share_check());
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
	for (fake_cpu_index = 1; fake_cpu_index < 3; fake_cpu_index++) {
		setup(NULL);
		mfn = page_of(&a, 7);
		if (fake_cpu_index == 1)
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
	frame_of(mfn)->u.shared.refs = 1;
	assert_true(frame_share_put(mfn));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_frame_is_shared_and_dies, setup),
		cmocka_unit_test_setup(the_last_writer_takes_it, setup),
		cmocka_unit_test_setup(sharing_below_the_min_is_paid_for, setup),
		cmocka_unit_test_setup(wrong_frames_stop_the_machine, setup),
		cmocka_unit_test_setup(references_do_not_overflow, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
