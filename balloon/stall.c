/* Pure. See balloon/stall.h. */
#include "balloon/stall.h"

static uint64_t grown(uint64_t from, uint64_t to, uint64_t most)
{
	return to > from ? MIN(to - from, most) : 0;
}

/* a * STALL_ONE / b, for a <= b. */
static uint64_t ratio(uint64_t a, uint64_t b)
{
	while (b >> 40) {
		a >>= 1;
		b >>= 1;
	}
	return b ? MIN(a * STALL_ONE / b, STALL_ONE) : 0;
}

uint32_t stall_part(const struct stall_time *from, const struct stall_time *to, uint64_t elapsed, uint32_t before)
{
	uint64_t busy = elapsed - grown(from->idle, to->idle, elapsed);
	uint64_t stalled = grown(from->stalled, to->stalled, elapsed);
	uint64_t ran = grown(from->ran, to->ran, elapsed);
	uint64_t part = stalled + ran ? ratio(stalled, stalled + ran) : MIN(before, STALL_ONE);

	return (uint32_t)(part * ratio(busy, elapsed) / STALL_ONE);
}

/* As far towards `to` as `elapsed_ns` weighs against the time constant. */
static uint32_t toward(uint32_t at, uint32_t to, uint64_t elapsed_ns, uint64_t constant_ns)
{
	uint64_t weight = ratio(elapsed_ns, elapsed_ns + constant_ns);

	return at < to ? at + (uint32_t)((to - at) * weight / STALL_ONE) :
			 at - (uint32_t)((at - to) * weight / STALL_ONE);
}

void stall_note(struct stall *s, uint32_t part, uint64_t elapsed_ns)
{
	uint64_t elapsed = MIN(elapsed_ns, STALL_FALL_NS);

	s->fast = toward(s->fast, MIN(part, STALL_ONE), elapsed, STALL_RISE_NS);
	s->held = MAX(s->fast, toward(s->held, s->fast, elapsed, STALL_FALL_NS));
}
