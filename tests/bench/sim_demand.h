/* What the guests of the simulator want: made up, or read from a file. */
#pragma once

#include <stdint.h>

struct sim_want {
	uint64_t pages;
	uint32_t hot_percent; /* of them: touched all the time */
};

enum sim_scene { SIM_STEADY, SIM_SPIKES, SIM_DIURNAL, SIM_IDLE, SIM_TEN, SIM_DISK, SIM_SCENES };
extern const char *const sim_scene_name[SIM_SCENES];

/* The same for the same arguments. `whole_ms`: how long the run is. */
struct sim_want sim_made_up(enum sim_scene scene, uint64_t seed, uint32_t guest, uint64_t ms,
	uint64_t whole_ms, uint64_t memory_pages);

/* Lines `MS GUEST PAGES [HOT]`, in order of time, # begins a comment. */
struct sim_record {
	uint64_t ms;
	uint32_t guest;
	struct sim_want want;
};
/* Returns their number and a malloc()ed array; -1 and a message if it cannot be read. */
long sim_read_demand(const char *path, struct sim_record **out);
