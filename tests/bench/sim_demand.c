#include "tests/bench/sim_demand.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *const sim_scene_name[SIM_SCENES] = { "steady", "spikes", "diurnal", "idle-vs-busy",
	"ten-spikes", "one-disk" };

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t z = a * 0x9e3779b97f4a7c15ull + b * 0xd1b54a32d192ed03ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t percent(uint64_t pages, uint64_t n)
{
	return pages * n / 100;
}

/* One window of ten seconds in five has a spike in it, at some time in it, for two to six seconds. */
static uint64_t spiky(uint64_t seed, uint32_t guest, uint64_t ms, uint64_t memory)
{
	uint64_t r = mix(mix(seed, guest), ms / 10000), at = ms % 10000, from = r >> 8 & 4095;
	uint64_t to = from + 2000 + (r >> 20 & 4095);

	return percent(memory, r % 5 == 0 && at >= from && at < to ? 95 : 25 + (mix(seed, guest) & 15));
}

/* A day is a minute; they do not get up at the same time. */
static uint64_t daily(uint64_t seed, uint32_t guest, uint64_t ms, uint64_t memory)
{
	double phase = (double)(mix(seed, guest) % 60000);
	double day = 0.5 - 0.5 * cos(2 * 3.14159265358979 * ((double)ms + phase) / 60000);

	return percent(memory, 15 + (uint64_t)(75 * day));
}

struct sim_want sim_made_up(enum sim_scene scene, uint64_t seed, uint32_t guest, uint64_t ms,
	uint64_t whole_ms, uint64_t memory)
{
	uint64_t r = mix(seed, guest);

	switch (scene) {
	case SIM_STEADY:
		return (struct sim_want){ percent(memory, 40 + r % 51), 50 + (uint32_t)(r >> 32) % 51 };
	case SIM_SPIKES:
		return (struct sim_want){ spiky(seed, guest, ms, memory), 90 };
	case SIM_DIURNAL:
		return (struct sim_want){ daily(seed, guest, ms, memory), 80 };
	case SIM_IDLE: /* all fill their memory; every second one is idle in the middle of the run */
		return (struct sim_want){ percent(memory, 95),
			guest % 2 == 0 && ms > whole_ms / 3 && ms < whole_ms * 2 / 3 ? 5 : 100 };
	case SIM_DISK: /* one begins after the other, and each goes round and round in nearly all it has */
		return (struct sim_want){ percent(memory, ms > 1000ull * (guest + 1) ? 90 : 10), 100 };
	default:
		return (struct sim_want){ percent(memory, ms > whole_ms / 4 && ms < whole_ms * 3 / 4 ? 100 : 25),
			100 };
	}
}

long sim_read_demand(const char *path, struct sim_record **out)
{
	FILE *f = fopen(path, "r");
	long count = 0, room = 0;
	char line[256];

	*out = NULL;
	if (!f)
		return perror(path), -1;
	for (unsigned long number = 1; fgets(line, sizeof(line), f); number++) {
		unsigned long long ms, pages;
		unsigned int guest, hot = 100;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (sscanf(line, "%llu %u %llu %u", &ms, &guest, &pages, &hot) < 3 || hot > 100) {
			fprintf(stderr, "%s:%lu: should be: MS GUEST PAGES [HOT percent]\n", path, number);
			fclose(f);
			return -1;
		}
		if (count == room)
			*out = realloc(*out, sizeof(**out) * (size_t)(room = room ? 2 * room : 1024));
		(*out)[count++] = (struct sim_record){ ms, guest, { pages, hot } };
	}
	fclose(f);
	return count;
}
