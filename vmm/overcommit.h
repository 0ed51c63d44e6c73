/*
 * Overcommit: gathers what balloon/policy.h needs of every guest, takes a step, applies the targets.
 * Runs from the scheduler's loop, between vCPUs. Owner: CPU 0; overcommit_kick() from any.
 */
#pragma once

#include "balloon/policy.h"
#include "vmm/guest.h"

void overcommit_poll(uint64_t now_ns);     /* each turn of the loop: looks at its period first */
void overcommit_kick(struct guest *guest); /* a vCPU of it waits for memory: do not wait the period */
/* The next `steps` steps go to the log, to be made again by `simulate replay` (balloon/policy_trace.h). */
void overcommit_trace(uint32_t steps);
void overcommit_nudge(void);               /* an operator's target changed: at the next turn */

/* It has not called since its target moved, for its deadline's time. */
bool overcommit_driver_is_silent(const struct guest *g);

/* For the console: the level in force, and counters since boot. */
struct overcommit_stats {
	enum policy_level level;
	uint64_t steps, kicks, level_changes;
};
void overcommit_stats(struct overcommit_stats *out);
const char *overcommit_level_name(enum policy_level level); /* "high", "soft", "hard", "low" */
