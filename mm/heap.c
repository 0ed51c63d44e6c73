/*
 * The heap: slabs of one page a size class up to 2048 bytes, runs of whole frames above.
 * A slab's list link and counts live in its frame's metadata (u.heap), free objects are chained
 * through their first two bytes, so that a page holds objects only. Model: Bonwick, "The Slab
 * Allocator" (1994), without constructors or colouring.
 */
#include "mm/heap.h"
#include "mm/zero.h"
#include "vmm/base/bug.h"

#define CLASS_MIN_SHIFT 4u
#define CLASS_COUNT     8u /* 16, 32, .. 2048 */
#define ORDER_MAX       ORDER_2M

/* `order` of a slab's frame holds its class: an allocated frame has no other use for it. */
static struct {
	struct spinlock lock;
	/* guarded by lock */
	uint32_t partial[CLASS_COUNT]; /* first slab with room: mfn + 1, 0: none */
	uint64_t frames;
} heap = { .lock = SPINLOCK_INIT(LOCK_RANK_HEAP) };

static inline uint32_t class_of(size_t bytes)
{
	uint32_t shift = CLASS_MIN_SHIFT;

	while ((size_t)1 << shift < bytes)
		shift++;
	return shift - CLASS_MIN_SHIFT;
}

static inline struct frame *frame_at(uint32_t mfn)
{
	return frame_of(MFN(mfn));
}

static uint16_t *object(uint32_t mfn, uint32_t class, uint32_t number)
{
	return (uint16_t *)((char *)mfn_to_va(MFN(mfn)) +
			    ((size_t)number << (class + CLASS_MIN_SHIFT)));
}

static void list_add(uint32_t class, uint32_t mfn)
{
	struct frame *f = frame_at(mfn);
	uint32_t next = heap.partial[class];

	f->link = next;
	f->u.heap.prev = 0;
	if (next)
		frame_at(next - 1)->u.heap.prev = mfn + 1;
	heap.partial[class] = mfn + 1;
}

static void list_remove_slab(uint32_t class, uint32_t mfn)
{
	struct frame *f = frame_at(mfn);

	if (f->link)
		frame_at(f->link - 1)->u.heap.prev = f->u.heap.prev;
	if (f->u.heap.prev)
		frame_at(f->u.heap.prev - 1)->link = f->link;
	else
		heap.partial[class] = f->link;
}

static bool slab_new(uint32_t class)
{
	uint32_t count = (uint32_t)(PAGE_BYTES >> (class + CLASS_MIN_SHIFT));
	mfn_t mfn;

	if (frame_alloc(NULL, FRAME_HV, ORDER_4K, GFN(0), MFN_NONE, 0, &mfn) != OK)
		return false;
	struct frame *f = frame_of(mfn);

	f->order = (uint8_t) class;
	f->u.heap.used = 0;
	f->u.heap.first = 1;
	for (uint32_t i = 0; i < count; i++)
		*object((uint32_t)mfn.v, class, i) = (uint16_t)(i + 1 < count ? i + 2 : 0);
	list_add(class, (uint32_t)mfn.v);
	heap.frames++;
	return true;
}

static void *alloc_small(size_t bytes)
{
	uint32_t class = class_of(bytes);

	spin_lock(&heap.lock);
	if (!heap.partial[class] && !slab_new(class)) {
		spin_unlock(&heap.lock);
		return NULL;
	}
	uint32_t mfn = heap.partial[class] - 1;
	struct frame *f = frame_at(mfn);
	uint16_t *o = object(mfn, class, f->u.heap.first - 1u);

	f->u.heap.first = *o;
	f->u.heap.used++;
	if (!f->u.heap.first)
		list_remove_slab(class, mfn);
	spin_unlock(&heap.lock);
	fill_words(o, 0, (uint64_t)1 << (class + CLASS_MIN_SHIFT - 3));
	return o;
}

static void free_small(void *p, size_t bytes)
{
	uint32_t class = class_of(bytes), shift = class + CLASS_MIN_SHIFT;
	uint64_t mfn = hpa_to_mfn(va_to_hpa(p)).v;
	uint32_t offset = (uint32_t)(va_to_hpa(p).v & PAGE_OFFSET_MASK);
	struct frame *f = frame_of(MFN(mfn));

	if (!f || f->state != FRAME_HV || f->order != class || offset & ((1u << shift) - 1) ||
		!f->u.heap.used)
		HV_BUG("heap_free of %zu bytes at %p: not such an object", bytes, p);
	spin_lock(&heap.lock);
	bool was_full = !f->u.heap.first;

	*(uint16_t *)p = f->u.heap.first;
	f->u.heap.first = (uint16_t)((offset >> shift) + 1);
	if (was_full)
		list_add(class, (uint32_t)mfn);
	if (--f->u.heap.used == 0) {
		list_remove_slab(class, (uint32_t)mfn);
		f->order = 0;
		f->link = FRAME_LINK_NONE;
		frame_free(NULL, MFN(mfn), ORDER_4K);
		heap.frames--;
	}
	spin_unlock(&heap.lock);
}

/* Frees frames [first, first + pages) in naturally aligned blocks, the largest that fit. */
static void free_run(mfn_t first, uint64_t pages)
{
	while (pages) {
		uint32_t order = ORDER_MAX;

		while (first.v & ((1ull << order) - 1) || 1ull << order > pages)
			order--;
		frame_free(NULL, first, order);
		first = mfn_add(first, 1ull << order);
		pages -= 1ull << order;
	}
}

static void *alloc_pages(uint64_t pages)
{
	uint32_t order = 0;
	mfn_t mfn;

	while (1ull << order < pages)
		order++;
	spin_lock(&heap.lock);
	status_t s = frame_alloc(NULL, FRAME_HV, order, GFN(0), MFN_NONE, 0, &mfn);

	if (s == OK) {
		free_run(mfn_add(mfn, pages), (1ull << order) - pages);
		heap.frames += pages;
	}
	spin_unlock(&heap.lock);
	if (s != OK)
		return NULL;
	zero_pages(mfn, pages);
	return mfn_to_va(mfn);
}

void *heap_alloc(size_t bytes)
{
	if (bytes == 0 || bytes > PAGE_BYTES << ORDER_MAX)
		return NULL;
	return bytes <= PAGE_BYTES / 2 ? alloc_small(bytes)
				       : alloc_pages((bytes + PAGE_BYTES - 1) >> PAGE_SHIFT);
}

void heap_free(void *p, size_t bytes)
{
	if (!p)
		return;
	if (bytes <= PAGE_BYTES / 2) {
		free_small(p, bytes);
		return;
	}
	uint64_t pages = (bytes + PAGE_BYTES - 1) >> PAGE_SHIFT;
	mfn_t first = hpa_to_mfn(va_to_hpa(p));

	for (uint64_t i = 0; i < pages; i++) {
		const struct frame *f = frame_of(mfn_add(first, i));

		if (!f || f->state != FRAME_HV || (uintptr_t)p & PAGE_OFFSET_MASK)
			HV_BUG("heap_free of %zu bytes at %p: not such a block", bytes, p);
	}
	spin_lock(&heap.lock);
	free_run(first, pages);
	heap.frames -= pages;
	spin_unlock(&heap.lock);
}

uint64_t heap_used_bytes(void)
{
	return heap.frames << PAGE_SHIFT;
}
