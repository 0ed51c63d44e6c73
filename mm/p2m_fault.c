/* Second-level faults: how a guest gets its memory, on first touch. See mm/p2m.h. */
#include "mm/p2m_walk.h"

static inline uint32_t alloc_flags(uint32_t access)
{
	return access & P2M_GRACE ? FRAME_ALLOC_EMERGENCY : 0;
}

/* always_inline and noinline below: what a fault mostly needs is one straight function, the rest is
 * kept from its registers. */

static inline mfn_t wanted(const struct frame *table, uint32_t index)
{
	if (LIKELY(table->u.table.in_order))
		return MFN((uint64_t)table->link + index);
	mfn_t block = frame_block_hint();

	return mfn_is_none(block) ? block : mfn_add(block, index);
}

mfn_t p2m_wanted(const struct frame *table, uint32_t index)
{
	return wanted(table, index);
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

bool p2m_note_come(struct frame *table, uint32_t index, mfn_t mfn)
{
	return note_order(table, index, mfn);
}

/* A page gets its frame; `was` is its entry. For all but the commonest, an EMPTY one. */
static void leave(struct p2m *p, uint64_t *entry, uint64_t was)
{
	if (was == ENTRY(P2M_BALLOONED)) {
		p->pages[P2M_BALLOONED]--;
		p->balloon_touch++;
		return;
	}
	p->pages[P2M_EMPTY]--;
	if (entry_present(was)) { /* the zero frame was */
		entry_break(p, entry);
		p->zero_mapped--;
		p->fault_cow_zero++;
		frame_share_put(entry_mfn(was));
	}
}

static __attribute__((noinline)) void try_join(struct p2m *p, gfn_t gfn)
{
	/* ERR_BUSY: a page is pinned; the mapping stays as it is. */
	status_t joined = p2m_join_locked(p, gfn);

	(void)joined;
}

/* A frame of its own for the page of `entry`, in a level-1 table, EMPTY or BALLOONED. */
static inline __attribute__((always_inline)) enum p2m_fault_result populate(
	struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table_mfn, uint64_t was, uint32_t access)
{
	struct frame *table = frame_known(table_mfn);
	uint32_t index = level_index(gfn, 1);
	mfn_t mfn = frame_alloc_page(&p->account, gfn, wanted(table, index), alloc_flags(access));

	if (UNLIKELY(mfn_is_none(mfn))) {
		p->fault_denied++;
		return P2M_FAULT_WAIT;
	}
	if (LIKELY(was == ENTRY(P2M_EMPTY)))
		p->pages[P2M_EMPTY]--;
	else
		leave(p, entry, was);
	entry_write(entry, leaf_ram_4k(mfn));
	p->pages[P2M_RAM]++;
	p->fault_populate++;
	if (UNLIKELY(note_order(table, index, mfn)))
		try_join(p, gfn);
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
		p->account.used_pages + PAGES_2M >
			__atomic_load_n(&p->account.bound_pages, __ATOMIC_RELAXED) ||
		frame_alloc(&p->account, FRAME_PRIVATE, ORDER_2M, first, MFN_NONE, 0, &mfn) != OK)
		return false;
	entry_write(s.entry, leaf_ram_2m(mfn));
	p->pages[P2M_EMPTY] -= PAGES_2M;
	p->pages[P2M_RAM] += PAGES_2M;
	p->pages_in_2m += PAGES_2M;
	p->fault_2m++;
	return true;
}

static enum p2m_fault_result bring_in(struct p2m *p, gfn_t gfn, uint32_t access)
{
	switch (p2m_bring_in(p, gfn, alloc_flags(access), false)) {
	case OK:
		return P2M_FAULT_MAPPED; /* or was changed by another: then it faults again */
	case ERR_BUSY:
		return P2M_FAULT_DISK;
	case ERR_IO:
		return P2M_FAULT_LOST;
	default:
		return P2M_FAULT_WAIT;
	}
}

/*
 * The guest fetches from a 2 MiB leaf, where those are not executable: its pages are mapped one by one from now on. The
 * table stays, or else the next to complete it (another page of it that comes back, mm/p2m_gather.c) would
 * have the guest fault for ever. It goes with what it maps: when all of it is ballooned, or with the guest.
 */
static enum p2m_fault_result break_to_execute(struct p2m *p, gfn_t gfn, struct p2m_slot s, uint32_t access)
{
	if (p2m_make_table(p, gfn, s, alloc_flags(access)) != OK) {
		p->fault_denied++;
		return P2M_FAULT_WAIT;
	}
	frame_known(entry_mfn(*s.entry))->u.table.stays = true;
	p->fault_exec_2m++;
	return P2M_FAULT_MAPPED;
}

static __attribute__((noinline)) enum p2m_fault_result fault_slow(
	struct p2m *p, gfn_t gfn, uint32_t access)
{
	for (;;) { /* at most once a level: each round makes a table or returns */
		struct p2m_slot s = p2m_walk(p, gfn);
		uint64_t e = *s.entry;
		enum p2m_state state = entry_state(e);

		if (!entry_present(e) && entry_is_out(e))
			return bring_in(p, gfn, access);
		if (state != P2M_EMPTY && state != P2M_BALLOONED) {
			if (state == P2M_SHARED && (access & P2M_WRITE))
				return p2m_unshare(p, gfn, s.entry, s.table, alloc_flags(access), false) == OK ?
					P2M_FAULT_MAPPED : P2M_FAULT_WAIT;
			if (state != P2M_RAM && state != P2M_SHARED)
				return P2M_FAULT_NOT_RAM;
			if (s.level == 2 && (access & P2M_EXEC) && slat_format->big_no_exec)
				return break_to_execute(p, gfn, s, access);
			p->fault_spurious++;
			return P2M_FAULT_MAPPED;
		}
		if (s.level == 1) {
			if (access & P2M_WRITE)
				return populate(p, gfn, s.entry, s.table, e, access);
			if (!entry_present(e))
				return map_zero(p, s, e);
			p->fault_spurious++;
			return P2M_FAULT_MAPPED;
		}
		if (s.level == 2 && state == P2M_EMPTY && p->populate_2m &&
			(access & (P2M_WRITE | P2M_GRACE)) == P2M_WRITE &&
			populate_block(p, gfn, s))
			return P2M_FAULT_MAPPED;
		if (p2m_make_table(p, gfn, s, alloc_flags(access)) != OK) {
			p->fault_denied++;
			return P2M_FAULT_WAIT;
		}
	}
}

static inline __attribute__((always_inline)) enum p2m_fault_result fault(
	struct p2m *p, gfn_t gfn, uint32_t access)
{
	mfn_t table;
	uint64_t *entry = p2m_find_page(p, gfn, &table);

	if (LIKELY(entry && *entry == ENTRY(P2M_EMPTY) && (access & P2M_WRITE)))
		return populate(p, gfn, entry, table, ENTRY(P2M_EMPTY), access);
	return fault_slow(p, gfn, access);
}

enum p2m_fault_result p2m_fault_locked(struct p2m *p, gfn_t gfn, uint32_t access)
{
	return fault(p, gfn, access);
}

enum p2m_fault_result p2m_fault(struct p2m *p, gpa_t gpa, uint32_t access)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	if (UNLIKELY(gfn.v >= p->gfn_count))
		return P2M_FAULT_NOT_RAM;
	spin_lock(&p->lock);
	enum p2m_fault_result r = fault(p, gfn, access);

	spin_unlock(&p->lock);
	return r;
}
