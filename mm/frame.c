/* Host frames: the pool, accounts, allocation. See mm/frame.h; the free lists are mm/buddy.c. */
#include "mm/frame_pool.h"
#include "mm/zero.h"
#include "vmm/base/bug.h"

#define POISON         0xd1d1d1d1d1d1d1d1ull
#define SCRUB_ORDER    4u   /* pages scrubbed under one hold of the lock: 2^4 */
#define BATCH_HOLD     512u /* entries of a batch freed under one hold of the lock */
#define STATE_MASK     0xffull
#define AHEAD_ORDER    6u
#define AHEAD          (1u << AHEAD_ORDER)
#define NEAR           8u

struct frame_table frame_table;
struct frame_pool frame_pool = { .lock = SPINLOCK_INIT(LOCK_RANK_FRAME) };

/* The first word of a frame that is in no list. */
static inline uint64_t frame_word(enum frame_state s, uint16_t owner)
{
	return (uint64_t)s | (uint64_t)owner << 16 | (uint64_t)FRAME_LINK_NONE << 32;
}

static inline void move_one(struct frame *f, enum frame_state from, enum frame_state to)
{
	if (UNLIKELY(f->state != from || !frame_move_legal(from, to)))
		HV_BUG("frame %llu: move %s -> %s, but it is %s",
			(unsigned long long)(f - frame_table.array) + frame_table.base,
			frame_state_name(from), frame_state_name(to), frame_state_name(f->state));
	f->state = (uint8_t)to;
	frame_pool.by_state[from]--;
	frame_pool.by_state[to]++;
}

void frame_move(struct frame *f, enum frame_state from, enum frame_state to)
{
	move_one(f, from, to);
}

static _Noreturn void bad_block(const struct frame *f, enum frame_state from, enum frame_state to)
{
	HV_BUG("frame %llu: move %s -> %s of its block, but it is %s of %u",
		(unsigned long long)(f - frame_table.array) + frame_table.base, frame_state_name(from),
		frame_state_name(to), frame_state_name(f->state), f->owner);
}

/* frame_move() of `pages` frames that all have the first word `was`; they get `now`. */
static void move_block(struct frame *f, uint64_t pages, uint64_t was, uint64_t now)
{
	enum frame_state from = (enum frame_state)(was & STATE_MASK);
	enum frame_state to = (enum frame_state)(now & STATE_MASK);
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

static inline struct frame *frame_at(uint32_t index)
{
	return &frame_table.array[index];
}
static inline mfn_t mfn_at(uint32_t index)
{
	return MFN(frame_table.base + index);
}
static inline uint32_t index_of(mfn_t mfn)
{
	return (uint32_t)(mfn.v - frame_table.base);
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

static void check_run(mfn_t first, uint64_t pages)
{
	uint64_t i = first.v - frame_table.base;

	HV_BUG_ON(i > frame_table.count || pages > frame_table.count - i);
}

void frame_add(mfn_t first, uint64_t pages)
{
	uint64_t word = frame_word(FRAME_RESERVED, FRAME_OWNER_NONE);

	check_run(first, pages);
	spin_lock(&frame_pool.lock);
	frame_settle();
	while (pages) {
		uint32_t index = index_of(first), order = BUDDY_ORDERS - 1;

		while (index & ((1u << order) - 1) || 1ull << order > pages)
			order--;
		move_block(frame_at(index), 1ull << order, word,
			frame_word(FRAME_DIRTY, FRAME_OWNER_NONE));
		buddy_put(&frame_pool.buddy, index, order);
		first = mfn_add(first, 1ull << order);
		pages -= 1ull << order;
	}
	spin_unlock(&frame_pool.lock);
}

void frame_claim(mfn_t first, uint64_t pages)
{
	check_run(first, pages);
	spin_lock(&frame_pool.lock);
	move_block(frame_at(index_of(first)), pages, frame_word(FRAME_RESERVED, FRAME_OWNER_NONE),
		frame_word(FRAME_HV, FRAME_OWNER_NONE));
	spin_unlock(&frame_pool.lock);
}

static inline uint64_t free_frames(void)
{
	return frame_pool.buddy.pages[BUDDY_CLEAN] + frame_pool.buddy.pages[BUDDY_DIRTY];
}

/* Zeroes a DIRTY block that was just taken from the buddy: DIRTY -> FREE, still in no list. */
static void scrub_block(uint32_t index, uint32_t order)
{
	uint64_t pages = 1ull << order;

	zero_pages(mfn_at(index), pages);
	if (order == 0)
		move_one(frame_at(index), FRAME_DIRTY, FRAME_FREE);
	else
		move_block(frame_at(index), pages, frame_word(FRAME_DIRTY, FRAME_OWNER_NONE),
			frame_word(FRAME_FREE, FRAME_OWNER_NONE));
	frame_pool.scrubbed += pages;
}

/* Frames [first, end) of one kind of free state, back into the buddy as the largest blocks they make. */
static void put_run(uint32_t first, uint32_t end)
{
	while (first < end) {
		uint32_t order = first ? (uint32_t)__builtin_ctz(first) : BUDDY_ORDERS - 1;

		order = MIN(order, 31 - (uint32_t)__builtin_clz(end - first));
		order = MIN(order, BUDDY_ORDERS - 1);
		buddy_put(&frame_pool.buddy, first, order);
		first += 1u << order;
	}
}

void frame_settle(void)
{
	uint64_t mask = frame_pool.ahead.mask;

	while (mask) {
		uint32_t low = (uint32_t)__builtin_ctzll(mask);
		uint64_t above = ~(mask >> low);
		uint32_t n = above ? (uint32_t)__builtin_ctzll(above) : AHEAD - low;
		uint32_t first = (uint32_t)frame_pool.ahead.first + low;

		put_run(first, first + n);
		mask &= n == AHEAD ? 0 : ~(((1ull << n) - 1) << low);
	}
	frame_pool.ahead.mask = 0;
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

static inline uint64_t owed(const struct frame_account *a)
{
	return a->min_pages > a->used_pages ? a->min_pages - a->used_pages : 0;
}

/* May `a` (NULL: the hypervisor) have `pages` more? Changes nothing. *beyond: not of its min. */
static inline status_t may_have(const struct frame_account *a, uint64_t pages, uint32_t flags,
	uint64_t *beyond)
{
	bool emergency = flags & FRAME_ALLOC_EMERGENCY;

	*beyond = 0;
	if (!a)
		return free_frames() >= frame_pool.limit - frame_pool.used + pages ? OK : ERR_NOMEM;
	if (UNLIKELY(a->used_pages + pages > a->max_pages && !emergency))
		return ERR_LIMIT;
	uint64_t own = owed(a), keep = emergency ? 0 : frame_pool.emergency;

	*beyond = pages > own ? pages - own : 0;
	if (LIKELY(frame_pool.headroom >= 0))
		return !*beyond || frame_pool.headroom >= (int64_t)(*beyond + keep) ? OK : ERR_NOMEM;
	/* In debt nothing is had beyond a min but for reclaim, and only what is there. */
	if (*beyond && !emergency)
		return ERR_NOMEM;
	return frame_pool.used + pages + keep <= frame_pool.limit ? OK : ERR_NOMEM;
}

/*
 * Tables and the hypervisor's frames go side by side, into a 2 MiB block of their own while there is
 * one: else each would spoil a block that a guest's pages are about to fill.
 */
static mfn_t fixed_want(uint32_t order)
{
	uint64_t at = ALIGN_UP(frame_pool.fixed_next, 1ull << order);

	if (at < frame_table.count && at & (PAGES_2M - 1) &&
		frame_state_is_free(frame_at((uint32_t)at)->state))
		return mfn_at((uint32_t)at);
	return frame_block_hint();
}

static void commit_state(uint32_t index, uint32_t order, enum frame_state to, uint16_t owner,
	gfn_t gfn)
{
	struct frame *f = frame_at(index);
	uint64_t pages = 1ull << order;

	if (order == 0) {
		move_one(f, f->state, to);
		f->owner = owner;
		f->u.gfn = to == FRAME_PRIVATE ? gfn.v : 0;
		return;
	}
	move_block(f, pages, frame_word(f->state, FRAME_OWNER_NONE), frame_word(to, owner));
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
		scrub_block(index, order);
	if (a)
		charge(a, pages, beyond);
	if (to != FRAME_PRIVATE)
		pool->fixed_next = index + (uint32_t)pages;
	commit_state(index, order, to, a ? a->owner : FRAME_OWNER_NONE, gfn);
	spin_unlock(&pool->lock);
	*out = mfn_at(index);
	return OK;
}

/* A frame that is not among those ahead; with its neighbours, if the last page lay near it. */
static __attribute__((noinline)) uint32_t take_page(uint64_t want)
{
	struct frame_pool *pool = &frame_pool;
	uint64_t first = want & ~(AHEAD - 1ull);

	frame_settle();
	if (want - pool->ahead.last + NEAR <= 2 * NEAR && first < frame_table.count &&
		buddy_take_at(&pool->buddy, (uint32_t)first, AHEAD_ORDER)) {
		pool->ahead.first = first;
		pool->ahead.mask = ~(1ull << (want - first));
		return (uint32_t)want;
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

	if (LIKELY(bit < AHEAD && (pool->ahead.mask >> bit & 1))) {
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
		scrub_block((uint32_t)index, ORDER_4K);
	move_one(f, FRAME_FREE, FRAME_PRIVATE);
	f->owner = a->owner;
	f->u.gfn = gfn.v;
	spin_unlock(&pool->lock);
	return mfn_at((uint32_t)index);
none:
	a->denied++;
	spin_unlock(&pool->lock);
	return MFN_NONE;
}

static inline void check_owner(const struct frame_account *a, const struct frame *f)
{
	uint16_t owner = a ? a->owner : FRAME_OWNER_NONE;

	if (UNLIKELY(f->owner != owner))
		HV_BUG("frame %llu of guest %u freed by %u",
			(unsigned long long)(f - frame_table.array) + frame_table.base, f->owner, owner);
}

/* So that whoever still reads a freed page is found out. */
static inline void poison(const struct frame *f, uint64_t pages)
{
	if (LOCK_DEBUG)
		fill_words(mfn_to_va(mfn_at((uint32_t)(f - frame_table.array))), POISON,
			pages * (PAGE_BYTES / 8));
}

/* One page back to DIRTY; the lock is held, the buddy and the account do not have it yet. */
static inline void release_page(const struct frame_account *a, struct frame *f)
{
	check_owner(a, f);
	poison(f, 1);
	move_one(f, f->state, FRAME_DIRTY);
	f->word = frame_word(FRAME_DIRTY, FRAME_OWNER_NONE);
	f->u.refs = 0;
}

/* One block back to DIRTY and into the buddy; the lock is held, the account not yet credited. */
static void release(const struct frame_account *a, uint32_t index, uint32_t order)
{
	struct frame *f = frame_at(index);
	uint64_t pages = 1ull << order;

	if (order == 0) {
		release_page(a, f);
	} else {
		check_owner(a, f);
		poison(f, pages);
		f->order = 0;
		f->link = FRAME_LINK_NONE;
		if (f->state != FRAME_PRIVATE) /* a gfn below 2^32 does not look like a block's head */
			for (uint64_t i = 0; i < pages; i++)
				f[i].u.refs = 0;
		move_block(f, pages, frame_word(f->state, f->owner),
			frame_word(FRAME_DIRTY, FRAME_OWNER_NONE));
	}
	buddy_put(&frame_pool.buddy, index, order);
}

static inline void credit(struct frame_account *a, uint64_t pages)
{
	if (!a)
		return;
	HV_BUG_ON(a->used_pages < pages);
	uint64_t before = owed(a);

	a->used_pages -= pages;
	frame_pool.used -= pages;
	frame_pool.headroom += (int64_t)(pages - (owed(a) - before));
}

void frame_free(struct frame_account *a, mfn_t first, uint32_t order)
{
	HV_BUG_ON(order >= BUDDY_ORDERS);
	check_run(first, 1ull << order);
	spin_lock(&frame_pool.lock);
	frame_settle();
	release(a, index_of(first), order);
	credit(a, 1ull << order);
	spin_unlock(&frame_pool.lock);
}

/*
 * Frees single pages off the chain for as long as each lies right before or right after the last:
 * what a guest gives in order goes into the buddy in large blocks. Returns how many, at most `max`.
 */
static uint32_t release_run(const struct frame_account *a, struct frame_batch *b, uint32_t max)
{
	uint32_t at = index_of(MFN(b->head)), first = at, end = at, n = 0;

	do {
		struct frame *f = frame_at(at);
		uint32_t next = f->link;

		if (at < first)
			first = at;
		else
			end = at + 1;
		release_page(a, f);
		n++;
		b->head = next;
		if (next == FRAME_LINK_NONE)
			break;
		at = index_of(MFN(next));
	} while ((at == end || at + 1 == first) && frame_at(at)->order == 0 && n < max);
	put_run(first, end);
	return n;
}

void frame_batch_free(struct frame_account *a, struct frame_batch *b)
{
	while (b->head != FRAME_LINK_NONE) {
		uint64_t pages = 0;

		spin_lock(&frame_pool.lock);
		frame_settle();
		for (uint32_t n = 0; n < BATCH_HOLD && b->head != FRAME_LINK_NONE; n++) {
			uint32_t index = index_of(MFN(b->head));
			uint32_t order = frame_at(index)->order;

			if (order == 0) {
				uint32_t run = release_run(a, b, BATCH_HOLD - n);

				pages += run;
				n += run - 1;
				continue;
			}
			b->head = frame_at(index)->link;
			release(a, index, order);
			pages += 1ull << order;
		}
		credit(a, pages);
		spin_unlock(&frame_pool.lock);
		b->pages -= pages;
	}
	HV_BUG_ON(b->pages);
}

uint64_t frame_scrub(uint64_t pages)
{
	struct buddy *b = &frame_pool.buddy;
	uint64_t done = 0;

	while (done < pages) {
		spin_lock(&frame_pool.lock);
		frame_settle();
		uint32_t mask = b->mask[BUDDY_DIRTY];

		if (!mask) {
			spin_unlock(&frame_pool.lock);
			break;
		}
		/* Small blocks first: they are what merges. */
		uint32_t order = MIN((uint32_t)__builtin_ctz(mask), SCRUB_ORDER);

		while (1ull << order > pages - done)
			order--;
		uint32_t index = buddy_take(b, BUDDY_DIRTY, order);

		scrub_block(index, order);
		buddy_put(b, index, order);
		frame_pool.scrubbed_idle += 1ull << order;
		spin_unlock(&frame_pool.lock);
		done += 1ull << order;
	}
	return done;
}
