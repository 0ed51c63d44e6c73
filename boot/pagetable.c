/* Pure. Source: SDM vol. 3A, "4-Level Paging and 5-Level Paging". */
#include "boot/pagetable.h"

#define ENTRIES      512u
#define ADDRESS_MASK 0x000ffffffffff000ull

static void clear(uint64_t *page)
{
	for (uint32_t i = 0; i < ENTRIES; i++)
		page[i] = 0;
}

void pagetable_init(struct pagetable *t, uint64_t *pages, uint64_t pa, uint32_t max)
{
	*t = (struct pagetable){ .page = pages, .pa = pa, .used = 1, .max = max };
	clear(pages);
}

/* The table that `entry` points to, made if there is none; NULL with *s set if it cannot be. */
static uint64_t *descend(struct pagetable *t, uint64_t *entry, status_t *s)
{
	if (*entry & PT_PRESENT) {
		if (*entry & PT_LARGE) {
			*s = ERR_EXIST;
			return NULL;
		}
		return t->page + ((*entry & ADDRESS_MASK) - t->pa) / sizeof(uint64_t);
	}
	if (t->used == t->max) {
		*s = ERR_NOMEM;
		return NULL;
	}
	uint64_t *page = t->page + (uint64_t)t->used * ENTRIES;

	clear(page);
	/* Tables grant everything; the last entry decides. */
	*entry = (t->pa + t->used * PAGE_BYTES) | PT_PRESENT | PT_WRITE | PT_ACCESSED;
	t->used++;
	return page;
}

static status_t map_one(struct pagetable *t, uint64_t va, uint64_t pa, uint64_t rights,
	uint32_t shift)
{
	uint64_t *table = t->page;
	status_t s = OK;

	for (uint32_t level = 39; level > shift; level -= 9) {
		table = descend(t, &table[(va >> level) % ENTRIES], &s);
		if (!table)
			return s;
	}
	uint64_t *entry = &table[(va >> shift) % ENTRIES];

	if (*entry & PT_PRESENT)
		return ERR_EXIST;
	*entry = pa | rights | PT_PRESENT | PT_ACCESSED | PT_DIRTY |
		(shift > PAGE_SHIFT ? PT_LARGE : 0);
	return OK;
}

status_t pagetable_map(struct pagetable *t, uint64_t va, uint64_t pa, uint64_t bytes,
	uint64_t rights, uint64_t largest)
{
	while (bytes) {
		uint32_t shift = 30;

		while (shift > PAGE_SHIFT) {
			uint64_t size = 1ull << shift;

			if (size <= largest && size <= bytes && ((va | pa) & (size - 1)) == 0)
				break;
			shift -= 9;
		}
		status_t s = map_one(t, va, pa, rights, shift);

		if (s != OK)
			return s;
		va += 1ull << shift;
		pa += 1ull << shift;
		bytes -= 1ull << shift;
	}
	return OK;
}

uint32_t pagetable_pages_for(uint64_t bytes, uint64_t largest)
{
	uint64_t pages = (bytes + GIB(512) - 1) / GIB(512); /* level 3 */

	if (largest < GIB(1))
		pages += (bytes + GIB(1) - 1) / GIB(1); /* level 2 */
	return (uint32_t)pages;
}
