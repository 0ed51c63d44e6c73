/* Inside the store of compressed pages: what its frames hold. For mm/zstore*.c only. See mm/zstore.h. */
#pragma once

#include "mm/zstore.h"
#include "vmm/base/directmap.h"

/* The place of a chunk or an object: mfn << 8 | number in the frame. REF_NONE: none. */
#define REF_BITS 40u
#define REF_MASK ((1ull << REF_BITS) - 1)
#define REF_NONE REF_MASK /* no frame has that mfn */
#define LINK_LAST (1ull << 63) /* in a chunk's link: the rest is the object, not the next chunk */

#define CHUNKS_MAX ((ZSTORE_MAX_BYTES + ZSTORE_CHUNK_BYTES - 1) / ZSTORE_CHUNK_BYTES)
#define GENERATION_MASK ((1u << (ZSTORE_HANDLE_BITS - REF_BITS)) - 1)

enum zpool_kind { ZPOOL_DATA = 1, ZPOOL_TABLE = 2 }; /* struct frame's u.zpool.kind */

/* A frame of data. The stack of them is linked downwards by frame.link; u.zpool.used counts its chunks. */
struct zdata {
	uint64_t link[ZSTORE_CHUNKS_FRAME]; /* ref of the next chunk, or LINK_LAST | ref of the object */
	uint64_t spare[2];
	uint8_t chunk[ZSTORE_CHUNKS_FRAME][ZSTORE_CHUNK_BYTES];
};
_Static_assert(sizeof(struct zdata) == PAGE_BYTES, "a frame of data is a page");
_Static_assert(CHUNKS_MAX <= ZSTORE_CHUNKS_FRAME, "an object needs one fresh frame at most");

struct zobject {
	uint32_t first_mfn, newer_mfn, older_mfn; /* refs, in two parts: first chunk, neighbours in age */
	uint8_t first_number, newer_number, older_number;
	uint8_t list;  /* its owner's, + 1. 0: free; first_number is then the next free one + 1, 0: none */
	uint32_t gfn;
	uint32_t sequence; /* of zstore_put()s; wraps, so compared by difference */
	uint16_t bytes;
	uint16_t generation; /* changes when the object is freed */
};
_Static_assert(sizeof(struct zobject) == 28, "an entry is 28 bytes an object");
_Static_assert(sizeof(struct zobject) * ZSTORE_OBJECTS_FRAME <= PAGE_BYTES, "a table is a page");
_Static_assert(ZSTORE_OBJECTS_FRAME < 256 && MM_OWNER_MAX < 256, "numbers and lists are bytes");

/* One owner's objects, oldest first. */
struct zlist {
	uint16_t owner; /* guest id; 0: the list is nobody's */
	uint64_t oldest, newest; /* refs */
	struct zstore_use use;
};

struct zstore {
	struct spinlock lock; /* LOCK_RANK_ZSTORE */
	/* guarded by lock */
	struct frame_account account;
	uint32_t top;    /* mfn of the topmost frame of data, FRAME_LINK_NONE: none */
	uint32_t tables; /* mfn of the first table with room, FRAME_LINK_NONE: none */
	uint32_t sequence;
	uint16_t generation; /* where a new table's entries begin */
	struct zlist list[MM_OWNER_MAX]; /* an owner's is at id % MM_OWNER_MAX or behind, if free then */
	struct zstore_counts n;
};
extern struct zstore zstore;

static inline uint64_t ref_make(uint64_t mfn, uint32_t number)
{
	return mfn << 8 | number;
}
static inline mfn_t ref_mfn(uint64_t ref)
{
	return MFN(ref >> 8);
}
static inline uint32_t ref_number(uint64_t ref)
{
	return ref & 0xff;
}

static inline struct zobject *object_at(uint64_t ref)
{
	return (struct zobject *)mfn_to_va(ref_mfn(ref)) + ref_number(ref);
}
static inline uint64_t *link_at(uint64_t ref)
{
	return &((struct zdata *)mfn_to_va(ref_mfn(ref)))->link[ref_number(ref)];
}
static inline uint8_t *chunk_at(uint64_t ref)
{
	return ((struct zdata *)mfn_to_va(ref_mfn(ref)))->chunk[ref_number(ref)];
}

#define OBJECT_REF(name)                                                                           \
	static inline uint64_t object_##name(const struct zobject *o)                              \
	{                                                                                          \
		return ref_make(o->name##_mfn, o->name##_number);                                  \
	}                                                                                          \
	static inline void object_set_##name(struct zobject *o, uint64_t ref)                      \
	{                                                                                          \
		o->name##_mfn = (uint32_t)(ref >> 8);                                              \
		o->name##_number = (uint8_t)ref;                                                   \
	}
OBJECT_REF(first)
OBJECT_REF(newer)
OBJECT_REF(older)
#undef OBJECT_REF

static inline uint32_t chunks_for(uint32_t bytes)
{
	return (bytes + ZSTORE_CHUNK_BYTES - 1) / ZSTORE_CHUNK_BYTES;
}

static inline uint64_t object_handle(uint64_t ref)
{
	return (uint64_t)object_at(ref)->generation << REF_BITS | ref;
}

/* The list of an owner, NULL: it has nothing stored. Caller holds the lock. */
static inline struct zlist *zstore_list(uint16_t owner)
{
	for (uint32_t i = 0; i < MM_OWNER_MAX; i++) {
		struct zlist *l = &zstore.list[(owner + i) % MM_OWNER_MAX];

		if (LIKELY(l->owner == owner))
			return l;
	}
	return NULL;
}

/* The object that a handle names, NULL if none. *ref: its place. Caller holds the lock. */
struct zobject *zstore_object(uint64_t handle, uint64_t *ref);
