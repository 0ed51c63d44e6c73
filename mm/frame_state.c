/* Pure. Names of the frame states. */
#include "mm/frame_state.h"

static const char *const names[FRAME_STATE_COUNT] = {
	[FRAME_RESERVED] = "reserved",
	[FRAME_DIRTY] = "dirty",
	[FRAME_FREE] = "free",
	[FRAME_HV] = "hv",
	[FRAME_TABLE] = "table",
	[FRAME_PRIVATE] = "private",
	[FRAME_SHARED] = "shared",
	[FRAME_ZPOOL] = "zpool",
	[FRAME_IO] = "io",
};

const char *frame_state_name(enum frame_state s)
{
	return s < FRAME_STATE_COUNT ? names[s] : "?";
}
