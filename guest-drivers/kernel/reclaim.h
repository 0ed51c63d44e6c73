/*
 * Getting pages back: the file cache first, which costs nothing, then processes' pages by a clock.
 * A thread of its own keeps free memory above the watermarks; an allocation that is too fast for it
 * reclaims by itself, and as the very last resort asks the balloon and then kills (oom.c).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct reclaim_counters {
	uint64_t direct, cache_pages, anon_pages, oom_kills;
};

void reclaim_init(void);
/* Pages freed, up to about `want`; 0: nothing can be had now. Preemption on. */
uint32_t reclaim_pages(uint32_t want);
void reclaim_wake(void);
/* For an allocation that found nothing. False: give up. */
bool reclaim_direct(uint32_t want);
/* Could more be reclaimed with more swap? For the balloon's reason. */
bool reclaim_lacks_swap(void);
const struct reclaim_counters *reclaim_counters(void);
void reclaim_count_oom_kill(void);

/* Processes' pages on the clock. Preemption off. */
void anon_add(uint32_t page);
void anon_forget(uint32_t page);
uint32_t anon_count(void);

/* pressure.c: what this guest tells the hypervisor, and its own programs, about its lack of memory. */
void pressure_stalled(uint32_t pages_wanted);
void pressure_swapped_in(uint32_t pages);
unsigned int pressure_level(void); /* enum aero_pressure */
/* Ends the pressure when it is over. Returns when to call again, NEVER for no need. */
uint64_t pressure_poll(void);

/* oom.c: kills the process with the most memory, waits for its end. False: the caller shall end. */
bool oom_kill(void);
