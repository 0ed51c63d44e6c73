/* Pages that leave for the ladder's lower rungs and come back: mm/evict.h, mm/reclaim.h. */
#include "balloon/balloon.h"
#include "tests/unit/evict.h"

static void each_kind_of_page_takes_its_rung(void **state)
{
	struct swap_counts s;

	(void)state;
	for (uint32_t i = 0; i < 64; i++)
		write_page(0, i, i % 4 + 4); /* versions 4 .. 7: zero, small, half, random */
	reclaim(0, 64);
	fake_audit_clean(all, GUESTS);
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(state_of(0, i), i % 4 == 0 ? P2M_EMPTY : i % 4 == 3 ? P2M_SWAPPED : P2M_COMPRESSED);
	assert_int_equal(p2m_resident(&guest[0]), 0);
	assert_int_equal(ladder[0].n.pages[RECLAIM_ZERO], 16);
	assert_int_equal(ladder[0].n.pages[RECLAIM_COMPRESS], 32);
	assert_int_equal(ladder[0].n.pages[RECLAIM_SWAP], 16);
	for (uint32_t i = 0; i < 64; i++)
		read_page(0, i);
	fake_audit_clean(all, GUESTS);
	swap_counts(&s);
	assert_int_equal(s.used, 0);
	assert_int_equal(zstore_frames(), 0);
}

/* Some processors read by the address in an entry that is not present, ahead of the fault (L1TF): it is nobody's. */
static void what_is_out_names_no_memory(void **state)
{
	struct evict_page p[EVICT_WINDOW];
	uint32_t n, out = 0;

	(void)state;
	for (uint32_t i = 0; i < 96; i++)
		write_page(0, i, i % 4 + 4);
	reclaim(0, 64);
	for (uint32_t i = 0; i < 96; i += EVICT_WINDOW)
		(void)p2m_hold(&guest[0], GFN(i), EVICT_WINDOW, p, &n);
	for (uint32_t i = 0; i < PAGES; i++) {
		uint64_t e = *p2m_walk(&guest[0], GFN(i)).entry;

		if (!entry_present(e) && entry_is_out(e))
			out++;
		if (!entry_present(e) && (e & SLAT_ADDR_MASK))
			assert_true((e & SLAT_ADDR_MASK) >= 1ull << 51);
		else
			assert_true(entry_present(e) || e == ENTRY(P2M_EMPTY));
	}
	assert_in_range(out, 64, 80);
	fake_audit_clean(all, GUESTS);
}

static void what_is_touched_while_it_is_held_stays(void **state)
{
	enum reclaim_limit limit;

	(void)state;
	for (uint32_t i = 0; i < 32; i++)
		write_page(0, i, 7);
	assert_int_equal(step(0, 32, 1000000, &limit), 0);
	assert_int_equal(limit, RECLAIM_RESTING);
	assert_int_equal(guest[0].pages[P2M_IN_FLIGHT], 32);
	fake_audit_clean(all, GUESTS);
	for (uint32_t i = 0; i < 32; i += 2)
		read_page(0, i);
	assert_int_equal(guest[0].fault_held, 16);
	ticks += 1000000;
	while (step(0, 16, 1000000, NULL) == 0)
		ticks += 1000000;
	for (uint32_t i = 0; i < 32; i += 2)
		assert_int_equal(state_of(0, i), P2M_RAM);
	assert_true(ladder[0].n.wanted_back >= 15);
	fake_audit_clean(all, GUESTS);
	reclaim_let_go(&ladder[0], &guest[0]);
	assert_int_equal(guest[0].pages[P2M_IN_FLIGHT], 0);
	for (uint32_t i = 0; i < 32; i++)
		read_page(0, i);
}

static void a_page_that_comes_back_meanwhile_is_not_lost(void **state)
{
	struct evict_page p[EVICT_WINDOW];
	uint32_t n;
	uint64_t slot;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		write_page(0, i, 7);
	assert_int_equal(p2m_hold(&guest[0], GFN(0), 4, p, &n), EVICT_PAGES);
	assert_int_equal(n, 4);
	assert_int_equal(swap_put(mfn_to_va(p[1].mfn), 1, 1, &slot), OK);
	p[1].to = P2M_SWAPPED;
	p[1].payload = slot;
	write_page(0, 1, 11); /* wanted back, and changed */
	assert_int_equal(p2m_settle(&guest[0], p, 4), 0);
	assert_false(p[1].gone);
	swap_free(slot);
	read_page(0, 1);
	fake_audit_clean(all, GUESTS);
}

static void pinned_pages_and_the_zero_frame_stay(void **state)
{
	enum reclaim_limit limit;
	void *va;

	(void)state;
	assert_int_equal(p2m_pin(&guest[0], GFN(3), &va), OK);
	(void)touch(0, 9, P2M_READ);
	assert_int_equal(step(0, 4, 0, &limit), 0);
	assert_int_equal(limit, RECLAIM_PINNED);
	p2m_unpin(&guest[0], GFN(3));
}

/* What a call will write its results to comes in, whatever it was, and does not go out before the call ends. */
static void what_a_call_needs_is_kept(void **state)
{
	const uint64_t word = 42;
	enum reclaim_limit limit;

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		write_page(0, i, 4 + i);
	reclaim(0, 8);
	assert_int_not_equal(state_of(0, 3), P2M_RAM);
	assert_int_not_equal(state_of(0, 4), P2M_RAM);
	status_t s = p2m_keep(&guest[0], 1, GPA(4 * PAGE_BYTES - 8), 16);

	while (s == ERR_BUSY) { /* one of them is being read */
		answer();
		s = p2m_keep(&guest[0], 1, GPA(4 * PAGE_BYTES - 8), 16);
	}
	assert_int_equal(s, OK);
	assert_int_equal(guest[0].pages[P2M_RAM], 2);
	assert_int_equal(step(0, 4, 0, &limit), 0);
	assert_int_equal(limit, RECLAIM_PINNED);
	assert_int_equal(p2m_copy_to(&guest[0], GPA(4 * PAGE_BYTES - 8), &word, 8), OK);
	assert_int_equal(p2m_keep(&guest[0], 0, GPA(MIB(1024)), 16), ERR_RANGE);
	p2m_keep_end(&guest[0], 0); /* nothing of another's */
	assert_int_equal(step(0, 4, 0, &limit), 0);
	p2m_keep_end(&guest[0], 1);
	assert_int_equal(step(0, 4, 0, &limit), 2);
}

static void a_large_page_is_broken_only_when_there_is_nothing_else(void **state)
{
	(void)state;
	guest[0].populate_2m = true;
	write_page(0, 512, 7);
	assert_int_equal(guest[0].pages_in_2m, 512);
	for (uint32_t i = 0; i < 64; i++)
		write_page(0, i, 7);
	reclaim(0, 16);
	assert_int_equal(guest[0].pages_in_2m, 512);
	reclaim(0, 200);
	assert_int_equal(guest[0].pages_in_2m, 0);
	assert_int_equal(ladder[0].n.split, 1);
	read_page(0, 512);
	fake_audit_clean(all, GUESTS);
}

static uint64_t slow_clock(void)
{
	return ticks += 100; /* a page takes one look at it before and one after */
}

static void a_step_ends_after_its_time_but_not_without_a_page(void **state)
{
	struct reclaim_order o = { .pages = 64, .compress = true, .swap = true, .clock = slow_clock };
	uint32_t freed;

	(void)state;
	for (uint32_t i = 0; i < 64; i++)
		write_page(0, i, 1);
	for (uint32_t most = 0; most <= 500; most += 50) {
		o.now = ticks += 20;
		o.most_ticks = most;
		(void)reclaim_step(&ladder[0], &guest[0], &o, &freed);
		/* 0: no bound; else at least one, and one for each hundred that was begun. */
		assert_int_equal(freed, most ? MAX((most + 99) / 100, 1u) : RECLAIM_STEP);
	}
	reclaim_let_go(&ladder[0], &guest[0]);
	for (uint64_t gfn = 0; gfn < 64; gfn++)
		read_page(0, gfn);
	fake_audit_clean(all, GUESTS);
}

/* Without swap, one that does not compress must not keep those behind it from going; and one that has only
 * such pages is not compressed in vain for ever. */
static void what_does_not_compress_is_passed_by(void **state)
{
	uint32_t freed, gone = 0, tries = 0;
	enum reclaim_limit limit = RECLAIM_NOTHING;
	struct reclaim_order o = { .pages = 64, .rest_ticks = 10, .compress = true, .clock = now };

	(void)state;
	for (uint32_t i = 0; i < 64; i++)
		write_page(0, i, i % 16 == 5 ? 5 : 7); /* one of 16 compresses */
	for (uint32_t i = 0; i < 2000 && gone < 4; i++) {
		o.now = ticks += 20;
		(void)reclaim_step(&ladder[0], &guest[0], &o, &freed);
		gone += freed;
	}
	assert_int_equal(gone, 4);
	fake_audit_clean(all, GUESTS);
	for (uint32_t i = 0; i < 1000; i++) {
		uint64_t before = ticks;

		o.now = ticks += 20;
		limit = reclaim_step(&ladder[0], &guest[0], &o, &freed);
		assert_int_equal(freed, 0);
		tries += ticks > before + 20; /* the clock was asked: a page was looked at */
	}
	assert_int_equal(limit, RECLAIM_FULL);
	assert_in_range(tries, 2, 45);
	reclaim_let_go(&ladder[0], &guest[0]);
	for (uint32_t i = 0; i < 64; i++)
		read_page(0, i);
	fake_audit_clean(all, GUESTS);
}

/* VSwapper's findings: what the guest pages out goes from where it lies; what it overwrites is not read. */
static void hypercalls_do_not_bring_pages_in(void **state)
{
	uint64_t page[PAGE_BYTES / 8];
	struct swap_counts s;

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		write_page(0, i, 4 + i); /* 7 and 11 are random, 5, 6, 9, 10 compress */
	reclaim(0, 8);
	for (uint32_t i = 0; i < 8; i++) {
		status_t st = p2m_copy_from(&guest[0], gfn_to_gpa(GFN(i)), page, PAGE_BYTES);

		assert_int_equal(st, OK);
		expect_page(0, i, page);
	}
	assert_int_equal(p2m_resident(&guest[0]), 0);
	assert_int_equal(guest[0].fault_swap_in, 0);
	content(0, 3, 19, page);
	version[0][3] = 19;
	assert_int_equal(p2m_copy_to(&guest[0], gfn_to_gpa(GFN(3)), page, PAGE_BYTES), OK);
	assert_int_equal(guest[0].overwritten, 1);
	read_page(0, 3);
	swap_counts(&s);
	assert_int_equal(s.reads, 0);
	/* A part of a page needs the rest. */
	page[0] = 1;
	assert_int_equal(p2m_copy_to(&guest[0], gfn_to_gpa(GFN(7)), page, 8), OK);
	assert_int_equal(guest[0].fault_swap_in, 1);
	fake_audit_clean(all, GUESTS);
}

static void the_balloon_takes_pages_from_where_they_are(void **state)
{
	struct frame_batch batch;
	struct swap_counts s;

	(void)state;
	for (uint32_t i = 0; i < 512; i++)
		write_page(0, i, i);
	reclaim(0, 300);
	(void)step(0, 40, 1000000, NULL); /* and some are held */
	p2m_batch_begin(&guest[0], &batch);
	assert_int_equal(p2m_inflate(&guest[0], GFN(5), 0, &batch), OK);
	assert_int_equal(p2m_inflate(&guest[0], GFN(7), 0, &batch), OK);
	p2m_batch_finish(&guest[0], &batch);
	fake_audit_clean(all, GUESTS);
	p2m_batch_begin(&guest[0], &batch);
	assert_int_equal(p2m_deflate(&guest[0], GFN(5), 0), OK);
	assert_int_equal(p2m_deflate(&guest[0], GFN(7), 0), OK);
	assert_int_equal(p2m_inflate(&guest[0], GFN(0), ORDER_2M, &batch), OK);
	p2m_batch_finish(&guest[0], &batch);
	fake_audit_clean(all, GUESTS);
	swap_counts(&s);
	assert_int_equal(s.used, 0);
	assert_int_equal(s.reads, 0);
	assert_int_equal(p2m_resident(&guest[0]), 0);
}

static void no_notify(void *ctx, uint32_t events)
{
	(void)ctx, (void)events;
}

/* What lies compressed is work for the balloon that takes it: one call does a bounded number of objects. */
static void one_balloon_call_frees_so_many_objects(void **state)
{
	static struct p2m big;
	static struct reclaim r;
	struct balloon b;
	struct aero_range range = { .gfn = 0, .count = 8, .order = ORDER_2M };
	uint64_t room, page[PAGE_BYTES / 8];
	uint32_t freed;

	(void)state;
	r = (struct reclaim){ .seed = 1 };
	assert_int_equal(p2m_create(&big, 9, 8 * 512 + 1, 64, &room), OK);
	content(0, 1, 5, page);
	for (uint64_t gfn = 0; gfn < 8 * 512;) {
		struct reclaim_order o = { .pages = 16, .now = now(), .compress = true, .clock = now };

		if (p2m_copy_to(&big, gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES) == OK)
			gfn++;
		else
			(void)reclaim_step(&r, &big, &o, &freed);
	}
	for (uint32_t i = 0; i < 10000 && p2m_resident(&big); i++) {
		struct reclaim_order o = { .pages = 16, .now = now(), .compress = true, .clock = now };

		(void)reclaim_step(&r, &big, &o, &freed);
	}
	assert_int_equal(big.pages[P2M_COMPRESSED], 8 * 512);
	balloon_init(&b, &big, no_notify, NULL);
	assert_int_equal(balloon_hc_setup(&b, gfn_to_gpa(GFN(8 * 512)), 0, 1), 0);
	assert_int_equal(balloon_hc_ranges(&b, true, &range, 1, 0, 1), 1);
	assert_int_equal(range.status, -AERO_EBUSY);
	assert_in_range(range.done, 1, 4);
	balloon_fini(&b);
	p2m_destroy(&big);
}

static void cold_objects_go_on_to_swap(void **state)
{
	struct zstore_counts z;

	(void)state;
	for (uint32_t i = 0; i < 64; i++)
		write_page(0, i, 5);
	reclaim(0, 64);
	struct p2m *of(uint16_t owner)
	{
		return owner == 1 ? &guest[0] : NULL;
	}
	assert_int_equal(reclaim_write_back(16, of), 16);
	answer();
	zstore_counts(&z);
	assert_int_equal(z.use.objects, 48);
	assert_int_equal(guest[0].pages[P2M_SWAPPED], 16);
	fake_audit_clean(all, GUESTS);
	for (uint32_t i = 0; i < 64; i++)
		read_page(0, i);
}

static void a_page_that_cannot_be_read_is_told(void **state)
{
	uint64_t slot;

	(void)state;
	write_page(0, 9, 7);
	reclaim(0, 1);
	for (uint32_t i = 0; i < (SWAP_BUFFERS + 1) * SWAP_GROUP; i++) {
		assert_int_equal(swap_put(buffers[0], 2, 9999, &slot), OK);
		answer();
	}
	reads_fail = true;
	enum p2m_fault_result r;

	for (uint32_t i = 0; (r = p2m_fault(&guest[0], GPA(9 * PAGE_BYTES), P2M_READ)) == P2M_FAULT_DISK && i < 100;
		i++)
		answer();
	assert_int_equal(r, P2M_FAULT_LOST);
	assert_int_equal(guest[0].lost_gfn.v, 9);
	assert_string_equal(guest[0].lost_why, "it cannot be read");
	for (uint64_t i = 0; i < SLOTS; i++) {
		uint16_t owner;
		uint64_t gfn;

		if (swap_owner(i, &owner, &gfn) && owner == 2)
			swap_free(i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_kind_of_page_takes_its_rung),
		TEST(what_is_out_names_no_memory),
		TEST(what_is_touched_while_it_is_held_stays),
		TEST(a_page_that_comes_back_meanwhile_is_not_lost),
		TEST(pinned_pages_and_the_zero_frame_stay),
		TEST(what_a_call_needs_is_kept),
		TEST(a_large_page_is_broken_only_when_there_is_nothing_else),
		TEST(a_step_ends_after_its_time_but_not_without_a_page),
		TEST(what_does_not_compress_is_passed_by),
		TEST(hypercalls_do_not_bring_pages_in),
		TEST(the_balloon_takes_pages_from_where_they_are),
		TEST(one_balloon_call_frees_so_many_objects),
		TEST(cold_objects_go_on_to_swap),
		TEST(a_page_that_cannot_be_read_is_told),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
