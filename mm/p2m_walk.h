/* The second-level entries as mm writes them, and the walk. For mm/p2m*.c and the auditor only. */
#pragma once

#include "mm/p2m.h"
#include "vmm/base/bug.h"
#include "vmm/base/directmap.h"

#define TABLE_ENTRIES 512u

/* A not-present entry: its state in bits 8..11. */
#define ENTRY_STATE_SHIFT   8u
#define ENTRY_PAYLOAD_SHIFT 12u
#define ENTRY_PAYLOAD_MASK  ((1ull << 63) - (1ull << ENTRY_PAYLOAD_SHIFT))
#define ENTRY(state)        ((uint64_t)(state) << ENTRY_STATE_SHIFT)
/* Of an IN_FLIGHT one: unmapped to see whether it is touched (mm/sample.h), not on its way out. */
#define ENTRY_SAMPLED       (1ull << 3)
/* A present leaf: its state in the lower three of mm's four bits, pinned in the fourth. */
#define LEAF(state) ((uint64_t)(state) << SLAT_SW_SHIFT)
#define LEAF_PINNED (8ull << SLAT_SW_SHIFT)

/* Where a walk ended: the entry that decides about a gfn. */
struct p2m_slot {
	uint64_t *entry;
	uint32_t level;
	mfn_t table; /* the table that `entry` lies in */
};

static inline bool entry_present(uint64_t e)
{
	return e & slat_format->present_mask;
}
static inline mfn_t entry_mfn(uint64_t e)
{
	return MFN((e & SLAT_ADDR_MASK) >> PAGE_SHIFT);
}
/* Of an entry that may be present; at `level` > 1 it may be a table. */
static inline bool entry_is_table(uint64_t e, uint32_t level)
{
	return level > 1 && entry_present(e) && !(e & slat_format->big_mask);
}
/* Of anything but a table. */
static inline enum p2m_state entry_state(uint64_t e)
{
	return (enum p2m_state)(
		entry_present(e) ? e >> SLAT_SW_SHIFT & 7 : e >> ENTRY_STATE_SHIFT & 15);
}
/*
 * Of what is out; inverted. Some processors read, ahead of the fault, by the address in an entry that is not
 * present (Intel, "L1 Terminal Fault"): a frame's number, a slot's or a handle's is then one that no memory
 * has, as Linux does it.
 */
static inline uint64_t entry_payload(uint64_t e)
{
	return (~e & ENTRY_PAYLOAD_MASK) >> ENTRY_PAYLOAD_SHIFT;
}
/* EMPTY has no payload. */
static inline uint64_t entry_out(enum p2m_state s, uint64_t payload)
{
	return s == P2M_EMPTY ? ENTRY(s) : ENTRY(s) | (~(payload << ENTRY_PAYLOAD_SHIFT) & ENTRY_PAYLOAD_MASK);
}
/* Of a not-present entry: its content is somewhere, but not mapped. */
static inline bool entry_is_out(uint64_t e)
{
	enum p2m_state s = entry_state(e);

	return s == P2M_IN_FLIGHT || s == P2M_COMPRESSED || s == P2M_SWAPPED;
}
/*
 * A plain store, though a processor may set accessed and dirty in a present entry at any time, by locked
 * changes of its own: what it sets between our read of an entry and this store is lost. That does no
 * harm, as nothing is decided by these bits (splitting and joining hand them on as far as they saw
 * them, pinning too). Whoever comes to need them exact, to write a page out, exchanges the entry, and
 * flushes before he believes what he got. A processor that still holds the old entry, or the table it
 * lay in, may set bits there until slat_flush(): tables and frames are freed after it. The flush may wait
 * for CPUs with the p2m's lock held: they leave guest mode without it and want it only after.
 */
static inline void entry_write(uint64_t *entry, uint64_t e)
{
	__atomic_store_n(entry, e, __ATOMIC_RELEASE);
}
/*
 * A present leaf ends before another frame takes its place: else one CPU of the guest, which walks anew, could write
 * to the new frame while another still reads the old one, and see its own later reads go back in time. (Linux does
 * the same for its copies on write: ptep_clear_flush().) Lock held, and kept until the new leaf is written.
 */
static inline void entry_break(struct p2m *p, uint64_t *entry)
{
	entry_write(entry, ENTRY(P2M_EMPTY));
	slat_flush(&p->slat);
}
static inline uint64_t leaf_ram_4k(mfn_t mfn)
{
	return mfn_to_hpa(mfn).v | slat_format->leaf_4k | slat_format->write | LEAF(P2M_RAM);
}
static inline uint64_t leaf_ram_2m(mfn_t mfn)
{
	return mfn_to_hpa(mfn).v | slat_format->leaf_big | slat_format->write | LEAF(P2M_RAM);
}
static inline uint64_t leaf_shared(mfn_t mfn)
{
	return mfn_to_hpa(mfn).v | slat_format->leaf_4k | LEAF(P2M_SHARED);
}
static inline bool entry_is_shared(uint64_t e)
{
	return entry_present(e) && entry_state(e) == P2M_SHARED;
}
static inline uint64_t leaf_zero(void)
{
	return mfn_to_hpa(frame_zero_mfn()).v | slat_format->leaf_4k | LEAF(P2M_EMPTY);
}

/* log2 of the pages that an entry of `level` covers. */
static inline uint32_t level_order(uint32_t level)
{
	return 9 * (level - 1);
}
static inline uint32_t level_index(gfn_t gfn, uint32_t level)
{
	return (uint32_t)(gfn.v >> level_order(level)) & (TABLE_ENTRIES - 1);
}

/* Walks down to `floor` or to the first entry that is not a table. gfn is inside memory. */
static inline struct p2m_slot p2m_walk_to(const struct p2m *p, gfn_t gfn, uint32_t floor)
{
	uint64_t present = slat_format->present_mask, big = slat_format->big_mask;
	struct p2m_slot s = { .table = p->slat.root };

	for (s.level = SLAT_LEVELS;; s.level--) {
		s.entry = (uint64_t *)mfn_to_va(s.table) + level_index(gfn, s.level);
		uint64_t e = *s.entry;

		if (s.level == floor || !(e & present) || (e & big))
			return s;
		s.table = entry_mfn(e);
	}
}
static inline struct p2m_slot p2m_walk(const struct p2m *p, gfn_t gfn)
{
	return p2m_walk_to(p, gfn, 1);
}

/* The level-1 entry of gfn, or NULL if its memory has no table there. Short: a fault's way. */
static inline uint64_t *p2m_find_page(const struct p2m *p, gfn_t gfn, mfn_t *table)
{
	uint64_t mask = slat_format->present_mask | slat_format->big_mask;
	uint64_t is_table = slat_format->table & mask;
	uint64_t at = mfn_to_hpa(p->slat.root).v;

#pragma GCC unroll 3
	for (uint32_t level = SLAT_LEVELS; level > 1; level--) {
		uint64_t e = ((const uint64_t *)hpa_to_va(HPA(at)))[level_index(gfn, level)];

		if (UNLIKELY((e & mask) != is_table))
			return NULL;
		at = e & SLAT_ADDR_MASK;
	}
	*table = hpa_to_mfn(HPA(at));
	return (uint64_t *)hpa_to_va(HPA(at)) + level_index(gfn, 1);
}

/*
 * Makes a table in place of the entry at `s` (level > 1, not a table): not present, each child gets
 * its state; a 2 MiB leaf, each child its page. No gfn's state changes. Frame flags as given.
 */
status_t p2m_make_table(struct p2m *p, gfn_t gfn, struct p2m_slot s, uint32_t flags) MUST_CHECK;

/* Walks to `level`, making tables on the way. Those made stay if a later one is not to be had: the
 * states are the same with and without. */
status_t p2m_walk_make(
	struct p2m *p, gfn_t gfn, uint32_t level, uint32_t flags, struct p2m_slot *out) MUST_CHECK;

/* p2m_join() with gfn inside memory and the lock held. */
status_t p2m_join_locked(struct p2m *p, gfn_t gfn) MUST_CHECK;

/* p2m_fault() with gfn inside memory and the lock held, which it may give up and take again. */
enum p2m_fault_result p2m_fault_locked(struct p2m *p, gfn_t gfn, uint32_t access);

/* A frame entered (true: all 512 are in order now) or left its place in a level-1 table. */
bool p2m_note_come(struct frame *table, uint32_t index, mfn_t mfn);
static inline void p2m_note_gone(struct frame *table, uint32_t index, mfn_t mfn)
{
	if (table->u.table.in_order && table->link == (uint32_t)mfn.v - index)
		table->u.table.in_order--;
}
/* Where a page had best lie, so that all 512 of its table can become one leaf one day. */
mfn_t p2m_wanted(const struct frame *table, uint32_t index);

/*
 * The page of a not-present entry that entry_is_out() becomes RAM; or nothing happens. Lock held; it may have been
 * given up and taken again, so look at the entry anew. `whole`: the caller overwrites all of it, so content
 * is not brought in (IN_FLIGHT keeps it all the same).
 * ERR_NOMEM: no frame; ERR_BUSY: being read from swap; ERR_IO: lost.
 */
status_t p2m_bring_in(struct p2m *p, gfn_t gfn, uint32_t frame_flags, bool whole) MUST_CHECK;
struct evict_page;
/* The entry of a page that is held (mm/evict.h); NULL: not any more. Lock held. */
uint64_t *p2m_held_entry(struct p2m *p, const struct evict_page *page, mfn_t *table);

/*
 * The page of `entry`, SHARED, becomes RAM: its frame if nobody else has it, else a copy, which `whole` (the caller
 * overwrites all of it) saves. Flushes. Lock held. ERR_NOMEM.
 */
status_t p2m_unshare(struct p2m *p, gfn_t gfn, uint64_t *entry, mfn_t table, uint32_t frame_flags, bool whole)
	MUST_CHECK;
/* An entry that was SHARED has been cleared: its reference goes back after the next flush. In a batch that is
 * its end's, unless many come together; else p2m_flush_late() follows. Lock held. */
void p2m_drop_shared(struct p2m *p, mfn_t mfn);
void p2m_flush_late(struct p2m *p);
/* Its content to `page` (4 KiB), as it stays where it is: ERR_BUSY, ERR_IO; ERR_NOENT: it moved meanwhile. */
status_t p2m_read_out(struct p2m *p, gfn_t gfn, void *page) MUST_CHECK;
/* An IN_FLIGHT page becomes RAM again. Lock held. */
void p2m_map_again(struct p2m *p, gfn_t gfn);
/* Drops what a not-present entry refers to; its frame, if it has one, goes to the batch. Counts nothing. */
void p2m_drop_out(struct p2m *p, uint64_t e, struct frame_batch *batch);
/* A page of this CPU's own; `which` 0 or 1. Content is anybody's after the lock was given up... by this CPU only. */
void *p2m_scratch(uint32_t which);

/* A table that no entry points to any more: flushes, then frees it; in a batch, leaves it to that.
 */
void p2m_drop_table(struct p2m *p, mfn_t table);
