/* See vmm/selfcheck.h. */
#include "mm/compress.h"
#include "mm/heap.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"
#include "vmm/base/vector.h"
#include "vmm/platform.h"
#include "vmm/selfcheck.h"

enum sort { SORT_WORDS, SORT_POINTERS, SORT_COUNTERS, SORT_RANDOM };

static const char *const sort_name[SELFCHECK_PAGES] = { "words", "pointers", "counters", "random" };

struct try {
	const uint8_t *page;
	uint8_t *small, *back;
	struct selfcheck_page *out;
	status_t there, again;
};

static uint64_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

static void fill(uint8_t *page, enum sort sort)
{
	static const char text[] = "the quick brown fox jumps over the lazy dog and sleeps ";
	uint64_t seed = 1, *word = (uint64_t *)(void *)page;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++) {
		uint64_t r = next(&seed);

		switch (sort) {
		case SORT_WORDS:
			memcpy(&word[i], &text[r % 12 * 4], 8);
			break;
		case SORT_POINTERS:
			word[i] = i % 4 ? 0xffff888000000000ull + (r << 6 & 0xffffff) : r & 0xff;
			break;
		case SORT_COUNTERS:
			word[i] = i / 2;
			break;
		default:
			word[i] = r << 40 ^ next(&seed) << 20 ^ next(&seed);
		}
	}
}

static void there_and_back(void *ctx)
{
	struct try *t = ctx;
	uint64_t start = platform_tsc();

	t->there = page_compress(t->page, t->small, PAGE_BYTES * 3 / 4, &t->out->bytes);
	t->out->compress_ticks = platform_tsc() - start;
	if (t->there != OK)
		return;
	start = platform_tsc();
	t->again = page_decompress(t->small, t->out->bytes, t->back);
	t->out->decompress_ticks = platform_tsc() - start;
}

static bool one_sort(enum sort sort, uint8_t *pages, struct selfcheck_page *out)
{
	struct try t = { .page = pages, .small = pages + PAGE_BYTES, .back = pages + 2 * PAGE_BYTES,
		.out = out };

	*out = (struct selfcheck_page){ .name = sort_name[sort] };
	fill(pages, sort);
	if (!vector_survives(there_and_back, &t)) {
		log_err("compression does not work: it changes guests' vector registers");
		return false;
	}
	if (sort == SORT_RANDOM && t.there == ERR_LIMIT)
		return true;
	if (t.there == OK && t.again == OK && memcmp(t.page, t.back, PAGE_BYTES) == 0)
		return true;
	log_err("compression does not work: a page of %s does not come back", out->name);
	return false;
}

bool selfcheck_compress(struct selfcheck_page out[SELFCHECK_PAGES])
{
	uint8_t *pages = heap_alloc(3 * PAGE_BYTES);
	bool good = true;

	if (!pages) {
		log_err("no memory to check compression");
		return false;
	}
	for (uint32_t i = 0; i < SELFCHECK_PAGES; i++)
		good = one_sort((enum sort)i, pages, &out[i]) && good;
	heap_free(pages, 3 * PAGE_BYTES);
	return good;
}
