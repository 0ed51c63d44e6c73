#include "mm/hash.h"

/* Packed loads: by default it calls memcpy for each, which a freestanding compiler does not see through. */
#define XXH_FORCE_MEMORY_ACCESS 1
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t page_hash(const void *page, uint64_t salt)
{
	return XXH64(page, PAGE_BYTES, salt);
}
