/* See mm/compress.h. */
#include <lz4.h>

#include "mm/compress.h"
#include "mm/heap.h"
#include "vmm/base/cpu.h"
#include "vmm/base/vector.h"

/*
 * How soon LZ4 takes longer steps through what does not match: 1 is its finest. 2 saves a tenth of the time
 * and loses a tenth of the pages of a program that 1 brings below 3072 bytes.
 */
#define ACCELERATION 1

static LZ4_stream_t *state[CPU_MAX]; /* set once at boot; each CPU's its own */

status_t compress_init(uint32_t cpus)
{
	for (uint32_t i = 0; i < MIN(cpus, CPU_MAX); i++) {
		state[i] = heap_alloc(sizeof(LZ4_stream_t));
		if (!state[i]) {
			compress_off();
			return ERR_NOMEM;
		}
	}
	return OK;
}

void compress_off(void)
{
	for (uint32_t i = 0; i < CPU_MAX; i++) {
		heap_free(state[i], sizeof(LZ4_stream_t));
		state[i] = NULL;
	}
}

status_t page_compress(const void *page, void *out, uint32_t cap, uint32_t *bytes)
{
	LZ4_stream_t *s = state[cpu_index()];

	if (UNLIKELY(!s))
		return ERR_NOSYS;
	vector_begin();
	int n = LZ4_compress_fast_extState(s, page, out, (int)PAGE_BYTES, (int)MIN(cap, 2 * PAGE_BYTES),
		ACCELERATION);
	vector_end();
	if (n <= 0)
		return ERR_LIMIT;
	*bytes = (uint32_t)n;
	return OK;
}

status_t page_decompress(const void *in, uint32_t bytes, void *page)
{
	if (bytes == 0 || bytes > 2 * PAGE_BYTES)
		return ERR_FORMAT;
	vector_begin();
	int n = LZ4_decompress_safe(in, page, (int)bytes, (int)PAGE_BYTES);
	vector_end();
	return n == (int)PAGE_BYTES ? OK : ERR_FORMAT;
}
