/* Pure. */
#include "arch/x86/hostpt.h"
#include "vmm/base/string.h"

#define LEVEL_ROOT 3u /* PML4; 0 is the level of 4 KiB leaves */
#define ENTRIES    512u

static uint32_t level_shift(uint32_t level)
{
	return PAGE_SHIFT + level * 9;
}

static uint64_t *entry_at(hpa_t table, uint64_t va, uint32_t level)
{
	return (uint64_t *)hpa_to_va(table) + (va >> level_shift(level) & (ENTRIES - 1));
}

static status_t table_new(struct hostpt *t, hpa_t *out)
{
	if (t->next.v >= t->end.v)
		return ERR_NOMEM;
	*out = t->next;
	t->next.v += PAGE_BYTES;
	memset(hpa_to_va(*out), 0, PAGE_BYTES);
	return OK;
}

status_t hostpt_init(struct hostpt *t)
{
	return table_new(t, &t->root);
}

/* The highest level whose page fits at this place. */
static uint32_t leaf_level(const struct hostpt *t, uint64_t va, uint64_t pa, uint64_t bytes)
{
	for (uint32_t level = t->page_1g ? 2 : 1; level; level--) {
		uint64_t size = 1ull << level_shift(level);

		if (!((va | pa) & (size - 1)) && bytes >= size)
			return level;
	}
	return 0;
}

static status_t map_one(struct hostpt *t, uint64_t va, hpa_t pa, uint32_t leaf, uint64_t flags)
{
	hpa_t table = t->root;

	for (uint32_t level = LEVEL_ROOT; level > leaf; level--) {
		uint64_t *e = entry_at(table, va, level);

		if (*e & PT_LARGE)
			return ERR_EXIST;
		if (!(*e & PT_PRESENT)) {
			hpa_t child;
			status_t s = table_new(t, &child);

			if (s)
				return s;
			*e = child.v | PT_PRESENT | PT_WRITE;
		}
		table = HPA(*e & PT_ADDRESS);
	}
	uint64_t *e = entry_at(table, va, leaf);
	if (*e)
		return ERR_EXIST;
	*e = pa.v | flags | PT_PRESENT | (leaf ? PT_LARGE : 0);
	return OK;
}

status_t hostpt_map(struct hostpt *t, uint64_t va, hpa_t pa, uint64_t bytes, uint64_t flags)
{
	while (bytes) {
		uint32_t leaf = leaf_level(t, va, pa.v, bytes);
		uint64_t size = 1ull << level_shift(leaf);
		status_t s = map_one(t, va, pa, leaf, flags);

		if (s)
			return s;
		va += size;
		pa.v += size;
		bytes -= size;
	}
	return OK;
}

uint64_t hostpt_walk(const struct hostpt *t, uint64_t va, uint32_t *shift)
{
	hpa_t table = t->root;

	for (uint32_t level = LEVEL_ROOT;; level--) {
		uint64_t e = *entry_at(table, va, level);

		if (!(e & PT_PRESENT))
			return 0;
		if (!level || e & PT_LARGE) {
			*shift = level_shift(level);
			return e;
		}
		table = HPA(e & PT_ADDRESS);
	}
}

/*
 * Each range has at most two ragged ends, each of which costs at most one table of 4 KiB and one of
 * 2 MiB entries; in between, 2 MiB pages cost one table a GiB. Eight more for the roots of the
 * direct map, the image and the devices.
 */
uint64_t hostpt_pages_needed(uint64_t top, uint64_t runs, bool page_1g)
{
	return 8 + runs * 4 + (top >> 39) + 1 + (page_1g ? 0 : (top >> 30) + 1);
}
