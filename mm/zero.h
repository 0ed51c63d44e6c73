/* Zeroing, filling and comparing of whole pages: one string instruction, nothing spilled. */
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
/* Two pages, word by word up to the first that differs. Neither may be written meanwhile. */
static inline bool pages_equal(const void *a, const void *b)
{
	uint64_t words = PAGE_BYTES / 8;
	bool equal;

	__asm__ volatile("repe cmpsq" : "+S"(a), "+D"(b), "+c"(words), "=@ccz"(equal) : : "memory");
	return equal;
}
/* Up to the first word that is not zero. */
static inline bool page_all_zero(const void *page)
{
	uint64_t words = PAGE_BYTES / 8;
	bool zero;

	__asm__ volatile("repe scasq" : "+D"(page), "+c"(words), "=@ccz"(zero) : "a"(0ull) : "memory");
	return zero;
}
