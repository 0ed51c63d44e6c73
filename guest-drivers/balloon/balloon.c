#include "guest-drivers/balloon/balloon.h"

#define BLOCK_PAGES    512u
#define BLOCK_WORDS    8u
#define STEP_BLOCKS    64u  /* 2 MiB blocks a step */
#define STEP_PAGES     512u /* 4 KiB pages a step */
#define BACKOFF_MIN_NS 100000000ull
#define BACKOFF_MAX_NS 5000000000ull
#define URGENT_HOLD_NS 1000000000ull

static bool is_marked(const struct balloon_driver *d, uint64_t gfn)
{
	return d->s.bitmap[gfn / 64] >> (gfn % 64) & 1;
}

static void mark(struct balloon_driver *d, uint64_t gfn, unsigned int order, bool in)
{
	uint64_t *word = &d->s.bitmap[gfn / 64];

	if (order)
		for (unsigned int i = 0; i < BLOCK_WORDS; i++)
			word[i] = in ? UINT64_MAX : 0;
	else if (in)
		*word |= 1ull << (gfn % 64);
	else
		*word &= ~(1ull << (gfn % 64));
}

static uint64_t block_first_word(uint64_t gfn)
{
	return gfn / BLOCK_PAGES * BLOCK_WORDS;
}

static bool block_is_whole(const struct balloon_driver *d, uint64_t gfn)
{
	uint64_t first = block_first_word(gfn);

	if ((first + BLOCK_WORDS) * 64 > d->s.gfn_count)
		return false;
	for (uint64_t i = first; i < first + BLOCK_WORDS; i++)
		if (d->s.bitmap[i] != UINT64_MAX)
			return false;
	return true;
}

static void report(struct balloon_driver *d, uint32_t state, uint32_t reason, uint64_t short_pages)
{
	if (state == d->state && reason == d->reason)
		return;
	d->state = state;
	d->reason = reason;
	d->s.page->state = state;
	d->s.page->reason = reason;
	(void)d->s.ops->hypercall(AERO_HC_BALLOON_REPORT, state, reason, short_pages);
}

/* ---- batches of ranges ---------------------------------------------------------------------- */

struct batch {
	uint32_t count; /* ranges */
	uint32_t blocks;
};

/* Adds a block, growing the last range if it is next to it on either side. */
static void batch_add(struct balloon_driver *d, struct batch *b, uint64_t gfn, unsigned int order)
{
	struct aero_range *last = b->count ? &d->s.ranges[b->count - 1] : 0;
	uint64_t pages = 1ull << order;

	b->blocks++;
	if (last && last->order == order && gfn == last->gfn + ((uint64_t)last->count << order)) {
		last->count++;
	} else if (last && last->order == order && gfn + pages == last->gfn) {
		last->gfn = gfn;
		last->count++;
	} else {
		struct aero_range *r = &d->s.ranges[b->count++];
		r->gfn = gfn;
		r->count = 1;
		r->done = 0;
		r->order = (uint16_t)order;
		r->status = 0;
		r->reserved = 0;
	}
}

static void settle_block(struct balloon_driver *d, bool inflate, uint64_t gfn, unsigned int order)
{
	mark(d, gfn, order, inflate);
	if (!inflate)
		d->s.ops->put(d->s.ctx, gfn, order);
}

/* What is left of a range that was not done: inflating, it goes back to the kernel. */
static void give_up_rest(struct balloon_driver *d, bool inflate, const struct aero_range *r)
{
	uint64_t pages = 1ull << r->order;

	for (uint32_t i = 0; i < r->count; i++)
		if (inflate)
			d->s.ops->put(d->s.ctx, r->gfn + i * pages, r->order);
	d->refused++;
}

/* After a call that tried ranges [0, tried): books what was done, keeps at the front of the array
 * what is to be tried again. Returns how many ranges that is; *pages grows by what was done. */
static uint32_t settle(struct balloon_driver *d, bool inflate, uint32_t count, uint32_t tried,
	uint64_t *pages, int *error)
{
	struct aero_range *ranges = d->s.ranges;
	uint32_t left = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct aero_range r = ranges[i];
		uint32_t done = i < tried ? (r.done < r.count ? r.done : r.count) : 0;
		for (uint32_t k = 0; k < done; k++)
			settle_block(d, inflate, r.gfn + ((uint64_t)k << r.order), r.order);
		*pages += (uint64_t)done << r.order;
		r.gfn += (uint64_t)done << r.order;
		r.count -= done;
		if (!r.count)
			continue;
		if (i >= tried || r.status == -AERO_EBUSY) {
			r.done = 0;
			r.status = 0;
			ranges[left++] = r;
		} else {
			*error = r.status;
			give_up_rest(d, inflate, &r);
		}
	}
	return left;
}

/* Hands the batch to the hypervisor until all is done or refused. Returns pages done. */
static uint64_t submit(struct balloon_driver *d, bool inflate, struct batch *b, uint64_t flags,
	int *error)
{
	uint64_t number = inflate ? AERO_HC_BALLOON_INFLATE : AERO_HC_BALLOON_DEFLATE;
	uint32_t count = b->count;
	uint64_t total = 0;

	*error = 0;
	while (count) {
		uint64_t pages = 0;
		int64_t tried = d->s.ops->hypercall(number, d->s.ranges_gpa, count, flags);
		if (tried < 0)
			*error = (int)tried;
		count = settle(d, inflate, count, tried > 0 ? (uint32_t)tried : 0, &pages, error);
		total += pages;
		if (!pages && count) { /* no progress: pinned pages, or a call that fails as a whole */
			for (uint32_t i = 0; i < count; i++)
				give_up_rest(d, inflate, &d->s.ranges[i]);
			count = 0;
		}
	}
	if (inflate) {
		d->actual_pages += total;
		d->inflated_pages += total;
	} else {
		d->actual_pages -= total;
		d->deflated_pages += total;
	}
	d->s.page->actual_pages = d->actual_pages;
	return total;
}

/* ---- inflating ---------------------------------------------------------------------------------- */

/* Takes blocks from the kernel into a batch: 2 MiB ones first. *why: what stopped it, if anything. */
static void take_blocks(struct balloon_driver *d, uint64_t want, struct batch *b, uint32_t *why)
{
	uint64_t gfn;

	*why = AERO_REASON_NONE;
	while (want >= BLOCK_PAGES && b->blocks < STEP_BLOCKS &&
		d->s.ops->free_pages(d->s.ctx) >= d->s.keep_free_pages + BLOCK_PAGES) {
		gfn = d->s.ops->take(d->s.ctx, 9, false, why);
		if (gfn == BALLOON_NO_PAGE)
			break;
		batch_add(d, b, gfn, 9);
		d->inflated_2m++;
		want -= BLOCK_PAGES;
	}
	*why = AERO_REASON_NONE;
	if (b->blocks)
		return; /* small pages in the next step, if blocks do not go on */
	for (uint32_t n = 0; n < STEP_PAGES && want; n++, want--) {
		gfn = d->s.ops->take(d->s.ctx, 0, true, why);
		if (gfn == BALLOON_NO_PAGE) {
			if (!*why)
				*why = AERO_REASON_NO_MEMORY;
			return;
		}
		batch_add(d, b, gfn, 0);
	}
	*why = AERO_REASON_NONE; /* it may have been written on the way to a success, too */
}

static void back_off(struct balloon_driver *d, uint32_t why, uint64_t short_pages)
{
	d->backoff_ns = d->backoff_ns ? d->backoff_ns * 2 : BACKOFF_MIN_NS;
	if (d->backoff_ns > BACKOFF_MAX_NS)
		d->backoff_ns = BACKOFF_MAX_NS;
	d->retry_ns = d->s.ops->now_ns(d->s.ctx) + d->backoff_ns;
	d->backoffs++;
	report(d, AERO_BALLOON_BACKOFF, why, short_pages);
}

static bool inflate_step(struct balloon_driver *d, uint64_t target)
{
	struct batch b = { 0, 0 };
	uint32_t why;
	int error;

	if (d->retry_ns && d->s.ops->now_ns(d->s.ctx) < d->retry_ns)
		return false;
	d->retry_ns = 0;
	take_blocks(d, target - d->actual_pages, &b, &why);
	uint64_t done = submit(d, true, &b, 0, &error);
	if (done)
		d->backoff_ns = 0;
	if (why || !done) {
		back_off(d, why ? why : AERO_REASON_REFUSED, target - d->actual_pages);
		return false;
	}
	if (d->actual_pages < target)
		report(d, AERO_BALLOON_INFLATING, AERO_REASON_NONE, target - d->actual_pages);
	return true;
}

/* ---- deflating -------------------------------------------------------------------------------- */

enum pick { PICK_WHOLE, PICK_LOOSE, PICK_ANY };

/* Fills a batch with up to `want` pages of the balloon, starting at the hint, once around. */
static void pick_blocks(struct balloon_driver *d, enum pick how, uint64_t want, struct batch *b)
{
	uint64_t blocks = (d->s.gfn_count + BLOCK_PAGES - 1) / BLOCK_PAGES;
	uint64_t first = d->hint_gfn / BLOCK_PAGES;

	for (uint64_t n = 0; n < blocks && want; n++) {
		uint64_t gfn = (first + n) % blocks * BLOCK_PAGES;
		uint64_t end = gfn + BLOCK_PAGES < d->s.gfn_count ? gfn + BLOCK_PAGES : d->s.gfn_count;
		bool whole = block_is_whole(d, gfn);
		if (how == PICK_WHOLE) {
			if (whole && want >= BLOCK_PAGES && b->blocks < STEP_BLOCKS) {
				batch_add(d, b, gfn, 9);
				want -= BLOCK_PAGES;
			}
			continue;
		}
		if (whole && how == PICK_LOOSE)
			continue;
		for (; gfn < end && want; gfn++) {
			if (gfn % 64 == 0 && !d->s.bitmap[gfn / 64]) {
				gfn += 63;
				continue;
			}
			if (!is_marked(d, gfn))
				continue;
			if (b->blocks == STEP_PAGES)
				return;
			batch_add(d, b, gfn, 0);
			want--;
			d->hint_gfn = gfn;
		}
	}
}

/* Gives back up to `want` pages, whole blocks before loose pages before pieces of whole blocks.
 * A piece needs a page table in the hypervisor; if that cannot be had, the whole block comes back. */
static uint64_t deflate_some(struct balloon_driver *d, uint64_t want, uint64_t flags)
{
	struct batch b = { 0, 0 };
	int error = 0;

	for (enum pick how = PICK_WHOLE; how <= PICK_ANY && !b.blocks; how++)
		pick_blocks(d, how, want, &b);
	uint64_t done = submit(d, false, &b, flags, &error);
	if (!done && error == -AERO_ENOMEM) {
		b = (struct batch){ 0, 0 };
		pick_blocks(d, PICK_WHOLE, BLOCK_PAGES, &b);
		done = submit(d, false, &b, flags, &error);
	}
	return done;
}

static bool deflate_step(struct balloon_driver *d, uint64_t target)
{
	if (!deflate_some(d, d->actual_pages - target, 0)) {
		back_off(d, AERO_REASON_REFUSED, d->actual_pages - target);
		return false;
	}
	if (d->actual_pages > target)
		report(d, AERO_BALLOON_DEFLATING, AERO_REASON_NONE, d->actual_pages - target);
	return true;
}

/* ---- the kernel's side ------------------------------------------------------------------------ */

int64_t balloon_driver_init(struct balloon_driver *d, const struct balloon_setup *setup)
{
	*d = (struct balloon_driver){ .s = *setup };
	return d->s.ops->hypercall(AERO_HC_BALLOON_SETUP, d->s.page_gpa, 0, 0);
}

static void answer_stats(struct balloon_driver *d)
{
	uint64_t request = __atomic_load_n(&d->s.page->stats_request, __ATOMIC_ACQUIRE);

	if (request == d->s.page->stats_answered)
		return;
	for (unsigned int i = 0; i < AERO_STAT_COUNT; i++)
		d->s.page->stats[i] = AERO_STAT_UNKNOWN;
	d->s.ops->fill_stats(d->s.ctx, d->s.page->stats);
	d->s.page->stats_answered = request;
	(void)d->s.ops->hypercall(AERO_HC_STATS_REPORT, request, 0, 0);
}

static uint64_t read_target(struct balloon_driver *d)
{
	uint64_t generation = __atomic_load_n(&d->s.page->generation, __ATOMIC_ACQUIRE);
	uint64_t target = __atomic_load_n(&d->s.page->target_pages, __ATOMIC_ACQUIRE);

	if (generation != d->s.page->seen_generation) {
		d->s.page->seen_generation = generation;
		uint64_t soon = d->s.ops->now_ns(d->s.ctx) + BACKOFF_MIN_NS;
		if (d->retry_ns > soon)
			d->retry_ns = soon; /* a new target: worth another look, not a storm */
	}
	return target < d->s.gfn_count ? target : d->s.gfn_count;
}

bool balloon_driver_work(struct balloon_driver *d)
{
	answer_stats(d);
	uint64_t target = read_target(d);
	if (d->actual_pages < target)
		return inflate_step(d, target);
	if (d->actual_pages > target)
		return deflate_step(d, target);
	d->backoff_ns = 0;
	d->retry_ns = 0;
	report(d, AERO_BALLOON_IDLE, AERO_REASON_NONE, 0);
	return false;
}

uint64_t balloon_driver_next_ns(const struct balloon_driver *d)
{
	return d->state == AERO_BALLOON_BACKOFF ? d->retry_ns : UINT64_MAX;
}

uint64_t balloon_driver_give_back(struct balloon_driver *d, uint64_t pages)
{
	uint64_t given = 0;

	while (given < pages && d->actual_pages) {
		uint64_t done = deflate_some(d, pages - given, AERO_DEFLATE_URGENT);
		if (!done)
			break;
		given += done;
	}
	if (given) {
		d->urgent_pages += given;
		d->retry_ns = d->s.ops->now_ns(d->s.ctx) + URGENT_HOLD_NS;
		report(d, AERO_BALLOON_BACKOFF, AERO_REASON_OOM_GUARD, 0);
	}
	return given;
}

void balloon_driver_pressure(struct balloon_driver *d, enum aero_pressure level, uint64_t pages)
{
	int64_t granted = d->s.ops->hypercall(AERO_HC_PRESSURE, level, pages, 0);

	while (granted >= 0 && d->actual_pages > (uint64_t)granted)
		if (!deflate_some(d, d->actual_pages - (uint64_t)granted, 0))
			break;
}
