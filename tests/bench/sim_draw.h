/* The simulator's pictures: a .dat with numbers, a .gp that draws them, and the .svg if gnuplot is there. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#define SIM_DRAWN 12u /* guests with a panel of their own, at most: evenly spread over all */

struct sim_drawing {
	FILE *dat;
	char path[512]; /* without its end: DIR/NAME */
	uint32_t guest_count, drawn;
};

struct sim_sample {
	uint64_t demand, held, balloon, out_of_ram; /* pages */
};

/* 0, or -1 and a message. */
int sim_draw_begin(struct sim_drawing *d, const char *dir, const char *name, uint32_t guest_count);
static inline uint32_t sim_drawn_guest(const struct sim_drawing *d, uint32_t panel)
{
	return (uint32_t)((uint64_t)panel * d->guest_count / d->drawn);
}
/* Samples of all guests; only the sums and those with a panel go into the .dat. */
void sim_draw_sample(struct sim_drawing *d, double seconds, uint64_t free_pages, unsigned int level,
	const struct sim_sample *guest);
int sim_draw_end(struct sim_drawing *d);
