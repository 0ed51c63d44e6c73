/* Pure. The clock that chooses victims. */
#include "guest-drivers/kernel/lru.h"

void lru_init(struct lru *l)
{
	page_list_init(&l->active);
	page_list_init(&l->inactive);
}

void lru_add(struct lru *l, struct page *pages, uint32_t p)
{
	pages[p].flags &= (uint8_t)~PAGE_ACTIVE;
	page_list_push_front(pages, &l->inactive, p);
}

void lru_remove(struct lru *l, struct page *pages, uint32_t p)
{
	page_list_remove(pages, pages[p].flags & PAGE_ACTIVE ? &l->active : &l->inactive, p);
	pages[p].flags &= (uint8_t)~PAGE_ACTIVE;
}

static void activate(struct lru *l, struct page *pages, uint32_t p)
{
	pages[p].flags |= PAGE_ACTIVE;
	page_list_push_front(pages, &l->active, p);
}

uint32_t lru_victim(struct lru *l, struct page *pages, lru_used_fn used, void *ctx, uint32_t looks)
{
	while (looks--) {
		if (l->inactive.count < l->active.count || !l->inactive.count) {
			uint32_t p = l->active.tail;

			if (p == NO_PAGE)
				return NO_PAGE;
			lru_remove(l, pages, p);
			if (used(ctx, p))
				activate(l, pages, p);
			else
				lru_add(l, pages, p);
			if (!l->inactive.count)
				continue;
		}
		uint32_t p = l->inactive.tail;

		lru_remove(l, pages, p);
		if (!used(ctx, p))
			return p;
		activate(l, pages, p);
	}
	return NO_PAGE;
}
