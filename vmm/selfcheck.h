/* What is tried at boot, and by `debug compress`. */
#pragma once

#include "vmm/base/types.h"

#define SELFCHECK_PAGES 4u /* words, pointers, counters, random */

struct selfcheck_page {
	const char *name;
	uint32_t bytes; /* compressed; 0: refused, as the random one must be */
	uint64_t compress_ticks, decompress_ticks;
};

/*
 * Pages of four sorts through page_compress() and page_decompress(), with a pattern in the vector registers:
 * false if a byte or a register has changed, and the log says so. On CPU 0; a few hundred thousand ticks.
 */
bool selfcheck_compress(struct selfcheck_page out[SELFCHECK_PAGES]);
