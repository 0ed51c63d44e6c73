/*
 * Pages that lie on their guest's own disk already (VSwapper's second finding: docs/adr/0010). What a guest
 * reads or writes as whole pages is remembered: block, gfn, hash. A page that the ladder has to take away and
 * that still is what the disk has there is dropped; its p2m entry is SWAPPED as ever, in a slot that means
 * the block. mm/swap.c hands all that is asked of such a slot on to here, so nobody else knows the difference.
 *
 * A block is 4 KiB of the host disk that has the guests' regions; its number is absolute. Callers of learn, break
 * and wrote are one at a time for a block (vmm/disk_turn.h). Entries are a cache of fixed size: what is
 * forgotten is swapped.
 *
 * Locks: each function takes the aliases' lock (LOCK_RANK_SWAP) itself; the device is called without it.
 */
#pragma once

#include "mm/hash.h"
#include "mm/swap.h"

#define ALIAS_BUFFERS 8u
#define ALIAS_SLOT    (1ull << 40) /* slots from here on: ALIAS_SLOT + block */
#define ALIAS_BLOCKS  (1ull << 32)
#define ALIAS_ENTRIES_MAX (1u << 16)
#define ALIAS_BYTES   28u /* an entry and a hint */

/* Room for at least `entries` blocks, up to ALIAS_ENTRIES_MAX, of the heap ALIAS_BYTES each; buffers of
 * ALIAS_BUFFERS * SWAP_GROUP pages, page aligned; transfers name slots. `key`: guests do not know it.
 * ERR_NOMEM. Without it nothing is ever remembered. */
status_t alias_init(uint64_t entries, void *buffers, swap_submit_fn submit, const struct hash_key *key) MUST_CHECK;

/* Block and page are the same now. Another page's claim to that block goes, unless it is out there. */
void alias_learn(uint16_t owner, uint64_t block, uint64_t gfn, const void *page);
/*
 * The blocks are about to be written. ERR_BUSY: the page *gfn of the guest that learned it is out in one of
 * them, and must be brought in first; then come again. OK: nobody's content lies there.
 */
status_t alias_break(uint64_t first, uint64_t count, uint64_t *gfn) MUST_CHECK;
/* They have been, or that was tried. */
void alias_wrote(uint64_t first, uint64_t count);
/* No guest has this region any more: none of its pages is out there. */
void alias_forget(uint64_t first, uint64_t count);

/* Is this the content of a block that the page is known by? Then *slot is where it is from now on. */
bool alias_take(uint16_t owner, uint64_t gfn, const void *page, uint64_t *slot);

static inline bool alias_is(uint64_t slot)
{
	return slot >= ALIAS_SLOT;
}

/* mm/swap.c's, for slots from ALIAS_SLOT on: as there. */
status_t alias_get(uint64_t slot, void *page, const char **why) MUST_CHECK;
void alias_free(uint64_t slot);
bool alias_owner(uint64_t slot, uint16_t *owner, uint64_t *gfn);
void alias_done(struct swap_io *io, status_t s);

struct alias_counts {
	uint64_t entries, known, used;      /* now; used: pages that are out */
	uint64_t taken, broken;             /* pages since boot: dropped; wanted back as their block was written */
	uint64_t reads, read_pages, errors; /* transfers, what was in them, those that failed */
	uint64_t wrong;                     /* pages that were not what was known of their block */
};
void alias_counts(struct alias_counts *out);

/* For the auditor: a word about what does not fit in the table, NULL if all does. */
const char *alias_check(void);
