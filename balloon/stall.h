/*
 * Pure. Which part of the time a guest stands still: for pages of its own that it reads back from its
 * own disk, for those that the hypervisor has taken from it, or for a frame. Meanwhile it touches
 * nothing, whatever it needs: the sample (balloon/activity.h) sees little of its memory touched, as
 * of one that idles. So the idle memory tax (balloon/policy.h) spares it as far as it stood still.
 *
 * All by the hypervisor's own clock; nothing of it is the guest's word. What it writes to its disk is
 * not counted: a guest that pages out for its balloon is rid of what it does not need.
 *
 * A vCPU is idle (HLT), stands still, runs, or stands in line for a processor. What it stands in line
 * for is not known: it counts as what the vCPU did when it got there. On one processor, whose time
 * the others' requests at the disk use up, that is most of it.
 *
 * A fast and a slow average: it rises with the one and falls with the other, for what a guest that
 * was helped comes to touch is seen only by and by.
 */
#pragma once

#include "vmm/base/types.h"

#define STALL_LOOK_NS 250000000ull   /* looked at so often: several turns of each vCPU */
#define STALL_RISE_NS 1000000000ull  /* time constants */
#define STALL_FALL_NS 10000000000ull

/* One vCPU's: totals since it was made, in any unit. */
struct stall_time {
	uint64_t idle, stalled, ran;
};

struct stall {
	uint32_t fast, held; /* vCPUs that stand still on the average, in 1 / STALL_ONE; at most one */
};
#define STALL_ONE 1024000u /* permille, with ten bits below it */

/*
 * From `from` to `to`, `elapsed` later: the part of that time that it stood still, in 1 / STALL_ONE.
 * `before`: what is assumed of one that did nothing but wait for a processor. Counters that are torn,
 * or run ahead, are cut to what can be.
 */
uint32_t stall_part(const struct stall_time *from, const struct stall_time *to, uint64_t elapsed,
	uint32_t before);
/* `part`: of all its vCPUs, summed up. */
void stall_note(struct stall *s, uint32_t part, uint64_t elapsed_ns);

static inline uint32_t stall_permille(const struct stall *s)
{
	return s->held / (STALL_ONE / 1000);
}
