/*
 * Five guests whose pages may be SHARED, with a model of every page's content. Guests 0 and 1 are of one group, 2 and
 * 3 share their own pages, 4 nothing.
 */
#pragma once

#include "mm/compress.h"
#include "mm/frame_pool.h"
#include "mm/reclaim.h"
#include "mm/share.h"
#include "mm/zero.h"
#include "mm/zstore.h"
#include "tests/fake/audit.h"
#include "tests/fake/slat.h"
#include "tests/unit/swap_disk.h"
#include "vmm/base/directmap.h"

#define POOL    2400u
#define PAGES   700u /* of a guest */
#define GUESTS  5u
#define SLOTS   4096u
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

/* ---- guests ------------------------------------------------------------------------------------ */

/* 0: zero; below 16: the same wherever it is; beyond: this page's own, of which some compress. */
static inline void content(uint32_t g, uint64_t gfn, uint32_t k, uint64_t *out)
{
	uint64_t s = k < 16 ? k * 77777ull : (uint64_t)(g + 1) << 50 | gfn << 32 | k;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		out[i] = k == 0 ? 0 : k % 3 == 0 ? s + (i & 3) : test_random(&s);
}

static inline void expect_page(uint32_t g, uint64_t gfn, const void *page)
{
	uint64_t want[PAGE_BYTES / 8];

	content(g, gfn, kind[g][gfn], want);
	if (memcmp(page, want, PAGE_BYTES))
		fail_msg("guest %u gfn %llu is not of kind %u", g, (unsigned long long)gfn, kind[g][gfn]);
}

static inline struct p2m *p2m_of(uint16_t owner)
{
	for (uint32_t g = 0; g < GUESTS; g++)
		if (id[g] == owner)
			return &guest[g];
	return NULL;
}

static inline uint64_t now(void)
{
	return ++ticks;
}

/* A step asks for the time before it looks at a page and when it has put its content away: tests act there as
 * other CPUs would, between look and settle. */
static uint64_t (*step_clock)(void) = now;

static inline void step(uint32_t g, uint64_t pages, uint64_t rest)
{
	struct reclaim_order o = { .pages = pages, .now = now(), .rest_ticks = rest, .compress = true,
		.swap = true, .clock = step_clock, .p2m_of = p2m_of };
	uint32_t freed;

	(void)reclaim_step(&ladder[g], &guest[g], &o, &freed);
}

static inline uint64_t *touch(uint32_t g, uint64_t gfn, uint32_t access)
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

static inline void write_page(uint32_t g, uint64_t gfn, uint32_t k)
{
	uint64_t *page = touch(g, gfn, P2M_WRITE);

	kind[g][gfn] = k;
	ballooned[g][gfn] = false;
	content(g, gfn, k, page);
}

static inline void read_page(uint32_t g, uint64_t gfn)
{
	const uint64_t *page = touch(g, gfn, P2M_READ);

	if (ballooned[g][gfn])
		kind[g][gfn] = 0;
	ballooned[g][gfn] = false;
	expect_page(g, gfn, page);
}

static inline enum p2m_state state_of(uint32_t g, uint64_t gfn)
{
	struct p2m_entry e;

	p2m_lookup(&guest[g], GFN(gfn), &e);
	return e.state;
}

static inline mfn_t frame_at_gfn(uint32_t g, uint64_t gfn)
{
	struct p2m_entry e;

	p2m_lookup(&guest[g], GFN(gfn), &e);
	return e.mfn;
}

static inline enum merge_result merge(uint32_t g, uint64_t gfn)
{
	gfn_t next;
	enum merge_result r = merge_page(&guest[g], GFN(gfn), true, p2m_of, &next);

	assert_true(next.v > gfn);
	results[r]++;
	return r;
}

static inline void open_guest(uint32_t g)
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

static inline void close_guest(uint32_t g)
{
	p2m_destroy(&guest[g]);
	share_forget(id[g]);
	id[g] = 0;
}

static inline uint64_t shared_frames(void)
{
	struct share_counts n;

	share_counts(&n);
	return n.shared_frames;
}

static inline int machine(void **state)
{
	(void)state;
	fake_machine(POOL + 1000);
	return frame_pool_init(POOL, 900, 32) != OK || p2m_scratch_init(4) != OK || compress_init(1) != OK;
}

static inline int open_guests(void **state)
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

static inline int close_guests(void **state)
{
	(void)state;
	answer();
	for (uint32_t g = 0; g < GUESTS; g++)
		if (id[g])
			close_guest(g);
	return zstore_frames() != 0 || shared_frames() != 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_guests, close_guests)
