/* Pages leave for the ladder's lower rungs and come back. See mm/evict.h. */
#include "mm/evict.h"

#include "mm/alias.h"
#include "mm/compress.h"
#include "mm/heap.h"
#include "mm/p2m_walk.h"
#include "mm/swap.h"
#include "mm/zstore.h"
#include "vmm/base/string.h"

static void *scratch[CPU_MAX]; /* two pages each; set once at boot */

status_t p2m_scratch_init(uint32_t cpus)
{
	for (uint32_t i = 0; i < cpus; i++) {
		if (!scratch[i])
			scratch[i] = heap_alloc(2 * PAGE_BYTES);
		if (!scratch[i])
			return ERR_NOMEM;
	}
	return OK;
}

void *p2m_scratch(uint32_t which)
{
	return (char *)scratch[cpu_index()] + which * PAGE_BYTES;
}

/* ---- out --------------------------------------------------------------------------------------- */

/* Is a hypercall's result about to be written there? */
static bool is_kept(const struct p2m *p, gfn_t gfn)
{
	for (uint32_t i = 0; i < P2M_KEEPERS; i++)
		if (gfn.v >= p->kept[i].first && gfn.v < p->kept[i].end)
			return true;
	return false;
}

static bool hold_one(struct p2m *p, gfn_t gfn, struct evict_page *out, enum evict_found *found)
{
	mfn_t table;
	uint64_t *entry = p2m_find_page(p, gfn, &table);

	if (!entry) {
		struct p2m_slot s = p2m_walk(p, gfn);

		*found = s.level == 2 && entry_present(*s.entry) ? EVICT_HUGE : EVICT_NONE;
		return false;
	}
	uint64_t e = *entry;

	if (!entry_present(e) || entry_state(e) != P2M_RAM || e & LEAF_PINNED || is_kept(p, gfn))
		return false;
	*out = (struct evict_page){ .gfn = gfn, .mfn = entry_mfn(e), .to = P2M_RAM };
	entry_write(entry, entry_out(P2M_IN_FLIGHT, out->mfn.v));
	p2m_note_gone(frame_known(table), level_index(gfn, 1), out->mfn);
	p->pages[P2M_RAM]--;
	p->pages[P2M_IN_FLIGHT]++;
	return true;
}

enum evict_found p2m_hold(
	struct p2m *p, gfn_t first, uint32_t count, struct evict_page *out, uint32_t *held)
{
	enum evict_found found = EVICT_PAGES;
	uint32_t n = 0;

	spin_lock(&p->lock);
	for (uint32_t i = 0; i < count && first.v + i < p->gfn_count; i++)
		n += hold_one(p, gfn_add(first, i), &out[n], &found);
	if (n)
		slat_flush(&p->slat);
	spin_unlock(&p->lock);
	*held = n;
	return found;
}

uint64_t *p2m_held_entry(struct p2m *p, const struct evict_page *page, mfn_t *table)
{
	uint64_t *entry = page->gfn.v < p->gfn_count ? p2m_find_page(p, page->gfn, table) : NULL;

	if (!entry)
		return NULL;
	uint64_t e = *entry;
	bool held = page->shared ? entry_is_shared(e) && mfn_eq(entry_mfn(e), page->mfn) :
				   e == entry_out(P2M_IN_FLIGHT, page->mfn.v);

	return held ? entry : NULL;
}

bool p2m_held(struct p2m *p, const struct evict_page *page)
{
	mfn_t table;

	spin_lock(&p->lock);
	bool held = p2m_held_entry(p, page, &table) != NULL;

	spin_unlock(&p->lock);
	return held;
}

/* IN_FLIGHT -> RAM. */
static void map_again(struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table)
{
	mfn_t mfn = MFN(entry_payload(*entry));

	entry_write(entry, leaf_ram_4k(mfn));
	p->pages[P2M_IN_FLIGHT]--;
	p->pages[P2M_RAM]++;
	if (p2m_note_come(frame_known(table), level_index(gfn, 1), mfn)) {
		status_t joined = p2m_join_locked(p, gfn); /* not if a page is pinned */

		(void)joined;
	}
}

void p2m_map_again(struct p2m *p, gfn_t gfn)
{
	mfn_t table;
	uint64_t *entry = p2m_find_page(p, gfn, &table);

	map_again(p, gfn, entry, table);
}

/* Settles one; what it leaves goes to the batch, or its reference back. */
static void move_out(struct p2m *p, uint64_t *entry, const struct evict_page *e, struct frame_batch *batch)
{
	bool shared = e->to == P2M_SHARED;

	entry_write(entry, shared	   ? leaf_shared(MFN(e->payload)) :
			e->to == P2M_RAM ? leaf_ram_4k(MFN(e->payload)) :
					   entry_out(e->to, e->payload));
	p->pages[e->shared ? P2M_SHARED : P2M_IN_FLIGHT]--;
	p->pages[e->to]++;
	p->shared += shared;
	p->on_own_disk += e->to == P2M_SWAPPED && alias_is(e->payload);
	if (e->shared)
		p2m_drop_shared(p, e->mfn);
	else
		frame_batch_add(batch, e->mfn, ORDER_4K);
}

uint32_t p2m_settle(struct p2m *p, struct evict_page *pages, uint32_t count)
{
	struct frame_batch batch;
	uint32_t freed = 0;

	frame_batch_init(&batch);
	spin_lock(&p->lock);
	for (uint32_t i = 0; i < count; i++) {
		struct evict_page *e = &pages[i];
		mfn_t table;
		uint64_t *entry = p2m_held_entry(p, e, &table);

		e->gone = entry && (e->to != P2M_RAM || e->payload);
		if (e->gone)
			move_out(p, entry, e, &batch);
		else if (entry && !e->shared)
			map_again(p, e->gfn, entry, table);
		freed += e->gone;
	}
	p2m_flush_late(p);
	frame_batch_free(&p->account, &batch);
	p->exchange = MIN(p->exchange + freed, P2M_EXCHANGE);
	spin_unlock(&p->lock);
	return freed;
}

static uint64_t *compressed_entry(struct p2m *p, gfn_t gfn, uint64_t handle)
{
	mfn_t table;
	uint64_t *entry = gfn.v < p->gfn_count ? p2m_find_page(p, gfn, &table) : NULL;

	return entry && *entry == entry_out(P2M_COMPRESSED, handle) ? entry : NULL;
}

bool p2m_take_compressed(struct p2m *p, gfn_t gfn, uint64_t handle, void *buf, uint32_t *bytes)
{
	spin_lock(&p->lock);
	bool there = compressed_entry(p, gfn, handle) != NULL;

	if (there)
		zstore_get(handle, buf, bytes);
	spin_unlock(&p->lock);
	return there;
}

bool p2m_restore_to_swap(struct p2m *p, gfn_t gfn, uint64_t handle, uint64_t slot)
{
	spin_lock(&p->lock);
	uint64_t *entry = compressed_entry(p, gfn, handle);

	if (entry) {
		entry_write(entry, entry_out(P2M_SWAPPED, slot));
		p->pages[P2M_COMPRESSED]--;
		p->pages[P2M_SWAPPED]++;
		zstore_free(handle);
	}
	spin_unlock(&p->lock);
	return entry != NULL;
}

void p2m_drop_out(struct p2m *p, uint64_t e, struct frame_batch *batch)
{
	uint64_t payload = entry_payload(e);

	switch (entry_state(e)) {
	case P2M_IN_FLIGHT:
		frame_batch_add(batch, MFN(payload), ORDER_4K);
		break;
	case P2M_COMPRESSED:
		zstore_free(payload);
		break;
	case P2M_SWAPPED:
		p->on_own_disk -= alias_is(payload);
		swap_free(payload);
		break;
	default:
		break;
	}
}

/* ---- back -------------------------------------------------------------------------------------- */

static status_t lose(struct p2m *p, gfn_t gfn, enum p2m_state from, uint64_t slot, const char *why)
{
	p->lost_from = from;
	p->lost_gfn = gfn;
	p->lost_slot = slot;
	p->lost_why = why;
	return ERR_IO;
}

/* A frame for a page that comes back: its content is the caller's to fill in. */
static status_t place(struct p2m *p, gfn_t gfn, mfn_t table_mfn, uint32_t flags, mfn_t *out)
{
	struct frame *table = frame_known(table_mfn);
	uint32_t index = level_index(gfn, 1);
	mfn_t mfn = frame_alloc_page(&p->account, gfn, p2m_wanted(table, index), flags);

	if (UNLIKELY(mfn_is_none(mfn)) && p->exchange) {
		mfn = frame_alloc_page(&p->account, gfn, p2m_wanted(table, index),
			flags | FRAME_ALLOC_OVER_LIMIT);
		p->exchange -= !mfn_is_none(mfn);
	}
	*out = mfn;
	if (mfn_is_none(mfn)) {
		p->fault_denied++;
		return ERR_NOMEM;
	}
	return OK;
}

/* Its content is in the frame: mapped, and what it was in is dropped. */
static void commit_in(struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table_mfn, mfn_t mfn)
{
	uint64_t e = *entry;

	entry_write(entry, leaf_ram_4k(mfn));
	p->pages[entry_state(e)]--;
	p->pages[P2M_RAM]++;
	p2m_drop_out(p, e, NULL);
	if (p2m_note_come(frame_known(table_mfn), level_index(gfn, 1), mfn)) {
		status_t joined = p2m_join_locked(p, gfn);

		(void)joined;
	}
}

static status_t swap_in(struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table, uint32_t flags)
{
	uint64_t slot = entry_payload(*entry);
	const char *why = "";
	mfn_t mfn;
	/* Asked for first, so that no frame is taken for a page that is still on its way. */
	status_t s = swap_get(slot, NULL, &why);

	if (s == OK)
		s = place(p, gfn, table, flags, &mfn);
	else if (s == ERR_BUSY)
		p->fault_swap_wait++;
	if (s == OK) {
		s = swap_get(slot, mfn_to_va(mfn), &why);
		if (s != OK)
			frame_free(&p->account, mfn, ORDER_4K);
	}
	if (s == ERR_IO)
		return lose(p, gfn, P2M_SWAPPED, slot, why);
	if (s != OK)
		return s;
	commit_in(p, gfn, entry, table, mfn);
	p->fault_swap_in++;
	return OK;
}

/*
 * The object of a COMPRESSED entry, expanded into this CPU's page 1, with the lock given up meanwhile. OK: the entry
 * still has it. ERR_NOENT: it has changed.
 */
static status_t expand(struct p2m *p, gfn_t gfn, uint64_t e)
{
	uint64_t handle = entry_payload(e);
	uint32_t bytes;
	mfn_t table;

	zstore_get(handle, p2m_scratch(0), &bytes);
	spin_unlock(&p->lock);
	status_t s = page_decompress(p2m_scratch(0), bytes, p2m_scratch(1));

	spin_lock(&p->lock);
	uint64_t *entry = p2m_find_page(p, gfn, &table);

	if (!entry || *entry != e)
		return ERR_NOENT;
	return s == OK ? OK : lose(p, gfn, P2M_COMPRESSED, handle, "its compressed content is damaged");
}

static status_t expand_in(struct p2m *p, gfn_t gfn, uint64_t e, uint32_t flags)
{
	mfn_t table, mfn;
	status_t s = expand(p, gfn, e);

	if (s != OK)
		return s == ERR_NOENT ? OK : s; /* the caller looks again */
	uint64_t *entry = p2m_find_page(p, gfn, &table);

	s = place(p, gfn, table, flags, &mfn);
	if (s != OK)
		return s;
	memcpy(mfn_to_va(mfn), p2m_scratch(1), PAGE_BYTES);
	commit_in(p, gfn, entry, table, mfn);
	p->fault_expand++;
	return OK;
}

status_t p2m_bring_in(struct p2m *p, gfn_t gfn, uint32_t frame_flags, bool whole)
{
	mfn_t table, mfn;
	uint64_t *entry = p2m_find_page(p, gfn, &table);

	if (!entry || entry_present(*entry) || !entry_is_out(*entry))
		return OK;
	if (entry_state(*entry) == P2M_IN_FLIGHT) {
		map_again(p, gfn, entry, table);
		p->fault_held++;
		return OK;
	}
	if (whole) {
		status_t s = place(p, gfn, table, frame_flags, &mfn);

		if (s == OK)
			commit_in(p, gfn, entry, table, mfn);
		p->overwritten += s == OK;
		return s;
	}
	if (entry_state(*entry) == P2M_COMPRESSED)
		return expand_in(p, gfn, *entry, frame_flags);
	return swap_in(p, gfn, entry, table, frame_flags);
}

status_t p2m_read_out(struct p2m *p, gfn_t gfn, void *page)
{
	mfn_t table;
	const uint64_t *entry = p2m_find_page(p, gfn, &table);
	const char *why = "";

	if (!entry || entry_present(*entry) || !entry_is_out(*entry))
		return ERR_NOENT;
	uint64_t e = *entry;
	status_t s = OK;

	switch (entry_state(e)) {
	case P2M_IN_FLIGHT:
		memcpy(page, mfn_to_va(MFN(entry_payload(e))), PAGE_BYTES);
		break;
	case P2M_COMPRESSED:
		s = expand(p, gfn, e);
		if (s == OK && page != p2m_scratch(1))
			memcpy(page, p2m_scratch(1), PAGE_BYTES);
		break;
	default:
		s = swap_get(entry_payload(e), page, &why);
		if (s == ERR_IO)
			return lose(p, gfn, P2M_SWAPPED, entry_payload(e), why);
		break;
	}
	p->read_out += s == OK;
	return s;
}

bool p2m_ready(struct p2m *p, gpa_t gpa)
{
	gfn_t gfn = gpa_to_gfn(gpa);
	mfn_t table;
	bool ready = true;

	spin_lock(&p->lock);
	const uint64_t *entry = gfn.v < p->gfn_count ? p2m_find_page(p, gfn, &table) : NULL;

	if (entry && !entry_present(*entry) && entry_state(*entry) == P2M_SWAPPED)
		ready = swap_get(entry_payload(*entry), NULL, NULL) != ERR_BUSY;
	spin_unlock(&p->lock);
	return ready;
}
