/*
 * SHARED pages: mm/merge.h, mm/p2m_share.c and the ladder's rung, against a model of every page's content. Guests 0 and 1
 * are of one group, 2 and 3 share their own pages, 4 nothing.
 */
#include "mm/compress.h"
#include "mm/frame_pool.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zero.h"
#include "mm/zstore.h"
#include "tests/fake/audit.h"
#include "tests/fake/cpu.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"
#include "vmm/base/directmap.h"

#include <pthread.h>

#define POOL    2400u
#define PAGES   700u /* of a guest */
#define GUESTS  5u
#define SLOTS   4096u
#define PENDING 64u
#define HINTS   4u /* pages of the table */

static struct p2m guest[GUESTS];
static struct reclaim ladder[GUESTS];
static struct p2m *all[GUESTS] = { &guest[0], &guest[1], &guest[2], &guest[3], &guest[4] };
static uint16_t id[GUESTS];
static uint32_t kind[GUESTS][PAGES]; /* of a page's content */
static bool ballooned[GUESTS][PAGES];
static uint64_t seed = 7, ticks, results[MERGE_BUSY + 1];
static uint16_t next_id = 1;
static uint8_t hints[HINTS * PAGE_BYTES] __attribute__((aligned(4096)));

/* ---- a disk ------------------------------------------------------------------------------------ */

static uint8_t disk[SLOTS][PAGE_BYTES];
static uint8_t buffers[SWAP_BUFFERS * SWAP_GROUP][PAGE_BYTES] __attribute__((aligned(4096)));
static struct swap_io *pending[PENDING];
static uint32_t pending_count;

static status_t submit(struct swap_io *io)
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
		swap_done(io, OK);
	}
}

/* ---- guests ------------------------------------------------------------------------------------ */

/* 0: zero; below 16: the same wherever it is; beyond: this page's own, of which some compress. */
static void content(uint32_t g, uint64_t gfn, uint32_t k, uint64_t *out)
{
	uint64_t s = k < 16 ? k * 77777ull : (uint64_t)(g + 1) << 50 | gfn << 32 | k;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		out[i] = k == 0 ? 0 : k % 3 == 0 ? s + (i & 3) : test_random(&s);
}

static void expect_page(uint32_t g, uint64_t gfn, const void *page)
{
	uint64_t want[PAGE_BYTES / 8];

	content(g, gfn, kind[g][gfn], want);
	if (memcmp(page, want, PAGE_BYTES))
		fail_msg("guest %u gfn %llu is not of kind %u", g, (unsigned long long)gfn, kind[g][gfn]);
}

static struct p2m *p2m_of(uint16_t owner)
{
	for (uint32_t g = 0; g < GUESTS; g++)
		if (id[g] == owner)
			return &guest[g];
	return NULL;
}

static uint64_t now(void)
{
	return ++ticks;
}

/* A step asks for the time before it looks at a page and when it has put its content away: tests act there as
 * other CPUs would, between look and settle. */
static uint64_t (*step_clock)(void) = now;

static void step(uint32_t g, uint64_t pages, uint64_t rest)
{
	struct reclaim_order o = { .pages = pages, .now = now(), .rest_ticks = rest, .compress = true,
		.swap = true, .clock = step_clock, .p2m_of = p2m_of };
	uint32_t freed;

	(void)reclaim_step(&ladder[g], &guest[g], &o, &freed);
}

static uint64_t *touch(uint32_t g, uint64_t gfn, uint32_t access)
{
	for (uint32_t tries = 0; tries < 100000; tries++) {
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
			step((uint32_t)(test_random(&seed) % GUESTS), 32, 0);
			answer();
			break;
		default:
			fail_msg("gfn %llu is lost", (unsigned long long)gfn);
		}
	}
	fail_msg("guest %u gfn %llu never comes", g, (unsigned long long)gfn);
	return NULL;
}

static void write_page(uint32_t g, uint64_t gfn, uint32_t k)
{
	uint64_t *page = touch(g, gfn, P2M_WRITE);

	kind[g][gfn] = k;
	ballooned[g][gfn] = false;
	content(g, gfn, k, page);
}

static void read_page(uint32_t g, uint64_t gfn)
{
	const uint64_t *page = touch(g, gfn, P2M_READ);

	if (ballooned[g][gfn])
		kind[g][gfn] = 0;
	ballooned[g][gfn] = false;
	expect_page(g, gfn, page);
}

static enum p2m_state state_of(uint32_t g, uint64_t gfn)
{
	struct p2m_entry e;

	p2m_lookup(&guest[g], GFN(gfn), &e);
	return e.state;
}

static mfn_t frame_at_gfn(uint32_t g, uint64_t gfn)
{
	struct p2m_entry e;

	p2m_lookup(&guest[g], GFN(gfn), &e);
	return e.mfn;
}

static enum merge_result merge(uint32_t g, uint64_t gfn)
{
	gfn_t next;
	enum merge_result r = merge_page(&guest[g], GFN(gfn), true, p2m_of, &next);

	assert_true(next.v > gfn);
	results[r]++;
	return r;
}

static void open_guest(uint32_t g)
{
	assert_int_equal(p2m_create(&guest[g], next_id, PAGES, 40, NULL), OK);
	id[g] = next_id++;
	guest[g].share_group = g < 2 ? 9 : 0;
	guest[g].share_none = g == 4;
	memset(kind[g], 0, sizeof(kind[g]));
	memset(ballooned[g], 0, sizeof(ballooned[g]));
	memset(&ladder[g], 0, sizeof(ladder[g]));
	ladder[g].seed = id[g];
}

static void close_guest(uint32_t g)
{
	p2m_destroy(&guest[g]);
	share_forget(id[g]);
	id[g] = 0;
}

static uint64_t shared_frames(void)
{
	struct share_counts n;

	share_counts(&n);
	return n.shared_frames;
}

static int machine(void **state)
{
	(void)state;
	fake_machine(POOL + 1000);
	return frame_pool_init(POOL, 900, 32) != OK || p2m_scratch_init(4) != OK || compress_init(1) != OK;
}

static int open_guests(void **state)
{
	(void)state;
	slat_format = seed++ % 2 ? &fake_npt : &fake_ept;
	pending_count = 0;
	share_init(hints, HINTS, 42);
	if (swap_init(SLOTS, buffers, submit) != OK || zstore_init(POOL / 8) != OK)
		return 1;
	for (uint32_t g = 0; g < GUESTS; g++)
		open_guest(g);
	return 0;
}

static int close_guests(void **state)
{
	(void)state;
	answer();
	for (uint32_t g = 0; g < GUESTS; g++)
		if (id[g])
			close_guest(g);
	return zstore_frames() != 0 || shared_frames() != 0;
}

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
 * The steps of merging page 1 of guest `with` (0: the same guest) onto page 0 of guest 0, and at point `point` one of the two is
 * touched: nothing is lost, and no reference.
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
 * A SHARED page is put away without being unmapped. Its guest then writes to it, which takes the frame over; the next page
 * of the ring is like it, and finds it by an old hint: it would be SHARED again, in the same frame, and what was put away
 * of it before would be taken for its content.
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
	print_message("unique %llu shared %llu zero %llu taken %llu busy %llu, by the ladder %llu, %llu frames at most\n",
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

/* Few pages of few contents, so that a page is touched, held again, shared and shared again while it is in the ring, more than
 * once by the same name, and between the look at it and what becomes of it. */
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
			if (p2m_inflate(&guest[g], GFN(gfn), 0, &batch) != OK || p2m_deflate(&guest[g], GFN(gfn), 0) != OK)
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_guests, close_guests)

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
		TEST(a_shared_page_that_is_shared_again_is_another),
		TEST(what_was_looked_at_before_a_write_is_never_settled),
		TEST(a_million_random_steps),
		TEST(cpus_write_while_another_merges),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
