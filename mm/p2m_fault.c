/* Second-level faults: how a guest gets its memory, on first touch. See mm/p2m.h. */
#include "mm/p2m_walk.h"

static inline uint32_t alloc_flags(uint32_t access)
{
	return access & P2M_GRACE ? FRAME_ALLOC_EMERGENCY : 0;
}

/* Where a page had best lie, so that all 512 of its table can become one leaf one day. */
static inline mfn_t wanted(const struct frame *table, uint32_t index)
{
	if (LIKELY(table->u.table.in_order))
		return MFN((uint64_t)table->link + index);
	mfn_t block = frame_block_hint();

	return mfn_is_none(block) ? block : mfn_add(block, index);
}

/* Notes that page `index` of a table went to `mfn`. True: all 512 are in order now. */
static inline bool note_order(struct frame *table, uint32_t index, mfn_t mfn)
{
	uint32_t block = (uint32_t)mfn.v - index;

	if (table->u.table.in_order == 0) {
		if (block & (PAGES_2M - 1))
			return false;
		table->link = block;
	} else if (table->link != block) {
		return false;
	}
	return ++table->u.table.in_order == TABLE_ENTRIES;
}

/* A frame of its own for the page at `s`, level 1, EMPTY or BALLOONED; `was` is its entry. */
static inline enum p2m_fault_result populate(struct p2m *p, gfn_t gfn, struct p2m_slot s,
	uint64_t was, uint32_t access)
{
	struct frame *table = frame_of(s.table);
	uint32_t index = level_index(gfn, 1);
	mfn_t mfn;

	if (UNLIKELY(frame_alloc(&p->account, FRAME_PRIVATE, ORDER_4K, gfn, wanted(table, index),
			     alloc_flags(access), &mfn) != OK)) {
		p->fault_denied++;
		return P2M_FAULT_WAIT;
	}
	entry_write(s.entry, leaf_ram_4k(mfn));
	p->pages[P2M_RAM]++;
	p->fault_populate++;
	if (LIKELY(was == ENTRY(P2M_EMPTY))) {
		p->pages[P2M_EMPTY]--;
	} else if (was == ENTRY(P2M_BALLOONED)) {
		p->pages[P2M_BALLOONED]--;
		p->balloon_touch++;
	} else { /* the zero frame was mapped: another vCPU may still read through it */
		p->pages[P2M_EMPTY]--;
		p->zero_mapped--;
		p->fault_cow_zero++;
		slat_flush(&p->slat);
		frame_share_put(entry_mfn(was));
	}
	if (UNLIKELY(note_order(table, index, mfn))) {
		/* ERR_BUSY: a page is pinned; the mapping stays as it is. */
		status_t joined = p2m_join_locked(p, gfn);

		(void)joined;
	}
	return P2M_FAULT_MAPPED;
}

static enum p2m_fault_result map_zero(struct p2m *p, struct p2m_slot s, uint64_t was)
{
	frame_share_get(frame_zero_mfn());
	entry_write(s.entry, leaf_zero());
	if (was == ENTRY(P2M_BALLOONED)) {
		p->pages[P2M_BALLOONED]--;
		p->pages[P2M_EMPTY]++;
		p->balloon_touch++;
	}
	p->zero_mapped++;
	p->fault_zero_read++;
	return P2M_FAULT_MAPPED;
}

/* The whole block at `s`, level 2 and EMPTY, if host memory is plenty. */
static bool populate_block(struct p2m *p, gfn_t gfn, struct p2m_slot s)
{
	gfn_t first = GFN(ALIGN_DOWN(gfn.v, PAGES_2M));
	mfn_t mfn;

	if (p->gfn_count - first.v < PAGES_2M || !frame_pool_roomy(PAGES_2M) ||
		p->account.used_pages + PAGES_2M > p->account.max_pages ||
		frame_alloc(&p->account, FRAME_PRIVATE, ORDER_2M, first, MFN_NONE, 0, &mfn) != OK)
		return false;
	entry_write(s.entry, leaf_ram_2m(mfn));
	p->pages[P2M_EMPTY] -= PAGES_2M;
	p->pages[P2M_RAM] += PAGES_2M;
	p->pages_in_2m += PAGES_2M;
	p->fault_2m++;
	return true;
}

static enum p2m_fault_result fault_slow(struct p2m *p, gfn_t gfn, uint32_t access)
{
	for (;;) { /* at most once a level: each round makes a table or returns */
		struct p2m_slot s = p2m_walk(p, gfn);
		uint64_t e = *s.entry;
		enum p2m_state state = entry_state(e);

		if (state != P2M_EMPTY && state != P2M_BALLOONED) {
			if (state != P2M_RAM)
				return P2M_FAULT_NOT_RAM;
			p->fault_spurious++;
			return P2M_FAULT_MAPPED;
		}
		if (s.level == 1) {
			if (access & P2M_WRITE)
				return populate(p, gfn, s, e, access);
			if (!entry_present(e))
				return map_zero(p, s, e);
			p->fault_spurious++;
			return P2M_FAULT_MAPPED;
		}
		if (s.level == 2 && state == P2M_EMPTY && p->populate_2m &&
			(access & (P2M_WRITE | P2M_GRACE)) == P2M_WRITE && populate_block(p, gfn, s))
			return P2M_FAULT_MAPPED;
		if (p2m_make_table(p, gfn, s, alloc_flags(access)) != OK) {
			p->fault_denied++;
			return P2M_FAULT_WAIT;
		}
	}
}

enum p2m_fault_result p2m_fault_locked(struct p2m *p, gfn_t gfn, uint32_t access)
{
	struct p2m_slot s = p2m_walk(p, gfn);

	if (LIKELY(s.level == 1 && *s.entry == ENTRY(P2M_EMPTY) && (access & P2M_WRITE)))
		return populate(p, gfn, s, ENTRY(P2M_EMPTY), access);
	return fault_slow(p, gfn, access);
}

enum p2m_fault_result p2m_fault(struct p2m *p, gpa_t gpa, uint32_t access)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	if (UNLIKELY(gfn.v >= p->gfn_count))
		return P2M_FAULT_NOT_RAM;
	spin_lock(&p->lock);
	enum p2m_fault_result r = p2m_fault_locked(p, gfn, access);

	spin_unlock(&p->lock);
	return r;
}
