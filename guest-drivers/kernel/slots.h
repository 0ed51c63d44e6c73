/* Pure. Which slots of the swap area are in use: a bitmap, searched onwards from the last find. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NO_SLOT UINT32_MAX

struct slots {
	uint64_t *used; /* one bit a slot */
	uint32_t count, free, hint;
};

static inline uint64_t slots_bitmap_words(uint32_t count)
{
	return ((uint64_t)count + 63) / 64;
}
/* `used` is zeroed and slots_bitmap_words(count) long. */
void slots_init(struct slots *s, uint64_t *used, uint32_t count);
/* One slot, or NO_SLOT when full. Consecutive calls give neighbours where they are free. */
uint32_t slots_take(struct slots *s);
bool slots_is_used(const struct slots *s, uint32_t slot);
void slots_give(struct slots *s, uint32_t slot);
