/* Two workloads on plain memory: hog and walk. Ring 3. */
#include "guest-drivers/kernel/user.h"

#define PAGE_WORDS (PAGE_BYTES / 8)
#define WALK_STEPS 8192u

/* Fills with a pattern of address and round, verifies every word, repeats. */
static void hog(uint64_t size, uint64_t rounds, uint64_t third, uint64_t seed)
{
	uint64_t *mem = user_grow(size);
	uint64_t words = size / 8, errors = 0;

	(void)third;
	for (uint64_t pass = 1; !rounds || pass <= rounds; pass++) {
		uint64_t salt = seed << 32 | pass;

		for (uint64_t i = 0; i < words; i++)
			mem[i] = user_pattern((uint64_t)&mem[i], salt);
		for (uint64_t i = 0; i < words; i++)
			if (mem[i] != user_pattern((uint64_t)&mem[i], salt))
				user_corrupt(&errors, &mem[i], user_pattern((uint64_t)&mem[i], salt),
					     mem[i]);
		user_call(SYS_PROGRESS, pass, errors, 0);
	}
	user_exit(errors != 0);
}

static void check(uint64_t *errors, const uint64_t *at, uint64_t expected)
{
	if (*at != expected)
		user_corrupt(errors, at, expected, *at);
}

/*
 * One visit to a page: the count of visits is in its first word and, apart, in `visits`, so a stale
 * page shows; each visit moves one checked word on.
 */
static void visit(uint64_t *page, uint32_t *visits, uint64_t *errors)
{
	uint64_t n = *visits;
	uint64_t *old = page + 1 + n % (PAGE_WORDS - 1);

	check(errors, page, n);
	if (n)
		check(errors, old, user_pattern((uint64_t)old, n));
	n++;
	uint64_t *word = page + 1 + n % (PAGE_WORDS - 1);

	*word = user_pattern((uint64_t)word, n);
	*page = n;
	*visits = (uint32_t)n;
}

/* Nine visits of ten go to the first WORKING_SET, the tenth anywhere. */
static void walk(uint64_t size, uint64_t set, uint64_t third, uint64_t seed)
{
	uint64_t pages = size / PAGE_BYTES;
	uint64_t hot = set ? MIN(set / PAGE_BYTES, pages) : pages / 8;
	uint64_t *mem = user_grow(size);
	uint32_t *visits = user_grow(pages * sizeof(uint32_t));
	uint64_t state = seed * 0x9e3779b97f4a7c15ull | 1, errors = 0;

	(void)third;
	hot = MAX(hot, 1u);
	for (uint64_t pass = 1;; pass++) {
		for (uint32_t i = 0; i < WALK_STEPS; i++) {
			uint64_t r = user_random(&state) >> 16;
			uint64_t page = (r >> 8) % ((r & 255) < 230 ? hot : pages);

			visit(mem + page * PAGE_WORDS, &visits[page], &errors);
		}
		user_call(SYS_PROGRESS, pass, errors, 0);
	}
}

void user_cache(uint64_t size, uint64_t passes, uint64_t third, uint64_t seed);
void user_heap(uint64_t size, uint64_t second, uint64_t third, uint64_t seed);
void user_still(uint64_t size, uint64_t second, uint64_t third, uint64_t seed);
void user_spike(uint64_t size, uint64_t second, uint64_t third, uint64_t seed);

const struct user_workload user_workloads[] = {
	{ "hog", "SIZE [PASSES]", "fills, verifies every byte, repeats", hog, 1, 2 },
	{ "walk", "SIZE [WORKING_SET]", "skewed random visits, verified", walk, 1, 2 },
	{ "cache", "FILE_SIZE [PASSES]", "reads a file through the page cache, verified", user_cache, 1, 2 },
	{ "heap", "SIZE", "collects garbage; shrinks under pressure", user_heap, 1, 1 },
	{ "still", "SIZE [BYTES_A_SECOND]", "zero, text and random pages, read slowly, verified", user_still, 1, 2 },
	{ "spike", "SIZE [SECOND]", "wants it all at that second of the shared clock", user_spike, 1, 2 },
	{ 0 },
};
