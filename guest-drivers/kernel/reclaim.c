/* Reclaim: who gives, how much, and the thread that does it ahead of time. */
#include "guest-drivers/kernel/reclaim.h"

#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/cache.h"
#include "guest-drivers/kernel/lru.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/swap.h"
#include "guest-drivers/kernel/timer.h"

#define BATCH 16u
#define LOOKS_A_STEP 64u /* bounds the time with preemption off */
#define CACHE_KEEP 16u   /* pages of cache that are not worth paging for */
#define FRUITLESS_PAUSE_NS (100 * NS_PER_MS)
#define DIRECT_TRIES 3u

/* Preemption off. */
static struct lru anon;
static struct reclaim_counters counters;
static bool swap_was_full;
static volatile bool wanted; /* interrupts off: the thread's reason to run */

const struct reclaim_counters *reclaim_counters(void)
{
	return &counters;
}

void reclaim_count_oom_kill(void)
{
	counters.oom_kills++;
}

bool reclaim_lacks_swap(void)
{
	return anon_count() && (swap_was_full || !swap_total());
}

void anon_add(uint32_t page)
{
	lru_add(&anon, memory.pages, page);
}

void anon_forget(uint32_t page)
{
	lru_remove(&anon, memory.pages, page);
}

uint32_t anon_count(void)
{
	return lru_count(&anon);
}

/* The accessed bit; the TLB may keep an entry past this, which costs precision only. */
static bool anon_used(void *ctx, uint32_t page)
{
	struct page *d = &memory.pages[page];
	uint64_t *pte = vm_pte(&proc_by_index(d->owner)->vm, d->index);
	bool used = *pte & PTE_ACCESSED;

	(void)ctx;
	__atomic_fetch_and(pte, ~PTE_ACCESSED, __ATOMIC_RELAXED); /* another vCPU may write there */
	return used;
}

/* One bounded step: frees some at once, queues others. False: no victim, or no slot for it. */
static bool anon_step(struct swap_batch *batch, uint32_t *freed)
{
	bool found = false;

	preempt_off();
	uint32_t p = lru_victim(&anon, memory.pages, anon_used, NULL, LOOKS_A_STEP);

	if (p != NO_PAGE) {
		switch (swap_out_add(batch, p)) {
		case SWAP_FREED:
			(*freed)++;
			found = true;
			break;
		case SWAP_QUEUED:
			found = true;
			break;
		case SWAP_FULL:
			swap_was_full = true;
			lru_add(&anon, memory.pages, p);
			break;
		}
	}
	preempt_on();
	return found;
}

static uint32_t reclaim_anon(uint32_t want)
{
	struct swap_batch batch = { 0 };
	uint32_t freed = 0;
	uint32_t misses = 2 * anon_count() / LOOKS_A_STEP + 2;

	swap_was_full = false;
	while (misses && freed + batch.count < MIN(want, BATCH))
		if (!anon_step(&batch, &freed))
			misses--;
	if (batch.count)
		freed += swap_out_write(&batch);
	counters.anon_pages += freed;
	return freed;
}

uint32_t reclaim_pages(uint32_t want)
{
	bool nested = current->reclaiming;
	uint32_t freed = 0;

	current->reclaiming = true;
	while (freed < want) {
		uint32_t n = cache_count() > CACHE_KEEP ? cache_reclaim(MIN(want - freed, BATCH)) : 0;

		counters.cache_pages += n;
		if (!n)
			n = reclaim_anon(want - freed);
		if (!n) {
			n = cache_reclaim(MIN(want - freed, BATCH));
			counters.cache_pages += n;
		}
		if (!n)
			break;
		freed += n;
	}
	current->reclaiming = nested;
	return freed;
}

bool reclaim_direct(uint32_t want)
{
	if (current->proc && current->proc->killed)
		return false;
	counters.direct++;
	pressure_stalled(want + watermarks.low);
	for (uint32_t i = 0; i < DIRECT_TRIES; i++) {
		if (reclaim_pages(want + BATCH) || memory.free_pages > watermarks.low)
			return true;
		sched_sleep_ns(NS_PER_MS);
	}
	if (ballooning_give_back(want + watermarks.high))
		return true;
	return oom_kill();
}

void reclaim_wake(void)
{
	uint64_t flags = irq_save();

	if (!wanted) {
		wanted = true;
		sched_wake((const void *)&wanted);
	}
	irq_restore(flags);
}

static void reclaim_thread(void *unused)
{
	uint64_t next_ns = NEVER;

	(void)unused;
	for (;;) {
		irq_off();
		while (!wanted && now_ns() < next_ns)
			sched_block((const void *)&wanted, next_ns);
		irq_on();
		while (memory.free_pages < watermarks.high)
			if (!reclaim_pages(BATCH)) {
				sched_sleep_ns(FRUITLESS_PAUSE_NS);
				break;
			}
		wanted = false;
		next_ns = pressure_poll();
	}
}

void reclaim_init(void)
{
	lru_init(&anon);
	if (!thread_create("reclaim", PRIORITY_HIGH, NULL, reclaim_thread, NULL))
		panic("no memory for the reclaim thread");
}
