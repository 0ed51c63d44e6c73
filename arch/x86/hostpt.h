/*
 * Pure (tables are reached through the direct map). Builds the hypervisor's own 4-level page
 * tables, with the largest pages that alignment allows (SDM vol. 3A, 4-Level Paging).
 */
#pragma once

#include "vmm/base/directmap.h"
#include "vmm/base/status.h"

#define PT_PRESENT  (1ull << 0)
#define PT_WRITE    (1ull << 1)
#define PT_PWT      (1ull << 3)
#define PT_PCD      (1ull << 4)
#define PT_LARGE    (1ull << 7)
#define PT_NX       (1ull << 63)
#define PT_ADDRESS  0x000ffffffffff000ull
#define PT_UNCACHED (PT_PCD | PT_PWT) /* entry 3 of the default PAT: UC */

/* Zeroed table pages come from [next, end), physical. */
struct hostpt {
	hpa_t root;
	hpa_t next, end;
	bool page_1g; /* the processor has 1 GiB pages */
};

/* Takes the root. ERR_NOMEM. */
status_t hostpt_init(struct hostpt *t) MUST_CHECK;
/*
 * Maps [va, va + bytes) to pa; all page aligned; `flags` of PT_WRITE, PT_NX, PT_UNCACHED.
 * ERR_NOMEM: out of table pages; ERR_EXIST: part is mapped. What was mapped before that stays.
 */
status_t hostpt_map(struct hostpt *t, uint64_t va, hpa_t pa, uint64_t bytes, uint64_t flags)
	MUST_CHECK;
/* The leaf entry that maps `va` and its page size's log2 in *shift; 0: not mapped. */
uint64_t hostpt_walk(const struct hostpt *t, uint64_t va, uint32_t *shift);
/* Table pages that any layout of `runs` separate ranges of RAM below `top` may need. */
uint64_t hostpt_pages_needed(uint64_t top, uint64_t runs, bool page_1g);
