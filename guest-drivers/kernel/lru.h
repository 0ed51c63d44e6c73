/*
 * Pure. Which page to reclaim next: two lists, a second chance. New pages enter the inactive list;
 * one that was used since it was last looked at goes to the active list; the active list's cold end
 * refills the inactive one.
 */
#pragma once

#include "guest-drivers/kernel/buddy.h"

struct lru {
	struct page_list active, inactive;
};

/* Was the page used since the last call for it? Clears the mark. */
typedef bool (*lru_used_fn)(void *ctx, uint32_t page);

void lru_init(struct lru *l);
void lru_add(struct lru *l, struct page *pages, uint32_t p);
void lru_remove(struct lru *l, struct page *pages, uint32_t p);
static inline uint32_t lru_count(const struct lru *l)
{
	return l->active.count + l->inactive.count;
}
/* Takes a victim off the lists after looking at no more than `looks` pages, or returns NO_PAGE. */
uint32_t lru_victim(struct lru *l, struct page *pages, lru_used_fn used, void *ctx, uint32_t looks);
