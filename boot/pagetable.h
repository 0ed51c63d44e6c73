/*
 * Pure. Builds four-level page tables in memory that the caller gives, for the switch to the
 * hypervisor. Source: SDM vol. 3A, "4-Level Paging and 5-Level Paging".
 */
#pragma once

#include "vmm/base/status.h"

#define PT_PRESENT  (1ull << 0)
#define PT_WRITE    (1ull << 1)
#define PT_ACCESSED (1ull << 5)
#define PT_DIRTY    (1ull << 6)
#define PT_LARGE    (1ull << 7)
#define PT_NX       (1ull << 63)

/* Pages for tables: `page` and `pa` are the same memory. Page 0 is the root. */
struct pagetable {
	uint64_t *page;
	uint64_t pa;
	uint32_t used, max; /* pages */
};

/* Clears `max` pages' first as the root. max >= 1. */
void pagetable_init(struct pagetable *t, uint64_t *pages, uint64_t pa, uint32_t max);

/*
 * Maps [va, va + bytes) to [pa, ...), all three page aligned, with `rights` of PT_WRITE and PT_NX.
 * Uses the largest page (at most `largest`: 4 KiB, 2 MiB or 1 GiB) that alignment and length allow.
 * ERR_NOMEM: no table page left; ERR_EXIST: something is mapped there.
 */
status_t pagetable_map(struct pagetable *t, uint64_t va, uint64_t pa, uint64_t bytes,
	uint64_t rights, uint64_t largest) MUST_CHECK;

/* Table pages that a direct map of `bytes` from 0 takes with pages of `largest` bytes. */
uint32_t pagetable_pages_for(uint64_t bytes, uint64_t largest);
