/* Any text as a trace of the policy: what is read can be written and read again to the same, and whatever
 * numbers it gave, a step is made of them, twice the same, within what each guest can give. */
#include <stdlib.h>
#include <string.h>

#include "balloon/policy_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define MAX_GUESTS 16u

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_step(const struct policy_pool *pool, const struct policy_guest *g, uint32_t n)
{
	struct policy_target target[MAX_GUESTS], again[MAX_GUESTS];
	struct policy_part scratch[MAX_GUESTS];
	struct policy_plan plan = { .guest = target }, plan2 = { .guest = again };

	policy_step(pool, g, n, scratch, &plan);
	policy_step(pool, g, n, scratch, &plan2);
	require(policy_trace_hash(&plan, n) == policy_trace_hash(&plan2, n));
	for (uint32_t i = 0; i < n; i++) {
		uint64_t min = g[i].min_pages < g[i].memory_pages ? g[i].min_pages : g[i].memory_pages;
		uint64_t goal = target[i].balloon_target_pages + target[i].withheld_pages;
		require(goal <= g[i].memory_pages - min);
		require(target[i].resident_limit_pages >= min);
		require(target[i].entitled_pages >= min);
		require(target[i].rate_pages <= g[i].memory_pages);
	}
}

static void check_again(enum policy_trace_kind kind, const struct policy_trace *t)
{
	char line[POLICY_TRACE_BYTES];
	struct policy_trace u;
	size_t n;

	if (kind == POLICY_TRACE_STEP)
		n = policy_trace_step(line, &t->pool, (uint32_t)t->guest_count, t->time_ms);
	else if (kind == POLICY_TRACE_GUEST)
		n = policy_trace_guest(line, &t->guest);
	else
		return;
	require(n < sizeof(line) && strlen(line) == n);
	require(policy_trace_parse(line, n, &u) == kind);
	require(memcmp(t, &u, sizeof(u)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct policy_guest guest[MAX_GUESTS];
	struct policy_pool pool = { 0 };
	uint32_t n = 0;

	while (bytes) {
		const uint8_t *end = memchr(data, '\n', bytes);
		size_t length = end ? (size_t)(end - data) + 1 : bytes;
		struct policy_trace t;
		char *exact = malloc(length);
		memcpy(exact, data, length);
		enum policy_trace_kind kind = policy_trace_parse(exact, length, &t);
		free(exact);
		if (kind >= POLICY_TRACE_STEP)
			check_again(kind, &t);
		if (kind == POLICY_TRACE_STEP)
			pool = t.pool, n = 0;
		if (kind == POLICY_TRACE_GUEST && n < MAX_GUESTS)
			guest[n++] = t.guest;
		if (kind == POLICY_TRACE_PLAN)
			check_step(&pool, guest, n);
		data += length;
		bytes -= length;
	}
	check_step(&pool, guest, n);
	return 0;
}
