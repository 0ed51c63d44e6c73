/* The p2m, one behaviour a test. The random test with a model is test_mm_random.c. */
#include "mm/evict.h"
#include "mm/p2m_walk.h"
#include "tests/fake/audit.h"
#include "tests/fake/bug.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

static struct p2m p;
static struct p2m_entry e;

static void machine(uint64_t frames, uint64_t pages)
{
	slat_format = &fake_ept;
	fake_machine(frames);
	assert_int_equal(frame_pool_init(UINT64_MAX, 32, 16), OK);
	assert_int_equal(p2m_create(&p, 1, pages, 10, NULL), OK);
}

static void done(void)
{
	struct p2m *list[] = { &p };

	fake_audit_clean(list, 1);
	uint64_t flushes = fake_flush_count;

	p2m_destroy(&p);
	assert_true(fake_flush_count > flushes); /* before its frames are anyone's */
	fake_audit_clean(list, 1);
	fake_audit_clean(NULL, 0);
}

static void fault(uint64_t gfn, uint32_t access)
{
	assert_int_equal(p2m_fault(&p, gfn_to_gpa(GFN(gfn)), access), P2M_FAULT_MAPPED);
}

static void fill(uint64_t gfn, uint64_t pages)
{
	for (uint64_t i = gfn; i < gfn + pages; i++) {
		fault(i, P2M_WRITE);
		*(uint64_t *)fake_guest_access(&p, gfn_to_gpa(GFN(i)), P2M_WRITE) = i + 1;
	}
}

static void assert_content(uint64_t gfn, uint64_t pages)
{
	for (uint64_t i = gfn; i < gfn + pages; i++)
		assert_int_equal(
			*(uint64_t *)fake_guest_access(&p, gfn_to_gpa(GFN(i)), P2M_READ), i + 1);
}

static status_t inflate(uint64_t gfn, uint32_t order)
{
	struct frame_batch b;

	p2m_batch_begin(&p, &b);
	status_t s = p2m_inflate(&p, GFN(gfn), order, &b);

	p2m_batch_finish(&p, &b);
	return s;
}

static status_t deflate(uint64_t gfn, uint32_t order)
{
	struct frame_batch b;

	p2m_batch_begin(&p, &b);
	status_t s = p2m_deflate(&p, GFN(gfn), order);

	p2m_batch_finish(&p, &b);
	return s;
}

static enum p2m_state state_of(uint64_t gfn)
{
	p2m_lookup(&p, GFN(gfn), &e);
	return e.state;
}

static void reading_costs_no_frame(void **state)
{
	(void)state;
	machine(2048, 1024);
	fault(5, P2M_READ);
	assert_int_equal(state_of(5), P2M_EMPTY);
	assert_true(mfn_eq(e.mfn, frame_zero_mfn()));
	assert_false(e.writable);
	assert_int_equal(p.account.used_pages, p.table_count);
	assert_int_equal(frame_of(frame_zero_mfn())->u.refs, 1);
	fault(5, P2M_READ); /* once more changes nothing */
	assert_int_equal(p.fault_spurious, 1);
	fault(5, P2M_WRITE);
	assert_int_equal(state_of(5), P2M_RAM);
	assert_true(e.writable);
	assert_int_equal(p.fault_cow_zero, 1);
	assert_int_equal(fake_flush_count != 0, 1);
	assert_int_equal(frame_of(frame_zero_mfn())->u.refs, 0);
	done();
}

static void memory_has_an_end(void **state)
{
	const uint64_t sizes[] = { 1, 511, 512, 513, 262143, 262144, 262145, 1000000, 16777216 };

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		uint64_t n = sizes[i];

		machine(2048, n);
		assert_int_equal(p.table_count, 1); /* any size costs one frame */
		assert_int_equal(p2m_fault(&p, gfn_to_gpa(GFN(n)), P2M_WRITE), P2M_FAULT_NOT_RAM);
		assert_int_equal(p2m_fault(&p, GPA(UINT64_MAX), P2M_WRITE), P2M_FAULT_NOT_RAM);
		fault(n - 1, P2M_WRITE);
		fault(0, P2M_WRITE);
		assert_int_equal(state_of(n - 1), P2M_RAM);
		assert_int_equal(state_of(n), P2M_NONE);
		assert_int_equal(state_of(UINT64_MAX), P2M_NONE);
		if (n > 1)
			assert_int_equal(state_of(n / 2), n / 2 == 0 ? P2M_RAM : P2M_EMPTY);
		assert_int_equal(inflate(n, 0), ERR_RANGE);
		assert_int_equal(inflate(UINT64_MAX, 0), ERR_RANGE);
		assert_int_equal(inflate(ALIGN_DOWN(n - 1, 512), 9), n % 512 ? ERR_RANGE : OK);
		assert_int_equal(deflate(n, 0), ERR_RANGE);
		done();
	}
	assert_int_equal(p2m_create(&p, 1, 0, 0, NULL), ERR_INVAL);
	assert_int_equal(p2m_create(&p, 1, 1ull << 32, 0, NULL), ERR_INVAL);
}

static void neighbours_join(void **state)
{
	(void)state;
	for (int downwards = 0; downwards < 2; downwards++) {
		uint64_t flushes = fake_flush_count;

		machine(4096, 2048);
		for (uint64_t i = 0; i < 512; i++)
			fill(512 + (downwards ? 511 - i : i), 1);
		assert_int_equal(p.join_2m, 1);
		assert_int_equal(fake_flush_count, flushes + 1); /* before the table is anyone's */
		assert_int_equal(state_of(700), P2M_RAM);
		assert_int_equal(e.level, 2);
		assert_int_equal(p.pages_in_2m, 512);
		assert_content(512, 512);
		assert_int_equal(p.table_count, 3); /* the level-1 table is back in the pool */
		done();
	}
}

static void interleaved_tables_join_too(void **state)
{
	(void)state;
	machine(8192, 2048);
	for (uint64_t i = 0; i < 512; i++)
		for (uint64_t block = 0; block < 4; block++)
			fill(block * 512 + (i * 77 & 511), 1);
	assert_int_equal(p.join_2m, 4);
	assert_content(0, 2048);
	done();
}

static void split_keeps_content_and_joins_back(void **state)
{
	(void)state;
	machine(4096, 2048);
	fill(0, 512);
	assert_int_equal(p2m_split(&p, GFN(600)), ERR_NOENT);
	assert_int_equal(p2m_split(&p, GFN(5000)), ERR_RANGE);
	assert_int_equal(p2m_join(&p, GFN(5000)), ERR_RANGE);
	assert_int_equal(p2m_join(&p, GFN(600)), ERR_NOENT);
	assert_int_equal(p2m_split(&p, GFN(100)), OK);
	assert_int_equal(p.pages_in_2m, 0);
	assert_content(0, 512);
	assert_int_equal(inflate(100, 0), OK);
	assert_int_equal(p2m_join(&p, GFN(0)), ERR_BUSY);
	fault(100, P2M_WRITE);
	assert_int_equal(p.balloon_touch, 1);
	*(uint64_t *)fake_guest_access(&p, gfn_to_gpa(GFN(100)), P2M_WRITE) = 101;
	assert_int_equal(p.join_2m, 2); /* the same frame was free, so all is in order again */
	assert_content(0, 512);
	done();
}

/* Where large leaves may not be executed from: one fault a 2 MiB, and never a leaf again until it is another 2 MiB. */
static void what_is_executed_is_no_leaf(void **state)
{
	struct frame_batch b;

	(void)state;
	machine(4096, 1024);
	slat_format = &fake_npt_no_exec;
	fill(0, 1024);
	assert_int_equal(p.pages_in_2m, 1024);
	assert_null(fake_guest_access(&p, GPA(7 * PAGE_BYTES), P2M_EXEC));
	fault(7, P2M_READ); /* reading is no reason */
	assert_int_equal(p.pages_in_2m, 1024);
	fault(7, P2M_EXEC);
	assert_non_null(fake_guest_access(&p, GPA(7 * PAGE_BYTES), P2M_EXEC));
	assert_int_equal(p.pages_in_2m, 512);
	assert_int_equal(p.fault_exec_2m, 1);
	fault(8, P2M_EXEC); /* another CPU's: done already */
	assert_int_equal(p.fault_exec_2m, 1);
	assert_int_equal(p2m_join(&p, GFN(7)), ERR_BUSY);
	assert_int_equal(p2m_gather(&p, GFN(7)), ERR_BUSY);
	assert_int_equal(inflate(100, 0), OK);
	fill(100, 1); /* all in order again */
	assert_content(0, 1024);
	assert_int_equal(p.pages_in_2m, 512);
	assert_int_equal(inflate(0, 9), OK);
	p2m_batch_begin(&p, &b);
	assert_int_equal(p2m_deflate(&p, GFN(0), 9), OK);
	p2m_batch_finish(&p, &b);
	fill(0, 512);
	assert_int_equal(p.pages_in_2m, 1024);
	/* Split for another reason, it comes together again as before. */
	assert_int_equal(p2m_split(&p, GFN(600)), OK);
	assert_int_equal(p2m_join(&p, GFN(600)), OK);
	done();
}

/* Its table is not to be had: the guest waits, nothing has changed. */
static void executing_may_have_to_wait(void **state)
{
	(void)state;
	machine(4096, 512);
	slat_format = &fake_npt_no_exec;
	fill(0, 512);
	frame_account_set_max(&p.account, p.account.used_pages);
	assert_int_equal(p2m_fault(&p, GPA(0), P2M_EXEC), P2M_FAULT_WAIT);
	assert_int_equal(p.pages_in_2m, 512);
	assert_int_equal(p2m_fault(&p, GPA(0), P2M_EXEC | P2M_GRACE), P2M_FAULT_MAPPED);
	assert_non_null(fake_guest_access(&p, GPA(0), P2M_EXEC));
	assert_content(0, 512);
	done();
}

/* Accessed and dirty go with the page, whatever the size of its leaf. */
static void accessed_and_dirty_survive(void **state)
{
	uint64_t both = fake_ept.accessed | fake_ept.dirty;

	(void)state;
	machine(4096, 1024);
	fill(0, 512);
	for (uint64_t i = 0; i < 512; i++) {
		struct p2m_slot s = p2m_walk(&p, GFN(i));

		assert_int_equal(s.level, 2);
		assert_int_equal(*s.entry & both, both);
	}
	assert_int_equal(p2m_split(&p, GFN(0)), OK);
	assert_int_equal(*p2m_walk(&p, GFN(77)).entry & both, both);
	for (uint64_t i = 0; i < 512; i++)
		*p2m_walk(&p, GFN(i)).entry &= ~both;
	*p2m_walk(&p, GFN(300)).entry |= both;
	assert_int_equal(p2m_join(&p, GFN(0)), OK);
	assert_int_equal(*p2m_walk(&p, GFN(0)).entry & both, both);
	done();
}

static void first_write_takes_a_block(void **state)
{
	(void)state;
	machine(4096, 1300);
	p.populate_2m = true;
	fault(700, P2M_WRITE);
	assert_int_equal(p.fault_2m, 1);
	assert_int_equal(state_of(512), P2M_RAM);
	assert_int_equal(e.level, 2);
	for (uint64_t i = 512; i < 1024; i++) {
		const uint64_t *page = fake_guest_access(&p, gfn_to_gpa(GFN(i)), P2M_WRITE);

		for (uint32_t w = 0; w < 512; w++)
			assert_int_equal(page[w], 0);
	}
	fault(1100, P2M_WRITE); /* not a whole block up to the end */
	assert_int_equal(p.fault_2m, 1);
	fault(1, P2M_READ); /* touched: no longer a block */
	fault(2, P2M_WRITE);
	assert_int_equal(p.fault_2m, 1);
	done();
	machine(1024, 1024); /* not roomy */
	p.populate_2m = true;
	fault(0, P2M_WRITE);
	assert_int_equal(p.fault_2m, 0);
	done();
}

static void balloon_page(void **state)
{
	uint64_t used;

	(void)state;
	machine(2048, 1024);
	fill(7, 1);
	fault(8, P2M_READ);
	used = p.account.used_pages;
	assert_int_equal(inflate(7, 0), OK);
	assert_int_equal(p.account.used_pages, used - 1);
	assert_int_equal(inflate(8, 0), OK);
	assert_int_equal(p.zero_mapped, 0);
	assert_int_equal(inflate(9, 0), OK);
	assert_int_equal(inflate(9, 0), ERR_EXIST);
	assert_int_equal(p.pages[P2M_BALLOONED], 3);
	assert_null(fake_guest_access(&p, gfn_to_gpa(GFN(7)), P2M_READ));
	assert_int_equal(deflate(7, 0), OK);
	assert_int_equal(deflate(7, 0), ERR_NOENT);
	fault(7, P2M_READ);
	assert_int_equal(*(uint64_t *)fake_guest_access(&p, gfn_to_gpa(GFN(7)), P2M_READ), 0);
	fault(8, P2M_WRITE); /* a touch takes a page out of the balloon */
	fault(9, P2M_READ);
	assert_int_equal(p.balloon_touch, 2);
	assert_int_equal(p.pages[P2M_BALLOONED], 0);
	for (uint32_t order = 1; order < 70; order++)
		if (order != 9)
			assert_int_equal(inflate(0, order), ERR_RANGE);
	assert_int_equal(inflate(1, 9), ERR_RANGE);
	assert_int_equal(deflate(1, 9), ERR_RANGE);
	done();
}

static void balloon_block(void **state)
{
	struct frame_counts c;

	(void)state;
	machine(4096, 2048);
	assert_int_equal(inflate(0, 9), OK); /* EMPTY */
	fill(512, 512);                      /* a leaf */
	assert_int_equal(inflate(512, 9), OK);
	fill(1024, 100); /* a table */
	fault(1200, P2M_READ);
	assert_int_equal(inflate(1024, 9), OK);
	assert_int_equal(p.zero_mapped, 0);
	assert_int_equal(p.pages[P2M_BALLOONED], 1536);
	assert_int_equal(p.table_count, 3);
	assert_int_equal(p.account.used_pages, 3);
	frame_counts(&c);
	assert_int_equal(c.by_state[FRAME_PRIVATE], 0);
	assert_int_equal(inflate(512, 9), ERR_EXIST);
	assert_int_equal(inflate(513, 0), ERR_EXIST);
	assert_int_equal(deflate(512, 9), OK);
	assert_int_equal(deflate(512, 9), ERR_NOENT);
	assert_int_equal(deflate(1024 + 17, 0), OK); /* one page out of a block */
	assert_int_equal(state_of(1024 + 17), P2M_EMPTY);
	assert_int_equal(state_of(1024 + 18), P2M_BALLOONED);
	assert_int_equal(deflate(1024, 9), ERR_NOENT); /* all or nothing */
	assert_int_equal(inflate(1024, 9), ERR_EXIST);
	assert_int_equal(inflate(1024 + 17, 0), OK);
	assert_int_equal(deflate(1024, 9), OK); /* the table goes again */
	assert_int_equal(p.table_count, 3);
	fault(3, P2M_WRITE); /* one page of a ballooned block */
	assert_int_equal(state_of(3), P2M_RAM);
	assert_int_equal(p.pages[P2M_BALLOONED], 511);
	p2m_deflate_all(&p);
	assert_int_equal(p.pages[P2M_BALLOONED], 0);
	assert_int_equal(state_of(4), P2M_EMPTY);
	done();
}

static void pins(void **state)
{
	void *va;

	(void)state;
	machine(4096, 2048);
	fill(0, 512);
	assert_int_equal(p2m_pin(&p, GFN(3), &va), OK);
	assert_int_equal(*(uint64_t *)va, 4);
	assert_int_equal(p.pinned, 1);
	assert_int_equal(p2m_pin(&p, GFN(3), &va), ERR_EXIST);
	assert_int_equal(p2m_pin(&p, GFN(2048), &va), ERR_RANGE);
	assert_int_equal(inflate(3, 0), ERR_BUSY);
	assert_int_equal(inflate(0, 9), ERR_BUSY);
	assert_int_equal(p2m_join(&p, GFN(0)), ERR_BUSY);
	assert_content(0, 512);
	assert_int_equal(inflate(4, 0), OK);
	p2m_unpin(&p, GFN(3));
	assert_int_equal(inflate(3, 0), OK);
	assert_int_equal(p2m_pin(&p, GFN(3), &va), OK); /* out of the balloon */
	assert_int_equal(*(uint64_t *)va, 0);
	done();
	machine(4096, 2048);
	assert_true(FAKE_BUG_REACHED(p2m_unpin(&p, GFN(9999))));
}

static void copies(void **state)
{
	static uint8_t in[3 * 4096], out[3 * 4096];
	uint64_t used;

	(void)state;
	machine(4096, 1024);
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 31 + 1);
	used = p.account.used_pages;
	memset(out, 1, sizeof(out));
	assert_int_equal(p2m_copy_from(&p, GPA(100), out, 9000), OK);
	for (size_t i = 0; i < 9000; i++)
		assert_int_equal(out[i], 0);
	assert_int_equal(p.account.used_pages, used); /* reading populates nothing */
	assert_int_equal(p2m_copy_to(&p, GPA(0x1ff0), in, sizeof(in)), OK);
	assert_int_equal(p2m_copy_from(&p, GPA(0x1ff0), out, sizeof(out)), OK);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(p2m_copy_to(&p, GPA(1024 * 4096 - 10), in, 10), OK);
	assert_int_equal(p2m_copy_to(&p, GPA(1024 * 4096 - 10), in, 11), ERR_RANGE);
	assert_int_equal(p2m_copy_to(&p, GPA(UINT64_MAX - 4), in, 10), ERR_RANGE);
	assert_int_equal(p2m_copy_from(&p, GPA(0), out, UINT64_MAX), ERR_RANGE);
	assert_int_equal(p2m_copy_from(&p, GPA(1024 * 4096), out, 0), OK);
	assert_int_equal(inflate(500, 0), OK);
	assert_int_equal(p2m_copy_from(&p, gfn_to_gpa(GFN(500)), out, 8), OK);
	assert_int_equal(state_of(500), P2M_EMPTY); /* as the guest's own read would */
	done();
}

static void shortage(void **state)
{
	uint64_t gfn, denied;
	void *va;
	char byte = 1;

	(void)state;
	machine(600, 4096);
	for (gfn = 0; p2m_fault(&p, gfn_to_gpa(GFN(gfn)), P2M_WRITE) == P2M_FAULT_MAPPED; gfn++)
		;
	assert_true(gfn > 500 && gfn < 552);
	denied = p.fault_denied;
	assert_int_equal(denied, 1);
	assert_int_equal(p2m_fault(&p, gfn_to_gpa(GFN(3000)), P2M_READ), P2M_FAULT_WAIT);
	assert_int_equal(p2m_copy_to(&p, gfn_to_gpa(GFN(gfn)), &byte, 1), ERR_NOMEM);
	assert_int_equal(p2m_pin(&p, GFN(gfn), &va), ERR_NOMEM);
	assert_int_equal(inflate(3000, 0), ERR_NOMEM); /* would need a table, gives nothing */
	assert_int_equal(state_of(3000), P2M_EMPTY);
	assert_int_equal(inflate(2560, 9), OK);
	assert_int_equal(deflate(2561, 0), ERR_NOMEM);
	assert_int_equal(deflate(2560, 9), OK);
	fault(gfn, P2M_WRITE | P2M_GRACE);
	assert_int_equal(inflate(0, 0), OK); /* splits a leaf with an emergency page if it must */
	assert_int_equal(inflate(1, 0), OK);
	assert_int_equal(inflate(2, 0), OK);
	done();
}

static void admission(void **state)
{
	struct p2m q;
	uint64_t room = 0;

	(void)state;
	machine(1024, 1024);
	assert_int_equal(p2m_create(&q, 2, 512, 5000, &room), ERR_LIMIT);
	assert_int_equal(room, 1024 - 1 - 32 - 16 - 10);
	assert_int_equal(p2m_tables_for(4096), 8 + 1 + 1 + 1);
	assert_int_equal(p2m_tables_for(1), 4);
	done();
}

/* What one guest wrote never shows in another. */
static void no_bytes_pass_between_guests(void **state)
{
	struct p2m q;
	struct p2m *list[] = { &p, &q };

	(void)state;
	machine(700, 600);
	assert_int_equal(p2m_create(&q, 2, 600, 10, NULL), OK);
	for (uint64_t i = 0; i < 600; i++) {
		fault(i, P2M_WRITE);
		memset(fake_guest_access(&p, gfn_to_gpa(GFN(i)), P2M_WRITE), 0x5a, 4096);
	}
	for (uint64_t i = 0; i < 600; i++)
		assert_int_equal(inflate(i, 0), OK);
	for (uint64_t i = 0; i < 600; i++) {
		const uint64_t *page;

		assert_int_equal(p2m_fault(&q, gfn_to_gpa(GFN(i)), P2M_WRITE), P2M_FAULT_MAPPED);
		page = fake_guest_access(&q, gfn_to_gpa(GFN(i)), P2M_WRITE);
		for (uint32_t w = 0; w < 512; w++)
			assert_int_equal(page[w], 0);
	}
	fake_audit_clean(list, 2);
	p2m_destroy(&q);
	done();
}

static void names(void **state)
{
	(void)state;
	for (enum p2m_state s = P2M_NONE; s < P2M_STATE_COUNT; s++)
		assert_true(strlen(p2m_state_name(s)) > 2);
	assert_string_equal(p2m_state_name(P2M_STATE_COUNT), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading_costs_no_frame), cmocka_unit_test(memory_has_an_end),
		cmocka_unit_test(neighbours_join), cmocka_unit_test(interleaved_tables_join_too),
		cmocka_unit_test(split_keeps_content_and_joins_back),
		cmocka_unit_test(what_is_executed_is_no_leaf),
		cmocka_unit_test(executing_may_have_to_wait),
		cmocka_unit_test(accessed_and_dirty_survive),
		cmocka_unit_test(first_write_takes_a_block), cmocka_unit_test(balloon_page),
		cmocka_unit_test(balloon_block), cmocka_unit_test(copies),
		cmocka_unit_test(shortage), cmocka_unit_test(admission),
		cmocka_unit_test(no_bytes_pass_between_guests), cmocka_unit_test(names),
		cmocka_unit_test(pins), /* ends with a lock held */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
