/*
 * Host frames: the state machine, the pool, and the buddy allocator under it.
 *
 * Each 4 KiB frame of RAM is in exactly one state; only frame_move() changes it, against a const
 * table of legal moves (mm/frame_state.h, pure). DIRTY -> FREE (scrubbing) is the only way to
 * become allocatable to a guest, so no guest ever reads another's bytes.
 *
 * The pool: frames given to guests (PRIVATE, SHARED, ZPOOL and their TABLEs) count against
 * `pool_limit`. Each guest has an account with a guaranteed `min_pages`: an allocation beyond its
 * own min succeeds only if it leaves enough for what other accounts are still guaranteed. O(1).
 *
 * Locks: all functions take the allocator's lock (LOCK_RANK_FRAME) themselves unless said otherwise.
 */
#pragma once

#include "mm/frame_state.h"
#include "vmm/base/lock.h"
#include "vmm/base/status.h"

#define FRAME_OWNER_NONE   0xffffu
#define FRAME_OWNER_ZSTORE 0xfffeu /* the store of compressed pages */
#define FRAME_OWNER_SHARED 0xfffdu /* pays for the SHARED frames but the zero frame */
#define MM_OWNER_MAX       64u     /* guests that there are at a time; ids are 1 .. 0xfffc */
#define FRAME_LINK_NONE  0xffffffffu

/* Metadata of one frame. Guarded by the allocator's lock while free, by the owner's p2m lock else. */
struct frame {
	union {
		struct {
			uint8_t state;  /* enum frame_state; changed by frame_move() only */
			uint8_t order;  /* of the free block or batch entry it heads; else 0 */
			uint16_t owner; /* guest id, or FRAME_OWNER_NONE */
			uint32_t link;  /* free: next block's head; in a frame_batch: next entry;
			                   level-1 TABLE: see u.table; SHARED: the domain that may
			                   have it; else FRAME_LINK_NONE */
		};
		uint64_t word; /* the four at once */
	};
	union {
		uint64_t gfn;  /* PRIVATE: where it is mapped; below 2^32 */
		uint64_t refs; /* the zero frame: gfns that map it; atomic */
		struct {
			uint32_t refs; /* other SHARED: references; atomic */
			uint32_t hint; /* mm/share.c's */
		} shared;
		struct {
			uint32_t prev; /* free: previous block's head */
			uint32_t head; /* free: 1 if this frame heads a block */
		} free;
		struct {
			/* Level 1: how many of the 512 pages lie at `link` + their index in the
			 * table, `link` being the first mfn of an aligned 2 MiB. At 512 the table
			 * can become one leaf. */
			uint16_t in_order;
			uint8_t level;
			uint8_t stays; /* level 1: it does not become a leaf (p2m_join_locked()) */
			uint32_t block; /* first gfn that the table maps, divided by 512 */
		} table;
		struct {
			uint16_t used;  /* objects handed out */
			uint16_t first; /* index + 1 of the first free object, 0: none */
			uint32_t prev;  /* the class's list of pages with room; `link` is next */
		} heap;
		struct {
			uint16_t used; /* chunks or objects in it */
			uint8_t kind;  /* see mm/zstore.c */
			uint8_t first; /* of a table: number + 1 of the first free object, 0: none */
			uint32_t prev; /* of a table: list of those with room; `link` is next */
		} zpool;
	} u;
};
_Static_assert(sizeof(struct frame) == 16, "frame metadata is 16 bytes a frame");

/* A guest's account with the pool. One owner: its p2m. */
struct frame_account {
	uint16_t owner;      /* guest id */
	uint64_t min_pages;  /* guaranteed; constant after frame_account_open() */
	uint64_t max_pages;  /* never holds more (UINT64_MAX: no bound); set by frame_account_set_max() */
	uint64_t limit_pages; /* nor more than this now; set by frame_account_set_limit() */
	uint64_t bound_pages; /* the lesser of the two; atomic */
	uint64_t used_pages; /* PRIVATE, TABLE, ... held now */
	uint64_t peak_pages;
	uint64_t denied;     /* allocations refused */
};

/*
 * Boot: frames [base, base + count) get metadata at `array` (count entries), all RESERVED. `base`
 * is a multiple of 1024; mfns stay below 2^32 - 1 (16 TiB).
 * Then frame_add() each usable run (-> DIRTY) and frame_claim() what is in use (-> HV).
 */
void frame_init(struct frame *array, mfn_t base, uint64_t count);
void frame_add(mfn_t first, uint64_t pages);   /* RESERVED -> DIRTY, into the buddy */
void frame_claim(mfn_t first, uint64_t pages); /* RESERVED -> HV: in use by the hypervisor */

/* Where the metadata is. Set once at boot, by frame_init(). */
struct frame_table {
	struct frame *array;
	uint64_t base, count;
};
extern struct frame_table frame_table;

/* NULL if outside the table. */
static inline struct frame *frame_of(mfn_t mfn)
{
	uint64_t i = mfn.v - frame_table.base;

	return LIKELY(i < frame_table.count) ? &frame_table.array[i] : NULL;
}
/* The same of a frame that is known to be in it. */
static inline struct frame *frame_known(mfn_t mfn)
{
	return &frame_table.array[mfn.v - frame_table.base];
}

/* Sets the pool's size in pages (UINT64_MAX: all that is free but `hv_reserve_pages`), and how many
 * pages stay back for tables and emergencies inside it. ERR_LIMIT if the host has fewer. */
status_t frame_pool_init(uint64_t pool_pages, uint64_t hv_reserve_pages, uint64_t emergency_pages)
	MUST_CHECK;

/* Admission: fails with ERR_LIMIT, changing nothing, if the sum of the mins would not fit the pool
 * less its emergency pages. *room_pages (may be NULL) gets how many pages of min could be had. */
status_t frame_account_open(struct frame_account *a, uint16_t owner, uint64_t min_pages,
	uint64_t *room_pages) MUST_CHECK;
/* used_pages must be 0. */
void frame_account_close(struct frame_account *a);

enum frame_alloc_flags {
	FRAME_ALLOC_ZEROED = 1u << 0,    /* content is zero (always so for PRIVATE) */
	FRAME_ALLOC_EMERGENCY = 1u << 1, /* may take the emergency pages and pass the account's max:
	                                    reclaim's own needs. Never what others are promised */
	FRAME_ALLOC_OVER_LIMIT = 1u << 2, /* passes the ladder's limit, but not the max */
};

/*
 * Allocates 2^order frames in state `to` (HV with account NULL; TABLE, PRIVATE, ZPOOL with one) and
 * charges the account. PRIVATE blocks get gfn, gfn+1, ... `want`: preferred first mfn (so that
 * neighbours in a guest become neighbours in the host and join to 2 MiB), or MFN_NONE: the smallest
 * block that fits, for PRIVATE; beside others of their sort for the rest.
 * PRIVATE and ZEROED: FREE frames before DIRTY ones, which are scrubbed here. Others: the content is
 * whatever it was, and the caller writes all of it.
 * Fails: ERR_NOMEM (nothing of that order, or the pool is full or promised to others),
 * ERR_LIMIT (the account's max). HV frames never come out of what the pool still owes.
 */
status_t frame_alloc(struct frame_account *a, enum frame_state to, uint32_t order, gfn_t gfn,
	mfn_t want, uint32_t flags, mfn_t *out) MUST_CHECK;

/* The same for one PRIVATE page, the path of a fault: MFN_NONE on failure, whichever. */
mfn_t frame_alloc_page(struct frame_account *a, gfn_t gfn, mfn_t want, uint32_t flags);

/* Back to DIRTY. The caller has unmapped and flushed them. Frees 2^order frames from `first`. */
void frame_free(struct frame_account *a, mfn_t first, uint32_t order);

/* Frames on their way out: unmapped, not yet flushed. Free them with one lock round after the flush. */
struct frame_batch {
	uint32_t head; /* mfn index chain through frame.link; each entry frees 2^frame.order frames */
	uint64_t pages;
};
static inline void frame_batch_init(struct frame_batch *b)
{
	b->head = FRAME_LINK_NONE;
	b->pages = 0;
}
static inline void frame_batch_add(struct frame_batch *b, mfn_t first, uint32_t order)
{
	struct frame *f = frame_known(first);

	__atomic_store_n(&f->order, (uint8_t)order, __ATOMIC_RELAXED); /* neighbours look at it */
	__atomic_store_n(&f->link, b->head, __ATOMIC_RELAXED);
	b->head = (uint32_t)first.v;
	b->pages += 1ull << order;
}
void frame_batch_free(struct frame_account *a, struct frame_batch *b); /* empties it */

/* Scrubs up to `pages` DIRTY frames to FREE; returns how many. For idle time; bounded work. */
uint64_t frame_scrub(uint64_t pages);

/* The operator's bound, and the reclaim ladder's. The control plane's CPU only. */
void frame_account_set_max(struct frame_account *a, uint64_t max_pages);
void frame_account_set_limit(struct frame_account *a, uint64_t limit_pages);

/* The zero frame: SHARED, all zero, mapped read-only wherever a guest reads what it never wrote. */
mfn_t frame_zero_mfn(void);

/*
 * SHARED frames: read-only, as many references as entries map them, and one for each who looks at one
 * meanwhile. All but the zero frame belong to no guest and are charged to an account of their own
 * (FRAME_OWNER_SHARED, min 0). `domain` says who may share it (mm/share.h); it is constant while the frame is
 * SHARED. All O(1); counts are exact. mm/share.h has the forms that keep the hints in step.
 */

/* refs + 1: of the zero frame, or of one that the caller has a reference to. */
void frame_share_get(mfn_t mfn);
/* refs + 1 if it is a SHARED frame of that domain (not the zero frame) now. Its content will not change
 * until the reference is given back. `mfn` may be any number. */
bool frame_share_get_if(mfn_t mfn, uint32_t domain) MUST_CHECK;
/* refs - 1. The caller has unmapped and flushed what the reference stood for. The last one frees the frame
 * (not the zero frame): true. */
bool frame_share_put(mfn_t mfn);
/*
 * PRIVATE -> SHARED, refs 1: the caller's. Nobody can write to it: its mapping is read-only or gone, and
 * flushed. ERR_LIMIT: the guest has no more than its min, which the pool could not give it a second
 * time; nobody would gain by it. The account's p2m lock is held.
 */
status_t frame_share_make(struct frame_account *a, mfn_t mfn, uint32_t domain) MUST_CHECK;
/*
 * SHARED -> PRIVATE at `gfn`, for a writer who has the only reference, which is consumed. ERR_BUSY: others
 * have references (or it is the zero frame): copy it. ERR_LIMIT: the account's max, unless `flags` has
 * FRAME_ALLOC_EMERGENCY. The account's p2m lock is held.
 */
status_t frame_share_take(struct frame_account *a, mfn_t mfn, gfn_t gfn, uint32_t flags) MUST_CHECK;

/*
 * The only writer of frame->state (with its form for whole blocks inside frame.c). HV_BUG on an
 * illegal move. Caller holds the allocator's lock if either state is a free one, else the owner's.
 */
void frame_move(struct frame *f, enum frame_state from, enum frame_state to);

/*
 * Fault injection, for the operator and tests: of the allocations from now on, frames for the hypervisor's heap
 * included, the n-th (from 1) and those after it, `count` in all, fail with ERR_NOMEM, emergency ones too.
 * count 0: off. While it is armed no CPU has frames ahead, so that each allocation is counted.
 */
struct frame_fault {
	uint64_t skip;   /* allocations that still succeed */
	uint64_t left;   /* that still fail; 0: off */
	uint64_t failed; /* since boot */
};
void frame_fault_set(uint64_t nth, uint64_t count);
void frame_fault_get(struct frame_fault *out);

/* Hints, no lock. First mfn of a free aligned 2 MiB, or MFN_NONE: for a guest's block to start. */
mfn_t frame_block_hint(void);
/* More than half of the pool stays free after `pages` more. */
bool frame_pool_roomy(uint64_t pages);

/* Counts, as of now. All in pages. */
struct frame_counts {
	uint64_t by_state[FRAME_STATE_COUNT];
	uint64_t total;          /* all RAM frames known (all states but RESERVED holes) */
	uint64_t pool_limit;
	uint64_t pool_used;      /* charged to accounts */
	uint64_t pool_free;      /* what guests could still be given in all: min(limit - used, free) */
	uint64_t promised;       /* of pool_free: guaranteed to accounts below their min */
	uint64_t emergency;
	uint64_t free_by_order[11];
	uint64_t scrubbed;       /* frames scrubbed since boot */
	uint64_t scrubbed_idle;  /* of these: in idle time */
	uint64_t metadata_bytes;
};
void frame_counts(struct frame_counts *out);
uint64_t frame_pool_free(void); /* fast, no lock: a hint */
