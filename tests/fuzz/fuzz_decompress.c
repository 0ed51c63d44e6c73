/*
 * Any bytes as a compressed page. The library has no sanitizer inside: the input ends right before an
 * inaccessible page and begins right behind one, so does the output, and every other byte of the run's memory
 * is out of its reach. A page that is accepted is compressed and comes back the same.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mm/compress.h"
#include "tests/fake/slat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define IN_PAGES 3u

/* `pages` between two that nobody may touch. */
static uint8_t *fenced(size_t pages)
{
	uint8_t *p = mmap(NULL, (pages + 2) * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + PAGE_BYTES, pages * PAGE_BYTES, PROT_READ | PROT_WRITE))
		abort();
	return p + PAGE_BYTES;
}

static void accepted(const uint8_t *page)
{
	static uint8_t small[2 * PAGE_BYTES];
	static uint8_t back[PAGE_BYTES];
	uint32_t n;

	if (page_compress(page, small, sizeof(small), &n) != OK || page_decompress(small, n, back) != OK ||
		memcmp(page, back, PAGE_BYTES))
		abort();
}

/*
 * The library is not instrumented, so the fuzzer learns nothing from inside it: an odd first byte makes of the rest a
 * page, compressed as it should be, and changes to it: a length to cut to, and up to 16 bytes to overwrite.
 */
static size_t damaged(const uint8_t *data, size_t bytes, uint8_t *small, size_t room)
{
	uint8_t content[PAGE_BYTES];
	uint32_t n = 0;

	for (size_t i = 0; i < PAGE_BYTES; i++)
		content[i] = (uint8_t)(data[i % bytes] + (i / bytes % 5 ? 0 : i >> 6));
	if (page_compress(content, small, (uint32_t)room, &n) != OK)
		abort();
	for (size_t i = 0; i + 3 <= bytes && i < 48; i += 3)
		if (data[i] & 1)
			small[((uint32_t)data[i] << 8 | data[i + 1]) % n] = data[i + 2];
	return data[bytes - 1] & 1 ? n : n - data[bytes - 1] % n;
}

/* Twice: at the end of what may be read, and at the beginning. */
static void decompress(const uint8_t *data, size_t n, uint8_t *in, uint8_t *page)
{
	uint8_t *at = in + IN_PAGES * PAGE_BYTES - n;

	memcpy(at, data, n);
	if (page_decompress(at, (uint32_t)n, page) == OK)
		accepted(page);
	memcpy(in, data, n);
	if (page_decompress(in, (uint32_t)n, page) == OK)
		accepted(page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t small[2 * PAGE_BYTES];
	static uint8_t *in, *page;

	if (!in) {
		in = fenced(IN_PAGES);
		page = fenced(1);
		fake_machine(1024);
		if (compress_init(1) != OK)
			abort();
	}
	if (bytes > 1 && data[0] & 1)
		decompress(small, damaged(data + 1, bytes - 1, small, sizeof(small)), in, page);
	else
		decompress(data, MIN(bytes, IN_PAGES * PAGE_BYTES), in, page);
	return 0;
}
