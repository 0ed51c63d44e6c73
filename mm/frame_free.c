/* Host frames on their way back: freeing, merging, scrubbing. See mm/frame.h. */
#include "mm/frame_pool.h"
#include "mm/zero.h"

#define POISON      0xd1d1d1d1d1d1d1d1ull
#define SCRUB_ORDER 4u   /* pages scrubbed under one hold of the lock: 2^4 */
#define BATCH_HOLD  512u /* pages of a batch freed under one hold of the lock; one 2 MiB block */

/* Frames [first, end) of one kind of free state, back into the buddy as the largest blocks they
 * make. */
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

/*
 * Frames [first, first + pages) come back from a cache. They are as it took them, or somebody's page
 * would become free here: this is the last look at them.
 */
static void take_back(uint64_t first, uint32_t pages)
{
	HV_BUG_ON(first + pages > frame_table.count);
	for (uint32_t i = 0; i < pages; i++) {
		struct frame *f = frame_at((uint32_t)first + i);

		if (UNLIKELY(!frame_state_is_free(f->state) || f->order != FRAME_ORDER_AWAY))
			HV_BUG("frame %llu ahead of a CPU is %s, order %u",
				(unsigned long long)(frame_table.base + first + i),
				frame_state_name(f->state), f->order);
		f->order = 0;
	}
	put_run((uint32_t)first, (uint32_t)first + pages);
}

void frame_settle(struct frame_cache *c)
{
	struct frame_pool *p = &frame_pool;
	uint64_t mask = c->mask, left = c->left;

	frame_use(-(int64_t)c->left);
	p->headroom += (int64_t)(c->left + c->within);
	p->by_state[FRAME_DIRTY] -= c->scrubbed;
	p->by_state[FRAME_FREE] += c->scrubbed;
	p->by_state[FRAME_FREE] -= c->populated;
	p->by_state[FRAME_PRIVATE] += c->populated;
	p->scrubbed += c->scrubbed;
	c->mask = c->populated = c->scrubbed = c->within = 0;
	__atomic_store_n(&c->left, 0, __ATOMIC_RELAXED);
	while (mask) {
		uint32_t low = (uint32_t)__builtin_ctzll(mask);
		uint64_t above = ~(mask >> low);
		uint32_t n = above ? (uint32_t)__builtin_ctzll(above) : FRAMES_AHEAD - low;

		take_back(c->first + low, n);
		left -= n;
		mask &= n == FRAMES_AHEAD ? 0 : ~(((1ull << n) - 1) << low);
	}
	HV_BUG_ON(left);
}

static void lock_caches(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (i == 0)
			spin_lock(&frame_caches[i].lock);
		else
			spin_lock_nested(&frame_caches[i].lock);
	}
	spin_lock(&frame_pool.lock);
}

static void unlock_caches(uint32_t count)
{
	spin_unlock(&frame_pool.lock);
	while (count--)
		spin_unlock(&frame_caches[count].lock);
}

void frame_lock_all(void)
{
	uint32_t count = __atomic_load_n(&frame_cache_count, __ATOMIC_ACQUIRE);

	lock_caches(count);
	/* A CPU may just have begun to use its own: it has counted itself before it took the pool's lock. */
	while (UNLIKELY(count != __atomic_load_n(&frame_cache_count, __ATOMIC_ACQUIRE))) {
		unlock_caches(count);
		count = __atomic_load_n(&frame_cache_count, __ATOMIC_ACQUIRE);
		lock_caches(count);
	}
	for (uint32_t i = 0; i < count; i++)
		frame_settle(&frame_caches[i]);
	frame_pool.locked_caches = count;
}

void frame_unlock_all(void)
{
	unlock_caches(frame_pool.locked_caches);
}

void frame_scrubbed(uint32_t index, uint32_t order)
{
	uint64_t pages = 1ull << order;

	if (order == 0)
		frame_move_one(frame_at(index), FRAME_DIRTY, FRAME_FREE);
	else
		frame_move_block(frame_at(index), pages, frame_word(FRAME_DIRTY, FRAME_OWNER_NONE),
			frame_word(FRAME_FREE, FRAME_OWNER_NONE));
	frame_pool.scrubbed += pages;
}

static inline void check_owner(const struct frame_account *a, const struct frame *f)
{
	uint16_t owner = a ? a->owner : FRAME_OWNER_NONE;

	if (UNLIKELY(f->owner != owner))
		HV_BUG("frame %llu of guest %u freed by %u",
			(unsigned long long)(f - frame_table.array) + frame_table.base, f->owner,
			owner);
}

/* So that whoever still reads a freed page is found out. */
static inline void poison(const struct frame *f, uint64_t pages)
{
	if (LOCK_DEBUG)
		fill_words(mfn_to_va(frame_mfn((uint32_t)(f - frame_table.array))), POISON,
			pages * (PAGE_BYTES / 8));
}

/* One page back to DIRTY; the lock is held, the buddy and the account do not have it yet. */
static inline void release_page(const struct frame_account *a, struct frame *f)
{
	check_owner(a, f);
	poison(f, 1);
	frame_move_one(f, f->state, FRAME_DIRTY);
	f->word = frame_word(FRAME_DIRTY, FRAME_OWNER_NONE);
	f->u.refs = 0;
}

/*
 * The same for what nearly all of a batch is: a guest's own page, as its word says in one look. The states are not
 * counted: see count_private(). False: it is something else.
 */
static inline bool release_private(uint32_t word, struct frame *f)
{
	_Static_assert(__builtin_offsetof(struct frame, link) == 4, "state, order and owner are the word's lower half");
	if (UNLIKELY((uint32_t)f->word != word))
		return false;
	poison(f, 1);
	f->word = frame_word(FRAME_DIRTY, FRAME_OWNER_NONE);
	f->u.refs = 0;
	return true;
}

static inline void count_private(uint32_t pages)
{
	HV_BUG_ON(!frame_move_legal(FRAME_PRIVATE, FRAME_DIRTY));
	frame_pool.by_state[FRAME_PRIVATE] -= pages;
	frame_pool.by_state[FRAME_DIRTY] += pages;
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
		if (f->state !=
			FRAME_PRIVATE) /* a gfn below 2^32 does not look like a block's head */
			for (uint64_t i = 0; i < pages; i++)
				f[i].u.refs = 0;
		frame_move_block(f, pages, frame_word(f->state, f->owner),
			frame_word(FRAME_DIRTY, FRAME_OWNER_NONE));
	}
	buddy_put(&frame_pool.buddy, index, order);
}

static inline void credit(struct frame_account *a, uint64_t pages)
{
	if (!a)
		return;
	HV_BUG_ON(a->used_pages < pages);
	uint64_t before = frame_owed(a);

	a->used_pages -= pages;
	frame_use(-(int64_t)pages);
	frame_pool.headroom += (int64_t)(pages - (frame_owed(a) - before));
}

void frame_free(struct frame_account *a, mfn_t first, uint32_t order)
{
	HV_BUG_ON(order >= BUDDY_ORDERS);
	frame_check_run(first, 1ull << order);
	spin_lock(&frame_pool.lock);
	release(a, frame_index(first), order);
	credit(a, 1ull << order);
	spin_unlock(&frame_pool.lock);
}

/*
 * Frees single pages off the chain for as long as each lies right before or right after the last:
 * what a guest gives in order goes into the buddy in large blocks. Returns how many, at most `max`.
 */
static uint32_t release_run(const struct frame_account *a, struct frame_batch *b, uint32_t max)
{
	uint32_t word = (uint32_t)frame_word(FRAME_PRIVATE, a ? a->owner : FRAME_OWNER_NONE);
	uint32_t at = frame_index(MFN(b->head)), first = at, end = at, n = 0, private = 0;

	do {
		struct frame *f = frame_at(at);
		uint32_t next = f->link;

		if (at < first)
			first = at;
		else
			end = at + 1;
		if (release_private(word, f))
			private++;
		else
			release_page(a, f);
		n++;
		b->head = next;
		if (next == FRAME_LINK_NONE)
			break;
		at = frame_index(MFN(next));
	} while ((at == end || at + 1 == first) && frame_at(at)->order == 0 && n < max);
	count_private(private);
	put_run(first, end);
	return n;
}

void frame_batch_free(struct frame_account *a, struct frame_batch *b)
{
	while (b->head != FRAME_LINK_NONE) {
		uint64_t pages = 0;

		spin_lock(&frame_pool.lock);
		while (pages < BATCH_HOLD && b->head != FRAME_LINK_NONE) {
			uint32_t index = frame_index(MFN(b->head));
			uint32_t order = frame_at(index)->order;

			if (order == 0) {
				pages += release_run(a, b, (uint32_t)(BATCH_HOLD - pages));
				continue;
			}
			/* A large block has a hold of its own. */
			if (pages && pages + (1ull << order) > BATCH_HOLD)
				break;
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

		/* Not under the lock: others allocate meanwhile. */
		frame_mark(index, 1ull << order, FRAME_ORDER_AWAY);
		frame_pool.scrubbing += 1ull << order;
		spin_unlock(&frame_pool.lock);
		zero_pages(frame_mfn(index), 1ull << order);
		spin_lock(&frame_pool.lock);
		frame_mark(index, 1ull << order, 0);
		frame_scrubbed(index, order);
		buddy_put(b, index, order);
		frame_pool.scrubbed_idle += 1ull << order;
		frame_pool.scrubbing -= 1ull << order;
		spin_unlock(&frame_pool.lock);
		done += 1ull << order;
	}
	return done;
}
