/* The balloon's side of the p2m: pages leave and come back. See mm/p2m.h. */
#include "mm/p2m_walk.h"
#include "mm/zero.h"

void p2m_batch_begin(struct p2m *p, struct frame_batch *out)
{
	spin_lock(&p->lock);
	frame_batch_init(out);
	p->batch = out;
}

void p2m_batch_finish(struct p2m *p, struct frame_batch *out)
{
	p2m_flush_late(p);
	if (p->flush_needed) {
		slat_flush(&p->slat);
		p->flush_needed = false;
	}
	p->batch = NULL;
	frame_batch_free(&p->account, out);
	spin_unlock(&p->lock);
}

/* One naturally aligned block, inside memory, of an order that the balloon knows. */
static inline bool in_range(const struct p2m *p, gfn_t gfn, uint32_t order)
{
	return (order == ORDER_4K || order == ORDER_2M) && gfn.v < p->gfn_count &&
	       !(gfn.v & ((1ull << order) - 1)) && p->gfn_count - gfn.v >= 1ull << order;
}

/* A present 4 KiB leaf, not pinned, to BALLOONED. */
static inline void inflate_leaf(struct p2m *p, struct frame *table, uint32_t index, uint64_t *entry,
	struct frame_batch *out)
{
	uint64_t e = *entry;
	mfn_t mfn = entry_mfn(e);

	entry_write(entry, ENTRY(P2M_BALLOONED));
	p->flush_needed = true;
	if (LIKELY(entry_state(e) == P2M_RAM)) {
		p2m_note_gone(table, index, mfn);
		frame_batch_add(out, mfn, ORDER_4K);
		p->pages[P2M_RAM]--;
	} else if (entry_state(e) == P2M_SHARED) {
		p2m_drop_shared(p, mfn);
		p->pages[P2M_SHARED]--;
	} else {
		frame_share_put(mfn);
		p->zero_mapped--;
		p->pages[P2M_EMPTY]--;
	}
	p->pages[P2M_BALLOONED]++;
}

/* May this page go? */
static inline status_t may_inflate(uint64_t e)
{
	if (LIKELY(entry_present(e)))
		return e & LEAF_PINNED ? ERR_BUSY : OK;
	if (e == ENTRY(P2M_EMPTY) || entry_is_out(e))
		return OK;
	return e == ENTRY(P2M_BALLOONED) ? ERR_EXIST : ERR_BUSY;
}

/* A not-present page, EMPTY or out, to BALLOONED: what it refers to is dropped, nothing is brought in. */
static inline void inflate_absent(struct p2m *p, uint64_t *entry, struct frame_batch *out)
{
	uint64_t e = *entry;

	entry_write(entry, ENTRY(P2M_BALLOONED));
	p->pages[entry_state(e)]--;
	p->pages[P2M_BALLOONED]++;
	if (UNLIKELY(e != ENTRY(P2M_EMPTY)))
		p2m_drop_out(p, e, out);
}

static __attribute__((noinline)) uint64_t *make_page(
	struct p2m *p, gfn_t gfn, status_t *err, mfn_t *table)
{
	struct p2m_slot s = p2m_walk(p, gfn);

	*err = may_inflate(*s.entry);
	/* Emergency pages only where this gains some: an EMPTY block has none to give. */
	if (*err == OK)
		*err = p2m_walk_make(
			p, gfn, 1, entry_present(*s.entry) ? FRAME_ALLOC_EMERGENCY : 0, &s);
	if (*err == ERR_LIMIT)
		*err = ERR_NOMEM;
	*table = s.table;
	return s.entry;
}

static status_t inflate_page(struct p2m *p, gfn_t gfn, struct frame_batch *out)
{
	mfn_t table;
	uint64_t *entry = p2m_find_page(p, gfn, &table);
	status_t err;

	if (UNLIKELY(!entry)) {
		entry = make_page(p, gfn, &err, &table);
		if (err != OK)
			return err;
	}
	uint64_t e = *entry;

	err = may_inflate(e);
	if (UNLIKELY(err != OK))
		return err;
	if (LIKELY(entry_present(e)))
		inflate_leaf(p, frame_known(table), level_index(gfn, 1), entry, out);
	else
		inflate_absent(p, entry, out);
	return OK;
}

/* The 512 pages of a level-1 table: all checked, then all gone, and the table too. */
static status_t inflate_table(struct p2m *p, mfn_t table_mfn, struct frame_batch *out)
{
	struct frame *table = frame_of(table_mfn);
	uint64_t *t = mfn_to_va(table_mfn);

	for (uint32_t i = 0; i < TABLE_ENTRIES; i++) {
		status_t err = may_inflate(t[i]);

		if (err != OK)
			return err;
	}
	if (table->u.table.in_order == TABLE_ENTRIES) { /* split once, or pinned: still one block */
		frame_batch_add(out, MFN(table->link), ORDER_2M);
		p->pages[P2M_RAM] -= PAGES_2M;
		p->pages[P2M_BALLOONED] += PAGES_2M;
		return OK;
	}
	for (uint32_t i = 0; i < TABLE_ENTRIES; i++) {
		if (entry_present(t[i]))
			inflate_leaf(p, table, i, &t[i], out);
		else
			inflate_absent(p, &t[i], out);
	}
	return OK;
}

static status_t inflate_block(struct p2m *p, gfn_t gfn, struct frame_batch *out)
{
	struct p2m_slot s;
	status_t err = p2m_walk_make(p, gfn, 2, 0, &s);

	if (err != OK)
		return ERR_NOMEM;
	uint64_t e = *s.entry;

	if (entry_is_table(e, 2)) {
		err = inflate_table(p, entry_mfn(e), out);
		if (err != OK)
			return err;
		entry_write(s.entry, ENTRY(P2M_BALLOONED));
		p2m_drop_table(p, entry_mfn(e));
		return OK;
	}
	err = may_inflate(e);
	if (err != OK)
		return err;
	entry_write(s.entry, ENTRY(P2M_BALLOONED));
	p->pages[P2M_BALLOONED] += PAGES_2M;
	if (entry_present(e)) {
		p->pages[P2M_RAM] -= PAGES_2M;
		p->pages_in_2m -= PAGES_2M;
		p->flush_needed = true;
		frame_batch_add(out, entry_mfn(e), ORDER_2M);
	} else {
		p->pages[P2M_EMPTY] -= PAGES_2M;
	}
	return OK;
}

status_t p2m_inflate(struct p2m *p, gfn_t gfn, uint32_t order, struct frame_batch *out)
{
	if (UNLIKELY(!in_range(p, gfn, order)))
		return ERR_RANGE;
	return order == ORDER_4K ? inflate_page(p, gfn, out) : inflate_block(p, gfn, out);
}

static status_t deflate_block(struct p2m *p, gfn_t gfn)
{
	struct p2m_slot s = p2m_walk_to(p, gfn, 2);
	uint64_t e = *s.entry;

	if (!entry_is_table(e, s.level)) {
		if (e != ENTRY(P2M_BALLOONED))
			return ERR_NOENT;
		status_t err =
			p2m_walk_make(p, gfn, 2, 0, &s); /* no larger entry is BALLOONED today */

		if (err != OK)
			return ERR_NOMEM;
	} else {
		const uint64_t *t = mfn_to_va(entry_mfn(e));

		for (uint32_t i = 0; i < TABLE_ENTRIES; i++)
			if (t[i] != ENTRY(P2M_BALLOONED))
				return ERR_NOENT;
	}
	entry_write(s.entry, ENTRY(P2M_EMPTY));
	p->pages[P2M_BALLOONED] -= PAGES_2M;
	p->pages[P2M_EMPTY] += PAGES_2M;
	if (entry_present(e))
		p2m_drop_table(p, entry_mfn(e));
	return OK;
}

static __attribute__((noinline)) status_t deflate_rest(struct p2m *p, gfn_t gfn, uint32_t order)
{
	if (!in_range(p, gfn, order))
		return ERR_RANGE;
	if (order == ORDER_2M)
		return deflate_block(p, gfn);
	struct p2m_slot s = p2m_walk(p, gfn);

	if (*s.entry != ENTRY(P2M_BALLOONED))
		return ERR_NOENT;
	if (s.level > 1 && p2m_walk_make(p, gfn, 1, 0, &s) != OK)
		return ERR_NOMEM;
	entry_write(s.entry, ENTRY(P2M_EMPTY));
	p->pages[P2M_BALLOONED]--;
	p->pages[P2M_EMPTY]++;
	return OK;
}

/* Mostly it is a page under a table that is there. */
status_t p2m_deflate(struct p2m *p, gfn_t gfn, uint32_t order)
{
	mfn_t table;

	if (LIKELY(order == ORDER_4K && gfn.v < p->gfn_count)) {
		uint64_t *entry = p2m_find_page(p, gfn, &table);

		if (LIKELY(entry && *entry == ENTRY(P2M_BALLOONED))) {
			entry_write(entry, ENTRY(P2M_EMPTY));
			p->pages[P2M_BALLOONED]--;
			p->pages[P2M_EMPTY]++;
			return OK;
		}
	}
	return deflate_rest(p, gfn, order);
}

static void deflate_tree(mfn_t table, uint32_t level)
{
	uint64_t *t = mfn_to_va(table);

	for (uint32_t i = 0; i < TABLE_ENTRIES; i++) {
		if (entry_is_table(t[i], level))
			deflate_tree(entry_mfn(t[i]), level - 1);
		else if (t[i] == ENTRY(P2M_BALLOONED))
			entry_write(&t[i], ENTRY(P2M_EMPTY));
	}
}

void p2m_deflate_all(struct p2m *p)
{
	spin_lock(&p->lock);
	if (p->pages[P2M_BALLOONED]) {
		deflate_tree(p->slat.root, SLAT_LEVELS);
		p->pages[P2M_EMPTY] += p->pages[P2M_BALLOONED];
		p->pages[P2M_BALLOONED] = 0;
	}
	spin_unlock(&p->lock);
}
