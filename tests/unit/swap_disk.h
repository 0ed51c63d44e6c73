/* A disk in memory under mm/swap.h: what is asked of it is done when the test says so. */
#pragma once

#include "mm/swap.h"
#include "tests/unit/unit.h"

#define SWAP_DISK_SLOTS 4096u /* at the most */
#define PENDING         64u

static uint8_t disk[SWAP_DISK_SLOTS][PAGE_BYTES];
static uint8_t buffers[SWAP_BUFFERS * SWAP_GROUP][PAGE_BYTES] __attribute__((aligned(4096)));
static struct swap_io *pending[PENDING];
static uint32_t pending_count;
static bool reads_fail;

/* For swap_init(). */
static inline status_t submit(struct swap_io *io)
{
	assert_true(pending_count < PENDING);
	pending[pending_count++] = io;
	return OK;
}

/* All that was asked, the last first, and what comes of that. */
static inline void answer(void)
{
	while (pending_count) {
		struct swap_io *io = pending[--pending_count];

		if (io->write)
			memcpy(disk[io->first], io->buf, io->count * PAGE_BYTES);
		else
			memcpy(io->buf, disk[io->first], io->count * PAGE_BYTES);
		swap_done(io, reads_fail && !io->write ? ERR_IO : OK);
	}
}
