/*
 * Pages that leave for the ladder's lower rungs and come back: mm/evict.h, mm/reclaim.h, with the real
 * compressed store, compression and swap over a disk in memory. Content is compared after every way back.
 */
#include "balloon/balloon.h"
#include "mm/compress.h"
#include "mm/frame_pool.h"
#include "mm/p2m_walk.h"
#include "mm/reclaim.h"
#include "mm/swap.h"
#include "mm/zstore.h"
#include "tests/fake/audit.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"
#include "vmm/base/directmap.h"

#define POOL    1200u
#define PAGES   1024u /* of a guest */
#define GUESTS  2u
#define SLOTS   1024u
#define PENDING 32u

static struct p2m guest[GUESTS];
static struct reclaim ladder[GUESTS];
static struct p2m *all[GUESTS] = { &guest[0], &guest[1] };
static uint32_t version[GUESTS][PAGES]; /* of a page's content; 0: zero */
static uint64_t seed, ticks;

/* ---- a disk ------------------------------------------------------------------------------------ */

static uint8_t disk[SLOTS][PAGE_BYTES];
static uint8_t buffers[SWAP_BUFFERS * SWAP_GROUP][PAGE_BYTES] __attribute__((aligned(4096)));
static struct swap_io *pending[PENDING];
static uint32_t pending_count;
static bool reads_fail;

static status_t take(struct swap_io *io)
{
	assert_true(pending_count < PENDING);
	pending[pending_count++] = io;
	return OK;
}

static void answer(void)
{
	while (pending_count) {
		struct swap_io *io = pending[--pending_count];

		if (io->write)
			memcpy(disk[io->first], io->buf, io->count * PAGE_BYTES);
		else
			memcpy(io->buf, disk[io->first], io->count * PAGE_BYTES);
		swap_done(io, reads_fail && !io->write ? ERR_IO : OK);
	}
}

/* ---- content ----------------------------------------------------------------------------------- */

/* By its version a page is zero, compresses well, or not at all. */
static void content(uint32_t g, uint64_t gfn, uint32_t v, uint64_t *out)
{
	uint64_t s = (uint64_t)g << 60 | gfn << 32 | v;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		out[i] = v % 4 == 0 ? 0 : v % 4 == 1 ? s + (i & 7) : v % 4 == 2 && i > 300 ? 5 : test_random(&s);
}

static void expect_page(uint32_t g, uint64_t gfn, const void *page)
{
	uint64_t want[PAGE_BYTES / 8];

	content(g, gfn, version[g][gfn], want);
	if (memcmp(page, want, PAGE_BYTES))
		fail_msg("guest %u gfn %llu has not version %u", g, (unsigned long long)gfn, version[g][gfn]);
}

static uint64_t now(void)
{
	return ++ticks;
}

static uint32_t step(uint32_t g, uint64_t pages, uint64_t rest, enum reclaim_limit *limit)
{
	struct reclaim_order o = { .pages = pages, .now = now(), .rest_ticks = rest, .compress = true,
		.swap = true, .clock = now };
	uint32_t freed;
	enum reclaim_limit l = reclaim_step(&ladder[g], &guest[g], &o, &freed);

	if (limit)
		*limit = l;
	return freed;
}

/* The guest's own access, with what its hypervisor does when it cannot be had at once. */
static uint64_t *touch(uint32_t g, uint64_t gfn, uint32_t access)
{
	for (uint32_t tries = 0; tries < 10000; tries++) {
		uint64_t *page = fake_guest_access(&guest[g], gfn_to_gpa(GFN(gfn)), access);

		if (page)
			return page;
		switch (p2m_fault(&guest[g], gfn_to_gpa(GFN(gfn)), access)) {
		case P2M_FAULT_MAPPED:
			break;
		case P2M_FAULT_DISK:
			answer();
			break;
		case P2M_FAULT_WAIT:
			(void)step(g, 32, 0, NULL);
			answer();
			break;
		default:
			fail_msg("gfn %llu is lost: %s", (unsigned long long)gfn, guest[g].lost_why);
		}
	}
	fail_msg("guest %u gfn %llu never comes", g, (unsigned long long)gfn);
	return NULL;
}

static void write_page(uint32_t g, uint64_t gfn, uint32_t v)
{
	uint64_t *page = touch(g, gfn, P2M_WRITE);

	version[g][gfn] = v;
	content(g, gfn, v, page);
}

static void read_page(uint32_t g, uint64_t gfn)
{
	expect_page(g, gfn, touch(g, gfn, P2M_READ));
}

static enum p2m_state state_of(uint32_t g, uint64_t gfn)
{
	struct p2m_entry e;

	p2m_lookup(&guest[g], GFN(gfn), &e);
	return e.state;
}

static int machine(void **state)
{
	(void)state;
	fake_machine(POOL + 900);
	return frame_pool_init(POOL, 800, 32) != OK || p2m_scratch_init(1) != OK || compress_init(1) != OK;
}

static int open_guests(void **state)
{
	uint64_t room;

	(void)state;
	slat_format = seed++ % 2 ? &fake_npt : &fake_ept;
	pending_count = 0;
	reads_fail = false;
	memset(version, 0, sizeof(version));
	memset(ladder, 0, sizeof(ladder));
	if (swap_init(SLOTS, buffers, take) != OK || zstore_init(POOL / 4) != OK)
		return 1;
	for (uint32_t g = 0; g < GUESTS; g++) {
		ladder[g].seed = g + 1;
		if (p2m_create(&guest[g], (uint16_t)(g + 1), PAGES, 64, &room) != OK)
			return 1;
	}
	return 0;
}

static int close_guests(void **state)
{
	(void)state;
	answer();
	for (uint32_t g = 0; g < GUESTS; g++)
		p2m_destroy(&guest[g]);
	return zstore_frames() != 0;
}

/* Until `pages` of guest `g` are gone, at once. */
static void reclaim(uint32_t g, uint32_t pages)
{
	for (uint32_t i = 0; i < 1000 && pages; i++) {
		uint32_t freed = step(g, pages, 0, NULL);

		pages -= MIN(pages, freed);
		answer();
	}
	assert_int_equal(pages, 0);
}

/* ---- tests ------------------------------------------------------------------------------------- */

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

	for (uint32_t i = 0; (r = p2m_fault(&guest[0], GPA(9 * PAGE_BYTES), P2M_READ)) == P2M_FAULT_DISK && i < 100; i++)
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

/* All of the first 2 MiB is RAM, and page 5 lies elsewhere than its neighbours. */
static void scatter(void)
{
	struct evict_page p;
	uint32_t n;
	mfn_t mfn;

	for (uint32_t i = 0; i < 512; i++)
		write_page(0, i, i);
	assert_int_equal(guest[0].pages_in_2m, 512);
	assert_int_equal(p2m_split(&guest[0], GFN(5)), OK);
	assert_int_equal(p2m_hold(&guest[0], GFN(5), 1, &p, &n), EVICT_PAGES);
	assert_int_equal(frame_alloc(&guest[0].account, FRAME_PRIVATE, 0, GFN(5), MFN_NONE, 0, &mfn), OK);
	memcpy(mfn_to_va(mfn), mfn_to_va(p.mfn), PAGE_BYTES);
	p.payload = mfn.v;
	assert_int_equal(p2m_settle(&guest[0], &p, 1), 1);
	assert_true(p.gone);
	read_page(0, 5);
	assert_int_equal(p2m_join(&guest[0], GFN(0)), ERR_BUSY);
	fake_audit_clean(all, GUESTS);
}

static void scattered_pages_become_one_leaf(void **state)
{
	void *va;

	(void)state;
	scatter();
	assert_int_equal(p2m_pin(&guest[0], GFN(100), &va), OK);
	assert_int_equal(p2m_gather(&guest[0], GFN(3)), ERR_BUSY);
	p2m_unpin(&guest[0], GFN(100));
	fake_audit_clean(all, GUESTS);
	uint64_t used = guest[0].account.used_pages;

	assert_int_equal(p2m_gather(&guest[0], GFN(3)), OK);
	assert_int_equal(guest[0].pages_in_2m, 512);
	assert_int_equal(guest[0].gathered_2m, 1);
	assert_int_equal(guest[0].account.used_pages, used - 1); /* its table */
	fake_audit_clean(all, GUESTS);
	for (uint32_t i = 0; i < 512; i++)
		read_page(0, i);
	assert_int_equal(p2m_gather(&guest[0], GFN(3)), ERR_BUSY);
	assert_int_equal(p2m_gather(&guest[0], GFN(600)), ERR_BUSY);
}

/* Between two windows (the second one's flush): the guest gives a page of the first to its balloon. */
static uint32_t flushes;

static void give_one_away(struct slat_space *s)
{
	struct p2m *p = &guest[0];
	struct frame_batch batch;

	if (++flushes != 2 || s != &p->slat)
		return;
	fake_flush_hook = NULL;
	spin_unlock(&p->lock); /* as another CPU would, an instant later */
	p2m_batch_begin(p, &batch);
	assert_int_equal(p2m_inflate(p, GFN(3), 0, &batch), OK);
	assert_int_equal(p2m_inflate(p, GFN(20), 0, &batch), OK);
	p2m_batch_finish(p, &batch);
	spin_lock(&p->lock);
}

static void what_leaves_while_it_is_gathered_is_not_freed_twice(void **state)
{
	(void)state;
	scatter();
	flushes = 0;
	fake_flush_hook = give_one_away;
	assert_int_equal(p2m_gather(&guest[0], GFN(0)), ERR_BUSY);
	fake_flush_hook = NULL;
	assert_int_equal(guest[0].pages[P2M_BALLOONED], 2);
	fake_audit_clean(all, GUESTS);
	for (uint32_t i = 0; i < 512; i++)
		if (i != 3 && i != 20)
			read_page(0, i);
}

/* Two guests of 1024 pages each in a pool of 1200, and everything at random. */
static void a_million_random_steps(void **state)
{
	uint64_t page[PAGE_BYTES / 8];
	bool ballooned[GUESTS][PAGES];
	struct frame_batch batch;

	(void)state;
	memset(ballooned, 0, sizeof(ballooned));
	for (uint32_t i = 0; i < 1000000; i++) {
		uint64_t r = test_random(&seed);
		uint32_t g = (uint32_t)(r >> 8) % GUESTS, dice = (uint32_t)r % 256;
		uint64_t gfn = (r >> 20) % 4 ? (r >> 24) % 200 : (r >> 24) % PAGES; /* a part is hot */

		if (dice < 60) {
			if (ballooned[g][gfn])
				continue;
			write_page(g, gfn, (uint32_t)(r >> 40) | 1 << (r >> 63));
		} else if (dice < 120) {
			if (ballooned[g][gfn])
				continue;
			read_page(g, gfn);
		} else if (dice < 180) {
			(void)step(g, (r >> 30) % 40, (r >> 36) % 50, NULL);
		} else if (dice < 196) {
			answer();
		} else if (dice < 206) {
			status_t s;

			while ((s = p2m_copy_from(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES)) == ERR_BUSY)
				answer();
			if (s == OK && !ballooned[g][gfn])
				expect_page(g, gfn, page);
			if (s == OK && ballooned[g][gfn])
				ballooned[g][gfn] = false, version[g][gfn] = 0;
		} else if (dice < 216) {
			uint32_t v = (uint32_t)(r >> 40);
			status_t s;

			if (ballooned[g][gfn])
				continue;
			content(g, gfn, v, page);
			while ((s = p2m_copy_to(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES)) == ERR_BUSY)
				answer();
			if (s == OK)
				version[g][gfn] = v;
		} else if (dice < 226) {
			p2m_batch_begin(&guest[g], &batch);
			status_t s = ballooned[g][gfn] ? p2m_deflate(&guest[g], GFN(gfn), 0) :
							 p2m_inflate(&guest[g], GFN(gfn), 0, &batch);
			p2m_batch_finish(&guest[g], &batch);
			if (s == OK) {
				ballooned[g][gfn] = !ballooned[g][gfn];
				version[g][gfn] = 0;
			}
		} else if (dice == 226) {
			reclaim_let_go(&ladder[g], &guest[g]);
		} else if (dice == 227) {
			swap_push();
		} else if (dice < 240) {
			struct p2m *of(uint16_t owner)
			{
				return &guest[owner - 1];
			}
			(void)reclaim_write_back(8, of);
		} else if (dice == 241 && r >> 50 & 1) {
			status_t s = p2m_gather(&guest[g], GFN(gfn));

			(void)s;
		} else if (dice == 240) {
			status_t s = r >> 50 & 1 ? p2m_join(&guest[g], GFN(gfn)) : p2m_split(&guest[g], GFN(gfn));

			(void)s;
		}
		if (i % 20000 == 0)
			fake_audit_clean(all, GUESTS);
	}
	fake_audit_clean(all, GUESTS);
	for (uint32_t g = 0; g < GUESTS; g++)
		for (uint64_t gfn = 0; gfn < PAGES; gfn++)
			if (!ballooned[g][gfn])
				read_page(g, gfn);
	for (uint32_t r = 0; r < RECLAIM_RUNGS; r++)
		if (r != RECLAIM_SHARE && r != RECLAIM_DROP)
			assert_true(reclaim_total.pages[r] > 1000);
	assert_true(guest[0].fault_swap_in > 1000 && guest[0].fault_expand > 1000 && guest[0].fault_held > 1000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_guests, close_guests)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_kind_of_page_takes_its_rung), TEST(what_is_out_names_no_memory),
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
		TEST(scattered_pages_become_one_leaf),
		TEST(what_leaves_while_it_is_gathered_is_not_freed_twice),
		TEST(a_million_random_steps),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
