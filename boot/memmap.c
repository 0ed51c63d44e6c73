/* Pure. Source: UEFI specification, "GetMemoryMap()" and "Memory Type Usage". */
#include "boot/memmap.h"

#define ADDRESS_LIMIT (1ull << 52) /* physical addresses of x86-64 end here */

enum handoff_mem_type memmap_from_efi(uint32_t efi_type)
{
	switch (efi_type) {
	case 3: /* boot services code */
	case 4: /* boot services data */
	case 7: /* conventional */
		return HANDOFF_MEM_USABLE;
	case 1: /* loader code */
	case 2: /* loader data */
		return HANDOFF_MEM_LOADER;
	case 9: /* ACPI reclaim */
		return HANDOFF_MEM_ACPI;
	case 11: /* memory-mapped I/O */
	case 12: /* memory-mapped I/O port space */
		return HANDOFF_MEM_MMIO;
	default: /* reserved, runtime services, unusable, ACPI NVS, PAL, persistent, unaccepted */
		return HANDOFF_MEM_RESERVED;
	}
}

/* Who wins where two ranges overlap: the higher. 0 is "nothing there". */
static uint32_t strictness(uint32_t type)
{
	switch (type) {
	case HANDOFF_MEM_USABLE:
		return 1;
	case HANDOFF_MEM_LOADER:
		return 2;
	case HANDOFF_MEM_MODULE:
		return 3;
	case HANDOFF_MEM_HV_IMAGE:
		return 4;
	case HANDOFF_MEM_ACPI:
		return 5;
	case HANDOFF_MEM_MMIO:
		return 6;
	default:
		return 7;
	}
}

/* Page-aligned [*start, *end) of a range; false if nothing is left of it. */
static bool page_bounds(const struct handoff_mem *m, uint64_t *start, uint64_t *end)
{
	uint64_t last = m->base + m->bytes;

	if (m->bytes == 0)
		return false;
	if (m->type == HANDOFF_MEM_USABLE) {
		*start = ALIGN_UP(m->base, PAGE_BYTES);
		*end = ALIGN_DOWN(last, PAGE_BYTES);
	} else {
		*start = ALIGN_DOWN(m->base, PAGE_BYTES);
		*end = ALIGN_UP(last, PAGE_BYTES);
	}
	return *start < *end;
}

static void sort_edges(uint64_t *edge, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++) { /* nearly sorted already: insertion is linear */
		uint64_t v = edge[i];
		uint32_t at = i;

		while (at > 0 && edge[at - 1] > v) {
			edge[at] = edge[at - 1];
			at--;
		}
		edge[at] = v;
	}
}

/* The strictest type that covers [start, end); 0 if none does. */
static uint32_t type_at(const struct handoff_mem *in, uint32_t in_count, uint64_t start, uint64_t end)
{
	uint32_t best = 0, type = 0;

	for (uint32_t i = 0; i < in_count; i++) {
		uint64_t s, e;

		if (!page_bounds(&in[i], &s, &e) || s > start || e < end)
			continue;
		if (strictness(in[i].type) > best) {
			best = strictness(in[i].type);
			type = in[i].type;
		}
	}
	if (best == strictness(HANDOFF_MEM_RESERVED))
		type = HANDOFF_MEM_RESERVED; /* an unknown type becomes a known one */
	return type;
}

static status_t append(struct handoff_mem *out, uint32_t max, uint32_t *count, uint64_t start,
	uint64_t end, uint32_t type)
{
	struct handoff_mem *last = *count ? &out[*count - 1] : NULL;

	if (last && last->type == type && last->base + last->bytes == start) {
		last->bytes += end - start;
		return OK;
	}
	if (*count == max)
		return ERR_LIMIT;
	out[(*count)++] = (struct handoff_mem){ .base = start, .bytes = end - start, .type = type };
	return OK;
}

status_t memmap_normalise(const struct handoff_mem *in, uint32_t in_count, uint64_t *edges,
	struct handoff_mem *out, uint32_t out_max, uint32_t *out_count)
{
	uint32_t edge_count = 0, count = 0;

	for (uint32_t i = 0; i < in_count; i++) {
		uint64_t start, end;

		if (in[i].bytes > ADDRESS_LIMIT || in[i].base > ADDRESS_LIMIT - in[i].bytes)
			return ERR_RANGE;
		if (!page_bounds(&in[i], &start, &end))
			continue;
		edges[edge_count++] = start;
		edges[edge_count++] = end;
	}
	sort_edges(edges, edge_count);
	for (uint32_t i = 0; i + 1 < edge_count; i++) {
		if (edges[i] == edges[i + 1])
			continue;
		uint32_t type = type_at(in, in_count, edges[i], edges[i + 1]);

		if (type == 0)
			continue;
		status_t s = append(out, out_max, &count, edges[i], edges[i + 1], type);

		if (s != OK)
			return s;
	}
	*out_count = count;
	return OK;
}

uint64_t memmap_bytes(const struct handoff_mem *map, uint32_t count, enum handoff_mem_type type)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (map[i].type == (uint32_t)type)
			sum += map[i].bytes;
	}
	return sum;
}

uint64_t memmap_top(const struct handoff_mem *map, uint32_t count)
{
	uint64_t top = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (map[i].type != HANDOFF_MEM_RESERVED && map[i].type != HANDOFF_MEM_MMIO)
			top = MAX(top, map[i].base + map[i].bytes);
	}
	return top;
}
