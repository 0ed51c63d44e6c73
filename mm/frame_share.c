/* SHARED frames: the zero frame, and those that several pages of guests have in common. See mm/frame.h. */
#include "mm/frame_pool.h"

#define REFS_MAX (1u << 31) /* taken by frame_share_get_if(): far from the end of 32 bits */

mfn_t frame_zero_mfn(void)
{
	return frame_pool.zero;
}

/* What the first word of a SHARED frame of `domain` is. */
static inline uint64_t shared_word(uint32_t domain)
{
	return (uint64_t)FRAME_SHARED | (uint64_t)FRAME_OWNER_SHARED << 16 | (uint64_t)domain << 32;
}

void frame_share_get(mfn_t mfn)
{
	struct frame *f = frame_known(mfn);

	if (mfn_eq(mfn, frame_pool.zero))
		__atomic_fetch_add(&f->u.refs, 1, __ATOMIC_RELAXED);
	else
		HV_BUG_ON(__atomic_fetch_add(&f->u.shared.refs, 1, __ATOMIC_RELAXED) == 0);
}

bool frame_share_put(mfn_t mfn)
{
	struct frame *f = frame_known(mfn);

	if (mfn_eq(mfn, frame_pool.zero)) {
		HV_BUG_ON(__atomic_fetch_sub(&f->u.refs, 1, __ATOMIC_RELAXED) == 0);
		return false;
	}
	uint32_t refs = __atomic_fetch_sub(&f->u.shared.refs, 1, __ATOMIC_ACQ_REL);

	if (UNLIKELY(refs == 0 || f->state != FRAME_SHARED))
		HV_BUG("frame %llu: a reference too many is given back to a %s frame",
			(unsigned long long)mfn.v, frame_state_name(f->state));
	if (refs > 1)
		return false;
	/* Nobody can get it any more: frame_share_get_if() wants one that has a reference. */
	frame_free(&frame_pool.shared, mfn, ORDER_4K);
	return true;
}

/* One page's charge goes from one account to another; what the pool has used stays the same. */
static void move_charge(struct frame_account *from, struct frame_account *to)
{
	uint64_t owed = frame_owed(from) + frame_owed(to);

	HV_BUG_ON(from->used_pages == 0);
	from->used_pages--;
	if (++to->used_pages > to->peak_pages)
		to->peak_pages = to->used_pages;
	frame_pool.headroom += (int64_t)owed - (int64_t)(frame_owed(from) + frame_owed(to));
}

status_t frame_share_make(struct frame_account *a, mfn_t mfn, uint32_t domain)
{
	struct frame *f = frame_known(mfn);
	status_t s = ERR_LIMIT;

	spin_lock(&frame_pool.lock);
	if (f->state != FRAME_PRIVATE || f->owner != a->owner)
		HV_BUG("frame %llu is %s of guest %u: guest %u cannot share it",
			(unsigned long long)mfn.v, frame_state_name(f->state), f->owner, a->owner);
	/* Of its min it is still guaranteed as many private ones: the pool must have that left. */
	if (a->used_pages > a->min_pages ||
		frame_pool.headroom > (int64_t)frame_pool.emergency) {
		frame_move_one(f, FRAME_PRIVATE, FRAME_SHARED);
		__atomic_store_n(&f->word, shared_word(domain), __ATOMIC_RELAXED);
		f->u.shared.hint = FRAME_LINK_NONE;
		__atomic_store_n(&f->u.shared.refs, 1, __ATOMIC_RELAXED);
		move_charge(a, &frame_pool.shared);
		s = OK;
	}
	spin_unlock(&frame_pool.lock);
	return s;
}

bool frame_share_get_if(mfn_t mfn, uint32_t domain)
{
	struct frame *f = frame_of(mfn);
	bool got = false;

	if (!f)
		return false;
	/* With the lock the frame stays what it is; others may give their references back all the same. */
	spin_lock(&frame_pool.lock);
	if (__atomic_load_n(&f->word, __ATOMIC_RELAXED) == shared_word(domain)) {
		uint32_t refs = __atomic_load_n(&f->u.shared.refs, __ATOMIC_RELAXED);

		while (refs > 0 && refs < REFS_MAX && !got)
			got = __atomic_compare_exchange_n(&f->u.shared.refs, &refs, refs + 1, false,
				__ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	}
	spin_unlock(&frame_pool.lock);
	return got;
}

status_t frame_share_take(struct frame_account *a, mfn_t mfn, gfn_t gfn, uint32_t flags)
{
	struct frame *f = frame_known(mfn);
	status_t s = OK;

	if (mfn_eq(mfn, frame_pool.zero))
		return ERR_BUSY;
	spin_lock(&frame_pool.lock);
	uint32_t refs = __atomic_load_n(&f->u.shared.refs, __ATOMIC_ACQUIRE);

	if (f->state != FRAME_SHARED || refs == 0)
		HV_BUG("frame %llu is %s: guest %u cannot take it", (unsigned long long)mfn.v,
			frame_state_name(f->state), a->owner);
	if (refs > 1)
		s = ERR_BUSY;
	else if (a->used_pages >= __atomic_load_n(&a->max_pages, __ATOMIC_RELAXED) &&
		!(flags & FRAME_ALLOC_EMERGENCY))
		s = ERR_LIMIT;
	if (s == OK) {
		frame_move_one(f, FRAME_SHARED, FRAME_PRIVATE);
		__atomic_store_n(&f->word, frame_word(FRAME_PRIVATE, a->owner), __ATOMIC_RELAXED);
		f->u.gfn = gfn.v;
		move_charge(&frame_pool.shared, a);
	}
	spin_unlock(&frame_pool.lock);
	return s;
}
