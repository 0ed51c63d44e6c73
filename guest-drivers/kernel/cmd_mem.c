/* Commands about memory. */
#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/cache.h"
#include "guest-drivers/kernel/disk.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"
#include "guest-drivers/kernel/swap.h"

#define KIB_A_PAGE 4u

static void free_command(unsigned int count, char **words)
{
	uint32_t free, cache, balloon, anon;

	(void)count, (void)words;
	preempt_off();
	free = memory.free_pages;
	cache = cache_count();
	anon = anon_count();
	balloon = ballooning_pages();
	preempt_on();
	uint32_t used = memory_pages - MIN(memory_pages, free + cache + balloon);

	print("%-6s%10s%10s%10s%10s%10s%10s%10s\n", "KiB", "total", "used", "free", "cache", "balloon",
	      "available", "anon");
	print("%-6s%10u%10u%10u%10u%10u%10u%10u\n", "mem", memory_pages * KIB_A_PAGE, used * KIB_A_PAGE,
	      free * KIB_A_PAGE, cache * KIB_A_PAGE, balloon * KIB_A_PAGE, (free + cache) * KIB_A_PAGE,
	      anon * KIB_A_PAGE);
	print("%-6s%10u%10u%10u\n", "swap", swap_total() * KIB_A_PAGE,
	      (swap_total() - swap_free()) * KIB_A_PAGE, swap_free() * KIB_A_PAGE);
	print("%-6s%10u   of used: the kernel's image and its tables\n", "fixed",
	      (memory_pages - memory_managed) * KIB_A_PAGE);
}

static void vmstat(unsigned int count, char **words)
{
	uint64_t minor, major;

	(void)count, (void)words;
	proc_fault_totals(&minor, &major);
	print("minor_faults %lu\nmajor_faults %lu\nswap_in_pages %lu\nswap_out_pages %lu\n", minor, major,
	      swap_counters()->in_pages, swap_counters()->out_pages);
	print("clean_drops %lu\nzero_drops %lu\n", swap_counters()->clean_drops,
	      swap_counters()->zero_drops);
	print("reclaimed_cache %lu\nreclaimed_anon %lu\ndirect_reclaims %lu\noom_kills %lu\n",
	      reclaim_counters()->cache_pages, reclaim_counters()->anon_pages, reclaim_counters()->direct,
	      reclaim_counters()->oom_kills);
	print("cache_hits %lu\ncache_misses %lu\ndisk_reads %lu\ndisk_writes %lu\ndisk_errors %lu\n",
	      cache_counters()->hits, cache_counters()->misses, disk_counters()->reads,
	      disk_counters()->writes, disk_counters()->errors);
	struct balloon_driver *d = ballooning_lock();

	if (d) {
		print("balloon_inflated %lu\nballoon_inflated_2m %lu\nballoon_deflated %lu\n",
		      d->inflated_pages, d->inflated_2m, d->deflated_pages);
		print("balloon_urgent %lu\nballoon_backoffs %lu\nballoon_refused %lu\n", d->urgent_pages,
		      d->backoffs, d->refused);
		print("balloon_target %lu\nballoon_state %u\nballoon_reason %u\n", d->s.page->target_pages,
		      d->state, d->reason);
		ballooning_unlock();
	}
	print("pressure %u\nwatermarks %u %u %u\n", pressure_level(), watermarks.min, watermarks.low,
	      watermarks.high);
}

const struct command commands_mem[] = {
	{ "free", "", "memory, cache, balloon, swap", free_command, false },
	{ "vmstat", "", "counters since boot", vmstat, false },
	{ 0 },
};
