/* Content hashes of pages: xxHash64 (Y. Collet's library, header only, no vector registers). */
#pragma once

#include "vmm/base/types.h"

/* Of PAGE_BYTES bytes. Not a signature: who can choose both contents can make two alike, so equal pages are
 * compared whole; a salt that guests do not know keeps them from aiming. */
uint64_t page_hash(const void *page, uint64_t salt);
