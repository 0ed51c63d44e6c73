/* Host frames: their states, and allocation. See mm/frame.h. */
#include "mm/frame_pool.h"

#define NEAR 8u /* pages apart that still count as touched in order */

struct frame_table frame_table;
struct frame_pool frame_pool = { .lock = SPINLOCK_INIT(LOCK_RANK_FRAME) };

void frame_move(struct frame *f, enum frame_state from, enum frame_state to)
{
	frame_move_one(f, from, to);
}

static _Noreturn void bad_block(const struct frame *f, enum frame_state from, enum frame_state to)
{
	HV_BUG("frame %llu: move %s -> %s of its block, but it is %s of %u",
		(unsigned long long)(f - frame_table.array) + frame_table.base,
		frame_state_name(from), frame_state_name(to), frame_state_name(f->state), f->owner);
}

void frame_move_block(struct frame *f, uint64_t pages, uint64_t was, uint64_t now)
{
	enum frame_state from = (enum frame_state)(was & 0xff);
	enum frame_state to = (enum frame_state)(now & 0xff);
	struct frame *end = f + pages, *unrolled = f + (pages & ~7ull);

	HV_BUG_ON(!frame_move_legal(from, to));
	while (f < unrolled) {
#pragma GCC unroll 8
		for (uint32_t i = 0; i < 8; i++) {
			if (UNLIKELY(f[i].word != was))
				bad_block(&f[i], from, to);
			f[i].word = now;
		}
		f += 8;
	}
	for (; f < end; f++) {
		if (UNLIKELY(f->word != was))
			bad_block(f, from, to);
		f->word = now;
	}
	frame_pool.by_state[from] -= pages;
	frame_pool.by_state[to] += pages;
}

void frame_init(struct frame *array, mfn_t base, uint64_t count)
{
	HV_BUG_ON(base.v & ((1u << (BUDDY_ORDERS - 1)) - 1));
	HV_BUG_ON(base.v + count >= FRAME_LINK_NONE);
	frame_pool = (struct frame_pool){ .lock = SPINLOCK_INIT(LOCK_RANK_FRAME) };
	frame_table = (struct frame_table){ .array = array, .base = base.v, .count = count };
	for (uint64_t i = 0; i < count; i++) {
		array[i].word = frame_word(FRAME_RESERVED, FRAME_OWNER_NONE);
		array[i].u.refs = 0;
	}
	frame_pool.by_state[FRAME_RESERVED] = count;
	frame_pool.zero = MFN_NONE;
	buddy_init(&frame_pool.buddy, array, (uint32_t)count);
}

void frame_check_run(mfn_t first, uint64_t pages)
{
	uint64_t i = first.v - frame_table.base;

	HV_BUG_ON(i > frame_table.count || pages > frame_table.count - i);
}

void frame_add(mfn_t first, uint64_t pages)
{
	uint64_t word = frame_word(FRAME_RESERVED, FRAME_OWNER_NONE);

	frame_check_run(first, pages);
	spin_lock(&frame_pool.lock);
	frame_settle();
	while (pages) {
		uint32_t index = frame_index(first), order = BUDDY_ORDERS - 1;

		while (index & ((1u << order) - 1) || 1ull << order > pages)
			order--;
		frame_move_block(frame_at(index), 1ull << order, word,
			frame_word(FRAME_DIRTY, FRAME_OWNER_NONE));
		buddy_put(&frame_pool.buddy, index, order);
		first = mfn_add(first, 1ull << order);
		pages -= 1ull << order;
	}
	spin_unlock(&frame_pool.lock);
}

void frame_claim(mfn_t first, uint64_t pages)
{
	frame_check_run(first, pages);
	spin_lock(&frame_pool.lock);
	frame_move_block(frame_at(frame_index(first)), pages,
		frame_word(FRAME_RESERVED, FRAME_OWNER_NONE),
		frame_word(FRAME_HV, FRAME_OWNER_NONE));
	spin_unlock(&frame_pool.lock);
}

static inline uint64_t free_frames(void)
{
	return frame_pool.buddy.pages[BUDDY_CLEAN] + frame_pool.buddy.pages[BUDDY_DIRTY];
}

/* A block out of the buddy, FREE rather than DIRTY if `clean`. BUDDY_NONE: none of that order. */
static inline uint32_t take(uint32_t order, mfn_t want, bool clean)
{
	struct buddy *b = &frame_pool.buddy;
	uint64_t at = want.v - frame_table.base;
	uint32_t index;

	if (at < frame_table.count && !(at & ((1ull << order) - 1)) &&
		buddy_take_at(b, (uint32_t)at, order)) {
		index = (uint32_t)at;
	} else {
		enum buddy_kind first = clean ? BUDDY_CLEAN : BUDDY_DIRTY;

		index = buddy_take(b, first, order);
		if (index == BUDDY_NONE)
			index = buddy_take(b, (enum buddy_kind)!first, order);
		if (index == BUDDY_NONE)
			return index;
	}
	return index;
}

/* May `a` (NULL: the hypervisor) have `pages` more? Changes nothing. *beyond: not of its min. */
static inline status_t may_have(
	const struct frame_account *a, uint64_t pages, uint32_t flags, uint64_t *beyond)
{
	bool emergency = flags & FRAME_ALLOC_EMERGENCY;

	*beyond = 0;
	if (!a)
		return free_frames() >= frame_pool.limit - frame_pool.used + pages ? OK : ERR_NOMEM;
	if (UNLIKELY(a->used_pages + pages > a->max_pages && !emergency))
		return ERR_LIMIT;
	uint64_t own = frame_owed(a), keep = emergency ? 0 : frame_pool.emergency;

	*beyond = pages > own ? pages - own : 0;
	if (LIKELY(frame_pool.headroom >= 0))
		return !*beyond || frame_pool.headroom >= (int64_t)(*beyond + keep) ? OK
										    : ERR_NOMEM;
	/* In debt nothing is had beyond a min but for reclaim, and only what is there. */
	if (*beyond && !emergency)
		return ERR_NOMEM;
	return frame_pool.used + pages + keep <= frame_pool.limit ? OK : ERR_NOMEM;
}

/*
 * Tables and the hypervisor's frames go side by side, into a 2 MiB block of their own while there
 * is one: else each would spoil a block that a guest's pages are about to fill.
 */
static mfn_t fixed_want(uint32_t order)
{
	uint64_t at = ALIGN_UP(frame_pool.fixed_next, 1ull << order);

	if (at < frame_table.count && at & (PAGES_2M - 1) &&
		frame_state_is_free(frame_at((uint32_t)at)->state))
		return frame_mfn((uint32_t)at);
	return frame_block_hint();
}

static void commit_state(
	uint32_t index, uint32_t order, enum frame_state to, uint16_t owner, gfn_t gfn)
{
	struct frame *f = frame_at(index);
	uint64_t pages = 1ull << order;

	if (order == 0) {
		frame_move_one(f, f->state, to);
		f->owner = owner;
		f->u.gfn = to == FRAME_PRIVATE ? gfn.v : 0;
		return;
	}
	frame_move_block(f, pages, frame_word(f->state, FRAME_OWNER_NONE), frame_word(to, owner));
	if (to == FRAME_PRIVATE)
		for (uint64_t i = 0; i < pages; i++)
			f[i].u.gfn = gfn.v + i;
}

static inline void charge(struct frame_account *a, uint64_t pages, uint64_t beyond)
{
	frame_pool.used += pages;
	frame_pool.headroom -= (int64_t)beyond;
	a->used_pages += pages;
	if (a->used_pages > a->peak_pages)
		a->peak_pages = a->used_pages;
}

status_t frame_alloc(struct frame_account *a, enum frame_state to, uint32_t order, gfn_t gfn,
	mfn_t want, uint32_t flags, mfn_t *out)
{
	struct frame_pool *pool = &frame_pool;
	uint64_t pages = 1ull << order, beyond;
	bool zeroed = to == FRAME_PRIVATE || (flags & FRAME_ALLOC_ZEROED);

	HV_BUG_ON(order >= BUDDY_ORDERS || (!a && to != FRAME_HV));
	spin_lock(&pool->lock);
	frame_settle();
	status_t s = may_have(a, pages, flags, &beyond);

	if (to != FRAME_PRIVATE && mfn_is_none(want) && order < ORDER_2M)
		want = fixed_want(order);
	uint32_t index = LIKELY(s == OK) ? take(order, want, zeroed) : BUDDY_NONE;

	if (UNLIKELY(index == BUDDY_NONE)) {
		if (a)
			a->denied++;
		spin_unlock(&pool->lock);
		return s == OK ? ERR_NOMEM : s;
	}
	if (zeroed && frame_at(index)->state == FRAME_DIRTY)
		frame_scrub_block(index, order);
	if (a)
		charge(a, pages, beyond);
	if (to != FRAME_PRIVATE)
		pool->fixed_next = index + (uint32_t)pages;
	commit_state(index, order, to, a ? a->owner : FRAME_OWNER_NONE, gfn);
	spin_unlock(&pool->lock);
	*out = frame_mfn(index);
	return OK;
}

/*
 * A frame that is not among those ahead. If the last page lay near it, its free neighbours come too:
 * of its 64, as many as are still one block, so that a window which others have broken into is
 * filled by a few larger steps, not by one carving a page.
 */
static __attribute__((noinline)) uint32_t take_page(uint64_t want)
{
	struct frame_pool *pool = &frame_pool;

	frame_settle();
	if (want - pool->ahead.last + NEAR <= 2 * NEAR && want < frame_table.count) {
		uint32_t order = MIN(buddy_order_at(&pool->buddy, (uint32_t)want),
			FRAMES_AHEAD_ORDER);
		uint64_t start = want >> order << order, first = want & ~(FRAMES_AHEAD - 1ull);

		if (buddy_take_at(&pool->buddy, (uint32_t)start, order)) {
			uint64_t bits = ~0ull >> (FRAMES_AHEAD - (1u << order));

			pool->ahead.first = first;
			pool->ahead.mask = bits << (start - first) & ~(1ull << (want - first));
			return (uint32_t)want;
		}
	}
	return take(ORDER_4K, MFN(want + frame_table.base), true);
}

mfn_t frame_alloc_page(struct frame_account *a, gfn_t gfn, mfn_t want, uint32_t flags)
{
	struct frame_pool *pool = &frame_pool;
	uint64_t beyond, index = want.v - frame_table.base;

	spin_lock(&pool->lock);
	if (UNLIKELY(may_have(a, 1, flags, &beyond) != OK))
		goto none;
	uint64_t bit = index - pool->ahead.first;

	if (LIKELY(bit < FRAMES_AHEAD && (pool->ahead.mask >> bit & 1))) {
		pool->ahead.mask &= ~(1ull << bit);
	} else {
		index = take_page(index);
		if (UNLIKELY(index == BUDDY_NONE))
			goto none;
	}
	pool->ahead.last = index;
	charge(a, 1, beyond);
	struct frame *f = frame_at((uint32_t)index);

	if (f->state == FRAME_DIRTY)
		frame_scrub_block((uint32_t)index, ORDER_4K);
	frame_move_one(f, FRAME_FREE, FRAME_PRIVATE);
	f->owner = a->owner;
	f->u.gfn = gfn.v;
	spin_unlock(&pool->lock);
	return frame_mfn((uint32_t)index);
none:
	a->denied++;
	spin_unlock(&pool->lock);
	return MFN_NONE;
}
