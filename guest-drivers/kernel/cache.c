/* The page cache. A cached page's descriptor: index = block, owner = hash chain, slot = pins. */
#include "guest-drivers/kernel/cache.h"

#include "guest-drivers/kernel/disk.h"
#include "guest-drivers/kernel/lru.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/sched.h"

#define BUCKETS 256u
#define READ_AHEAD 8u
#define LOOKS_A_STEP 64u

/* Preemption off. */
static uint32_t buckets[BUCKETS];
static struct lru lru;
static struct cache_counters counters;

void cache_init(void)
{
	for (uint32_t i = 0; i < BUCKETS; i++)
		buckets[i] = NO_PAGE;
	lru_init(&lru);
}

uint32_t cache_count(void)
{
	return lru_count(&lru);
}

const struct cache_counters *cache_counters(void)
{
	return &counters;
}

static uint32_t find(uint32_t block)
{
	uint32_t p = buckets[block % BUCKETS];

	while (p != NO_PAGE && memory.pages[p].index != block)
		p = memory.pages[p].owner;
	return p;
}

static void insert(uint32_t block, uint32_t page)
{
	struct page *d = &memory.pages[page];

	d->state = PAGE_CACHE;
	d->index = block;
	d->slot = 0;
	d->owner = buckets[block % BUCKETS];
	buckets[block % BUCKETS] = page;
	lru_add(&lru, memory.pages, page);
}

static void unhash(uint32_t page)
{
	uint32_t *link = &buckets[memory.pages[page].index % BUCKETS];

	while (*link != page)
		link = &memory.pages[*link].owner;
	*link = memory.pages[page].owner;
}

static bool used(void *ctx, uint32_t page)
{
	struct page *d = &memory.pages[page];
	bool was = d->flags & PAGE_REFERENCED || d->slot;

	(void)ctx;
	d->flags &= (uint8_t)~PAGE_REFERENCED;
	return was;
}

uint32_t cache_reclaim(uint32_t want)
{
	uint32_t freed = 0, misses = 2 * cache_count() / LOOKS_A_STEP + 2;

	while (freed < want && misses) {
		preempt_off();
		uint32_t p = lru_victim(&lru, memory.pages, used, NULL, LOOKS_A_STEP);

		if (p == NO_PAGE) {
			misses--;
		} else {
			unhash(p);
			memory.pages[p].slot = 0;
			buddy_free(&memory, p, 0);
			freed++;
		}
		preempt_on();
	}
	return freed;
}

static void pin(struct proc *proc, uint32_t page)
{
	memory.pages[page].slot++;
	memory.pages[page].flags |= PAGE_REFERENCED;
	proc->pinned_page = page;
}

void cache_unpin(struct proc *proc)
{
	preempt_off();
	if (proc->pinned_page != NO_PAGE)
		memory.pages[proc->pinned_page].slot--;
	proc->pinned_page = NO_PAGE;
	preempt_on();
}

static uint32_t get_cached(struct proc *proc, uint32_t block)
{
	preempt_off();
	uint32_t p = find(block);

	if (p != NO_PAGE) {
		pin(proc, p);
		counters.hits++;
	}
	preempt_on();
	return p;
}

/* Inserts a filled page unless another thread was faster; pins what is there then. */
static uint32_t add(struct proc *proc, uint32_t block, uint32_t page, bool want_pin)
{
	preempt_off();
	uint32_t there = find(block);

	if (there == NO_PAGE) {
		insert(block, page);
		there = page;
	} else {
		buddy_free(&memory, page, 0);
	}
	if (want_pin)
		pin(proc, there);
	preempt_on();
	return there;
}

/* Pages for `block` and for what follows it and is not cached, while memory is plenty. */
static uint32_t gather(uint32_t block, uint32_t *pages)
{
	uint32_t end = MIN(block + READ_AHEAD, disk_layout()->file_pages), n = 0;

	pages[n] = page_alloc(0, PAGE_MAY_WAIT, NULL);
	if (pages[n] == NO_PAGE)
		return 0;
	for (n = 1; block + n < end; n++) {
		preempt_off();
		bool cached = find(block + n) != NO_PAGE;

		preempt_on();
		if (cached)
			break;
		pages[n] = page_alloc(0, PAGE_NO_WAIT, NULL);
		if (pages[n] == NO_PAGE)
			break;
	}
	return n;
}

uint32_t cache_get(struct proc *proc, uint32_t block)
{
	struct aero_block_req reqs[READ_AHEAD];
	uint32_t pages[READ_AHEAD];
	uint32_t p = get_cached(proc, block);

	if (p != NO_PAGE)
		return p;
	uint32_t n = gather(block, pages);

	for (uint32_t i = 0; i < n; i++)
		disk_request(&reqs[i], AERO_BLOCK_READ, disk_layout()->file_first + block + i, pages[i]);
	disk_io(reqs, n);
	counters.misses++;
	for (uint32_t i = 0; i < n; i++) {
		if (reqs[i].status) {
			page_free(pages[i], 0);
			continue;
		}
		counters.read_pages++;
		uint32_t there = add(proc, block + i, pages[i], i == 0);

		if (i == 0)
			p = there;
	}
	return p;
}

uint32_t cache_get_new(struct proc *proc, uint32_t block)
{
	uint32_t p = get_cached(proc, block);

	if (p != NO_PAGE)
		return p;
	bool zero;

	p = page_alloc(0, PAGE_MAY_WAIT, &zero);
	if (p == NO_PAGE)
		return NO_PAGE;
	if (!zero)
		memset(page_address(p), 0, PAGE_BYTES);
	return add(proc, block, p, true);
}

bool cache_write(uint32_t page)
{
	struct aero_block_req r;

	disk_request(&r, AERO_BLOCK_WRITE, disk_layout()->file_first + memory.pages[page].index, page);
	return disk_io(&r, 1);
}
