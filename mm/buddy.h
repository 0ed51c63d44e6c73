/*
 * The buddy allocator under the frame pool: free blocks of 2^0 .. 2^10 frames, naturally aligned,
 * kept in the frames' own metadata. Clean (FREE) and DIRTY blocks are kept apart and merge only
 * with their own kind.
 *
 * A block's head has order, link, u.free.prev and u.free.head = 1; its other frames have order 0,
 * link FRAME_LINK_NONE and u.free.head = 0. Frames outside the buddy are not looked into but for
 * their state.
 *
 * Inline: these are most of a fault's path. Knuth, "Dynamic Storage Allocation", TAOCP 1, 2.5.
 * Numbers here are indices into the array (mfn - base). Locks: the caller's.
 */
#pragma once

#include "mm/frame.h"
#include "vmm/base/bug.h"

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

/* The first word of a free frame; of its state only the order and the link ever change here. */
static inline uint64_t buddy_word(enum buddy_kind kind, uint32_t order, uint32_t link)
{
	uint64_t state = kind == BUDDY_CLEAN ? FRAME_FREE : FRAME_DIRTY;

	return state | (uint64_t)order << 8 | (uint64_t)FRAME_OWNER_NONE << 16 |
	       (uint64_t)link << 32;
}

static inline enum buddy_kind buddy_kind_of(const struct frame *f)
{
	return f->state == FRAME_FREE ? BUDDY_CLEAN : BUDDY_DIRTY;
}

static inline void buddy_push(struct buddy *b, enum buddy_kind kind, uint32_t index, uint32_t order)
{
	struct frame *f = &b->array[index];
	uint32_t next = b->head[kind][order];

	f->word = buddy_word(kind, order, next);
	f->u.refs = 1ull << 32 | BUDDY_NONE; /* head, no prev */
	if (next != BUDDY_NONE)
		b->array[next].u.free.prev = index;
	__atomic_store_n(&b->head[kind][order], index, __ATOMIC_RELAXED); /* frame_block_hint() */
	b->blocks[kind][order]++;
	__atomic_store_n(&b->mask[kind], b->mask[kind] | 1u << order, __ATOMIC_RELAXED);
}

static inline void buddy_pull(struct buddy *b, enum buddy_kind kind, uint32_t index, uint32_t order)
{
	struct frame *f = &b->array[index];
	uint32_t next = f->link, prev = f->u.free.prev;

	if (next != BUDDY_NONE)
		b->array[next].u.free.prev = prev;
	if (prev != BUDDY_NONE)
		b->array[prev].link = next;
	else
		__atomic_store_n(&b->head[kind][order], next, __ATOMIC_RELAXED);
	if (--b->blocks[kind][order] == 0)
		__atomic_store_n(&b->mask[kind], b->mask[kind] & ~(1u << order), __ATOMIC_RELAXED);
	f->word = buddy_word(kind, 0, FRAME_LINK_NONE);
	f->u.refs = 0;
}

static inline void buddy_init(struct buddy *b, struct frame *array, uint32_t count)
{
	*b = (struct buddy){ .array = array, .count = count };
	for (uint32_t kind = 0; kind < BUDDY_KINDS; kind++)
		for (uint32_t order = 0; order < BUDDY_ORDERS; order++)
			b->head[kind][order] = BUDDY_NONE;
}

/* The block's frames are in state FREE or DIRTY already, all the same, and in no block. */
static inline void buddy_put(struct buddy *b, uint32_t index, uint32_t order)
{
	struct frame *f = &b->array[index];
	uint8_t state = f->state;
	enum buddy_kind kind = buddy_kind_of(f);

	b->pages[kind] += 1ull << order;
	f->word = buddy_word(kind, 0, FRAME_LINK_NONE);
	f->u.refs = 0;
	while (order < BUDDY_ORDERS - 1) {
		uint32_t other = index ^ (1u << order);
		const struct frame *o = &b->array[other];

		if (other >= b->count ||
			(uint16_t)__atomic_load_n(&o->word, __ATOMIC_RELAXED) != (state | order << 8) ||
			!o->u.free.head)
			break;
		buddy_pull(b, kind, other, order);
		index &= ~(1u << order);
		order++;
	}
	buddy_push(b, kind, index, order);
}

/* Takes the block at `head` off its list and gives back all but the 2^order frames at `index`. */
static inline void buddy_carve(
	struct buddy *b, enum buddy_kind kind, uint32_t head, uint32_t index, uint32_t order)
{
	uint32_t have = b->array[head].order;

	buddy_pull(b, kind, head, have);
	while (have > order) {
		have--;
		if (index & (1u << have)) {
			buddy_push(b, kind, head, have);
			head |= 1u << have;
		} else {
			buddy_push(b, kind, head | (1u << have), have);
		}
	}
	b->pages[kind] -= 1ull << order;
}

/* The smallest block of a kind that holds 2^order frames, cut to size. BUDDY_NONE: none. */
static inline uint32_t buddy_take(struct buddy *b, enum buddy_kind kind, uint32_t order)
{
	uint32_t fits = b->mask[kind] & (~0u << order);

	if (!fits)
		return BUDDY_NONE;
	uint32_t index = b->head[kind][__builtin_ctz(fits)];

	buddy_carve(b, kind, index, index, order);
	return index;
}

/* Free, and not taken out for a while (FRAME_ORDER_AWAY). */
static inline bool buddy_has(const struct frame *f)
{
	/* Read at once: a CPU makes one that it has ahead PRIVATE by one store, without the pool's lock. */
	uint64_t word = __atomic_load_n(&f->word, __ATOMIC_RELAXED);

	return frame_state_is_free((enum frame_state)(word & 0xff)) && (word >> 8 & 0xff) < BUDDY_ORDERS;
}

/* The head of the free block that holds a free frame: its index but for low bits. */
static inline uint32_t buddy_head_of(const struct buddy *b, uint32_t index)
{
	uint32_t head = index;

	while (!b->array[head].u.free.head) {
		HV_BUG_ON(head == 0 || index - head >= 1u << (BUDDY_ORDERS - 1));
		head &= head - 1;
	}
	return head;
}

/* Of the free block that holds this frame; BUDDY_NONE: it is not free. */
static inline uint32_t buddy_order_at(const struct buddy *b, uint32_t index)
{
	if (index >= b->count || !buddy_has(&b->array[index]))
		return BUDDY_NONE;
	return b->array[buddy_head_of(b, index)].order;
}

/* Just these 2^order frames (naturally aligned). False: they are not all in one free block. */
static inline bool buddy_take_at(struct buddy *b, uint32_t index, uint32_t order)
{
	if (index >= b->count || !buddy_has(&b->array[index]))
		return false;
	uint32_t head = buddy_head_of(b, index);

	if (b->array[head].order < order)
		return false;
	buddy_carve(b, buddy_kind_of(&b->array[head]), head, index, order);
	return true;
}
