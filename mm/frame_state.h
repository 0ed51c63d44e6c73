/* Pure. The states of a host frame and the moves between them. See mm/frame.h. */
#pragma once

#include "vmm/base/types.h"

enum frame_state {
	FRAME_RESERVED = 0, /* not RAM, or firmware's, or never ours */
	FRAME_DIRTY,        /* free, holds old bytes */
	FRAME_FREE,         /* free, all zero */
	FRAME_HV,           /* the hypervisor's own: image, heap, metadata */
	FRAME_TABLE,        /* second-level page table of a guest */
	FRAME_PRIVATE,      /* one guest, one gfn */
	FRAME_SHARED,       /* many gfns, read-only (the zero frame is one) */
	FRAME_ZPOOL,        /* compressed store */
	FRAME_IO,           /* in flight to or from a disk */
	FRAME_STATE_COUNT
};

#define FRAME_TO(s) (1u << FRAME_##s)

/*
 * Legal moves, by `from`: a mask of `to`. What a guest can read (PRIVATE, SHARED, IO) is reached
 * from FREE only, never from DIRTY. Here and not in the .c so that constant moves cost nothing.
 */
static const uint16_t frame_moves[FRAME_STATE_COUNT] = {
	[FRAME_RESERVED] = FRAME_TO(DIRTY) | FRAME_TO(HV),
	[FRAME_DIRTY] = FRAME_TO(FREE) | FRAME_TO(HV) | FRAME_TO(TABLE) | FRAME_TO(ZPOOL),
	[FRAME_FREE] = FRAME_TO(HV) | FRAME_TO(TABLE) | FRAME_TO(PRIVATE) | FRAME_TO(SHARED) |
		FRAME_TO(ZPOOL) | FRAME_TO(IO),
	[FRAME_HV] = FRAME_TO(DIRTY),
	[FRAME_TABLE] = FRAME_TO(DIRTY),
	[FRAME_PRIVATE] = FRAME_TO(DIRTY) | FRAME_TO(SHARED) | FRAME_TO(IO),
	[FRAME_SHARED] = FRAME_TO(DIRTY) | FRAME_TO(PRIVATE),
	[FRAME_ZPOOL] = FRAME_TO(DIRTY),
	[FRAME_IO] = FRAME_TO(DIRTY) | FRAME_TO(PRIVATE),
};
#undef FRAME_TO

static inline bool frame_move_legal(enum frame_state from, enum frame_state to)
{
	return from < FRAME_STATE_COUNT && to < FRAME_STATE_COUNT && (frame_moves[from] >> to & 1u);
}
static inline bool frame_state_is_free(enum frame_state s)
{
	return s == FRAME_FREE || s == FRAME_DIRTY;
}

const char *frame_state_name(enum frame_state s); /* "private"; "?" for no state */
