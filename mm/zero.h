/* Zeroing and filling of whole pages: one string instruction, nothing spilled. */
#pragma once

#include "vmm/base/directmap.h"

/* `words` 8-byte words at `p` become `value`. */
static inline void fill_words(void *p, uint64_t value, uint64_t words)
{
	__asm__ volatile("rep stosq" : "+D"(p), "+c"(words) : "a"(value) : "memory");
}
static inline void zero_pages(mfn_t first, uint64_t pages)
{
	fill_words(mfn_to_va(first), 0, pages * (PAGE_BYTES / 8));
}
