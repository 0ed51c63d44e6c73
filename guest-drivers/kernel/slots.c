/* Pure. The swap area's bitmap. */
#include "guest-drivers/kernel/slots.h"

void slots_init(struct slots *s, uint64_t *used, uint32_t count)
{
	*s = (struct slots){ used, count, count, 0 };
}

bool slots_is_used(const struct slots *s, uint32_t slot)
{
	return slot < s->count && (s->used[slot / 64] >> slot % 64 & 1);
}

uint32_t slots_take(struct slots *s)
{
	if (!s->free)
		return NO_SLOT;
	uint32_t slot = s->hint;

	for (;;) {
		if (slot >= s->count)
			slot = 0;
		uint64_t open = ~s->used[slot / 64] >> slot % 64;

		if (open) {
			slot += (uint32_t)__builtin_ctzll(open);
			if (slot < s->count)
				break;
			slot = 0;
		} else {
			slot = (slot / 64 + 1) * 64;
		}
	}
	s->used[slot / 64] |= 1ull << slot % 64;
	s->free--;
	s->hint = slot + 1;
	return slot;
}

void slots_give(struct slots *s, uint32_t slot)
{
	if (!slots_is_used(s, slot))
		return;
	s->used[slot / 64] &= ~(1ull << slot % 64);
	s->free++;
}
