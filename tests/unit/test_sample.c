/* Which pages a guest touches (mm/sample.h), in both ways and both formats, beside a ladder that holds pages
 * of its own. */
#include "mm/evict.h"
#include "mm/sample.h"
#include "mm/frame_pool.h"
#include "mm/p2m_walk.h"
#include "tests/fake/audit.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

#define POOL  3000u
#define PAGES 1600u

static struct p2m guest;
static struct p2m *all[] = { &guest };
static struct sample_page page[128];
static uint32_t count;

static int open_guest(void **state)
{
	uint64_t room;

	(void)state;
	fake_machine(POOL + 1000);
	count = 0;
	return frame_pool_init(POOL, 800, 32) != OK || p2m_create(&guest, 1, PAGES, 64, &room) != OK;
}

static int close_guest(void **state)
{
	(void)state;
	fake_audit_clean(all, 1);
	p2m_destroy(&guest);
	slat_format = &fake_ept;
	return 0;
}

static void touch(uint64_t gfn, uint32_t access)
{
	for (uint32_t tries = 0; !fake_guest_access(&guest, gfn_to_gpa(GFN(gfn)), access); tries++) {
		assert_true(tries < 4);
		assert_int_equal(p2m_fault(&guest, gfn_to_gpa(GFN(gfn)), access), P2M_FAULT_MAPPED);
	}
}

static void watch(enum sample_way way, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		page[count++] = (struct sample_page){ .gfn = GFN(first + i) };
	p2m_sample_begin(&guest, way, page, count);
	fake_audit_clean(all, 1);
}

static void found(enum sample_way way, bool end, uint32_t sampled, uint32_t touched)
{
	struct sample_result r = { 0 };

	(end ? p2m_sample_end : p2m_sample_look)(&guest, way, page, count, &r);
	assert_int_equal(r.sampled, sampled);
	assert_int_equal(r.touched, touched);
	fake_audit_clean(all, 1);
}

static void balloon(uint64_t gfn)
{
	struct frame_batch b;

	p2m_batch_begin(&guest, &b);
	assert_int_equal(p2m_inflate(&guest, GFN(gfn), 0, &b), OK);
	p2m_batch_finish(&guest, &b);
}

static enum sample_way way_of(void **state)
{
	uint32_t kind = (uint32_t)(uintptr_t)*state;

	slat_format = kind & 1 ? &fake_npt : &fake_ept;
	return kind & 2 ? SAMPLE_INVALIDATE : SAMPLE_ACCESSED;
}

static void what_is_touched_is_found(void **state)
{
	enum sample_way way = way_of(state);

	for (uint64_t i = 0; i < 64; i++)
		touch(i, P2M_WRITE);
	uint64_t flushes = fake_flush_count;

	watch(way, 0, 64);
	assert_int_equal(fake_flush_count - flushes, 2); /* one a batch */
	found(way, false, 64, 0);
	for (uint64_t i = 0; i < 64; i += 4)
		touch(i, i % 8 ? P2M_READ : P2M_WRITE);
	found(way, false, 64, 16);
	touch(63, P2M_READ);
	found(way, true, 64, 17);
	assert_int_equal(guest.pages[P2M_IN_FLIGHT], 0);
	assert_int_equal(guest.pages[P2M_RAM], 64);
	p2m_sample_begin(&guest, way, page, count); /* and again, from nothing */
	found(way, true, 64, 0);
}

static void without_a_frame_it_is_not_touched_until_it_has_one(void **state)
{
	enum sample_way way = way_of(state);

	touch(10, P2M_WRITE);
	balloon(10);
	touch(11, P2M_READ); /* the zero frame */
	watch(way, 0, 32);
	touch(1, P2M_READ);  /* the zero frame: no memory */
	touch(11, P2M_READ);
	found(way, false, 32, 0);
	touch(2, P2M_WRITE);
	touch(10, P2M_WRITE);
	touch(11, P2M_WRITE);
	found(way, true, 32, 3);
}

static void what_the_guest_gives_away_is_not_touched(void **state)
{
	enum sample_way way = way_of(state);

	for (uint64_t i = 0; i < 8; i++)
		touch(i, P2M_WRITE);
	watch(way, 0, 8);
	balloon(0);
	balloon(1);
	touch(2, P2M_READ);
	found(way, true, 8, 1);
	assert_int_equal(guest.pages[P2M_RAM], 6);
}

static void pinned_and_named_twice(void **state)
{
	enum sample_way way = way_of(state);
	void *va;

	assert_int_equal(p2m_pin(&guest, GFN(3), &va), OK);
	touch(4, P2M_WRITE);
	for (uint32_t i = 0; i < 2; i++)
		page[count++] = (struct sample_page){ .gfn = GFN(4) };
	watch(way, 3, 1);
	touch(3, P2M_READ);
	found(way, true, way == SAMPLE_ACCESSED ? 3 : 1, way == SAMPLE_ACCESSED);
	p2m_unpin(&guest, GFN(3));
}

/* The ladder's own pages are left alone, and it leaves alone what is watched. */
static void the_ladder_and_the_sample_keep_apart(void **state)
{
	enum sample_way way = way_of(state);
	struct evict_page held[EVICT_WINDOW];
	uint32_t n;

	for (uint64_t i = 0; i < 32; i++)
		touch(i, P2M_WRITE);
	assert_int_equal(p2m_hold(&guest, GFN(0), 8, held, &n), EVICT_PAGES);
	assert_int_equal(n, 8);
	watch(way, 0, 32);
	assert_int_equal(guest.pages[P2M_IN_FLIGHT], way == SAMPLE_ACCESSED ? 8 : 32);
	found(way, false, 24, 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_true(p2m_held(&guest, &held[i]));
	/* What is watched is no victim; what was touched is one again, and stays touched. */
	touch(8, P2M_READ);
	struct evict_page more[EVICT_WINDOW];

	assert_int_equal(p2m_hold(&guest, GFN(8), 1, more, &n), EVICT_PAGES);
	assert_int_equal(n, 1);
	if (way == SAMPLE_INVALIDATE) {
		assert_int_equal(p2m_hold(&guest, GFN(9), 8, &more[1], &n), EVICT_PAGES);
		assert_int_equal(n, 0);
	}
	/* With bits, what the ladder holds meanwhile has lost them. */
	found(way, true, 24, way == SAMPLE_INVALIDATE);
	assert_true(p2m_held(&guest, &more[0]));
	for (uint32_t i = 0; i < 8; i++) {
		assert_true(p2m_held(&guest, &held[i]));
		held[i].to = P2M_EMPTY; /* as if it had been zero */
	}
	assert_int_equal(p2m_settle(&guest, held, 8), 8);
	assert_int_equal(p2m_settle(&guest, more, 1), 0); /* to RAM */
	assert_int_equal(guest.pages[P2M_RAM], 24);
	assert_int_equal(guest.pages[P2M_EMPTY], PAGES - 24);
}

/* Bits: one for the whole leaf. Invalidating: it is broken for the window, and joined again. */
static void large_leaves(void **state)
{
	enum sample_way way = way_of(state);

	guest.populate_2m = true;
	touch(0, P2M_WRITE);
	assert_int_equal(guest.pages_in_2m, 512);
	watch(way, 100, 8);
	touch(104, P2M_READ);
	found(way, true, 8, way == SAMPLE_ACCESSED ? 8 : 1);
	assert_int_equal(guest.pages_in_2m, 512);
	assert_int_equal(guest.pages[P2M_RAM], 512);
	count = 0;
	watch(way, 100, 8);
	touch(300, P2M_READ); /* another of its pages */
	found(way, true, 8, way == SAMPLE_ACCESSED ? 8 : 0);
	assert_int_equal(guest.pages_in_2m, 512);
}

/* A guest that ends, or whose memory is all ballooned, while it is watched. */
static void it_may_end_meanwhile(void **state)
{
	enum sample_way way = way_of(state);

	for (uint64_t i = 0; i < 16; i++)
		touch(i, P2M_WRITE);
	watch(way, 0, 16);
	for (uint64_t i = 0; i < 8; i++)
		balloon(i);
	/* and destroyed with the rest still unmapped */
}

/* Random accesses, balloons and holds of the ladder between rounds: what is found is what a model says. */
static void random_rounds(void **state)
{
	enum sample_way way = way_of(state);
	bool resident[PAGES] = { 0 }, ballooned[PAGES] = { 0 };
	uint64_t seed = 7;

	for (uint32_t round = 0; round < 60; round++) {
		bool touched[PAGES] = { 0 }, before[PAGES];
		uint32_t want = 0, sampled = 0;

		memcpy(before, resident, sizeof(before));
		count = 0;
		uint32_t n = 1 + (uint32_t)(test_random(&seed) % 100);
		uint64_t step = 1 + 2 * (test_random(&seed) % 7), at = test_random(&seed) % PAGES;

		for (uint32_t i = 0; i < n; i++, at = (at + step) % PAGES)
			page[count++].gfn = GFN(at);
		p2m_sample_begin(&guest, way, page, count);
		for (uint32_t i = 0; i < 300; i++) {
			uint64_t gfn = test_random(&seed) % PAGES;

			if (test_random(&seed) % 8 == 0 && !ballooned[gfn]) {
				balloon(gfn);
				ballooned[gfn] = true;
				resident[gfn] = touched[gfn] = false;
			} else {
				touch(gfn, P2M_WRITE);
				ballooned[gfn] = false;
				resident[gfn] = touched[gfn] = true;
			}
		}
		/* A page that was away and came back has a new frame: both ways see that. */
		for (uint32_t i = 0; i < count; i++) {
			sampled++;
			want += touched[page[i].gfn.v];
		}
		struct sample_result r = { 0 };

		p2m_sample_end(&guest, way, page, count, &r);
		/* Joined leaves have one bit for all: never fewer than the model says. */
		assert_int_equal(r.sampled, sampled);
		if (way == SAMPLE_INVALIDATE || guest.pages_in_2m == 0)
			assert_int_equal(r.touched, want);
		else
			assert_true(r.touched >= want);
		assert_int_equal(guest.pages[P2M_IN_FLIGHT], 0);
		fake_audit_clean(all, 1);
	}
}

#define EACH(f)                                                                                           \
	cmocka_unit_test_prestate_setup_teardown(f, open_guest, close_guest, (void *)0),                  \
	cmocka_unit_test_prestate_setup_teardown(f, open_guest, close_guest, (void *)1),                  \
	cmocka_unit_test_prestate_setup_teardown(f, open_guest, close_guest, (void *)2),                  \
	cmocka_unit_test_prestate_setup_teardown(f, open_guest, close_guest, (void *)3)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(what_is_touched_is_found),
		EACH(without_a_frame_it_is_not_touched_until_it_has_one),
		EACH(what_the_guest_gives_away_is_not_touched),
		EACH(pinned_and_named_twice),
		EACH(the_ladder_and_the_sample_keep_apart),
		EACH(large_leaves),
		EACH(it_may_end_meanwhile),
		EACH(random_rounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
