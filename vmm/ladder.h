/*
 * The reclaim ladder: brings each guest to the frames that the policy lets it hold, by the lower rungs (mm/reclaim.h),
 * while its balloon is asked all the same. docs/reclaim.md. Owner: CPU 0, from the scheduler's loop.
 */
#pragma once

#include "vmm/guest.h"

/* What the ladder's tables and buffers take of the heap, in pages. */
uint64_t ladder_heap_pages(const struct config *config);
/* Once at boot, after the pool and the disk: swap, the compressed store. What cannot be had is said in the log. */
void ladder_init(const struct config *config);

/* For measurements: pages that lie on their guest's own disk are dropped, or swapped like others. */
void ladder_set_drop(bool on);

/*
 * The frames that `g` may hold from now on, without its tables (UINT64_MAX: no limit). It gets no more than
 * these, and what it holds beyond is taken by the next polls. Raising it takes effect at once.
 */
void ladder_set_limit(struct guest *g, uint64_t limit_pages);

/* Each turn of CPU 0's loop: a bounded step. True: it did something, come again soon. */
bool ladder_poll(void);
bool ladder_active(void); /* somebody owes pages: CPU 0 should look in often */

/* It does not run, so its balloon cannot give; and what it owes finds no room: nobody can have that now. */
bool ladder_is_stuck(const struct guest *g);

/* Pages a second that were taken from it of late; 0: none. */
uint64_t ladder_rate(const struct guest *g);
/* What stands in the way of a guest's limit now: words for mem-why, "" if nothing does. */
const char *ladder_obstacle(const struct guest *g);
