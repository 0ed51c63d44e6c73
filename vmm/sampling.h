/*
 * Working sets: which part of its memory each guest touches, sampled (balloon/activity.h, mm/sample.h).
 * Owner: CPU 0, from the scheduler's loop.
 */
#pragma once

#include "balloon/activity.h"
#include "mm/sample.h"

struct guest;

/* In struct guest. */
struct sampling {
	struct activity activity;
	struct sample_page page[ACTIVITY_SAMPLE_MAX]; /* of the round under way */
	uint32_t count;
	enum sample_way way;
	uint64_t look_ns;    /* when it looks at them next, before the window's end */
	uint64_t spent_tsc;  /* by this round */
	uint64_t kicks;      /* CPUs that this guest's flushes had kicked when the round began */
	uint64_t checked_ns; /* the statistics that were last compared */
	/* for the console */
	uint64_t rounds, spent_tsc_all;
	struct sample_result last;
};

/* A guest has been made: its first round is due at once. */
void sampling_open(struct guest *g);
/* Each turn of CPU 0's loop: nothing most of the time, else a round of one guest begins, is looked at, or ends. */
void sampling_poll(uint64_t now_ns);

/* How many of its pages it has touched of late; UINT64_MAX: not known (yet). */
uint64_t sampling_active_pages(const struct guest *g);
