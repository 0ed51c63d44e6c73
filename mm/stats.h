/* What the balloon's policy sees of memory. Plain numbers, pages of 4 KiB; no pointers. */
#pragma once

#include "vmm/base/types.h"

struct mm_pool_stats {
	uint64_t pool_pages;      /* the pool's size */
	uint64_t free_pages;      /* what guests could be given now */
	uint64_t emergency_pages; /* of these: for reclaim itself only */
};
