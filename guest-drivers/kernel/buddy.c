/* Pure. The buddy allocator. */
#include "guest-drivers/kernel/buddy.h"

void page_list_init(struct page_list *l)
{
	*l = (struct page_list){ NO_PAGE, NO_PAGE, 0 };
}

void page_list_push_front(struct page *pages, struct page_list *l, uint32_t p)
{
	pages[p].prev = NO_PAGE;
	pages[p].next = l->head;
	if (l->head == NO_PAGE)
		l->tail = p;
	else
		pages[l->head].prev = p;
	l->head = p;
	l->count++;
}

void page_list_push_back(struct page *pages, struct page_list *l, uint32_t p)
{
	pages[p].next = NO_PAGE;
	pages[p].prev = l->tail;
	if (l->tail == NO_PAGE)
		l->head = p;
	else
		pages[l->tail].next = p;
	l->tail = p;
	l->count++;
}

void page_list_remove(struct page *pages, struct page_list *l, uint32_t p)
{
	uint32_t next = pages[p].next, prev = pages[p].prev;

	if (prev == NO_PAGE)
		l->head = next;
	else
		pages[prev].next = next;
	if (next == NO_PAGE)
		l->tail = prev;
	else
		pages[next].prev = prev;
	l->count--;
}

void buddy_init(struct buddy *b, struct page *pages, uint32_t page_count)
{
	b->pages = pages;
	b->page_count = page_count;
	b->free_pages = 0;
	page_list_init(&b->hot);
	for (unsigned int o = 0; o <= ORDER_MAX; o++)
		page_list_init(&b->free[o]);
}

static void insert(struct buddy *b, uint32_t p, unsigned int order, bool front)
{
	b->pages[p].state = PAGE_FREE;
	b->pages[p].order = (uint8_t)order;
	if (front)
		page_list_push_front(b->pages, &b->free[order], p);
	else
		page_list_push_back(b->pages, &b->free[order], p);
}

static void remove_block(struct buddy *b, uint32_t p)
{
	page_list_remove(b->pages, &b->free[b->pages[p].order], p);
	b->pages[p].state = PAGE_RESERVED;
}

void buddy_add(struct buddy *b, uint32_t first, uint32_t count, bool touched)
{
	while (count) {
		unsigned int order = ORDER_MAX;

		while ((first & ((1u << order) - 1)) || 1u << order > count)
			order--;
		for (uint32_t i = 0; touched && i < 1u << order; i++)
			b->pages[first + i].flags |= PAGE_TOUCHED;
		insert(b, first, order, false);
		first += 1u << order;
		count -= 1u << order;
		b->free_pages += 1u << order;
	}
}

static void merge(struct buddy *b, uint32_t p, unsigned int order, bool front)
{
	struct page *pages = b->pages; /* in a register: stores of bytes may alias anything */

	while (order < ORDER_MAX) {
		uint32_t other = p ^ 1u << order;

		if (other >= b->page_count || pages[other].state != PAGE_FREE ||
		    pages[other].order != order)
			break;
		page_list_remove(pages, &b->free[order], other);
		pages[other].state = PAGE_RESERVED;
		pages[p].state = PAGE_RESERVED;
		p &= ~(1u << order);
		order++;
	}
	insert(b, p, order, front);
}

void buddy_drain(struct buddy *b)
{
	while (b->hot.count) {
		uint32_t p = b->hot.tail;

		page_list_remove(b->pages, &b->hot, p);
		merge(b, p, 0, true);
	}
}

static uint32_t split_from(struct buddy *b, unsigned int order)
{
	for (unsigned int o = order; o <= ORDER_MAX; o++) {
		uint32_t p = b->free[o].head;

		if (p == NO_PAGE)
			continue;
		remove_block(b, p);
		while (o > order) {
			o--;
			insert(b, p + (1u << o), o, false);
		}
		return p;
	}
	return NO_PAGE;
}

uint32_t buddy_take(struct buddy *b, unsigned int order)
{
	uint32_t p;

	if (order == 0 && b->hot.count) {
		p = b->hot.head;
		page_list_remove(b->pages, &b->hot, p);
	} else {
		p = split_from(b, order);
		if (p == NO_PAGE && order && b->hot.count) {
			buddy_drain(b);
			p = split_from(b, order);
		}
		if (p == NO_PAGE)
			return NO_PAGE;
	}
	b->free_pages -= 1u << order;
	b->pages[p].state = PAGE_KERNEL;
	b->pages[p].order = (uint8_t)order;
	b->pages[p].slot = 0;
	return p;
}

uint32_t buddy_alloc(struct buddy *b, unsigned int order, bool *zero)
{
	uint32_t p = buddy_take(b, order);
	bool clean = true;

	if (p == NO_PAGE)
		return NO_PAGE;
	for (uint32_t i = 0; i < 1u << order; i++) {
		clean &= !(b->pages[p + i].flags & PAGE_TOUCHED);
		b->pages[p + i].flags = PAGE_TOUCHED;
	}
	if (zero)
		*zero = clean;
	return p;
}

void buddy_free(struct buddy *b, uint32_t first, unsigned int order)
{
	b->free_pages += 1u << order;
	if (order) {
		merge(b, first, order, true);
		return;
	}
	b->pages[first].state = PAGE_HOT;
	page_list_push_front(b->pages, &b->hot, first);
	if (b->hot.count > BUDDY_HOT_MAX) {
		uint32_t coldest = b->hot.tail;

		page_list_remove(b->pages, &b->hot, coldest);
		merge(b, coldest, 0, true);
	}
}

void buddy_free_untouched(struct buddy *b, uint32_t first, unsigned int order)
{
	for (uint32_t i = 0; i < 1u << order; i++)
		b->pages[first + i].flags = 0;
	b->free_pages += 1u << order;
	merge(b, first, order, false);
}
