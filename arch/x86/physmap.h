/* Pure. The loader's memory map: checks, and the bookkeeping of what is taken early out of it. */
#pragma once

#include "boot/handoff.h"
#include "vmm/base/status.h"

#define PHYSMAP_MAX 512u /* runs; firmware has one to two hundred */

struct physmap {
	uint32_t count;
	struct handoff_mem run[PHYSMAP_MAX];
};

/*
 * Copies `count` runs from the loader's map. ERR_FORMAT with *why if they are not sorted, overlap,
 * or are not page aligned; ERR_LIMIT if there are more than PHYSMAP_MAX.
 */
status_t physmap_load(struct physmap *m, const struct handoff_mem *from, uint32_t count,
	const char **why) MUST_CHECK;
bool physmap_is_ram(uint32_t type);
uint64_t physmap_ram_top(const struct physmap *m);   /* end of the highest run of RAM */
uint64_t physmap_ram_bytes(const struct physmap *m); /* what the hypervisor has to run on */
/*
 * Takes `bytes` (page aligned) of usable memory in [low, high) and marks it HV_IMAGE: the top of
 * the smallest run that has room, so that large runs stay whole. ERR_NOMEM.
 */
status_t physmap_take(struct physmap *m, uint64_t bytes, uint64_t low, uint64_t high, hpa_t *out)
	MUST_CHECK;
/* Part of what physmap_take() gave becomes usable again. Kept if the map has no room to say so. */
void physmap_give(struct physmap *m, hpa_t base, uint64_t bytes);
/* All runs of `from` become `to`; neighbours of one type merge. */
void physmap_retype(struct physmap *m, uint32_t from, uint32_t to);
/* The run that holds `address`, or NULL. */
const struct handoff_mem *physmap_find(const struct physmap *m, hpa_t address);
