#include "mm/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t page_hash(const void *page, uint64_t salt)
{
	return XXH64(page, PAGE_BYTES, salt);
}
