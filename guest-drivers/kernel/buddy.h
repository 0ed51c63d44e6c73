/*
 * Pure. Physical pages: a buddy allocator from 4 KiB to 2 MiB over an array of descriptors, which are
 * not in the pages themselves: a free page is never touched, so that it costs the host nothing.
 *
 * Freed single pages wait on a short last-in first-out list and are used again first: they have a
 * frame of the host's already. Never-touched pages are known to be zero.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NO_PAGE UINT32_MAX
#define ORDER_MAX 9u
#define BUDDY_HOT_MAX 96u

enum page_state {
	PAGE_RESERVED = 0, /* not the allocator's: the image, tables made at boot, tails of blocks */
	PAGE_FREE,         /* head of a free block */
	PAGE_HOT,          /* free, on the hot list */
	PAGE_KERNEL,
	PAGE_ANON,    /* a process's: owner = pid, index = page of its space, slot if on swap too */
	PAGE_CACHE,   /* file data: index = block of the file, owner = next page of the hash chain */
	PAGE_BUSY,    /* being filled or written; on no list */
	PAGE_BALLOON,
};

enum {
	PAGE_TOUCHED = 1 << 0,    /* may hold anything; clear: reads as zero */
	PAGE_REFERENCED = 1 << 1, /* cache: used since the clock's last visit */
	PAGE_ACTIVE = 1 << 2,     /* which of its two LRU lists */
};

struct page {
	uint32_t next, prev; /* of whichever list its state puts it on */
	uint32_t slot;       /* swap slot + 1; 0 for none */
	uint32_t owner;
	uint32_t index;
	uint8_t state;
	uint8_t order; /* of a block's head */
	uint8_t flags;
	uint8_t unused;
};
_Static_assert(sizeof(struct page) == 24, "small descriptors");

struct page_list {
	uint32_t head, tail, count;
};

struct buddy {
	struct page *pages;
	uint32_t page_count;
	uint32_t free_pages; /* hot ones too */
	struct page_list hot;
	struct page_list free[ORDER_MAX + 1];
};

void page_list_init(struct page_list *l);
void page_list_push_front(struct page *pages, struct page_list *l, uint32_t p);
void page_list_push_back(struct page *pages, struct page_list *l, uint32_t p);
void page_list_remove(struct page *pages, struct page_list *l, uint32_t p);

/* `pages` is zeroed: all RESERVED and untouched. */
void buddy_init(struct buddy *b, struct page *pages, uint32_t page_count);
/* Gives the allocator [first, first + count). Touches one descriptor a block. */
void buddy_add(struct buddy *b, uint32_t first, uint32_t count, bool touched);

/*
 * First page of a block of 2^order pages, or NO_PAGE. *zero (may be NULL): all of it reads as zero
 * and was never used. State KERNEL, TOUCHED set on each page.
 */
uint32_t buddy_alloc(struct buddy *b, unsigned int order, bool *zero);
/* The same for a block that nobody will write to (the balloon's): keeps what is known of its pages. */
uint32_t buddy_take(struct buddy *b, unsigned int order);
void buddy_free(struct buddy *b, uint32_t first, unsigned int order);
/* Gives back a block that has become zero and has no frame any more: used last. */
void buddy_free_untouched(struct buddy *b, uint32_t first, unsigned int order);
/* Moves the hot pages into the buddy lists, so that larger blocks can form. */
void buddy_drain(struct buddy *b);
