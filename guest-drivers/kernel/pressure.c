/*
 * Memory pressure: SOME when allocations had to reclaim, FULL when pages come back from swap as fast
 * as they go. Told to the hypervisor at most ten times a second, and once when it is over.
 */
#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/timer.h"

#define REPORT_NS (100 * NS_PER_MS)
#define OVER_NS NS_PER_S
#define FULL_SWAP_INS 64u /* pages in REPORT_NS */

/* Preemption off. */
static enum aero_pressure level;
static uint64_t window_start_ns, last_ns, reported_ns;
static uint32_t window_swap_ins;

unsigned int pressure_level(void)
{
	return level;
}

static void note(enum aero_pressure seen, uint32_t wanted)
{
	uint64_t now = now_ns();

	preempt_off();
	last_ns = now;
	bool report = now - reported_ns >= REPORT_NS || seen > level;

	if (report) {
		reported_ns = now;
		level = seen;
	}
	preempt_on();
	if (report) {
		ballooning_pressure(seen, wanted);
		reclaim_wake(); /* it polls for the end */
		sched_wake(&pressure_level);
	}
}

void pressure_stalled(uint32_t pages_wanted)
{
	note(MAX(level, AERO_PRESSURE_SOME), pages_wanted);
}

void pressure_swapped_in(uint32_t pages)
{
	preempt_off();
	if (now_ns() - window_start_ns >= REPORT_NS) {
		window_start_ns = now_ns();
		window_swap_ins = 0;
	}
	window_swap_ins += pages;
	bool hot = window_swap_ins >= FULL_SWAP_INS;

	preempt_on();
	if (hot)
		note(AERO_PRESSURE_FULL, window_swap_ins);
}

uint64_t pressure_poll(void)
{
	if (level == AERO_PRESSURE_NONE)
		return NEVER;
	if (now_ns() - last_ns < OVER_NS)
		return last_ns + OVER_NS;
	level = AERO_PRESSURE_NONE;
	ballooning_pressure(AERO_PRESSURE_NONE, 0);
	return NEVER;
}
