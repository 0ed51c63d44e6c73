/* Scattered pages become one leaf again; and everything at random. */
#include "tests/unit/evict.h"

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

/* ---- everything at random ------------------------------------------------------------------------ */

static bool ballooned[GUESTS][PAGES];

static struct p2m *of(uint16_t owner)
{
	return &guest[owner - 1];
}

static void read_some(uint32_t g, uint64_t gfn)
{
	uint64_t page[PAGE_BYTES / 8];
	status_t s;

	while ((s = p2m_copy_from(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES)) == ERR_BUSY)
		answer();
	if (s != OK)
		return;
	if (ballooned[g][gfn])
		version[g][gfn] = 0;
	else
		expect_page(g, gfn, page);
	ballooned[g][gfn] = false;
}

static void write_some(uint32_t g, uint64_t gfn, uint32_t v)
{
	uint64_t page[PAGE_BYTES / 8];
	status_t s;

	content(g, gfn, v, page);
	while ((s = p2m_copy_to(&guest[g], gfn_to_gpa(GFN(gfn)), page, PAGE_BYTES)) == ERR_BUSY)
		answer();
	if (s == OK)
		version[g][gfn] = v;
}

static void balloon_some(uint32_t g, uint64_t gfn)
{
	struct frame_batch batch;

	p2m_batch_begin(&guest[g], &batch);
	status_t s = ballooned[g][gfn] ? p2m_deflate(&guest[g], GFN(gfn), 0) :
					 p2m_inflate(&guest[g], GFN(gfn), 0, &batch);

	p2m_batch_finish(&guest[g], &batch);
	if (s != OK)
		return;
	ballooned[g][gfn] = !ballooned[g][gfn];
	version[g][gfn] = 0;
}

/* Of the guest's own, or a hypercall's. */
static void one_access(uint32_t g, uint64_t gfn, uint32_t dice, uint64_t r)
{
	bool in = ballooned[g][gfn];

	if (dice < 60 && !in)
		write_page(g, gfn, (uint32_t)(r >> 40) | 1 << (r >> 63));
	else if (dice >= 60 && dice < 120 && !in)
		read_page(g, gfn);
	else if (dice >= 120 && dice < 130)
		read_some(g, gfn);
	else if (dice >= 130 && !in)
		write_some(g, gfn, (uint32_t)(r >> 40));
}

static void one_of_all(uint64_t r)
{
	uint32_t g = (uint32_t)(r >> 8) % GUESTS, dice = (uint32_t)r % 256;
	uint64_t gfn = (r >> 20) % 4 ? (r >> 24) % 200 : (r >> 24) % PAGES; /* a part is hot */
	status_t s = OK;

	if (dice < 140)
		one_access(g, gfn, dice, r);
	else if (dice < 200)
		(void)step(g, (r >> 30) % 40, (r >> 36) % 50, NULL);
	else if (dice < 216)
		answer();
	else if (dice < 226)
		balloon_some(g, gfn);
	else if (dice == 226)
		reclaim_let_go(&ladder[g], &guest[g]);
	else if (dice == 227)
		swap_push();
	else if (dice < 240)
		(void)reclaim_write_back(8, of);
	else if (dice == 240)
		s = r >> 50 & 1 ? p2m_join(&guest[g], GFN(gfn)) : p2m_split(&guest[g], GFN(gfn));
	else if (dice == 241 && r >> 50 & 1)
		s = p2m_gather(&guest[g], GFN(gfn));
	(void)s;
}

/* Two guests of 1024 pages each in a pool of 1200. */
static void a_million_random_steps(void **state)
{
	(void)state;
	memset(ballooned, 0, sizeof(ballooned));
	for (uint32_t i = 0; i < 1000000; i++) {
		one_of_all(test_random(&seed));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(scattered_pages_become_one_leaf),
		TEST(what_leaves_while_it_is_gathered_is_not_freed_twice),
		TEST(a_million_random_steps),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
