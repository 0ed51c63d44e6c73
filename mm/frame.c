/* Host frames: their states, and allocation. See mm/frame.h. */
#include "mm/frame_pool.h"
#include "mm/zero.h"

#define NEAR 8u /* pages apart that still count as touched in order */

struct frame_table frame_table;
struct frame_pool frame_pool = { .lock = SPINLOCK_INIT(LOCK_RANK_FRAME) };
struct frame_cache frame_caches[CPU_MAX];
uint32_t frame_cache_count;

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
	for (uint32_t i = 0; i < CPU_MAX; i++)
		frame_caches[i] = (struct frame_cache){ .lock = SPINLOCK_INIT(LOCK_RANK_FRAME_CACHE) };
	frame_cache_count = 0;
	frame_table = (struct frame_table){ .array = array, .base = base.v, .count = count };
	for (uint64_t i = 0; i < count; i++) {
		array[i].word = frame_word(FRAME_RESERVED, FRAME_OWNER_NONE);
		array[i].u.refs = 0;
	}
	frame_pool.by_state[FRAME_RESERVED] = count;
	frame_pool.zero = MFN_NONE;
	frame_pool.shared = (struct frame_account){
		.owner = FRAME_OWNER_SHARED, .max_pages = UINT64_MAX
	};
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
	return frame_pool.buddy.pages[BUDDY_CLEAN] + frame_pool.buddy.pages[BUDDY_DIRTY] +
	       frame_pool.scrubbing;
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
	const uint64_t *bound = flags & FRAME_ALLOC_OVER_LIMIT ? &a->max_pages : &a->bound_pages;

	if (UNLIKELY(a->used_pages + pages > __atomic_load_n(bound, __ATOMIC_RELAXED) && !emergency))
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
		buddy_has(frame_at((uint32_t)at)))
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
	frame_use((int64_t)pages);
	frame_pool.headroom -= (int64_t)beyond;
	a->used_pages += pages;
	if (a->used_pages > a->peak_pages)
		a->peak_pages = a->used_pages;
}

/* With the pool's lock held. The block, charged, as it lay in the buddy; BUDDY_NONE with *s otherwise. */
static uint32_t take_charged(struct frame_account *a, enum frame_state to, uint32_t order, mfn_t want,
	uint32_t flags, status_t *s)
{
	uint64_t pages = 1ull << order, beyond;
	bool zeroed = to == FRAME_PRIVATE || (flags & FRAME_ALLOC_ZEROED);

	*s = may_have(a, pages, flags, &beyond);
	if (*s != OK)
		return BUDDY_NONE;
	if (to != FRAME_PRIVATE && mfn_is_none(want) && order < ORDER_2M)
		want = fixed_want(order);
	uint32_t index = take(order, want, zeroed);

	if (index == BUDDY_NONE) {
		*s = ERR_NOMEM;
		return index;
	}
	if (a)
		charge(a, pages, beyond);
	if (to != FRAME_PRIVATE)
		frame_pool.fixed_next = index + (uint32_t)pages;
	return index;
}

/* A block that was taken out DIRTY and marked so: zeroed without the lock. */
static void scrub_and_commit(uint32_t index, uint32_t order, enum frame_state to, uint16_t owner,
	gfn_t gfn)
{
	zero_pages(frame_mfn(index), 1ull << order);
	spin_lock(&frame_pool.lock);
	frame_mark(index, 1ull << order, 0);
	frame_scrubbed(index, order);
	commit_state(index, order, to, owner, gfn);
	spin_unlock(&frame_pool.lock);
}

/*
 * The pool's lock was just given up after a refusal. Takes all locks and asks again: nobody is refused what
 * lies ahead of a CPU, nor, for a page, what is being scrubbed: that is back in no time, for the
 * pool's lock alone, and with the buddy empty nobody can begin with more.
 */
static __attribute__((noinline)) uint32_t take_among_all(struct frame_account *a, enum frame_state to,
	uint32_t order, mfn_t want, uint32_t flags, status_t *s)
{
	for (;;) {
		frame_lock_all();
		uint32_t index = take_charged(a, to, order, want, flags, s);

		if (index != BUDDY_NONE || *s != ERR_NOMEM || order != ORDER_4K ||
			free_frames() != frame_pool.scrubbing || frame_pool.scrubbing == 0)
			return index;
		frame_unlock_all();
		cpu_relax();
	}
}

status_t frame_alloc(struct frame_account *a, enum frame_state to, uint32_t order, gfn_t gfn,
	mfn_t want, uint32_t flags, mfn_t *out)
{
	bool zeroed = to == FRAME_PRIVATE || (flags & FRAME_ALLOC_ZEROED);
	status_t s;

	HV_BUG_ON(order >= BUDDY_ORDERS || (!a && to != FRAME_HV));
	spin_lock(&frame_pool.lock);
	if (UNLIKELY(frame_pool.fault.left) && frame_fault_hit()) {
		if (a)
			a->denied++;
		spin_unlock(&frame_pool.lock);
		return ERR_NOMEM;
	}
	uint32_t index = take_charged(a, to, order, want, flags, &s);
	bool all = index == BUDDY_NONE && s != ERR_LIMIT;

	if (UNLIKELY(all)) {
		spin_unlock(&frame_pool.lock);
		index = take_among_all(a, to, order, want, flags, &s);
	}
	if (UNLIKELY(index == BUDDY_NONE)) {
		if (a)
			a->denied++;
		if (all)
			frame_unlock_all();
		else /* its own max: other CPUs' frames would not help, so they keep them */
			spin_unlock(&frame_pool.lock);
		return s;
	}
	uint16_t owner = a ? a->owner : FRAME_OWNER_NONE;
	bool dirty = zeroed && frame_at(index)->state == FRAME_DIRTY;

	if (dirty)
		frame_mark(index, 1ull << order, FRAME_ORDER_AWAY);
	else
		commit_state(index, order, to, owner, gfn);
	if (UNLIKELY(all))
		frame_unlock_all();
	else
		spin_unlock(&frame_pool.lock);
	if (dirty)
		scrub_and_commit(index, order, to, owner, gfn);
	*out = frame_mfn(index);
	return OK;
}

/* ---- one page for a fault: out of this CPU's cache -------------------------------------------- */

/* Takes what the cache is to hold out of the buddy and pays for it. Both locks held. */
static void stock(struct frame_cache *c, uint32_t start, uint32_t order)
{
	uint64_t pages = 1ull << order, first = start & ~(FRAMES_AHEAD - 1ull);

	frame_mark(start, pages, FRAME_ORDER_AWAY);
	c->first = first;
	c->mask = ~0ull >> (FRAMES_AHEAD - pages) << (start - first);
	__atomic_store_n(&c->left, pages, __ATOMIC_RELAXED);
	frame_use((int64_t)pages);
	frame_pool.headroom -= (int64_t)pages;
}

/* The pool can pay for so many without anybody else feeling it; and each allocation need not be counted. */
static bool can_stock(uint64_t pages)
{
	return !frame_pool.fault.left && frame_pool.headroom >= (int64_t)(pages + frame_pool.emergency);
}

/*
 * If the last page lay near the one that is wanted, its free neighbours come, too: of its 64, as many as
 * are still one block, so that a window which others have broken into is filled by a few larger steps,
 * not by one carving a page. Else the one page. False: the pool cannot pay for it just so.
 */
static __attribute__((noinline)) bool restock(struct frame_cache *c, uint64_t want)
{
	struct frame_pool *pool = &frame_pool;
	uint32_t order = 0, index, me = cpu_index();

	if (UNLIKELY(__atomic_load_n(&frame_cache_count, __ATOMIC_RELAXED) <= me)) {
		uint32_t count = __atomic_load_n(&frame_cache_count, __ATOMIC_RELAXED);

		while (count <= me && !__atomic_compare_exchange_n(&frame_cache_count, &count, me + 1,
			false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			;
	}
	spin_lock(&pool->lock);
	frame_settle(c);
	if (want - c->last + NEAR <= 2 * NEAR && want < frame_table.count)
		order = MIN(buddy_order_at(&pool->buddy, (uint32_t)want), FRAMES_AHEAD_ORDER);
	if (can_stock(1ull << order) && order &&
		buddy_take_at(&pool->buddy, (uint32_t)(want >> order << order), order)) {
		stock(c, (uint32_t)(want >> order << order), order);
	} else if (can_stock(1)) {
		index = take(ORDER_4K, MFN(want + frame_table.base), true);
		if (index != BUDDY_NONE)
			stock(c, index, 0);
	}
	spin_unlock(&pool->lock);
	return c->mask != 0;
}

/* The frame at `bit` of the cache, whose lock is held, is the account's from now on. */
static inline mfn_t give(struct frame_cache *c, struct frame_account *a, uint64_t bit, gfn_t gfn)
{
	uint32_t index = (uint32_t)(c->first + bit);
	struct frame *f = frame_at(index);

	c->mask &= ~(1ull << bit);
	__atomic_store_n(&c->left, c->left - 1, __ATOMIC_RELAXED);
	c->last = index;
	c->populated++;
	c->within += a->used_pages < a->min_pages;
	if (++a->used_pages > a->peak_pages)
		a->peak_pages = a->used_pages;
	if (f->state == FRAME_DIRTY) {
		zero_pages(frame_mfn(index), 1);
		c->scrubbed++;
	} else if (UNLIKELY(f->state != FRAME_FREE)) {
		HV_BUG("frame %u ahead of a CPU is %s", index, frame_state_name(f->state));
	}
	__atomic_store_n(&f->word, frame_word(FRAME_PRIVATE, a->owner), __ATOMIC_RELAXED); /* buddy_has() */
	f->u.gfn = gfn.v;
	return frame_mfn(index);
}

/* The pool is nearly empty or in debt: by its exact numbers. */
static __attribute__((noinline)) mfn_t alloc_exactly(struct frame_account *a, gfn_t gfn, mfn_t want,
	uint32_t flags)
{
	mfn_t mfn;

	return frame_alloc(a, FRAME_PRIVATE, ORDER_4K, gfn, want, flags, &mfn) == OK ? mfn : MFN_NONE;
}

mfn_t frame_alloc_page(struct frame_account *a, gfn_t gfn, mfn_t want, uint32_t flags)
{
	struct frame_cache *c = &frame_caches[cpu_index()];
	uint64_t index = want.v - frame_table.base;

	if (UNLIKELY(a->used_pages >= __atomic_load_n(&a->bound_pages, __ATOMIC_RELAXED)))
		return alloc_exactly(a, gfn, want, flags);
	spin_lock(&c->lock);
	uint64_t bit = index - c->first;

	if (UNLIKELY(bit >= FRAMES_AHEAD || !(c->mask >> bit & 1))) {
		if (!restock(c, index)) {
			spin_unlock(&c->lock);
			return alloc_exactly(a, gfn, want, flags);
		}
		bit = index - c->first;
		if (bit >= FRAMES_AHEAD || !(c->mask >> bit & 1))
			bit = (uint64_t)__builtin_ctzll(c->mask);
	}
	mfn_t mfn = give(c, a, bit, gfn);

	spin_unlock(&c->lock);
	return mfn;
}
