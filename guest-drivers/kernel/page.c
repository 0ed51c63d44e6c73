/* The page allocator's kernel side: boot, watermarks, waiting. */
#include "guest-drivers/kernel/page.h"

#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"

#define LOW_FIRST_PAGE 16u /* 64 KiB: below it the builder put the tree and the first tables */
#define IMAGE_PAGE 256u    /* 1 MiB */
#define ALLOC_ROUNDS 64u

struct watermarks watermarks;
struct buddy memory;
uint32_t memory_pages, memory_managed;

extern char kernel_end[];
static uint64_t early_next; /* boot only */

void *page_early(uint64_t bytes)
{
	uint64_t at = early_next;

	bytes = ALIGN_UP(bytes, PAGE_BYTES);
	if (bytes > (uint64_t)memory_pages * PAGE_BYTES - at)
		return NULL;
	early_next += bytes;
	return (void *)at;
}

void page_init(uint64_t bytes)
{
	memory_pages = (uint32_t)(bytes / PAGE_BYTES);
	early_next = (uint64_t)kernel_end;
	struct page *pages = page_early(memory_pages * sizeof(struct page));

	if (!pages)
		panic("%lu KiB of memory are too few", bytes / 1024);
	buddy_init(&memory, pages, memory_pages);
}

void page_init_done(void)
{
	uint32_t first = (uint32_t)(early_next / PAGE_BYTES);

	buddy_add(&memory, LOW_FIRST_PAGE, IMAGE_PAGE - LOW_FIRST_PAGE, false);
	buddy_add(&memory, first, memory_pages - first, false);
	memory_managed = memory.free_pages;
	watermarks.min = MAX(24u, memory_managed / 160);
	watermarks.low = watermarks.min * 2;
	watermarks.high = watermarks.min * 3;
}

uint32_t page_alloc(unsigned int order, unsigned int flags, bool *zero)
{
	for (uint32_t round = 0; round < ALLOC_ROUNDS; round++) {
		uint32_t floor = flags & PAGE_NO_WAIT ? watermarks.low : watermarks.min;
		uint32_t p = NO_PAGE;

		preempt_off();
		if (current->reclaiming || memory.free_pages > floor)
			p = buddy_alloc(&memory, order, zero);
		bool low = memory.free_pages < watermarks.low;

		preempt_on();
		if (low)
			reclaim_wake();
		if (p != NO_PAGE || flags & PAGE_NO_WAIT || current->reclaiming)
			return p;
		if (!reclaim_direct(1u << order))
			return NO_PAGE;
	}
	return NO_PAGE;
}

void page_free(uint32_t first, unsigned int order)
{
	preempt_off();
	buddy_free(&memory, first, order);
	preempt_on();
}
