/* Pages of a known content for the hypervisor to take by one rung or another, and what touching them again costs. */
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"

#define BLOCKS     2u
#define PAGE_WORDS (PAGE_BYTES / 8)

static uint32_t block[BLOCKS] = { NO_PAGE, NO_PAGE };
static uint64_t ticks[BLOCKS * BLOCK_PAGES], sorted[BLOCKS * BLOCK_PAGES];

static void drop(void)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		if (block[i] != NO_PAGE)
			page_free(block[i], ORDER_MAX);
	block[0] = block[1] = NO_PAGE;
}

static bool take(void)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		if (block[i] == NO_PAGE)
			block[i] = page_alloc(ORDER_MAX, PAGE_NO_WAIT, NULL);
		if (block[i] == NO_PAGE) {
			drop();
			return false;
		}
	}
	return true;
}

/* As a program's structures look: half of each page small numbers. Or zero, or nothing that compresses. */
static uint64_t content(const char *kind, uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	if (!strcmp(kind, "zero"))
		return 0;
	return strcmp(kind, "words") ? *seed : *seed & 1 ? *seed & 0xff : 0xffff888000000000ull | (*seed & 0xfff000);
}

static void fill(const char *kind)
{
	uint64_t seed = 0x9e3779b97f4a7c15ull;

	if (!take()) {
		print("pages: no two free blocks of 2 MiB\n");
		return;
	}
	for (uint32_t b = 0; b < BLOCKS; b++) {
		uint64_t *at = page_address(block[b]);

		for (uint32_t i = 0; i < BLOCK_PAGES * PAGE_WORDS; i++)
			at[i] = content(kind, &seed);
		print("pages at %u count %u\n", block[b], BLOCK_PAGES);
	}
}

static uint64_t median(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = i;

		for (; k && sorted[k - 1] > ticks[i]; k--)
			sorted[k] = sorted[k - 1];
		sorted[k] = ticks[i];
	}
	return sorted[n / 2];
}

static void touch(bool write)
{
	uint64_t start = rdtsc();
	uint32_t n = 0;

	if (block[0] == NO_PAGE) {
		print("pages: fill first\n");
		return;
	}
	for (uint32_t b = 0; b < BLOCKS; b++)
		for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
			volatile uint64_t *at = page_address(block[b] + i);
			uint64_t t = rdtsc();

			if (write)
				*at = 1;
			else
				(void)*at;
			ticks[n++] = rdtsc() - t;
		}
	uint64_t all = rdtsc() - start;

	print("pages touched %u median %lu mean %lu\n", n, median(n), all / n);
}

static void pages(unsigned int count, char **words)
{
	if (count == 3 && !strcmp(words[1], "fill"))
		fill(words[2]);
	else if (count == 2 && !strcmp(words[1], "read"))
		touch(false);
	else if (count == 2 && !strcmp(words[1], "write"))
		touch(true);
	else if (count == 2 && !strcmp(words[1], "drop"))
		drop();
	else
		print("pages fill zero|words|random, read, write, drop\n");
}

const struct command commands_pages[] = {
	{ "pages", "fill KIND|read|write|drop", "4 MiB of one content, and ticks to touch them", pages, true },
	{ 0 },
};
