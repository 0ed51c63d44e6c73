/* See mm/merge.h. */
#include "mm/merge.h"

#include "mm/share.h"
#include "mm/zero.h"

/* Holds page `gfn` alone. A 2 MiB leaf is broken for it if `large`. */
static bool hold(struct p2m *p, gfn_t gfn, bool large, struct evict_page *out)
{
	uint32_t n;
	enum evict_found found = p2m_hold(p, gfn, 1, out, &n);

	if (n == 0 && found == EVICT_HUGE && large && p2m_split(p, gfn) == OK)
		(void)p2m_hold(p, gfn, 1, out, &n);
	return n != 0;
}

/* A held page gets its new state; true: nobody had touched it. */
static bool settle(struct p2m *p, struct evict_page *page, enum p2m_state to, uint64_t payload)
{
	page->to = to;
	page->payload = payload;
	return p2m_settle(p, page, 1) != 0;
}

/* The page that a hint names becomes SHARED, if it has this content. */
static mfn_t share_other(const struct share_hint *hint, const void *content, merge_p2m_fn p2m_of)
{
	struct p2m *q = p2m_of(hint->owner);
	struct evict_page other;
	mfn_t mfn;

	if (!q || q->share_none || share_domain(hint->owner, q->share_group) != hint->domain ||
		!hold(q, hint->gfn, true, &other)) {
		share_wrong(SHARE_PAGE, hint);
		return MFN_NONE;
	}
	bool equal = pages_equal(content, mfn_to_va(other.mfn));
	status_t s = equal ? p2m_share_held(q, &other, hint->hash, &mfn) : ERR_NOENT;

	if (s == OK)
		return mfn;
	(void)settle(q, &other, P2M_RAM, 0);
	if (!equal)
		share_wrong(SHARE_PAGE, hint);
	return MFN_NONE;
}

/* What share_find() found, if it has this content. */
static mfn_t follow(enum share_found found, const struct share_hint *hint, const void *content, merge_p2m_fn p2m_of)
{
	if (found == SHARE_PAGE)
		return share_other(hint, content, p2m_of);
	if (found != SHARE_FRAME)
		return MFN_NONE;
	if (pages_equal(content, mfn_to_va(hint->mfn)))
		return hint->mfn;
	share_put(hint->mfn);
	share_wrong(found, hint);
	return MFN_NONE;
}

mfn_t merge_find(struct p2m *p, gfn_t gfn, const void *content, merge_p2m_fn p2m_of)
{
	struct share_hint hint;
	enum share_found found;

	if (p->share_none)
		return MFN_NONE;
	found = share_find(share_hash(content), p->account.owner, p->share_group, gfn, &hint);
	return follow(found, &hint, content, p2m_of);
}

static bool is_zero(const void *page)
{
	return *(const volatile uint64_t *)page == 0 && pages_equal(page, mfn_to_va(frame_zero_mfn()));
}

static enum merge_result merge_zero(struct p2m *p, gfn_t gfn, bool large)
{
	struct evict_page page;

	if (!hold(p, gfn, large, &page))
		return MERGE_BUSY;
	bool zero = is_zero(mfn_to_va(page.mfn));

	return settle(p, &page, zero ? P2M_EMPTY : P2M_RAM, 0) && zero ? MERGE_ZERO : MERGE_BUSY;
}

static enum merge_result merge_found(struct p2m *p, gfn_t gfn, bool large, enum share_found found,
	const struct share_hint *hint, merge_p2m_fn p2m_of)
{
	struct evict_page page;

	if (!hold(p, gfn, large, &page)) {
		if (found == SHARE_FRAME)
			share_put(hint->mfn);
		return MERGE_BUSY;
	}
	mfn_t with = follow(found, hint, mfn_to_va(page.mfn), p2m_of);

	if (mfn_is_none(with)) {
		(void)settle(p, &page, P2M_RAM, 0);
		share_offer(hint->hash, p->account.owner, p->share_group, gfn);
		return MERGE_BUSY;
	}
	if (settle(p, &page, P2M_SHARED, with.v))
		return MERGE_SHARED;
	share_put(with);
	return MERGE_BUSY;
}

enum merge_result merge_page(struct p2m *p, gfn_t gfn, bool large, merge_p2m_fn p2m_of, gfn_t *next)
{
	struct p2m_entry e;
	struct share_hint hint;

	p2m_lookup(p, gfn, &e);
	*next = gfn_add(gfn, 1);
	if (e.state == P2M_SHARED)
		return p2m_take_back(p, gfn) ? MERGE_TAKEN : MERGE_SKIPPED;
	if (e.level > 1 && (e.state != P2M_RAM || !large)) {
		uint64_t pages = 1ull << 9 * (e.level - 1);

		*next = GFN((gfn.v & ~(pages - 1)) + pages);
		return MERGE_SKIPPED;
	}
	if (e.state != P2M_RAM || e.pinned || p->share_none)
		return MERGE_SKIPPED;
	/* From here on the frame may be anybody's: it is held before anything is believed. */
	const void *content = mfn_to_va(e.mfn);

	if (is_zero(content))
		return merge_zero(p, gfn, large);
	uint64_t hash = share_hash(content);
	enum share_found found = share_find(hash, p->account.owner, p->share_group, gfn, &hint);

	if (found == SHARE_NOTHING) {
		share_offer(hash, p->account.owner, p->share_group, gfn);
		return MERGE_UNIQUE;
	}
	return merge_found(p, gfn, large, found, &hint, p2m_of);
}
