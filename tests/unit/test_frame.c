/* The pool and its accounts. */
#include "mm/frame_pool.h"
#include "tests/fake/audit.h"
#include "tests/fake/bug.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"
#include "vmm/base/directmap.h"

static status_t get(struct frame_account *a, uint32_t flags, mfn_t *out)
{
	return frame_alloc(a, FRAME_PRIVATE, 0, GFN(7), MFN_NONE, flags, out);
}

static bool is_zero(mfn_t mfn, uint64_t pages)
{
	const uint8_t *p = mfn_to_va(mfn);

	for (uint64_t i = 0; i < pages * PAGE_BYTES; i++)
		if (p[i])
			return false;
	return true;
}

static void pool_size(void **state)
{
	struct frame_counts c;

	(void)state;
	fake_machine(2048);
	assert_int_equal(frame_pool_init(2048, 0, 0), ERR_LIMIT); /* the zero frame took one */
	assert_int_equal(frame_pool_init(2000, 48, 0), ERR_LIMIT);
	assert_int_equal(frame_pool_init(100, 0, 101), ERR_LIMIT);
	assert_int_equal(frame_pool_init(UINT64_MAX, 47, 10), OK);
	frame_counts(&c);
	assert_int_equal(c.total, 2048);
	assert_int_equal(c.pool_limit, 2000);
	assert_int_equal(c.pool_free, 2000);
	assert_int_equal(c.emergency, 10);
	assert_int_equal(c.by_state[FRAME_SHARED], 1);
	assert_int_equal(c.by_state[FRAME_DIRTY], 2047);
	assert_int_equal(c.metadata_bytes, 2048 * 16);
	assert_true(is_zero(frame_zero_mfn(), 1));
}

static void private_frames_are_zero_and_owned(void **state)
{
	struct frame_account a;
	mfn_t mfn;

	(void)state;
	fake_machine(2048);
	assert_int_equal(frame_pool_init(UINT64_MAX, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 3, 0, NULL), OK);
	for (uint32_t order = 0; order < 10; order += 9) {
		assert_int_equal(
			frame_alloc(&a, FRAME_PRIVATE, order, GFN(512), MFN_NONE, 0, &mfn), OK);
		assert_true(is_zero(mfn, 1ull << order));
		for (uint64_t i = 0; i < 1ull << order; i++) {
			const struct frame *f = frame_of(mfn_add(mfn, i));

			assert_int_equal(f->state, FRAME_PRIVATE);
			assert_int_equal(f->owner, 3);
			assert_int_equal(f->u.gfn, 512 + i);
		}
		assert_int_equal(a.used_pages, 1ull << order);
		memset(mfn_to_va(mfn), 0x77, PAGE_BYTES << order);
		frame_free(&a, mfn, order);
		assert_int_equal(a.used_pages, 0);
	}
	assert_int_equal(a.peak_pages, 512);
	assert_int_equal(frame_scrub(UINT64_MAX), 2047);
	frame_account_close(&a);
	fake_audit_clean(NULL, 0);
}

static void wanted_frames(void **state)
{
	struct frame_account a;
	mfn_t mfn, want = MFN(FAKE_MFN_BASE + 700);

	(void)state;
	fake_machine(2048);
	assert_int_equal(frame_pool_init(UINT64_MAX, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	assert_int_equal(frame_alloc(&a, FRAME_PRIVATE, 0, GFN(0), want, 0, &mfn), OK);
	assert_true(mfn_eq(mfn, want));
	assert_int_equal(frame_alloc(&a, FRAME_PRIVATE, 0, GFN(1), want, 0, &mfn), OK);
	assert_false(mfn_eq(mfn, want));
	assert_int_equal(frame_alloc(&a, FRAME_PRIVATE, 0, GFN(2), MFN(5), 0, &mfn), OK);
	assert_int_equal(frame_alloc(&a, FRAME_PRIVATE, 0, GFN(3), MFN(1ull << 60), 0, &mfn), OK);
}

/* A reserve of clean frames is used before a dirty one is scrubbed; tables take dirty ones. */
static void clean_first_for_guests(void **state)
{
	struct frame_account a;
	struct frame_counts c;
	mfn_t mfn;

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(UINT64_MAX, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	assert_int_equal(frame_scrub(16), 16);
	assert_int_equal(frame_alloc(&a, FRAME_TABLE, 0, GFN(0), MFN_NONE, 0, &mfn), OK);
	frame_counts(&c);
	assert_int_equal(c.by_state[FRAME_FREE], 16);
	for (int i = 0; i < 16; i++)
		assert_int_equal(get(&a, 0, &mfn), OK);
	frame_counts(&c);
	assert_int_equal(c.scrubbed, 16);
	assert_int_equal(c.scrubbed_idle, 16);
	assert_int_equal(get(&a, 0, &mfn), OK);
	frame_counts(&c);
	assert_int_equal(c.scrubbed, 17);
	assert_int_equal(c.scrubbed_idle, 16);
}

static void admission(void **state)
{
	struct frame_account a, b, c;
	uint64_t room;

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(1000, 0, 100), OK);
	assert_int_equal(frame_account_open(&a, 1, 600, &room), OK);
	assert_int_equal(room, 900);
	assert_int_equal(frame_account_open(&b, 2, 301, &room), ERR_LIMIT);
	assert_int_equal(room, 300);
	assert_int_equal(frame_account_open(&c, 3, UINT64_MAX, NULL), ERR_LIMIT);
	assert_int_equal(frame_account_open(&b, 2, 300, NULL), OK);
	frame_account_close(&a);
	assert_int_equal(frame_account_open(&c, 3, 600, NULL), OK);
}

/* Nobody takes what another is guaranteed, nor the emergency pages without saying so. */
static void promises(void **state)
{
	struct frame_account a, b;
	struct frame_counts c;
	mfn_t mfn, first = MFN_NONE;
	uint64_t n;

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(1000, 0, 10), OK);
	assert_int_equal(frame_account_open(&a, 1, 200, NULL), OK);
	assert_int_equal(frame_account_open(&b, 2, 300, NULL), OK);
	for (n = 0; get(&a, 0, &mfn) == OK; n++)
		first = mfn;
	assert_int_equal(n, 1000 - 300 - 10);
	assert_int_equal(get(&a, 0, &mfn), ERR_NOMEM);
	assert_int_equal(a.denied, 2);
	for (n = 0; get(&a, FRAME_ALLOC_EMERGENCY, &mfn) == OK; n++)
		;
	assert_int_equal(n, 10);
	frame_counts(&c);
	assert_int_equal(c.promised, 300);
	assert_int_equal(c.pool_free, 300);
	for (n = 0; get(&b, 0, &mfn) == OK; n++) /* all of its min, though the emergency is gone */
		;
	assert_int_equal(n, 300);
	frame_counts(&c);
	assert_int_equal(c.promised, 0);
	assert_int_equal(c.pool_free, 0);
	frame_free(&a, first, 0); /* pays the emergency back first */
	assert_int_equal(get(&a, 0, &mfn), ERR_NOMEM);
	assert_int_equal(get(&b, 0, &mfn), ERR_NOMEM);
}

static void account_max(void **state)
{
	struct frame_account a;
	mfn_t mfn;

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(1000, 0, 10), OK);
	assert_int_equal(frame_account_open(&a, 1, 200, NULL), OK);
	frame_account_set_max(&a, 2);
	assert_int_equal(get(&a, 0, &mfn), OK);
	assert_int_equal(get(&a, 0, &mfn), OK);
	assert_int_equal(get(&a, 0, &mfn), ERR_LIMIT);
	assert_int_equal(get(&a, FRAME_ALLOC_EMERGENCY, &mfn), OK);
}

/* A guest admitted while another holds beyond its min: its promise is a debt, and is paid first. */
static void debt(void **state)
{
	struct frame_account a, b;
	mfn_t mfn, held[16];
	uint64_t n;

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(1000, 0, 10), OK);
	assert_int_equal(frame_account_open(&a, 1, 100, NULL), OK);
	for (n = 0; get(&a, 0, &mfn) == OK; n++)
		if (n < 16)
			held[n] = mfn;
	assert_int_equal(n, 990);
	assert_int_equal(frame_account_open(&b, 2, 500, NULL), OK);
	assert_int_equal(get(&b, 0, &mfn), ERR_NOMEM); /* only the emergency is left */
	for (n = 0; n < 16; n++)
		frame_free(&a, held[n], 0);
	assert_int_equal(get(&a, 0, &mfn), ERR_NOMEM);
	for (n = 0; get(&b, 0, &mfn) == OK; n++)
		;
	assert_int_equal(n, 16);
	assert_int_equal(get(&a, FRAME_ALLOC_EMERGENCY, &mfn), OK); /* reclaim goes on */
}

/* The hypervisor's own frames never come out of what guests are still owed. */
static void hypervisor_keeps_out_of_the_pool(void **state)
{
	struct frame_account a;
	mfn_t mfn;
	uint64_t n;

	(void)state;
	fake_machine(1024);
	assert_int_equal(frame_pool_init(UINT64_MAX, 23, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 500, NULL), OK);
	for (n = 0; frame_alloc(NULL, FRAME_HV, 0, GFN(0), MFN_NONE, 0, &mfn) == OK; n++)
		;
	assert_int_equal(n, 23);
	for (n = 0; get(&a, 0, &mfn) == OK; n++)
		;
	assert_int_equal(n, 1000);
}

static void batches(void **state)
{
	struct frame_account a;
	struct frame_batch b;
	struct frame_counts c;
	mfn_t mfn;

	(void)state;
	fake_machine(4096);
	assert_int_equal(frame_pool_init(UINT64_MAX, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 100, NULL), OK);
	frame_batch_init(&b);
	frame_batch_free(&a, &b); /* nothing is fine */
	for (int i = 0; i < 1500; i++) {
		assert_int_equal(get(&a, 0, &mfn), OK);
		frame_batch_add(&b, mfn, 0);
	}
	assert_int_equal(frame_alloc(&a, FRAME_PRIVATE, 9, GFN(0), MFN_NONE, 0, &mfn), OK);
	frame_batch_add(&b, mfn, 9);
	assert_int_equal(b.pages, 2012);
	frame_batch_free(&a, &b);
	assert_int_equal(b.pages, 0);
	assert_int_equal(a.used_pages, 0);
	frame_counts(&c);
	assert_int_equal(c.pool_used, 0);
	assert_int_equal(c.promised, 100);
	frame_account_close(&a);
	fake_audit_clean(NULL, 0);
}

static void scrub_merges(void **state)
{
	struct frame_counts c;

	(void)state;
	fake_machine(2048);
	assert_int_equal(frame_pool_init(UINT64_MAX, 0, 0), OK);
	assert_int_equal(frame_scrub(0), 0);
	assert_int_equal(frame_scrub(5), 5);
	assert_int_equal(frame_scrub(5000), 2042);
	assert_int_equal(frame_scrub(1), 0);
	frame_counts(&c);
	assert_int_equal(c.by_state[FRAME_FREE], 2047);
	assert_int_equal(c.free_by_order[10], 1);
	fake_audit_clean(NULL, 0);
}

static void broken_invariants_stop_the_machine(void **state)
{
	struct frame_account a, b;
	mfn_t mfn;

	(void)state;
	fake_machine(2048);
	assert_int_equal(frame_pool_init(UINT64_MAX, 0, 0), OK);
	assert_int_equal(frame_account_open(&a, 1, 0, NULL), OK);
	assert_int_equal(frame_account_open(&b, 2, 0, NULL), OK);
	assert_int_equal(get(&a, 0, &mfn), OK);
	assert_true(FAKE_BUG_REACHED(frame_move(frame_of(mfn), FRAME_PRIVATE, FRAME_FREE)));
	assert_true(FAKE_BUG_REACHED(frame_move(frame_of(mfn), FRAME_DIRTY, FRAME_FREE)));
	assert_true(
		FAKE_BUG_REACHED(frame_move(frame_of(frame_zero_mfn()), FRAME_SHARED, FRAME_HV)));
	assert_true(FAKE_BUG_REACHED(frame_share_put(frame_zero_mfn())));
	frame_of(frame_zero_mfn())->u.refs = 0;
	assert_null(frame_of(MFN(0)));
	assert_null(frame_of(MFN_NONE));
	assert_true(FAKE_BUG_REACHED(frame_free(&b, mfn, 0))); /* another guest's; keeps the lock */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pool_size),
		cmocka_unit_test(private_frames_are_zero_and_owned),
		cmocka_unit_test(wanted_frames),
		cmocka_unit_test(clean_first_for_guests),
		cmocka_unit_test(admission),
		cmocka_unit_test(promises),
		cmocka_unit_test(account_max),
		cmocka_unit_test(debt),
		cmocka_unit_test(hypervisor_keeps_out_of_the_pool),
		cmocka_unit_test(batches),
		cmocka_unit_test(scrub_merges),
		cmocka_unit_test(broken_invariants_stop_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
