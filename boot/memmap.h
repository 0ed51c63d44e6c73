/*
 * Pure. Turns the firmware's memory map, with what the loader itself has placed laid over it, into
 * the map of handoff.h. Firmware maps come unsorted, in a hundred small pieces, and (on real
 * boards) sometimes overlapping: where ranges overlap, the more restrictive type wins.
 */
#pragma once

#include "boot/handoff.h"
#include "vmm/base/status.h"

/* Type of a UEFI memory descriptor (UEFI specification, "Memory Type Usage after
 * ExitBootServices()"). Unknown types are reserved. */
enum handoff_mem_type memmap_from_efi(uint32_t efi_type);

/* Entries that memmap_normalise may write for `in_count` ranges. */
#define MEMMAP_OUT_MAX(in_count) (2u * (in_count))

/*
 * Sorts, cuts, page-aligns (usable memory shrinks, all else grows) and merges. `edges` is scratch
 * for 2 * in_count numbers. Ranges of no bytes or of an unknown type count as nothing and as
 * reserved. ERR_RANGE: a range ends beyond 2^52; ERR_LIMIT: more than out_max entries.
 */
status_t memmap_normalise(const struct handoff_mem *in, uint32_t in_count, uint64_t *edges,
	struct handoff_mem *out, uint32_t out_max, uint32_t *out_count) MUST_CHECK;

/* Bytes of one type in a map. */
uint64_t memmap_bytes(const struct handoff_mem *map, uint32_t count, enum handoff_mem_type type);

/* End of the highest range that is memory (not reserved, not MMIO): what a direct map must reach. */
uint64_t memmap_top(const struct handoff_mem *map, uint32_t count);
