/* SHARED pages of a p2m: copy on write, and the references that their entries have. See mm/p2m_walk.h, mm/evict.h. */
#include "mm/evict.h"
#include "mm/p2m_walk.h"
#include "mm/share.h"
#include "vmm/base/string.h"

/* The entry maps `mfn` now, writable. */
static void now_ram(struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table, mfn_t mfn)
{
	entry_write(entry, leaf_ram_4k(mfn));
	p->pages[P2M_SHARED]--;
	p->pages[P2M_RAM]++;
	if (p2m_note_come(frame_known(table), level_index(gfn, 1), mfn)) {
		status_t joined = p2m_join_locked(p, gfn); /* not if a page is pinned */

		(void)joined;
	}
}

/* Its frame, without a copy. No flush: who has the old entry cached faults, and looks again. */
static status_t take(struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table, uint32_t flags)
{
	mfn_t mfn = entry_mfn(*entry);
	status_t s = share_take(&p->account, mfn, gfn, flags);

	if (s == OK) {
		p->cow_taken++;
		now_ram(p, gfn, entry, table, mfn);
	}
	return s;
}

status_t p2m_unshare(struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table, uint32_t frame_flags, bool whole)
{
	mfn_t old = entry_mfn(*entry), mfn = MFN_NONE;
	status_t s = take(p, gfn, entry, table, frame_flags);

	if (s == OK)
		return OK;
	if (s == ERR_BUSY)
		mfn = frame_alloc_page(
			&p->account, gfn, p2m_wanted(frame_known(table), level_index(gfn, 1)), frame_flags);
	if (mfn_is_none(mfn)) {
		p->fault_denied++;
		return ERR_NOMEM;
	}
	if (!whole)
		memcpy(mfn_to_va(mfn), mfn_to_va(old), PAGE_BYTES);
	p->cow_copied++;
	entry_break(p, entry);
	now_ram(p, gfn, entry, table, mfn);
	share_put(old);
	return OK;
}

bool p2m_take_back(struct p2m *p, gfn_t gfn)
{
	mfn_t table;

	spin_lock(&p->lock);
	uint64_t *entry = gfn.v < p->gfn_count ? p2m_find_page(p, gfn, &table) : NULL;
	bool taken = entry && entry_is_shared(*entry) && take(p, gfn, entry, table, 0) == OK;

	spin_unlock(&p->lock);
	return taken;
}

uint32_t p2m_hold_shared(struct p2m *p, gfn_t first, uint32_t count, struct evict_page *out)
{
	uint32_t n = 0;

	spin_lock(&p->lock);
	for (uint32_t i = 0; i < count && first.v + i < p->gfn_count; i++) {
		mfn_t table;
		const uint64_t *entry = p2m_find_page(p, gfn_add(first, i), &table);

		if (entry && entry_is_shared(*entry))
			out[n++] = (struct evict_page){ .gfn = gfn_add(first, i), .mfn = entry_mfn(*entry),
				.to = P2M_RAM, .shared = true };
	}
	spin_unlock(&p->lock);
	return n;
}

status_t p2m_share_held(struct p2m *p, const struct evict_page *page, uint64_t hash, mfn_t *mfn)
{
	mfn_t table;

	*mfn = page->mfn;
	spin_lock(&p->lock);
	uint64_t *entry = p2m_held_entry(p, page, &table);
	status_t s = entry && !page->shared ? share_make(&p->account, page->mfn, hash, p->share_group) : ERR_NOENT;

	if (s == OK) {
		frame_share_get(page->mfn); /* the caller's; that of share_make() is the entry's */
		entry_write(entry, leaf_shared(page->mfn));
		p->pages[P2M_IN_FLIGHT]--;
		p->pages[P2M_SHARED]++;
		p->shared++;
	}
	spin_unlock(&p->lock);
	return s;
}

void p2m_drop_shared(struct p2m *p, mfn_t mfn)
{
	if (p->late_count == P2M_LATE)
		p2m_flush_late(p);
	p->late[p->late_count++] = (uint32_t)mfn.v;
	p->flush_needed = true;
}

void p2m_flush_late(struct p2m *p)
{
	if (p->late_count == 0)
		return;
	slat_flush(&p->slat);
	p->flush_needed = false;
	while (p->late_count)
		share_put(MFN(p->late[--p->late_count]));
}
