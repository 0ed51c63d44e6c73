/* The p2m: tables, split and join, what a gfn is. See mm/p2m.h. */
#include "mm/p2m_walk.h"
#include "mm/share.h"
#include "mm/zero.h"

static const char *const state_names[P2M_STATE_COUNT] = {
	[P2M_NONE] = "none",
	[P2M_EMPTY] = "empty",
	[P2M_RAM] = "ram",
	[P2M_SHARED] = "shared",
	[P2M_BALLOONED] = "ballooned",
	[P2M_COMPRESSED] = "compressed",
	[P2M_SWAPPED] = "swapped",
	[P2M_IN_FLIGHT] = "in-flight",
	[P2M_MMIO] = "mmio",
};

const char *p2m_state_name(enum p2m_state s)
{
	return s < P2M_STATE_COUNT ? state_names[s] : "?";
}

uint64_t p2m_tables_for(uint64_t pages)
{
	uint64_t tables = 0;

	for (uint32_t level = 1; level <= SLAT_LEVELS; level++)
		tables += (pages + (1ull << level_order(level + 1)) - 1) >> level_order(level + 1);
	return tables;
}

static status_t alloc_table(struct p2m *p, gfn_t gfn, uint32_t level, uint32_t flags, mfn_t *out)
{
	status_t s = frame_alloc(&p->account, FRAME_TABLE, ORDER_4K, GFN(0), MFN_NONE, flags, out);

	if (s != OK)
		return s;
	struct frame *f = frame_of(*out);

	f->u.table.level = (uint8_t)level;
	f->u.table.stays = false;
	f->u.table.block =
		(uint32_t)(gfn.v >> level_order(level + 1) << level_order(level + 1) >> 9);
	p->table_count++;
	return OK;
}

/* Entries of a table of `level` that maps from gfn `first` on: as many as memory has get `e`. */
static void fill_table(const struct p2m *p, uint64_t *t, uint32_t level, uint64_t first, uint64_t e)
{
	uint64_t pages = p->gfn_count - first, each = 1ull << level_order(level);
	uint64_t n = MIN((pages + each - 1) >> level_order(level), (uint64_t)TABLE_ENTRIES);

	fill_words(t, e, n);
	fill_words(t + n, ENTRY(P2M_NONE), TABLE_ENTRIES - n);
}

status_t p2m_create(
	struct p2m *p, uint16_t owner, uint64_t pages, uint64_t min_pages, uint64_t *room_pages)
{
	*p = (struct p2m){ .gfn_count = pages, .exchange = P2M_EXCHANGE };
	spinlock_init(&p->lock, LOCK_RANK_P2M);
	/* Below 2^32 pages (16 TiB): see struct frame's u.gfn. */
	if (pages == 0 || pages >= 1ull << 32)
		return ERR_INVAL;
	status_t s = frame_account_open(&p->account, owner, min_pages, room_pages);

	if (s == OK && alloc_table(p, GFN(0), SLAT_LEVELS, 0, &p->slat.root) != OK) {
		frame_account_close(&p->account);
		s = ERR_NOMEM;
	}
	if (s != OK) {
		p->gfn_count = 0;
		return s;
	}
	fill_table(p, mfn_to_va(p->slat.root), SLAT_LEVELS, 0, ENTRY(P2M_EMPTY));
	p->pages[P2M_EMPTY] = pages;
	return OK;
}

/* Frees all below the table, table included. Nothing can reach it any more. */
static void free_tree(struct p2m *p, mfn_t table, uint32_t level)
{
	const uint64_t *t = mfn_to_va(table);
	struct frame_batch batch;

	frame_batch_init(&batch);
	for (uint32_t i = 0; i < TABLE_ENTRIES; i++) {
		uint64_t e = t[i];

		if (!entry_present(e)) {
			p2m_drop_out(p, e, &batch);
			continue;
		}
		if (entry_is_table(e, level))
			free_tree(p, entry_mfn(e), level - 1);
		else if (entry_state(e) == P2M_RAM)
			frame_batch_add(&batch, entry_mfn(e), level_order(level));
		else
			share_put(entry_mfn(e)); /* or the zero frame's */
	}
	frame_batch_add(&batch, table, ORDER_4K);
	frame_batch_free(&p->account, &batch);
	p->table_count--;
}

void p2m_destroy(struct p2m *p)
{
	spin_lock(&p->lock);
	slat_flush(&p->slat);
	free_tree(p, p->slat.root, SLAT_LEVELS);
	p->slat.root = MFN_NONE;
	for (uint32_t i = 0; i < P2M_STATE_COUNT; i++)
		p->pages[i] = 0;
	p->gfn_count = 0;
	p->pages_in_2m = p->zero_mapped = p->pinned = 0;
	HV_BUG_ON(p->table_count);
	frame_account_close(&p->account);
	spin_unlock(&p->lock);
}

void p2m_drop_table(struct p2m *p, mfn_t table)
{
	p->table_count--;
	p->flush_needed = true;
	if (p->batch) {
		frame_batch_add(p->batch, table, ORDER_4K);
		return;
	}
	slat_flush(&p->slat);
	p->flush_needed = false;
	frame_free(&p->account, table, ORDER_4K);
}

status_t p2m_make_table(struct p2m *p, gfn_t gfn, struct p2m_slot s, uint32_t flags)
{
	uint64_t e = *s.entry;
	mfn_t table;
	status_t err = alloc_table(p, gfn, s.level - 1, flags, &table);

	if (err != OK)
		return err;
	uint64_t *t = mfn_to_va(table);

	if (!entry_present(e)) {
		uint64_t first = gfn.v >> level_order(s.level) << level_order(s.level);

		fill_table(p, t, s.level - 1, first, e);
	} else {
		/* Only 2 MiB leaves are made. The pages stay where they are and at least as accessible, so
		 * no flush. */
		struct frame *f = frame_of(table);
		uint64_t child = leaf_ram_4k(entry_mfn(e)) |
				 (e & (slat_format->accessed | slat_format->dirty));

		HV_BUG_ON(s.level != 2);
#pragma GCC unroll 8
		for (uint32_t i = 0; i < TABLE_ENTRIES; i++)
			t[i] = child + i * PAGE_BYTES;
		f->link = (uint32_t)entry_mfn(e).v;
		f->u.table.in_order = TABLE_ENTRIES;
		p->pages_in_2m -= PAGES_2M;
		p->split_2m++;
	}
	entry_write(s.entry, mfn_to_hpa(table).v | slat_format->table);
	return OK;
}

status_t p2m_walk_make(
	struct p2m *p, gfn_t gfn, uint32_t level, uint32_t flags, struct p2m_slot *out)
{
	for (;;) {
		struct p2m_slot s = p2m_walk_to(p, gfn, level);

		*out = s;
		if (s.level == level)
			return OK;
		status_t err = p2m_make_table(p, gfn, s, flags);

		if (err != OK)
			return err;
	}
}

status_t p2m_join_locked(struct p2m *p, gfn_t gfn)
{
	struct p2m_slot s = p2m_walk_to(p, gfn, 2);

	if (s.level != 2 || !entry_is_table(*s.entry, 2))
		return ERR_NOENT;
	mfn_t table = entry_mfn(*s.entry);
	const uint64_t *t = mfn_to_va(table);
	mfn_t first = entry_mfn(t[0]);
	uint64_t soft = slat_format->accessed | slat_format->dirty;
	uint64_t expect = leaf_ram_4k(first) & ~soft, differ = 0;

	if ((first.v & (PAGES_2M - 1)) || frame_known(table)->u.table.stays)
		return ERR_BUSY;
	/* Whoever comes here has counted 512 in order: one that does not fit is the exception. */
#pragma GCC unroll 8
	for (uint32_t i = 0; i < TABLE_ENTRIES; i++)
		differ |= t[i] ^ (expect + i * PAGE_BYTES);
	if (differ & ~soft)
		return ERR_BUSY; /* elsewhere, not RAM, or pinned */
	entry_write(s.entry, leaf_ram_2m(first) | differ);
	p->pages_in_2m += PAGES_2M;
	p->join_2m++;
	p2m_drop_table(p, table);
	return OK;
}

status_t p2m_join(struct p2m *p, gfn_t gfn)
{
	status_t s = ERR_RANGE;

	spin_lock(&p->lock);
	if (gfn.v < p->gfn_count)
		s = p2m_join_locked(p, gfn);
	spin_unlock(&p->lock);
	return s;
}

status_t p2m_split(struct p2m *p, gfn_t gfn)
{
	status_t err = ERR_RANGE;

	spin_lock(&p->lock);
	if (gfn.v < p->gfn_count) {
		struct p2m_slot s = p2m_walk_to(p, gfn, 2);

		if (s.level != 2 || !entry_present(*s.entry) || entry_is_table(*s.entry, 2))
			err = ERR_NOENT;
		else
			err = p2m_make_table(p, gfn, s, FRAME_ALLOC_EMERGENCY);
	}
	spin_unlock(&p->lock);
	return err;
}

void p2m_lookup(struct p2m *p, gfn_t gfn, struct p2m_entry *out)
{
	*out = (struct p2m_entry){ .state = P2M_NONE, .level = 1, .mfn = MFN_NONE };
	spin_lock(&p->lock);
	if (gfn.v < p->gfn_count) {
		struct p2m_slot s = p2m_walk(p, gfn);
		uint64_t e = *s.entry;

		out->state = entry_state(e);
		out->level = s.level;
		if (entry_present(e)) {
			uint64_t within = gfn.v & ((1ull << level_order(s.level)) - 1);

			out->mfn = mfn_add(entry_mfn(e), within);
			out->writable = (e & slat_format->write) != 0;
			out->pinned = (e & LEAF_PINNED) != 0;
		} else if (entry_is_out(e)) {
			out->payload = entry_payload(e);
		}
	}
	spin_unlock(&p->lock);
}
