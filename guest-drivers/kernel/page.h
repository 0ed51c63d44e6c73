/* The guest's physical memory: one allocator, watermarks, descriptors. Virtual = physical. */
#pragma once

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/buddy.h"

enum {
	PAGE_MAY_WAIT = 0,      /* reclaims, and kills as the last resort */
	PAGE_NO_WAIT = 1 << 0,  /* only if there is plenty */
};

/* Set once at boot, in pages: who may use the last ones. Below low the reclaim thread starts, it
 * stops at high; below min only reclaim itself allocates. */
struct watermarks {
	uint32_t min, low, high;
};
extern struct watermarks watermarks;
extern struct buddy memory;      /* preempt_off */
extern uint32_t memory_pages;    /* what the hypervisor gave; set once at boot */
extern uint32_t memory_managed;  /* what the allocator got; set once at boot */

/* Makes the descriptors at the first free address after the image; `bytes` of memory from 0. */
void page_init(uint64_t bytes);
/* Zeroed memory for good, before the allocator starts. Whole pages. NULL: not enough. */
void *page_early(uint64_t bytes);
/* Gives the rest to the allocator. */
void page_init_done(void);

/* First page, or NO_PAGE. *zero (may be NULL): it reads as zero and nobody touched it yet. */
uint32_t page_alloc(unsigned int order, unsigned int flags, bool *zero);
void page_free(uint32_t first, unsigned int order);

static inline uint64_t *page_address(uint32_t p)
{
	return (uint64_t *)((uint64_t)p * PAGE_BYTES);
}
