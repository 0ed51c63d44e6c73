/* The buddy allocator: see mm/buddy.h. Knuth, "Dynamic Storage Allocation", TAOCP 1, 2.5. */
#include "mm/buddy.h"
#include "vmm/base/bug.h"

static inline enum buddy_kind kind_of(const struct frame *f)
{
	return f->state == FRAME_FREE ? BUDDY_CLEAN : BUDDY_DIRTY;
}

static inline void push(struct buddy *b, enum buddy_kind kind, uint32_t index, uint32_t order)
{
	struct frame *f = &b->array[index];
	uint32_t next = b->head[kind][order];

	f->order = (uint8_t)order;
	f->link = next;
	f->u.free.prev = BUDDY_NONE;
	f->u.free.head = 1;
	if (next != BUDDY_NONE)
		b->array[next].u.free.prev = index;
	b->head[kind][order] = index;
	b->blocks[kind][order]++;
	b->mask[kind] |= 1u << order;
}

static inline void pull(struct buddy *b, enum buddy_kind kind, uint32_t index, uint32_t order)
{
	struct frame *f = &b->array[index];
	uint32_t next = f->link, prev = f->u.free.prev;

	if (next != BUDDY_NONE)
		b->array[next].u.free.prev = prev;
	if (prev != BUDDY_NONE)
		b->array[prev].link = next;
	else
		b->head[kind][order] = next;
	if (--b->blocks[kind][order] == 0)
		b->mask[kind] &= ~(1u << order);
	f->order = 0;
	f->link = FRAME_LINK_NONE;
	f->u.refs = 0;
}

void buddy_init(struct buddy *b, struct frame *array, uint32_t count)
{
	*b = (struct buddy){ .array = array, .count = count };
	for (uint32_t kind = 0; kind < BUDDY_KINDS; kind++)
		for (uint32_t order = 0; order < BUDDY_ORDERS; order++)
			b->head[kind][order] = BUDDY_NONE;
}

void buddy_put(struct buddy *b, uint32_t index, uint32_t order)
{
	struct frame *f = &b->array[index];
	uint8_t state = f->state;
	enum buddy_kind kind = kind_of(f);

	b->pages[kind] += 1ull << order;
	f->link = FRAME_LINK_NONE;
	f->order = 0;
	f->u.refs = 0;
	while (order < BUDDY_ORDERS - 1) {
		uint32_t other = index ^ (1u << order);
		const struct frame *o = &b->array[other];

		if (other >= b->count || o->state != state || !o->u.free.head || o->order != order)
			break;
		pull(b, kind, other, order);
		index &= ~(1u << order);
		order++;
	}
	push(b, kind, index, order);
}

/* Takes the block at `head` off its list and gives back all but the 2^order frames at `index`. */
static inline void carve(struct buddy *b, enum buddy_kind kind, uint32_t head, uint32_t index,
	uint32_t order)
{
	uint32_t have = b->array[head].order;

	pull(b, kind, head, have);
	while (have > order) {
		have--;
		if (index & (1u << have)) {
			push(b, kind, head, have);
			head |= 1u << have;
		} else {
			push(b, kind, head | (1u << have), have);
		}
	}
	b->pages[kind] -= 1ull << order;
}

uint32_t buddy_take(struct buddy *b, enum buddy_kind kind, uint32_t order)
{
	uint32_t fits = b->mask[kind] & (~0u << order);

	if (!fits)
		return BUDDY_NONE;
	uint32_t index = b->head[kind][__builtin_ctz(fits)];

	carve(b, kind, index, index, order);
	return index;
}

bool buddy_take_at(struct buddy *b, uint32_t index, uint32_t order)
{
	if (index >= b->count || !frame_state_is_free(b->array[index].state))
		return false;
	uint32_t head = index;

	/* The head of the block that holds a free frame has the frame's index but for low bits. */
	while (!b->array[head].u.free.head) {
		HV_BUG_ON(head == 0 || index - head >= 1u << (BUDDY_ORDERS - 1));
		head &= head - 1;
	}
	if (b->array[head].order < order)
		return false;
	carve(b, kind_of(&b->array[head]), head, index, order);
	return true;
}
