/*
 * p2m: guest frame number -> state, one entry a gfn, kept in the second-level table itself: there
 * is no second truth. A not-present entry carries state and payload:
 *
 *   bits 0..2 zero | 3 sampled | 4..7 spare | 8..11 enum p2m_state | 12..62 payload, inverted | 63 zero
 *
 * a present leaf carries the state in bits 52..54 and "pinned" in bit 55 (SLAT_SW). An all-zero
 * entry is NONE: what lies beyond memory's end. EMPTY entries are written at creation. An entry of any
 * level may hold EMPTY or BALLOONED for all it covers; tables below are made when needed.
 *
 * The zero frame: a read of EMPTY maps it read-only; the state stays EMPTY.
 *
 * Locks: each function takes p2m->lock (LOCK_RANK_P2M) unless it says otherwise.
 */
#pragma once

#include "mm/frame.h"
#include "mm/slat.h"

enum p2m_state {
	P2M_NONE = 0,   /* no memory there */
	P2M_EMPTY,      /* never touched, or given back: reads as zero */
	P2M_RAM,        /* a PRIVATE frame, 4 KiB or 2 MiB leaf */
	P2M_SHARED,     /* a SHARED frame, read-only */
	P2M_BALLOONED,  /* the guest gave it away */
	P2M_COMPRESSED, /* payload: handle */
	P2M_SWAPPED,    /* payload: slot */
	P2M_IN_FLIGHT,  /* unmapped, its frame still there; payload: mfn. See mm/evict.h */
	P2M_MMIO,
	P2M_STATE_COUNT
};

#define P2M_KEEPERS 8u /* see p2m_keep() */
#define P2M_LATE 16u

struct p2m {
	struct spinlock lock;
	/* constant after p2m_create() */
	uint64_t gfn_count; /* memory is gfn 0 .. gfn_count - 1 */
	bool populate_2m;   /* a first write may take a whole 2 MiB block while the pool is roomy */
	/* whose equal pages its own may share a frame with (mm/share.h); set before its first page is RAM */
	bool share_none;
	uint16_t share_group;
	/* guarded by lock */
	struct slat_space slat;
	struct frame_account account;
	uint64_t pages[P2M_STATE_COUNT]; /* gfns by state; sums to gfn_count */
	uint64_t pages_in_2m;            /* of RAM: mapped by 2 MiB leaves */
	uint64_t zero_mapped;            /* of EMPTY: mapped to the zero frame */
	uint64_t pinned;                 /* of RAM: pinned by the hypervisor */
	uint64_t table_count;            /* of all levels */
	struct frame_batch *batch;       /* between p2m_batch_begin() and _finish() */
	bool flush_needed;               /* something was unmapped since the last flush */
	uint32_t exchange;               /* pages that may come in beyond the limit: see p2m_settle() */
	struct p2m_kept {
		uint64_t first, end; /* gfns; empty: none */
	} kept[P2M_KEEPERS];
	uint32_t late_count;             /* references to SHARED frames, to be given back after it */
	uint32_t late[P2M_LATE];
	/* counters since creation, guarded by lock */
	uint64_t fault_populate, fault_zero_read, fault_cow_zero, fault_spurious, fault_2m;
	uint64_t fault_denied, balloon_touch, split_2m, join_2m;
	uint64_t fault_exec_2m;   /* 2 MiB leaves that were executed from, and may not be: tables since */
	uint64_t fault_held;      /* IN_FLIGHT, wanted back */
	uint64_t fault_expand;    /* COMPRESSED pages that came back */
	uint64_t fault_swap_in;   /* SWAPPED ones */
	uint64_t fault_swap_wait; /* times that one had to wait for the disk */
	uint64_t gathered_2m;     /* 2 MiB that became one leaf again by moving their pages together */
	uint64_t on_own_disk;     /* now: SWAPPED pages that lie on the guest's own disk (mm/alias.h) */
	uint64_t overwritten;     /* pages out that were overwritten whole: nothing was brought in */
	uint64_t read_out;        /* pages out that were read where they lay */
	uint64_t shared;          /* pages that became SHARED */
	uint64_t cow_copied;      /* SHARED pages that were written to, and others map the frame */
	uint64_t cow_taken;       /* SHARED pages whose frame nobody else maps any more: RAM again, no copy */
	/* the page that P2M_FAULT_LOST was about */
	gfn_t lost_gfn;
	enum p2m_state lost_from; /* where its content was: lost_slot of swap, or a handle */
	uint64_t lost_slot;
	const char *lost_why; /* NULL: none is */
};

/*
 * What counts as the guest's share of memory: its frames, mapped, or unmapped and still there; and half a
 * frame for each SHARED page, for a shared frame has two users at least, or is given back to the last one by
 * and by. So all guests' sum is never less than what they hold, and nobody gets rid of what he owes by making
 * pages equal.
 */
static inline uint64_t p2m_resident(const struct p2m *p)
{
	return p->pages[P2M_RAM] + p->pages[P2M_IN_FLIGHT] + (p->pages[P2M_SHARED] + 1) / 2;
}

enum p2m_access {
	P2M_READ = 1u,
	P2M_WRITE = 2u,
	P2M_EXEC = 4u,
	/* Not an access: this fault may take emergency pages (FRAME_ALLOC_EMERGENCY) and go beyond
	 * the account's max, one page and its tables only. vmm bounds how often (vmm/memwait.h). */
	P2M_GRACE = 8u,
};

/*
 * As many pages as p2m_settle() has put away may come in again beyond the account's limit, up to so many: one that
 * comes in leaves room where it was for one that goes. Else a guest at its limit, with swap and the compressed
 * store full, would stand still for ever.
 */
#define P2M_EXCHANGE 16u

enum p2m_fault_result {
	P2M_FAULT_MAPPED,  /* go on: the access will now succeed */
	P2M_FAULT_WAIT,    /* no frame to be had now: the vCPU waits and tries again */
	P2M_FAULT_NOT_RAM, /* outside memory */
	P2M_FAULT_DISK,    /* its page is being read from swap: the vCPU waits and tries again */
	P2M_FAULT_LOST,    /* its page cannot be had any more: lost_gfn, lost_slot, lost_why */
};

/*
 * Creates the p2m of a guest with `pages` of memory, all EMPTY; opens its account (admission).
 * Fails: ERR_LIMIT (admission; *room_pages as frame_account_open), ERR_NOMEM (root table),
 * ERR_INVAL (no pages, or 16 TiB and more).
 */
status_t p2m_create(struct p2m *p, uint16_t owner, uint64_t pages, uint64_t min_pages,
	uint64_t *room_pages) MUST_CHECK;
/* Table frames that `pages` of memory need at most: they are charged to the guest's account too. */
uint64_t p2m_tables_for(uint64_t pages);
/* Gives everything back. No vCPU of the guest runs. Bounded by memory size. */
void p2m_destroy(struct p2m *p);

/*
 * Resolves a second-level fault. EMPTY: read -> zero frame, write -> a zeroed frame (or 2 MiB).
 * BALLOONED: the page leaves the balloon (counted in balloon_touch), then as EMPTY.
 * SHARED: a write takes the frame if nobody else maps it, else copies it.
 * RAM in a 2 MiB leaf: a fetch, where such leaves are not executable (slat_format), makes it 512 pages for good.
 * Never HV_BUGs on anything a guest can do.
 */
enum p2m_fault_result p2m_fault(struct p2m *p, gpa_t gpa, uint32_t access);

/*
 * The balloon. One naturally aligned block of 2^order pages (order 0 or 9).
 * inflate: any of EMPTY, RAM (not pinned), SHARED, and what is out becomes BALLOONED; frames go to `out` for
 *   frame_batch_free() after the flush that p2m_batch_finish() makes. Checks the whole block first:
 *   ERR_RANGE (outside memory or unaligned), ERR_EXIST (a page is in the balloon), ERR_BUSY
 *   (pinned), ERR_NOMEM (a table for a split is not to be had); nothing is changed then.
 * deflate: BALLOONED -> EMPTY. ERR_RANGE, ERR_NOENT (a page is not in the balloon), ERR_NOMEM (a
 *   table for a page out of a ballooned 2 MiB block is not to be had: deflate the block).
 * Both: caller holds p2m->lock through p2m_batch_begin() .. p2m_batch_finish().
 */
void p2m_batch_begin(struct p2m *p, struct frame_batch *out);
status_t p2m_inflate(struct p2m *p, gfn_t gfn, uint32_t order, struct frame_batch *out) MUST_CHECK;
status_t p2m_deflate(struct p2m *p, gfn_t gfn, uint32_t order) MUST_CHECK;
/* Flushes if anything was unmapped, frees the batch, unlocks. */
void p2m_batch_finish(struct p2m *p, struct frame_batch *out);
/* Every BALLOONED page becomes EMPTY. */
void p2m_deflate_all(struct p2m *p);

/*
 * Copies between the hypervisor and a guest's memory; populates as a guest's own access would. What is out is
 * read from where it lies and stays there; what is overwritten whole is not brought in first.
 * All or nothing is not promised: ERR_RANGE (outside memory, checked first, nothing copied),
 * ERR_NOMEM (a frame is not to be had; copied up to there), ERR_BUSY (a page is being read from swap), ERR_IO
 * (a page is lost).
 */
status_t p2m_copy_from(struct p2m *p, gpa_t from, void *buf, uint64_t bytes) MUST_CHECK;
status_t p2m_copy_to(struct p2m *p, gpa_t to, const void *buf, uint64_t bytes) MUST_CHECK;

/* Whether a page that was being read from swap (P2M_FAULT_DISK, ERR_BUSY) can be had now, or is lost. */
bool p2m_ready(struct p2m *p, gpa_t gpa);

/*
 * Populates a page and pins it (never ballooned, shared or swapped) until p2m_unpin(); *va is its
 * address in the direct map. Pins do not nest: ERR_EXIST if pinned. Else as p2m_copy_to().
 */
status_t p2m_pin(struct p2m *p, gfn_t gfn, void **va) MUST_CHECK;
void p2m_unpin(struct p2m *p, gfn_t gfn);

/*
 * What a call's results will be written to: RAM from now on, and not evicted before p2m_keep_end(), so that
 * p2m_copy_to() does not fail when the call has been carried out. One range for each `who` (a vCPU's number), not
 * empty. Returns as p2m_copy_to() does; on an error nothing is kept.
 */
status_t p2m_keep(struct p2m *p, uint32_t who, gpa_t at, uint64_t bytes) MUST_CHECK;
void p2m_keep_end(struct p2m *p, uint32_t who);

/* What a gfn is now; for the auditor, tests and the console. */
struct p2m_entry {
	enum p2m_state state;
	uint32_t level;  /* 1, 2 or 3: how large the entry is */
	mfn_t mfn;       /* RAM, SHARED and zero-mapped EMPTY; else MFN_NONE */
	bool writable, pinned;
	uint64_t payload;
};
void p2m_lookup(struct p2m *p, gfn_t gfn, struct p2m_entry *out);

/* Splits the 2 MiB leaf that holds gfn (ERR_NOENT: none; ERR_NOMEM: no table), or joins 512 pages
 * that lie in order in an aligned 2 MiB of host memory (ERR_BUSY: they do not, or have been executed from
 * where leaves may not be). */
status_t p2m_split(struct p2m *p, gfn_t gfn) MUST_CHECK;
status_t p2m_join(struct p2m *p, gfn_t gfn) MUST_CHECK;

const char *p2m_state_name(enum p2m_state s);
