/* SHARED frames and hints, a million operations against a model, and on several CPUs. */
#include "tests/fake/cpu.h"
#include "tests/unit/share.h"

#include <pthread.h>

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
		cmocka_unit_test(a_million_operations),
		cmocka_unit_test(several_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
