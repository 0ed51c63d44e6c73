/*
 * Two guests whose pages leave for the ladder's lower rungs and come back, with the real compressed store, compression
 * and swap over a disk in memory. Content is compared after every way back.
 */
#pragma once

#include "mm/compress.h"
#include "mm/frame_pool.h"
#include "mm/p2m_walk.h"
#include "mm/reclaim.h"
#include "mm/zstore.h"
#include "tests/fake/audit.h"
#include "tests/fake/slat.h"
#include "tests/unit/swap_disk.h"
#include "vmm/base/directmap.h"

#define POOL    1200u
#define PAGES   1024u /* of a guest */
#define GUESTS  2u
#define SLOTS   1024u

static struct p2m guest[GUESTS];
static struct reclaim ladder[GUESTS];
static struct p2m *all[GUESTS] = { &guest[0], &guest[1] };
static uint32_t version[GUESTS][PAGES]; /* of a page's content; 0: zero */
static uint64_t seed, ticks;

/* ---- content ----------------------------------------------------------------------------------- */

/* By its version a page is zero, compresses well, or not at all. */
static inline void content(uint32_t g, uint64_t gfn, uint32_t v, uint64_t *out)
{
	uint64_t s = (uint64_t)g << 60 | gfn << 32 | v;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		out[i] = v % 4 == 0 ? 0 : v % 4 == 1 ? s + (i & 7) : v % 4 == 2 && i > 300 ? 5 : test_random(&s);
}

static inline void expect_page(uint32_t g, uint64_t gfn, const void *page)
{
	uint64_t want[PAGE_BYTES / 8];

	content(g, gfn, version[g][gfn], want);
	if (memcmp(page, want, PAGE_BYTES))
		fail_msg("guest %u gfn %llu has not version %u", g, (unsigned long long)gfn, version[g][gfn]);
}

static inline uint64_t now(void)
{
	return ++ticks;
}

static inline uint32_t step(uint32_t g, uint64_t pages, uint64_t rest, enum reclaim_limit *limit)
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
static inline uint64_t *touch(uint32_t g, uint64_t gfn, uint32_t access)
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

static inline void write_page(uint32_t g, uint64_t gfn, uint32_t v)
{
	uint64_t *page = touch(g, gfn, P2M_WRITE);

	version[g][gfn] = v;
	content(g, gfn, v, page);
}

static inline void read_page(uint32_t g, uint64_t gfn)
{
	expect_page(g, gfn, touch(g, gfn, P2M_READ));
}

static inline enum p2m_state state_of(uint32_t g, uint64_t gfn)
{
	struct p2m_entry e;

	p2m_lookup(&guest[g], GFN(gfn), &e);
	return e.state;
}

static inline int machine(void **state)
{
	(void)state;
	fake_machine(POOL + 900);
	return frame_pool_init(POOL, 800, 32) != OK || p2m_scratch_init(1) != OK || compress_init(1) != OK;
}

static inline int open_guests(void **state)
{
	uint64_t room;

	(void)state;
	slat_format = seed++ % 2 ? &fake_npt : &fake_ept;
	pending_count = 0;
	reads_fail = false;
	memset(version, 0, sizeof(version));
	memset(ladder, 0, sizeof(ladder));
	if (swap_init(SLOTS, buffers, submit) != OK || zstore_init(POOL / 4) != OK)
		return 1;
	for (uint32_t g = 0; g < GUESTS; g++) {
		ladder[g].seed = g + 1;
		if (p2m_create(&guest[g], (uint16_t)(g + 1), PAGES, 64, &room) != OK)
			return 1;
	}
	return 0;
}

static inline int close_guests(void **state)
{
	(void)state;
	answer();
	for (uint32_t g = 0; g < GUESTS; g++)
		p2m_destroy(&guest[g]);
	return zstore_frames() != 0;
}

/* Until `pages` of guest `g` are gone, at once. */
static inline void reclaim(uint32_t g, uint32_t pages)
{
	for (uint32_t i = 0; i < 1000 && pages; i++) {
		uint32_t freed = step(g, pages, 0, NULL);

		pages -= MIN(pages, freed);
		answer();
	}
	assert_int_equal(pages, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_guests, close_guests)
