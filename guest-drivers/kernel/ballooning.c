/* The balloon driver's host in this kernel. */
#include "guest-drivers/kernel/ballooning.h"

#include "guest-drivers/kernel/cache.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/misbehave.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/swap.h"
#include "guest-drivers/kernel/timer.h"

#define TAKE_RECLAIM 32u

/* The driver and what it works with: lock_owner. */
static struct balloon_driver driver;
static struct balloon_setup setup;
static bool running;               /* set once at boot */
static struct thread *lock_owner;  /* preempt_off */
static volatile uint32_t events;   /* interrupts off */

struct balloon_driver *ballooning_lock(void)
{
	if (!running)
		return NULL;
	for (;;) {
		uint64_t flags = irq_save();

		if (!lock_owner) {
			lock_owner = current;
			irq_restore(flags);
			return &driver;
		}
		sched_block(&lock_owner, NEVER);
		irq_restore(flags);
	}
}

void ballooning_unlock(void)
{
	uint64_t flags = irq_save();

	lock_owner = NULL;
	sched_wake(&lock_owner);
	irq_restore(flags);
}

uint32_t ballooning_pages(void)
{
	return (uint32_t)driver.actual_pages;
}

static uint64_t take(void *ctx, unsigned int order, bool may_reclaim, uint32_t *why)
{
	uint32_t keep = order ? watermarks.high + (1u << order) : watermarks.high;
	uint32_t p = NO_PAGE;

	(void)ctx;
	for (unsigned int round = 0; round < 2; round++) {
		bool fragmented = false;

		preempt_off();
		if (memory.free_pages > keep) {
			p = buddy_take(&memory, order);
			fragmented = p == NO_PAGE;
			if (p != NO_PAGE)
				memory.pages[p].state = PAGE_BALLOON;
		}
		preempt_on();
		if (p != NO_PAGE)
			return p;
		*why = fragmented ? AERO_REASON_FRAGMENTED : AERO_REASON_NO_MEMORY;
		if (order || !may_reclaim || round || !reclaim_pages(TAKE_RECLAIM))
			break;
	}
	if (!order && reclaim_lacks_swap())
		*why = AERO_REASON_NO_SWAP;
	return BALLOON_NO_PAGE;
}

static void put(void *ctx, uint64_t gfn, unsigned int order)
{
	(void)ctx;
	preempt_off();
	buddy_free_untouched(&memory, (uint32_t)gfn, order);
	preempt_on();
}

static uint64_t free_pages(void *ctx)
{
	(void)ctx;
	return memory.free_pages;
}

static void fill_stats(void *ctx, uint64_t stats[AERO_STAT_COUNT])
{
	uint64_t minor, major;

	(void)ctx;
	proc_fault_totals(&minor, &major);
	stats[AERO_STAT_SWAP_IN] = swap_counters()->in_pages * PAGE_BYTES;
	stats[AERO_STAT_SWAP_OUT] = swap_counters()->out_pages * PAGE_BYTES;
	stats[AERO_STAT_MAJOR_FAULTS] = major;
	stats[AERO_STAT_MINOR_FAULTS] = minor;
	stats[AERO_STAT_FREE] = memory.free_pages * PAGE_BYTES;
	stats[AERO_STAT_TOTAL] = (memory_managed - driver.actual_pages) * PAGE_BYTES;
	stats[AERO_STAT_AVAILABLE] = (memory.free_pages + cache_count()) * PAGE_BYTES;
	stats[AERO_STAT_CACHES] = cache_count() * PAGE_BYTES;
	stats[AERO_STAT_HUGETLB_ALLOC] = 0;
	stats[AERO_STAT_HUGETLB_FAIL] = 0;
	stats[AERO_STAT_OOM_KILL] = reclaim_counters()->oom_kills;
	stats[AERO_STAT_ALLOC_STALL] = reclaim_counters()->direct;
}

static uint64_t clock_ns(void *ctx)
{
	(void)ctx;
	return now_ns();
}

static const struct balloon_ops ops = {
	.take = take,
	.put = put,
	.free_pages = free_pages,
	.fill_stats = fill_stats,
	.hypercall = hypercall,
	.now_ns = clock_ns,
};

void ballooning_event(uint32_t bits)
{
	uint64_t flags = irq_save();

	events |= bits;
	sched_wake((const void *)&events);
	irq_restore(flags);
}

static void balloon_thread(void *unused)
{
	(void)unused;
	for (;;) {
		bool more = false;
		uint64_t next_ns = NEVER;

		irq_off();
		uint32_t bits = events;

		events = 0;
		irq_on();
		if (bits & AERO_EVENT_SHUTDOWN) {
			print("shutting down: the operator asks\n");
			hv_shutdown(AERO_SHUTDOWN_POWEROFF, 0);
		}
		if (ballooning_lock()) {
			more = misbehave_work(&driver);
			next_ns = misbehave_next_ns(&driver);
			ballooning_unlock();
		}
		if (more) {
			sched_yield();
			continue;
		}
		irq_off();
		while (!events && now_ns() < next_ns)
			sched_block((const void *)&events, next_ns);
		irq_on();
	}
}

uint32_t ballooning_give_back(uint32_t pages)
{
	if (!running || lock_owner == current)
		return 0;
	ballooning_lock();
	uint64_t given = balloon_driver_give_back(&driver, pages);

	ballooning_unlock();
	return (uint32_t)given;
}

void ballooning_pressure(enum aero_pressure level, uint32_t pages)
{
	if (!running || lock_owner == current)
		return;
	ballooning_lock();
	balloon_driver_pressure(&driver, level, pages);
	ballooning_unlock();
}

void ballooning_reserve(void)
{
	setup.ops = &ops;
	setup.page = page_early(sizeof(struct aero_balloon_page));
	setup.ranges = page_early(AERO_RANGE_MAX * sizeof(struct aero_range));
	setup.bitmap = page_early((memory_pages + 511) / 512 * 64);
	setup.page_gpa = (uint64_t)setup.page;
	setup.ranges_gpa = (uint64_t)setup.ranges;
	setup.gfn_count = memory_pages;
	if (!setup.page || !setup.ranges || !setup.bitmap)
		panic("no memory for the balloon driver's tables");
}

void ballooning_init(void)
{
	if (hv_features() & AERO_FEAT_BALLOON && misbehave_init(&setup)) {
		setup.keep_free_pages = watermarks.high;
		int64_t r = balloon_driver_init(&driver, &setup);

		if (r)
			print("balloon: refused (%ld), going on without\n", r);
		running = !r;
	}
	if (!thread_create("balloon", PRIORITY_HIGH, NULL, balloon_thread, NULL))
		panic("no memory for the balloon's thread");
}
