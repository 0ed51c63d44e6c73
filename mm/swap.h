/*
 * Swap: pages on the host's disk. docs/reclaim.md. A slot holds one page; buffers of SWAP_GROUP
 * slots lie between pages and disk, in both directions: pages are written in groups, and what lies in a
 * buffer is had without the disk. Never waits, never allocates after swap_init().
 *
 * Locks: each function takes the swap's lock (LOCK_RANK_SWAP, below P2M) itself. Content is copied and hashed
 * under it, a page at a time. The device is called without it.
 */
#pragma once

#include "vmm/base/types.h"
#include "vmm/base/lock.h"
#include "vmm/base/status.h"

#define SWAP_GROUP   16u /* slots a buffer holds: one transfer of 64 KiB */
#define SWAP_BUFFERS 16u
#define SWAP_WRITING 8u  /* at most so many buffers hold what is not on the disk yet */
#define SWAP_NONE    UINT64_MAX
#define SWAP_TRIES   3u

/* One transfer. The device calls swap_done() once for each it took, from any CPU, no lock held. */
struct swap_io {
	uint64_t first; /* slot */
	uint32_t count;
	bool write;
	void *buf;      /* count pages, contiguous in memory */
	void *device;   /* the device's own; zero at first */
};
/* ERR_IO: there is no device (any more). Else it will be done. */
typedef status_t (*swap_submit_fn)(struct swap_io *io);

/*
 * `slots` of them (0: no swap; everything below then says ERR_LIMIT or counts 0), buffers at `buffers`
 * (SWAP_BUFFERS * SWAP_GROUP pages, page aligned). ERR_NOMEM: no memory for the owners' table, 16
 * bytes a slot, from the heap.
 */
status_t swap_init(uint64_t slots, void *buffers, swap_submit_fn submit) MUST_CHECK;

/* The device is done with a transfer. */
void swap_done(struct swap_io *io, status_t s);

/*
 * Puts a page's content away: from then on `*slot` is the only place it is in. ERR_BUSY: all buffers are
 * on their way to the disk; ERR_LIMIT: swap is full, off, or failed.
 */
status_t swap_put(const void *page, uint16_t owner, uint64_t gfn, uint64_t *slot) MUST_CHECK;

/*
 * The content of a slot. `page` may be NULL: only whether it could be had. ERR_BUSY: it is being read
 * now (this call saw to it), come again after swap_done(); ERR_IO: it cannot be read, or is not what was
 * written (`*why`, may be NULL, gets which): it is lost. The slot stays.
 */
status_t swap_get(uint64_t slot, void *page, const char **why) MUST_CHECK;

/* Nobody refers to it any more. */
void swap_free(uint64_t slot);

/* The open buffer goes to the disk though it is not full: at the end of a round. */
void swap_push(void);

/* Takes up writing again after a failure (the operator's swap-on), or stops it. */
void swap_set_on(bool on);

/* Whose it is: false if the slot is free. For the auditor and tests. */
bool swap_owner(uint64_t slot, uint16_t *owner, uint64_t *gfn);

struct swap_counts {
	uint64_t slots, used;
	uint64_t put, got, freed;        /* pages since boot */
	uint64_t from_buffer;            /* of got: without the disk */
	uint64_t writes, written_pages;  /* transfers and what was in them */
	uint64_t reads, read_pages;
	uint64_t write_errors, read_errors, checksum_errors;
	uint32_t unwritten;              /* pages that lie in buffers only */
	bool on, failed;
};
void swap_counts(struct swap_counts *out);
bool swap_is_on(void); /* a hint, no lock */
