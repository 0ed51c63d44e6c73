/*
 * The buddy allocator under the frame pool: free blocks of 2^0 .. 2^10 frames, naturally aligned,
 * kept in the frames' own metadata. Clean (FREE) and DIRTY blocks are kept apart and merge only
 * with their own kind.
 *
 * A block's head has order, link, u.free.prev and u.free.head = 1; its other frames have order 0,
 * link FRAME_LINK_NONE and u.free.head = 0. Frames outside the buddy are not looked into but for their state.
 *
 * Numbers here are indices into the array (mfn - base). Locks: the caller's.
 */
#pragma once

#include "mm/frame.h"

#define BUDDY_ORDERS 11u
#define BUDDY_NONE   FRAME_LINK_NONE

enum buddy_kind { BUDDY_DIRTY, BUDDY_CLEAN, BUDDY_KINDS };

struct buddy {
	struct frame *array;
	uint32_t count;
	uint32_t mask[BUDDY_KINDS]; /* bit o: list o is not empty */
	uint32_t head[BUDDY_KINDS][BUDDY_ORDERS];
	uint32_t blocks[BUDDY_KINDS][BUDDY_ORDERS];
	uint64_t pages[BUDDY_KINDS];
};

void buddy_init(struct buddy *b, struct frame *array, uint32_t count);

/* The block's frames are in state FREE or DIRTY already, all the same, and in no block. */
void buddy_put(struct buddy *b, uint32_t index, uint32_t order);

/* The smallest block of a kind that holds 2^order frames, cut to size. BUDDY_NONE: there is none. */
uint32_t buddy_take(struct buddy *b, enum buddy_kind kind, uint32_t order);

/* Just these 2^order frames (naturally aligned). False: they are not all in one free block. */
bool buddy_take_at(struct buddy *b, uint32_t index, uint32_t order);
