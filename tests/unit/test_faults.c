/*
 * Allocations that fail at the n-th call, for every n of a whole life: a guest is created, runs, is ballooned,
 * reclaimed, brought in, split and joined, and destroyed, beside another. Whatever fails says so or is tried
 * again; nothing is lost or left behind, and nobody else notices. After SQLite's loops over malloc().
 */
#include "tests/unit/unit.h"

#include "mm/compress.h"
#include "mm/frame_pool.h"
#include "mm/heap.h"
#include "mm/merge.h"
#include "mm/share.h"
#include "mm/zstore.h"
#include "tests/fake/hv.h"
#include "tests/unit/swap_disk.h"
#include "vmm/exit.h"

#define POOL    6144u
#define SLOTS   1024u
#define FIRST   1024u /* gfns of the test's pages, and how many */
#define PAGES   96u
#define CALLS   900u /* a gfn: arguments of hypercalls */
#define TRIES   10000u

static char error[CONFIG_ERROR_BYTES];
static struct guest *peer;
static uint64_t heap_before;
static uint8_t hints[4][PAGE_BYTES] __attribute__((aligned(4096)));

/* ---- what a guest does ------------------------------------------------------------------------- */

/* By its gfn a page is zero, compresses, is the same in both guests, or none of these. */
static void content(const struct guest *g, uint64_t gfn, uint64_t *out)
{
	uint64_t s = gfn % 6 == 4 ? 99 : (uint64_t)g->id << 40 | gfn << 8 | 1;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		out[i] = gfn % 3 == 0 ? 0 : gfn % 3 == 1 ? s + (i & 7) : test_random(&s);
}

static uint64_t now(void)
{
	static uint64_t ticks;

	return ++ticks;
}

static uint32_t step(struct guest *g, uint64_t pages)
{
	struct reclaim_order o = { .pages = pages, .now = now(), .compress = true, .swap = true, .clock = now };
	uint32_t freed;

	(void)reclaim_step(&g->ladder.reclaim, &g->p2m, &o, &freed);
	answer();
	return freed;
}

/* What waits is tried again, and comes: only `left` allocations fail. */
static void *touch(struct guest *g, uint64_t gfn, uint32_t access)
{
	for (uint32_t i = 0; i < TRIES; i++) {
		void *page = fake_guest_access(&g->p2m, gfn_to_gpa(GFN(gfn)), access);

		if (page)
			return page;
		enum p2m_fault_result r = p2m_fault(&g->p2m, gfn_to_gpa(GFN(gfn)), access);

		if (r != P2M_FAULT_MAPPED && r != P2M_FAULT_WAIT && r != P2M_FAULT_DISK)
			fail_msg("gfn %llu: %d", (unsigned long long)gfn, (int)r);
		answer();
	}
	fail_msg("gfn %llu never comes", (unsigned long long)gfn);
	return NULL;
}

static void write_all(struct guest *g)
{
	for (uint64_t i = 0; i < PAGES; i++)
		content(g, FIRST + i, touch(g, FIRST + i, P2M_WRITE));
}

static void read_all(struct guest *g)
{
	uint64_t want[PAGE_BYTES / 8];

	for (uint64_t i = 0; i < PAGES; i++) {
		content(g, FIRST + i, want);
		if (memcmp(touch(g, FIRST + i, P2M_READ), want, PAGE_BYTES))
			fail_msg("%s: gfn %llu is not what was written", g->config.name,
				(unsigned long long)(FIRST + i));
	}
}

/* Made again while it says that it must wait. */
static int64_t call(struct guest *g, uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	struct fake_vcpu *f = fake_vcpu(g->vcpu[0].virt);

	for (uint32_t i = 0; i < TRIES; i++) {
		uint32_t again = f->again_count;
		int64_t result = fake_hv_call(g, number, a, b, c);

		if (f->again_count == again)
			return result;
		answer();
	}
	fail_msg("call %llu never ends", (unsigned long long)number);
	return 0;
}

/* What is refused for want of memory may be tried again. */
static void ranges(struct guest *g, uint64_t number, uint64_t gfn, uint32_t count, uint16_t order)
{
	uint64_t at = CALLS << PAGE_SHIFT;

	for (uint32_t i = 0; count && i < TRIES; i++) {
		struct aero_range *r = touch(g, CALLS, P2M_WRITE);

		*r = (struct aero_range){ .gfn = gfn, .count = count, .order = order };
		assert_int_equal(call(g, number, at, 1, 0), 1);
		r = touch(g, CALLS, P2M_READ);
		if (r->status && r->status != -AERO_ENOMEM && r->status != -AERO_EBUSY)
			fail_msg("gfn %llu: %d", (unsigned long long)r->gfn, r->status);
		assert_true(r->done <= count);
		gfn += (uint64_t)r->done << order;
		count -= r->done;
	}
	assert_int_equal(count, 0);
}

static void balloon(struct guest *g)
{
	assert_int_equal(call(g, AERO_HC_BALLOON_SETUP, 901 << PAGE_SHIFT, 0, 0), 0);
	ranges(g, AERO_HC_BALLOON_INFLATE, 2048, 1, 9);
	ranges(g, AERO_HC_BALLOON_INFLATE, 2560, 40, 0); /* of a block that has no table */
	ranges(g, AERO_HC_BALLOON_INFLATE, 512, 8, 0);   /* of one in one piece */
	ranges(g, AERO_HC_BALLOON_DEFLATE, 2048 + 7, 9, 0);
	ranges(g, AERO_HC_BALLOON_DEFLATE, 2560, 40, 0);
	(void)touch(g, 2048 + 100, P2M_WRITE);
	assert_int_equal(call(g, AERO_HC_BALLOON_SETUP, 0, 0, 0), 0);
}

static void reclaim(struct guest *g)
{
	for (uint32_t i = 0; i < 300 && p2m_resident(&g->p2m) > 8; i++)
		(void)step(g, p2m_resident(&g->p2m));
	assert_true(g->p2m.pages[P2M_SWAPPED] > 0);
}

static struct p2m *p2m_of(uint16_t owner)
{
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		if (g->id == owner)
			return &g->p2m;
	return NULL;
}

static uint64_t pool_used(void)
{
	struct frame_counts n;

	frame_counts(&n);
	return n.pool_used - frame_pool.shared.used_pages - zstore_frames();
}

/* Equal pages come to lie in one frame, and part again. */
static void share(struct guest *g)
{
	enum merge_result r;
	uint64_t shared = 0;
	gfn_t next;

	for (uint64_t i = 0; i < 2 * PAGES; i++) {
		r = merge_page(&(i < PAGES ? peer : g)->p2m, GFN(FIRST + i % PAGES), true, p2m_of, &next);
		shared += r == MERGE_SHARED;
	}
	assert_true(shared > PAGES / 8);
	write_all(g);
	read_all(g);
}

/* True: it was created. */
static bool life(bool huge)
{
	struct config_guest c = fake_hv_config("vm0", 16);
	uint64_t page[PAGE_BYTES / 8];
	struct guest *g;

	c.huge = huge;
	c.share_group = 3;
	error[0] = 0;
	if (guest_create(&c, &g, error) != OK) {
		if (!strstr(error, "guest vm0: ") || !strchr(error + 11, ' '))
			fail_msg("it says \"%s\"", error);
		return false;
	}
	write_all(g);
	(void)touch(g, 600, P2M_WRITE);
	(void)touch(g, 3000, P2M_READ); /* the zero frame */
	balloon(g);
	reclaim(g);
	/* A call reads what is out, and writes over it. */
	(void)touch(g, CALLS, P2M_WRITE);
	memset(page, 'x', sizeof(page));
	status_t s = p2m_copy_from(&g->p2m, gfn_to_gpa(GFN(FIRST + 2)), page, PAGE_BYTES);

	assert_true(s == OK || s == ERR_NOMEM || s == ERR_LIMIT || s == ERR_BUSY);
	answer();
	(void)reclaim_write_back(8, p2m_of);
	answer();
	assert_int_equal(call(g, AERO_HC_CONSOLE_WRITE, (FIRST + 1) << PAGE_SHIFT, 16, 0), 16);
	read_all(g);
	share(g);
	s = p2m_split(&g->p2m, GFN(600));
	assert_true(s == OK || s == ERR_NOENT || s == ERR_NOMEM);
	s = p2m_join(&g->p2m, GFN(600));
	assert_true(s == OK || s == ERR_NOENT || s == ERR_BUSY);
	s = p2m_gather(&g->p2m, GFN(600));
	assert_true(s == OK || s == ERR_NOENT || s == ERR_BUSY || s == ERR_NOMEM);
	(void)step(peer, 8);
	reclaim_let_go(&peer->ladder.reclaim, &peer->p2m);
	read_all(peer);
	(void)step(g, 20);
	assert_int_equal(fake_hv_audit(), 0);
	guest_destroy(g);
	return true;
}

/* For n from 1 on until the life ends before it. */
static void sweep(uint64_t count, bool huge)
{
	uint32_t n = 0, refused = 0;
	struct frame_fault f, before;

	do {
		frame_fault_get(&before);
		frame_fault_set(++n, count);
		refused += !life(huge);
		frame_fault_get(&f);
		frame_fault_set(0, 0);
		read_all(peer);
		assert_int_equal(fake_hv_audit(), 0);
		assert_int_equal(guest_count(), 1);
		assert_int_equal(fake_virt_live, 1);
		assert_true(heap_used_bytes() <= heap_before);
		assert_int_equal(pool_used(), peer->p2m.account.used_pages);
	} while (f.failed != before.failed);
	print_message("%u allocations, %lu in a row; %u times not created\n", n - 1, (unsigned long)count, refused);
	assert_true(refused >= 5);
	assert_true(n > 60);
}

static void one_fails(void **state)
{
	(void)state;
	sweep(1, false);
	sweep(1, true);
}

static void some_fail(void **state)
{
	(void)state;
	sweep(3, false);
	sweep(40, true);
}

/* Armed, each allocation is counted, whatever lay ahead of the CPU; and then it is as before. */
static void the_nth_is_the_nth(void **state)
{
	struct frame_fault f, before;

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		(void)touch(peer, 3584 + i, P2M_WRITE);
	assert_true(frame_caches[0].left > 0);
	frame_fault_get(&before);
	frame_fault_set(3, 2);
	assert_int_equal(frame_caches[0].left, 0);
	for (uint32_t i = 0; i < 6; i++) {
		enum p2m_fault_result r = p2m_fault(&peer->p2m, gfn_to_gpa(GFN(3600 + i)), P2M_WRITE);

		assert_int_equal(r, i == 2 || i == 3 ? P2M_FAULT_WAIT : P2M_FAULT_MAPPED);
		frame_fault_get(&f);
		assert_int_equal(f.failed - before.failed, i < 2 ? 0 : MIN(i - 1, 2u));
	}
	assert_int_equal(f.left, 0);
	for (uint64_t i = 0; i < 5; i++)
		(void)touch(peer, 3616 + i, P2M_WRITE);
	assert_true(frame_caches[0].left > 0);
	assert_int_equal(fake_hv_audit(), 0);
	frame_fault_set(1, 5);
	assert_null(heap_alloc(PAGE_BYTES));
	frame_fault_set(0, 0);
	void *p = heap_alloc(PAGE_BYTES);

	assert_non_null(p);
	heap_free(p, PAGE_BYTES);
}

/* Neither reclaim nor a balloon of single pages needs any; what a guest wants waits as long as it takes. */
static void reclaim_needs_no_frame(void **state)
{
	struct guest *g = fake_hv_guest("vm0", 16);

	(void)state;
	write_all(g);
	(void)touch(g, 2560, P2M_WRITE);
	assert_int_equal(call(g, AERO_HC_BALLOON_SETUP, 901 << PAGE_SHIFT, 0, 0), 0);
	(void)touch(g, CALLS, P2M_WRITE);
	frame_fault_set(1, UINT64_MAX);
	ranges(g, AERO_HC_BALLOON_INFLATE, 2560, 40, 0);
	for (uint32_t i = 0; i < 300 && p2m_resident(&g->p2m) > 8; i++)
		(void)step(g, p2m_resident(&g->p2m));
	assert_true(p2m_resident(&g->p2m) <= 8);
	assert_int_equal(g->p2m.pages[P2M_COMPRESSED], 0); /* the store has no frame: all went to swap */
	assert_true(g->p2m.pages[P2M_SWAPPED] >= PAGES / 2);
	for (uint64_t i = 0; i < PAGES; i++)
		if (!fake_guest_access(&g->p2m, gfn_to_gpa(GFN(FIRST + i)), P2M_WRITE)) {
			enum p2m_fault_result r = p2m_fault(&g->p2m, gfn_to_gpa(GFN(FIRST + i)), P2M_WRITE);

			assert_true(r == P2M_FAULT_WAIT || r == P2M_FAULT_DISK);
			answer();
		}
	assert_int_equal(fake_hv_audit(), 0);
	frame_fault_set(0, 0);
	read_all(g);
	guest_destroy(g);
	assert_int_equal(pool_used(), peer->p2m.account.used_pages);
}

static int setup(void **state)
{
	(void)state;
	fake_hv_start(POOL);
	if (p2m_scratch_init(1) != OK || compress_init(1) != OK || zstore_init(POOL / 4) != OK ||
		swap_init(SLOTS, buffers, submit) != OK)
		return 1;
	share_init(hints, sizeof(hints) / PAGE_BYTES, 42);
	struct config_guest c = fake_hv_config("peer", 16);

	c.share_group = 3;
	if (guest_create(&c, &peer, error) != OK)
		return 1;
	peer->ladder.reclaim.seed = 5;
	write_all(peer);
	while (step(peer, 40) < 16)
		;
	read_all(peer);
	heap_before = heap_used_bytes();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	reclaim_let_go(&peer->ladder.reclaim, &peer->p2m);
	fake_hv_destroy_all();
	assert_int_equal(pool_used(), 0);
	assert_int_equal(zstore_frames(), 0);
	return fake_hv_audit() != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_nth_is_the_nth),
		cmocka_unit_test(reclaim_needs_no_frame),
		cmocka_unit_test(one_fails),
		cmocka_unit_test(some_fail),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
