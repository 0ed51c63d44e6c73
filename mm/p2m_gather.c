/* Pages of 4 KiB become one of 2 MiB again, by moving them together. See mm/evict.h. */
#include "mm/evict.h"
#include "mm/p2m_walk.h"
#include "vmm/base/string.h"

/* The level-1 table of a 2 MiB that is all RAM, nothing pinned, and may be a leaf; NULL: it is not. Lock held. */
static const uint64_t *full_table(const struct p2m *p, gfn_t first, mfn_t *table)
{
	struct p2m_slot s = p2m_walk_to(p, first, 2);

	if (s.level != 2 || !entry_is_table(*s.entry, 2))
		return NULL;
	*table = entry_mfn(*s.entry);
	const uint64_t *t = mfn_to_va(*table);

	if (frame_known(*table)->u.table.stays)
		return NULL;
	for (uint32_t i = 0; i < TABLE_ENTRIES; i++)
		if (!entry_present(t[i]) || entry_state(t[i]) != P2M_RAM || t[i] & LEAF_PINNED)
			return NULL;
	return t;
}

static status_t begin(struct p2m *p, gfn_t first, mfn_t *block)
{
	mfn_t table;
	status_t s = ERR_BUSY;

	spin_lock(&p->lock);
	if (first.v < p->gfn_count && p->gfn_count - first.v >= PAGES_2M && full_table(p, first, &table))
		s = frame_alloc(&p->account, FRAME_PRIVATE, ORDER_2M, first, MFN_NONE, 0, block);
	spin_unlock(&p->lock);
	return s == ERR_LIMIT ? ERR_NOMEM : s;
}

/* A block and which of its frames have become pages: those are the p2m's, whatever happens to them since. */
struct gather {
	gfn_t first;
	mfn_t block;
	uint64_t moved[PAGES_2M / 64];
};

/* A window's pages, into the block. False: one of them is wanted, or has gone. */
static bool move_window(struct p2m *p, struct gather *g, uint32_t at)
{
	struct evict_page pages[EVICT_WINDOW];
	uint32_t n, count = 0;

	(void)p2m_hold(p, gfn_add(g->first, at), EVICT_WINDOW, pages, &n);
	for (uint32_t i = 0; i < n; i++) {
		mfn_t mfn = mfn_add(g->block, pages[i].gfn.v - g->first.v);

		memcpy(mfn_to_va(mfn), mfn_to_va(pages[i].mfn), PAGE_BYTES);
		pages[i].payload = mfn.v; /* RAM, there */
	}
	(void)p2m_settle(p, pages, n);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t index = pages[i].gfn.v - g->first.v;

		if (pages[i].gone)
			g->moved[index / 64] |= 1ull << index % 64;
		count += pages[i].gone;
	}
	return count == EVICT_WINDOW;
}

static void free_rest(struct p2m *p, const struct gather *g)
{
	struct frame_batch batch;

	frame_batch_init(&batch);
	for (uint32_t i = 0; i < PAGES_2M; i++)
		if (!(g->moved[i / 64] >> i % 64 & 1))
			frame_batch_add(&batch, mfn_add(g->block, i), ORDER_4K);
	frame_batch_free(&p->account, &batch);
}

/* All are in the block: one leaf. Else the block's frames that nothing came to are freed. */
static status_t finish(struct p2m *p, const struct gather *g)
{
	status_t s = ERR_BUSY;
	mfn_t table_mfn;

	spin_lock(&p->lock);
	const uint64_t *t = full_table(p, g->first, &table_mfn);
	uint32_t there = 0;

	while (t && there < TABLE_ENTRIES && entry_mfn(t[there]).v == g->block.v + there)
		there++;
	if (there == TABLE_ENTRIES) {
		struct frame *table = frame_known(table_mfn);

		table->link = (uint32_t)g->block.v;
		table->u.table.in_order = TABLE_ENTRIES;
		s = p2m_join_locked(p, g->first);
		p->gathered_2m += s == OK;
	} else {
		free_rest(p, g);
	}
	spin_unlock(&p->lock);
	return s;
}

status_t p2m_gather(struct p2m *p, gfn_t gfn)
{
	struct gather g = { .first = GFN(ALIGN_DOWN(gfn.v, PAGES_2M)) };
	status_t s = begin(p, g.first, &g.block);

	if (s != OK)
		return s;
	for (uint32_t i = 0; i < PAGES_2M; i += EVICT_WINDOW)
		if (!move_window(p, &g, i))
			break;
	return finish(p, &g);
}
