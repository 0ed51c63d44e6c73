/* Frames that are shared, and a table of hints: what its tests have in common. */
#pragma once

#include "mm/frame_pool.h"
#include "mm/share.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"
#include "vmm/base/directmap.h"

#define FRAMES    4096u
#define EMERGENCY 8u
#define SALT      0x5a17u

static uint64_t table_memory[4 * PAGE_BYTES / 8] __attribute__((aligned(4096)));

/* The pool's numbers are what they must be, given the accounts. */
static inline void check_pool(struct frame_account **accounts, uint32_t count)
{
	uint64_t used = frame_pool.shared.used_pages, states = 0;
	int64_t owed = 0;

	frame_lock_all();
	for (uint32_t i = 0; i < count; i++) {
		used += accounts[i]->used_pages;
		owed += (int64_t)frame_owed(accounts[i]);
	}
	assert_int_equal(frame_pool.used, used);
	assert_int_equal(frame_pool.headroom, (int64_t)(frame_pool.limit - used) - owed);
	assert_int_equal(frame_pool.by_state[FRAME_SHARED] - 1, frame_pool.shared.used_pages);
	for (uint32_t i = 0; i < FRAME_STATE_COUNT; i++)
		states += frame_pool.by_state[i];
	assert_int_equal(states, frame_table.count);
	frame_unlock_all();
	assert_null(share_check());
}

static inline struct share_counts counts(void)
{
	struct share_counts c;

	share_counts(&c);
	return c;
}

/* A SHARED frame of guest a's with one reference, and a hint to it. */
