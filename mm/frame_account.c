/* The pool's size, admission, making the zero frame, and what is counted. See mm/frame.h. */
#include "mm/frame_pool.h"
#include "mm/zero.h"
#include "vmm/base/bug.h"

static status_t make_zero_frame(void)
{
	uint32_t index = buddy_take(&frame_pool.buddy, BUDDY_DIRTY, 0);

	if (index == BUDDY_NONE)
		return ERR_LIMIT;
	struct frame *f = &frame_table.array[index];

	frame_pool.zero = MFN(frame_table.base + index);
	zero_pages(frame_pool.zero, 1);
	frame_move(f, FRAME_DIRTY, FRAME_FREE);
	frame_move(f, FRAME_FREE, FRAME_SHARED);
	return OK;
}

status_t frame_pool_init(uint64_t pool_pages, uint64_t hv_reserve_pages, uint64_t emergency_pages)
{
	struct frame_pool *p = &frame_pool;
	status_t s = OK;

	frame_lock_all();
	HV_BUG_ON(p->used);
	if (mfn_is_none(p->zero))
		s = make_zero_frame();
	uint64_t have = p->buddy.pages[BUDDY_CLEAN] + p->buddy.pages[BUDDY_DIRTY];
	uint64_t room = have > hv_reserve_pages ? have - hv_reserve_pages : 0;

	if (pool_pages == UINT64_MAX)
		pool_pages = room;
	if (s == OK && (pool_pages > room || pool_pages == 0 || emergency_pages > pool_pages))
		s = ERR_LIMIT;
	if (s == OK) {
		p->limit = pool_pages;
		p->headroom = (int64_t)pool_pages;
		p->emergency = emergency_pages;
	}
	frame_unlock_all();
	return s;
}

status_t frame_account_open(
	struct frame_account *a, uint16_t owner, uint64_t min_pages, uint64_t *room_pages)
{
	struct frame_pool *p = &frame_pool;

	/* Only mins stand against admission: what others hold beyond theirs can be had back. */
	frame_lock_all();
	uint64_t taken = p->emergency + p->min_total;
	uint64_t room = p->limit > taken ? p->limit - taken : 0;
	status_t s = min_pages <= room ? OK : ERR_LIMIT;

	if (room_pages)
		*room_pages = room;
	if (s == OK) {
		*a = (struct frame_account){
			.owner = owner, .min_pages = min_pages, .max_pages = UINT64_MAX,
			.limit_pages = UINT64_MAX, .bound_pages = UINT64_MAX
		};
		p->headroom -= (int64_t)min_pages;
		p->min_total += min_pages;
	}
	frame_unlock_all();
	return s;
}

void frame_account_close(struct frame_account *a)
{
	frame_lock_all();
	if (a->used_pages)
		HV_BUG("account of guest %u closed with %llu pages", a->owner,
			(unsigned long long)a->used_pages);
	frame_pool.headroom += (int64_t)a->min_pages;
	frame_pool.min_total -= a->min_pages;
	a->min_pages = 0;
	frame_unlock_all();
}

void frame_account_set_max(struct frame_account *a, uint64_t max_pages)
{
	__atomic_store_n(&a->max_pages, max_pages, __ATOMIC_RELAXED);
	__atomic_store_n(&a->bound_pages, MIN(max_pages, a->limit_pages), __ATOMIC_RELAXED);
}

void frame_account_set_limit(struct frame_account *a, uint64_t limit_pages)
{
	a->limit_pages = limit_pages;
	__atomic_store_n(&a->bound_pages, MIN(a->max_pages, limit_pages), __ATOMIC_RELAXED);
}

mfn_t frame_block_hint(void)
{
	const struct buddy *b = &frame_pool.buddy;

	for (uint32_t kind = BUDDY_KINDS; kind-- > 0;) { /* clean before dirty */
		uint32_t fits = __atomic_load_n(&b->mask[kind], __ATOMIC_RELAXED) & (~0u << ORDER_2M);

		if (fits) {
			uint32_t head = __atomic_load_n(&b->head[kind][__builtin_ctz(fits)],
				__ATOMIC_RELAXED);

			return head == BUDDY_NONE ? MFN_NONE : MFN(frame_table.base + head);
		}
	}
	return MFN_NONE;
}

uint64_t frame_pool_free(void)
{
	uint32_t count = __atomic_load_n(&frame_cache_count, __ATOMIC_RELAXED);
	uint64_t have = frame_pool.limit - __atomic_load_n(&frame_pool.used, __ATOMIC_RELAXED);

	for (uint32_t i = 0; i < count; i++)
		have += __atomic_load_n(&frame_caches[i].left, __ATOMIC_RELAXED);
	return MIN(have, frame_pool.limit);
}

bool frame_pool_roomy(uint64_t pages)
{
	uint64_t have = frame_pool_free();

	return have > pages && have - pages > frame_pool.limit / 2;
}

void frame_counts(struct frame_counts *out)
{
	struct frame_pool *p = &frame_pool;

	frame_lock_all();
	uint64_t have = p->buddy.pages[BUDDY_CLEAN] + p->buddy.pages[BUDDY_DIRTY] + p->scrubbing;
	int64_t promised = (int64_t)(p->limit - p->used) - p->headroom;

	*out = (struct frame_counts){
		.total = frame_table.count - p->by_state[FRAME_RESERVED],
		.pool_limit = p->limit,
		.pool_used = p->used,
		.pool_free = MIN(p->limit - p->used, have),
		.promised = promised > 0 ? (uint64_t)promised : 0,
		.emergency = p->emergency,
		.scrubbed = p->scrubbed,
		.scrubbed_idle = p->scrubbed_idle,
		.metadata_bytes = frame_table.count * sizeof(struct frame),
	};
	for (uint32_t i = 0; i < FRAME_STATE_COUNT; i++)
		out->by_state[i] = p->by_state[i];
	for (uint32_t i = 0; i < BUDDY_ORDERS; i++)
		out->free_by_order[i] =
			(uint64_t)p->buddy.blocks[BUDDY_CLEAN][i] + p->buddy.blocks[BUDDY_DIRTY][i];
	frame_unlock_all();
}
