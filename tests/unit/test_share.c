/* SHARED frames and the hints that lead to them. */
#include "mm/frame_pool.h"
#include "mm/hash.h"
#include "mm/share.h"
#include "mm/zero.h"
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

static struct share_counts counts(void)
{
	struct share_counts c;

	share_counts(&c);
	return c;
}

/* A SHARED frame of guest a's with one reference, and a hint to it. */
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

/* ---- a million operations against a model ------------------------------------------------------ */

#define GUESTS   6u
#define PAGES    160u
#define CONTENTS 60u
#define STEPS    1000000u

struct model_page {
	mfn_t mfn;        /* MFN_NONE: no page */
	bool shared;
	uint64_t content; /* never 0 */
};
struct model_guest {
	struct frame_account account;
	uint16_t id, group;
	struct model_page page[PAGES];
};

static struct model_guest guest[GUESTS];
static uint64_t seed;
static _Thread_local uint64_t merged, broken, taken_back, collisions, refused;
static const uint16_t groups[GUESTS] = { 0, 7, 7, 0, 9, 7 };

static uint64_t rnd(uint64_t below)
{
	return test_random(&seed) % below;
}

/* Contents 2n and 2n + 1 have the same hash, so that equal hashes mean nothing by themselves. */
static uint64_t hash_of(uint64_t content)
{
	uint64_t x = content / 2;

	return test_random(&x);
}

static uint64_t *words(mfn_t mfn)
{
	return mfn_to_va(mfn);
}

static void open_guest(struct model_guest *g, uint16_t id, uint16_t group)
{
	*g = (struct model_guest){ .id = id, .group = group };
	for (uint32_t i = 0; i < PAGES; i++)
		g->page[i].mfn = MFN_NONE;
	assert_int_equal(frame_account_open(&g->account, id, group == 9 ? 60 : id % 2 * 20, NULL), OK);
}

static void check_page(const struct model_page *p)
{
	if (mfn_is_none(p->mfn))
		return;
	assert_int_equal(frame_of(p->mfn)->state, p->shared ? FRAME_SHARED : FRAME_PRIVATE);
	assert_int_equal(words(p->mfn)[0], p->content);
	assert_int_equal(words(p->mfn)[511], p->content);
}

static void drop(struct model_guest *g, struct model_page *p)
{
	if (mfn_is_none(p->mfn))
		return;
	check_page(p);
	if (p->shared)
		share_put(p->mfn);
	else
		frame_free(&g->account, p->mfn, 0);
	p->mfn = MFN_NONE;
	p->shared = false;
}

static void set_content(struct model_page *p, uint64_t content)
{
	p->content = words(p->mfn)[0] = words(p->mfn)[511] = content;
}

/* A write, with a frame of its own if it needs one. */
static void write_to(struct model_guest *g, uint64_t gfn, uint64_t content)
{
	struct model_page *p = &g->page[gfn];
	bool had = !mfn_is_none(p->mfn);
	mfn_t fresh;

	check_page(p);
	if (had && p->shared) {
		status_t s = share_take(&g->account, p->mfn, GFN(gfn), 0);

		if (s == OK) {
			p->shared = false;
			taken_back++;
		}
	}
	if (had && !p->shared) {
		set_content(p, content);
		return;
	}
	if (frame_alloc(&g->account, FRAME_PRIVATE, 0, GFN(gfn), MFN_NONE, 0, &fresh) != OK) {
		refused++;
		return;
	}
	assert_int_equal(words(fresh)[0], 0);
	broken += had;
	drop(g, p);
	p->mfn = fresh;
	set_content(p, content);
}

static struct model_guest *guest_by_id(uint16_t id)
{
	for (uint32_t i = 0; i < GUESTS; i++)
		if (guest[i].id == id)
			return &guest[i];
	return NULL;
}

/* The page becomes a mapping of the frame, to which there is a reference for it. */
static void merge(struct model_guest *g, struct model_page *p, mfn_t mfn)
{
	frame_free(&g->account, p->mfn, 0);
	p->mfn = mfn;
	p->shared = true;
	merged++;
}

/* What the scanner does, with the model for a p2m. */
static void scan(struct model_guest *g, uint64_t gfn)
{
	struct model_page *p = &g->page[gfn];
	uint64_t hash = hash_of(p->content);
	struct share_hint h;

	if (mfn_is_none(p->mfn) || p->shared)
		return;
	enum share_found found = share_find(hash, g->id, g->group, GFN(gfn), &h);

	if (found == SHARE_FRAME) {
		assert_int_equal(frame_of(h.mfn)->link, share_domain(g->id, g->group));
		if (words(h.mfn)[0] == p->content) {
			merge(g, p, h.mfn);
			return;
		}
		share_wrong(found, &h);
		share_put(h.mfn);
		collisions++;
	}
	if (found == SHARE_PAGE) {
		struct model_guest *og = guest_by_id(h.owner);

		assert_non_null(og); /* those who are gone are forgotten */
		assert_int_equal(share_domain(og->id, og->group), share_domain(g->id, g->group));
		struct model_page *o = &og->page[h.gfn.v];

		if (!mfn_is_none(o->mfn) && !o->shared && o->content == p->content) {
			if (share_make(&og->account, o->mfn, hash, og->group) != OK)
				return;
			o->shared = true;
			frame_share_get(o->mfn);
			merge(g, p, o->mfn);
			return;
		}
		share_wrong(found, &h);
	}
	share_offer(hash, g->id, g->group, GFN(gfn));
}

static void check_model(void)
{
	struct frame_account *accounts[GUESTS];
	static uint32_t mapped[FRAMES];
	static uint32_t domain[FRAMES];
	uint64_t shared = 0;

	memset(mapped, 0, sizeof(mapped));
	for (uint32_t i = 0; i < GUESTS; i++) {
		uint64_t own = 0;

		accounts[i] = &guest[i].account;
		for (uint32_t k = 0; k < PAGES; k++) {
			const struct model_page *p = &guest[i].page[k];

			check_page(p);
			if (mfn_is_none(p->mfn))
				continue;
			uint64_t at = p->mfn.v - FAKE_MFN_BASE;
			uint32_t d = share_domain(guest[i].id, guest[i].group);

			assert_true(!mapped[at] || (p->shared && domain[at] == d));
			domain[at] = d;
			shared += p->shared && !mapped[at];
			mapped[at]++;
			own += !p->shared;
		}
		assert_int_equal(guest[i].account.used_pages, own);
	}
	for (uint32_t i = 0; i < FRAMES; i++)
		if (frame_table.array[i].state == FRAME_SHARED && i + FAKE_MFN_BASE != frame_zero_mfn().v)
			assert_int_equal(frame_table.array[i].u.shared.refs, mapped[i]);
	assert_int_equal(frame_pool.shared.used_pages, shared);
	assert_int_equal(counts().made, counts().freed + counts().taken + shared);
	check_pool(accounts, GUESTS);
}

static void a_million_operations(void **state)
{
	uint16_t next_id = 100;

	(void)state;
	fake_machine(FRAMES);
	assert_int_equal(frame_pool_init(500, 0, EMERGENCY), OK);
	share_init(table_memory, 1, SALT);
	seed = 4711;
	for (uint32_t i = 0; i < GUESTS; i++)
		open_guest(&guest[i], next_id++, groups[i]);
	for (uint32_t step = 0; step < STEPS; step++) {
		struct model_guest *g = &guest[rnd(GUESTS)];
		uint64_t gfn = rnd(PAGES), dice = rnd(100);

		if (dice < 40)
			scan(g, gfn);
		else if (dice < 75)
			write_to(g, gfn, 1 + rnd(CONTENTS));
		else if (dice < 95)
			drop(g, &g->page[gfn]);
		else if (dice < 96)
			frame_scrub(rnd(200));
		if (dice == 99 && rnd(200) == 0) {
			for (uint32_t i = 0; i < PAGES; i++)
				drop(g, &g->page[i]);
			frame_account_close(&g->account);
			share_forget(g->id);
			open_guest(g, next_id++, g->group);
		}
		if (step % 5000 == 0)
			check_model();
	}
	for (uint32_t i = 0; i < GUESTS; i++)
		for (uint32_t k = 0; k < PAGES; k++)
			drop(&guest[i], &guest[i].page[k]);
	check_model();
	assert_int_equal(frame_pool.shared.used_pages, 0);
	assert_int_equal(counts().frames, 0);
	assert_int_equal(counts().stale, 0);
	print_message("%llu merged, %llu broken, %llu taken back, %llu collisions, %llu refused\n",
		(unsigned long long)merged, (unsigned long long)broken, (unsigned long long)taken_back,
		(unsigned long long)collisions, (unsigned long long)refused);
	assert_true(merged > 10000 && broken > 1000 && taken_back > 1000 && collisions > 1000 && refused > 100);
}

/* ---- several CPUs ------------------------------------------------------------------------------ */

#define CPUS         4u
#define THREAD_STEPS 60000u

static struct model_guest per_cpu[CPUS];
static uint64_t thread_merged; /* atomic */

/*
 * Each thread is a guest, all of one group. A page of another's cannot be held here, so that only frames
 * and one's own pages are followed; what a shared page holds must never change.
 */
static void *cpu_thread(void *index)
{
	uint64_t state = (uintptr_t)index + 1;
	struct model_guest *g = &per_cpu[(uintptr_t)index];

	fake_cpu_index = (uint32_t)(uintptr_t)index;
	for (uint32_t i = 0; i < THREAD_STEPS; i++) {
		uint64_t gfn = test_random(&state) % PAGES, dice = test_random(&state) % 100;
		struct model_page *p = &g->page[gfn];
		struct share_hint h;

		if (!mfn_is_none(p->mfn) && words(p->mfn)[0] != p->content)
			abort();
		if (dice < 20) {
			drop(g, p);
		} else if (mfn_is_none(p->mfn) || dice < 30) {
			write_to(g, gfn, 2 * (1 + test_random(&state) % 8));
		} else if (!p->shared) {
			uint64_t hash = hash_of(p->content);
			enum share_found found = share_find(hash, g->id, g->group, GFN(gfn), &h);

			if (found == SHARE_FRAME) {
				if (words(h.mfn)[0] != p->content)
					abort();
				frame_free(&g->account, p->mfn, 0);
				p->mfn = h.mfn;
				p->shared = true;
				__atomic_fetch_add(&thread_merged, 1, __ATOMIC_RELAXED);
			} else if (dice % 2) {
				share_offer(hash, g->id, g->group, GFN(gfn));
			} else if (share_make(&g->account, p->mfn, hash, g->group) == OK) {
				p->shared = true;
			}
		}
	}
	for (uint32_t i = 0; i < PAGES; i++)
		drop(g, &g->page[i]);
	return NULL;
}

static void several_cpus(void **state)
{
	struct frame_account *accounts[CPUS];
	pthread_t cpu[CPUS];

	(void)state;
	fake_machine(FRAMES);
	assert_int_equal(frame_pool_init(2000, 0, EMERGENCY), OK);
	share_init(table_memory, 1, SALT);
	for (uint32_t i = 0; i < CPUS; i++) {
		open_guest(&per_cpu[i], (uint16_t)(i + 1), 7);
		accounts[i] = &per_cpu[i].account;
	}
	for (uintptr_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&cpu[i], NULL, cpu_thread, (void *)i), 0);
	for (uint32_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_join(cpu[i], NULL), 0);
	check_pool(accounts, CPUS);
	assert_int_equal(frame_pool.shared.used_pages, 0);
	assert_int_equal(counts().made, counts().freed + counts().taken);
	print_message("%llu merged\n", (unsigned long long)thread_merged);
	assert_true(thread_merged > 10000);
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
		cmocka_unit_test(a_million_operations),
		cmocka_unit_test(several_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
