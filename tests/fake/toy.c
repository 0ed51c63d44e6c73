#include "tests/fake/toy.h"

#include "vmm/overcommit.h"


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL_PAGES 640u /* 2.5 MiB */
#define PAGE_GFN     520u /* the balloon's page */
#define RANGES_GFN   521u
#define BLOCK        512u
#define REPORT_NS    100000000ull
#define FULL_INS     64u

#define CHECK(t, cond)                                                                             \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__,                     \
				(t)->g->config.name, #cond);                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct toy *current; /* whose driver is called */

static uint32_t toy_random(struct toy *t, uint32_t below)
{
	t->seed = t->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((t->seed >> 33) % below);
}

static uint64_t stamp(const struct toy *t, uint32_t v)
{
	return 0x5eed000000000000ull | (uint64_t)t->g->id << 32 | v;
}

static uint64_t *word_of(struct toy *t, uint32_t gfn)
{
	return fake_hv_touch(t->g, (uint64_t)gfn << PAGE_SHIFT, P2M_WRITE);
}

/* ---- page allocator --------------------------------------------------------------------------- */

static uint32_t free_one(struct toy *t)
{
	for (uint32_t n = 0; n < t->page_count; n++) {
		uint32_t gfn = (t->free_hand + n) % t->page_count;
		if (t->state[gfn] == TOY_FREE) {
			t->free_hand = gfn;
			t->free_count--;
			return gfn;
		}
	}
	CHECK(t, t->free_count == 0); /* a free page was counted that is not there */
	return 0;
}

static void release(struct toy *t, uint32_t gfn)
{
	t->state[gfn] = TOY_FREE;
	t->free_count++;
}

static bool evict_cache(struct toy *t)
{
	for (uint32_t gfn = 0; t->cache_count && gfn < t->page_count; gfn++)
		if (t->state[gfn] == TOY_CACHE) {
			t->cache_count--;
			release(t, gfn);
			return true;
		}
	return false;
}

static bool evict_anon(struct toy *t)
{
	for (uint32_t n = 0; t->swap_free && n < t->page_count; n++) {
		uint32_t gfn = t->hand++ % t->page_count;
		if (t->state[gfn] != TOY_ANON)
			continue;
		uint64_t *w = word_of(t, gfn);
		CHECK(t, w && *w == stamp(t, t->owner[gfn]));
		t->virt[t->owner[gfn]] = TOY_SWAPPED;
		t->swap_free--;
		t->swap_outs++;
		t->io_debt++;
		release(t, gfn);
		return true;
	}
	return false;
}

static bool reclaim(struct toy *t)
{
	return evict_cache(t) || evict_anon(t);
}

/* A page for the process or the cache; BALLOON_NO_PAGE as 0: it would have to kill. */
static uint32_t alloc(struct toy *t)
{
	if (t->free_count <= t->keep / 3) {
		t->direct++;
		if (!reclaim(t) && t->has_driver) {
			current = t;
			balloon_driver_give_back(&t->driver, 16);
		}
	}
	if (t->free_count == 0) {
		t->oom_kills++;
		return 0;
	}
	return free_one(t);
}

/* ---- the driver's callbacks ------------------------------------------------------------------- */

static uint64_t take_block(struct toy *t)
{
	for (uint32_t first = 0; first + BLOCK <= t->page_count; first += BLOCK) {
		uint32_t n = 0;
		while (n < BLOCK && t->state[first + n] == TOY_FREE)
			n++;
		if (n < BLOCK)
			continue;
		memset(t->state + first, TOY_BALLOON, BLOCK);
		t->free_count -= BLOCK;
		return first;
	}
	return BALLOON_NO_PAGE;
}

static uint64_t take(void *ctx, unsigned int order, bool may_reclaim, uint32_t *why)
{
	struct toy *t = ctx;

	*why = AERO_REASON_NO_MEMORY;
	if (t->refuses)
		return BALLOON_NO_PAGE;
	if (order)
		return take_block(t);
	while (t->free_count <= t->keep)
		if (!may_reclaim || !reclaim(t)) {
			if (t->have && !t->swap_free)
				*why = AERO_REASON_NO_SWAP;
			return BALLOON_NO_PAGE;
		}
	uint32_t gfn = free_one(t);
	t->state[gfn] = TOY_BALLOON;
	return gfn;
}

static void put(void *ctx, uint64_t gfn, unsigned int order)
{
	struct toy *t = ctx;

	for (uint32_t i = 0; i < 1u << order; i++) {
		CHECK(t, t->state[gfn + i] == TOY_BALLOON);
		t->clean[gfn + i] = false;
		release(t, (uint32_t)gfn + i);
	}
}

static uint64_t free_pages(void *ctx)
{
	return ((struct toy *)ctx)->free_count;
}

static void fill_stats(void *ctx, uint64_t stats[AERO_STAT_COUNT])
{
	struct toy *t = ctx;

	stats[AERO_STAT_FREE] = (uint64_t)t->free_count * PAGE_BYTES;
	stats[AERO_STAT_CACHES] = (uint64_t)t->cache_count * PAGE_BYTES;
	stats[AERO_STAT_AVAILABLE] = (uint64_t)(t->free_count + t->cache_count) * PAGE_BYTES;
	stats[AERO_STAT_TOTAL] = (uint64_t)toy_size(t) * PAGE_BYTES;
	stats[AERO_STAT_OOM_KILL] = t->oom_kills;
}

/* Ranges travel through the guest's memory, as a real driver's do. */
static int64_t hypercall(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	struct toy *t = current;
	bool ranges = number == AERO_HC_BALLOON_INFLATE || number == AERO_HC_BALLOON_DEFLATE;
	uint64_t bytes = ranges ? b * sizeof(struct aero_range) : 0;

	if (ranges)
		CHECK(t, p2m_copy_to(&t->g->p2m, GPA(a), t->ranges, bytes) == OK);
	int64_t result = fake_hv_call(t->g, number, a, b, c);
	if (ranges && result >= 0)
		CHECK(t, p2m_copy_from(&t->g->p2m, GPA(a), t->ranges, bytes) == OK);
	if (number == AERO_HC_BALLOON_DEFLATE && result > 0)
		for (int64_t i = 0; i < result; i++)
			for (uint64_t k = 0; k < (uint64_t)t->ranges[i].done << t->ranges[i].order; k++)
				t->clean[t->ranges[i].gfn + k] = true;
	return t->hypercall_hook ? t->hypercall_hook(t, number, a, b, c, result) : result;
}

static uint64_t now(void *ctx)
{
	(void)ctx;
	return platform_ns();
}

static const struct balloon_ops ops = { take, put, free_pages, fill_stats, hypercall, now };

/* ---- life ------------------------------------------------------------------------------------- */

struct toy *toy_new(struct guest *g, bool has_driver)
{
	struct toy *t = calloc(1, sizeof(*t));
	uint32_t n = (uint32_t)g->p2m.gfn_count;

	t->g = g;
	t->page_count = n;
	t->state = calloc(n, 1);
	t->clean = calloc(n, sizeof(bool));
	t->owner = calloc(n, sizeof(uint32_t));
	t->virt = calloc(n, sizeof(uint32_t));
	t->bitmap = calloc((n + 511) / 512 * 8, sizeof(uint64_t));
	memset(t->virt, 0xff, n * sizeof(uint32_t));
	t->seed = g->id;
	t->keep = 72;
	t->grow = t->touches = 32;
	t->io_a_tick = 16;
	t->swap_free = n;
	for (uint32_t i = 0; i < KERNEL_PAGES; i++)
		CHECK(t, word_of(t, i));
	memset(t->state + KERNEL_PAGES, TOY_FREE, n - KERNEL_PAGES);
	t->free_count = n - KERNEL_PAGES;
	t->has_driver = has_driver;
	if (has_driver) {
		struct balloon_setup s = { .ops = &ops, .ctx = t, .page = (void *)word_of(t, PAGE_GFN),
			.page_gpa = (uint64_t)PAGE_GFN << PAGE_SHIFT, .ranges = t->ranges,
			.ranges_gpa = (uint64_t)RANGES_GFN << PAGE_SHIFT, .bitmap = t->bitmap,
			.gfn_count = n, .keep_free_pages = t->keep };
		current = t;
		CHECK(t, balloon_driver_init(&t->driver, &s) == 0);
	}
	return t;
}

void toy_free(struct toy *t)
{
	free(t->state);
	free(t->clean);
	free(t->owner);
	free(t->virt);
	free(t->bitmap);
	free(t);
}

uint32_t toy_size(const struct toy *t)
{
	return t->page_count - (uint32_t)t->driver.actual_pages;
}

void toy_driver_run(struct toy *t)
{
	if (!t->has_driver)
		return;
	current = t;
	for (int i = 0; balloon_driver_work(&t->driver); i++)
		CHECK(t, i < 10000);
}

/* False: it waits in front of the page. */
static bool resident(struct toy *t, uint32_t gfn)
{
	uint64_t *w = word_of(t, gfn);

	t->stuck = !w;
	if (t->stuck) {
		if (!t->g->vcpu[0].wait_since_ns)
			t->g->vcpu[0].wait_since_ns = platform_ns() + 1;
		overcommit_kick(t->g);
		return false;
	}
	t->g->vcpu[0].wait_since_ns = 0;
	if (t->clean[gfn])
		CHECK(t, *w == 0);
	t->clean[gfn] = false;
	return true;
}

/* The process touches a page of its own. False: it cannot go on in this tick. */
static bool touch(struct toy *t, uint32_t v)
{
	uint32_t gfn = t->virt[v];

	if (gfn >= TOY_SWAPPED) {
		uint32_t fresh = alloc(t);
		if (!fresh)
			return false;
		if (!resident(t, fresh)) {
			release(t, fresh);
			return false;
		}
		if (gfn == TOY_SWAPPED) {
			t->swap_free++;
			t->swap_ins++;
			t->window_swap_ins++;
			t->io_debt++;
		}
		t->virt[v] = fresh;
		t->owner[fresh] = v;
		t->state[fresh] = TOY_ANON;
		*word_of(t, fresh) = stamp(t, v);
		return true;
	}
	if (!resident(t, gfn))
		return false;
	CHECK(t, *word_of(t, gfn) == stamp(t, v));
	return true;
}

static void process(struct toy *t)
{
	for (uint32_t i = 0; i < t->grow && t->have < t->want && !t->io_debt; i++) {
		t->virt[t->have] = TOY_NEW;
		if (!touch(t, t->have))
			return;
		t->have++;
	}
	while (t->have > t->want) {
		uint32_t gfn = t->virt[--t->have];
		if (gfn == TOY_SWAPPED)
			t->swap_free++;
		else
			release(t, gfn);
		t->virt[t->have] = TOY_NEW;
	}
	for (uint32_t i = 0; i < t->touches && t->have && t->io_debt < t->io_a_tick; i++)
		if (!touch(t, toy_random(t, t->have)))
			return;
	for (uint32_t i = 0; i < t->grow && t->cache_count < t->cache_want; i++) {
		if (t->free_count <= t->keep)
			break;
		uint32_t gfn = free_one(t);
		if (!resident(t, gfn)) {
			release(t, gfn);
			return;
		}
		*word_of(t, gfn) = ~0ull;
		t->state[gfn] = TOY_CACHE;
		t->cache_count++;
	}
}

static void pressure(struct toy *t)
{
	uint64_t at = platform_ns();

	if (!t->has_driver || at - t->pressure_ns < REPORT_NS)
		return;
	if (t->window_swap_ins >= FULL_INS)
		balloon_driver_pressure(&t->driver, AERO_PRESSURE_FULL, t->window_swap_ins);
	else if (t->direct)
		balloon_driver_pressure(&t->driver, AERO_PRESSURE_SOME, t->keep);
	else
		return;
	t->pressure_ns = at;
	t->window_swap_ins = 0;
	t->direct = 0;
}

void toy_tick(struct toy *t)
{
	current = t;
	int64_t events = fake_hv_call(t->g, AERO_HC_EVENT_TAKE, 0, 0, 0);
	t->io_debt -= MIN(t->io_debt, t->io_a_tick);
	bool due = t->has_driver && platform_ns() >= balloon_driver_next_ns(&t->driver);

	if (t->has_driver && (events > 0 || due || t->driver.state == AERO_BALLOON_INFLATING ||
			t->driver.state == AERO_BALLOON_DEFLATING) && !t->io_debt)
		balloon_driver_work(&t->driver);
	t->stuck_ticks += t->stuck;
	if (!t->io_debt)
		process(t);
	pressure(t);
}

void toy_check(struct toy *t)
{
	uint32_t in_balloon = 0, free_count = 0;

	for (uint32_t gfn = 0; gfn < t->page_count; gfn++) {
		bool marked = t->bitmap[gfn / 64] >> (gfn % 64) & 1;
		CHECK(t, marked == (t->state[gfn] == TOY_BALLOON));
		in_balloon += marked;
		free_count += t->state[gfn] == TOY_FREE;
		if (t->state[gfn] == TOY_ANON)
			CHECK(t, t->virt[t->owner[gfn]] == gfn &&
					*word_of(t, gfn) == stamp(t, t->owner[gfn]));
	}
	CHECK(t, free_count == t->free_count);
	if (t->has_driver)
		CHECK(t, in_balloon == t->driver.actual_pages &&
				in_balloon == balloon_actual_pages(&t->g->balloon) &&
				in_balloon == t->driver.s.page->actual_pages &&
				in_balloon == t->driver.s.page->counted_pages);
}
