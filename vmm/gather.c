#include "vmm/gather.h"

#include "mm/evict.h"
#include "vmm/guest.h"
#include "vmm/overcommit.h"

#define PERIOD_NS 50000000ull /* a look, which may move 512 pages */
#define LOOKS     16u         /* 2 MiB blocks looked at each time */

static struct {
	uint64_t due_ns;
	uint16_t guest; /* whose turn it is, by id */
	uint64_t gfn;   /* and where */
} gather;

/* The guest whose turn it is, or the next one after it. NULL: there is none. */
static struct guest *whose_turn(void)
{
	struct guest *g = guest_next(NULL);

	while (g && g->id < gather.guest)
		g = guest_next(g);
	if (!g || g->id != gather.guest)
		gather.gfn = 0;
	return g ? g : guest_next(NULL);
}

/* On to the next block, or the next guest. */
static void advance(const struct guest *g)
{
	gather.gfn += PAGES_2M;
	gather.guest = g->id;
	if (gather.gfn >= g->p2m.gfn_count) {
		gather.gfn = 0;
		gather.guest = (uint16_t)(g->id + 1);
	}
}

/* Another 512 pages are to be had, and nobody is short of them. */
static bool plenty(void)
{
	struct overcommit_stats o;

	overcommit_stats(&o);
	return o.level == POLICY_HIGH && frame_pool_roomy(2 * PAGES_2M) &&
		!mfn_is_none(frame_block_hint());
}

bool gather_poll(uint64_t now_ns)
{
	if (now_ns < gather.due_ns)
		return false;
	gather.due_ns = now_ns + PERIOD_NS;
	if (!plenty())
		return false;
	for (uint32_t i = 0; i < LOOKS; i++) {
		struct guest *g = whose_turn();

		if (!g)
			return false;
		gfn_t at = GFN(gather.gfn);

		advance(g);
		if (g->state != GUEST_DYING && g->ladder.limit_pages == UINT64_MAX &&
			p2m_gather(&g->p2m, at) == OK)
			return true;
	}
	return false;
}
