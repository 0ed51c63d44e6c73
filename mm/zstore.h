/*
 * The store of compressed pages: objects of 1 .. ZSTORE_MAX_BYTES bytes in ZPOOL frames.
 *
 * Shape. Every object is cut into chunks of 128 bytes, and all chunks of all objects together are one dense
 * array: a stack of frames with 30 chunks each, of which only the topmost may have room. Putting pushes
 * chunks on top; freeing moves the topmost chunks into the holes. So there is never a hole, a frame that
 * empties goes back to the pool at once, and nothing has ever to be compacted:
 *
 *   data frames  = ceil(sum over objects of ceil(bytes / 128) / 30), always, whatever came and went before
 *   table frames <= ceil(most objects there were since the store was last empty / 146)
 *
 * That is, an object of b bytes costs ceil(b / 128) * 136.6 + 28.1 bytes: inside the last chunk up to 127
 * are lost (on average 64), each chunk has a link of 8, each object an entry of 28. For sizes spread evenly
 * over 1 .. 3072 it is 13% more than the bytes; at worst (one byte beyond a step) 39% at 513 bytes, 23% at
 * 1025, 15% at 2049. tests/unit/test_zstore.c asserts the two equations after every step.
 *
 * Objects move, their handles do not: a handle names an entry in a table frame, which names the first
 * chunk; each chunk names the next, and the last one the entry again, so that whoever moves a chunk finds
 * who points to it in one round of at most 25 steps. Freeing an object moves at most 24 chunks.
 * Bochs, an object of 1600 bytes: put 1231 ticks, get 610, free (in random order) 2115.
 *
 * Locks: all functions take the store's own (LOCK_RANK_ZSTORE). It is held for one copy of the object, or for
 * what is said. Compression and decompression are the caller's, without any lock.
 *
 * Who may free: an object belongs to the p2m entry that holds its handle (COMPRESSED), and is freed under
 * that p2m's lock together with the entry's change. A handle that is found in an entry under that lock is
 * therefore alive. A handle that names nothing is a bug of the hypervisor (no guest ever supplies one), and
 * zstore_get() and zstore_free() stop at it: a generation of 11 bits is part of the handle.
 */
#pragma once

#include "mm/frame.h"

#define ZSTORE_MAX_BYTES     3072u /* three quarters of a page: more does not pay */
#define ZSTORE_HANDLE_BITS   51u   /* fits the payload of a p2m entry; 0 is never a handle */
#define ZSTORE_CHUNK_BYTES   128u
#define ZSTORE_CHUNKS_FRAME  30u
#define ZSTORE_OBJECTS_FRAME 146u

/* Boot, or a new machine in a test: forgets all. The store never holds more than `max_pages` frames
 * (FRAME_ALLOC_EMERGENCY passes that). As frame_account_open(). */
status_t zstore_init(uint64_t max_pages) MUST_CHECK;
void zstore_set_max(uint64_t max_pages); /* less than it holds: nothing more is put until it has shrunk */

/*
 * Stores `bytes` bytes of guest `owner`'s page `gfn`. `flags`: enum frame_alloc_flags, for frame_alloc().
 * ERR_INVAL: 0 bytes, or more than ZSTORE_MAX_BYTES (it does not pay); ERR_NOMEM: no frame to be had;
 * ERR_LIMIT: the store is full. Nothing is changed then. Takes at most two frames.
 */
status_t zstore_put(const void *data, uint32_t bytes, uint16_t owner, uint32_t gfn, uint32_t flags,
	uint64_t *handle) MUST_CHECK;
/* Copies the object out; `buf` has room for ZSTORE_MAX_BYTES. HV_BUG if the handle names nothing. */
void zstore_get(uint64_t handle, void *buf, uint32_t *bytes);
/* HV_BUG if the handle names nothing. Gives frames back to the pool as they empty. */
void zstore_free(uint64_t handle);

struct zstore_object {
	uint64_t handle;
	uint32_t gfn;
	uint16_t owner;
	uint16_t bytes;
};
/* What a handle names. ERR_NOENT: nothing. */
status_t zstore_find(uint64_t handle, struct zstore_object *out) MUST_CHECK;

/*
 * The `n` objects that were put longest ago, oldest first, of one owner or (0) of all: for writing back to
 * swap. Returns how many. They may be gone or moved on by the time that the caller has their p2m's lock: what
 * counts is whether the entry still holds the handle. Locked for n steps, each one look at each owner.
 */
uint32_t zstore_coldest(uint16_t owner, struct zstore_object *out, uint32_t n);

struct zstore_use {
	uint64_t objects, bytes;
};
void zstore_owner_use(uint16_t owner, struct zstore_use *out);
/* Its part of the store's frames, by its bytes, rounded up: together they are all of them, and less than a page
 * an owner more. */
uint64_t zstore_owner_frames(uint16_t owner);

struct zstore_counts {
	struct zstore_use use;
	uint64_t chunks;
	uint64_t data_frames, table_frames, max_frames, peak_frames;
	uint64_t overhead_permille; /* of the bytes stored: what the frames take beyond them; 0: empty */
	/* since zstore_init() */
	uint64_t put_count, get_count, free_count, moved_chunks;
	uint64_t refused_nomem, refused_limit, refused_size;
};
void zstore_counts(struct zstore_counts *out);
uint64_t zstore_frames(void); /* both sorts; a hint without the lock */

/*
 * Proves the store: each object is in its owner's list in order of age, its chunks lead back to it and are as
 * many as its bytes need, all together are all chunks there are, the stack is dense, tables and counts
 * agree, and the frames marked as the store's are those charged to it. Returns the number of problems; each is told
 * to `problem` (may be NULL). Locked throughout: for the auditor, when all else stands still.
 */
uint64_t zstore_audit(void (*problem)(void *ctx, const char *what, uint64_t counted, uint64_t found),
	void *ctx);
