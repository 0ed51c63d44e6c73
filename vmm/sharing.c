#include "vmm/sharing.h"

#include "mm/heap.h"
#include "mm/share.h"
#include "mm/share_rate.h"
#include "vmm/hv.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"

#define HINTS_A_PAGE      (PAGE_BYTES / 16u)
#define TABLE_PAGES_MAX   512u /* the heap's largest object: 128 Ki hints, one a page of 512 MiB */
#define TABLE_PAGES_MIN   4u
#define POLL_NS           1000000u
#define STEP_NS           200000u /* a step ends after this long, whatever it has */
#define LOOKS             (4 * SHARE_RATE_STEP)

/* CPU 0's. */
static struct {
	struct share_rate rate;
	uint64_t next_ns;
	uint16_t id; /* where it goes on: the guest with this id, or the next one */
	gfn_t gfn;
	struct sharing_stats stats;
} scan;

uint64_t sharing_heap_pages(uint64_t pool_pages)
{
	return MIN(MAX(pool_pages / HINTS_A_PAGE, TABLE_PAGES_MIN), TABLE_PAGES_MAX);
}

void sharing_init(void)
{
	struct frame_counts n;

	frame_counts(&n);
	uint64_t pages = sharing_heap_pages(n.pool_limit);
	void *table = heap_alloc(pages * PAGE_BYTES);

	if (!table)
		log_warn("no sharing of equal pages: the hypervisor's heap has no room for its table");
	share_init(table, table ? pages : 0, platform_random());
	share_rate_init(&scan.rate, table ? SHARE_RATE_BUDGET_PPM : 0, 0, platform_ns());
}

void sharing_guest_came(struct guest *g)
{
	g->p2m.share_none = g->config.share_none;
	g->p2m.share_group = g->config.share_group;
	if (!g->config.share_none)
		share_rate_more(&scan.rate, g->p2m.gfn_count);
}

void sharing_guest_gone(uint16_t id)
{
	share_forget(id);
}

struct p2m *sharing_p2m_of(uint16_t owner)
{
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		if (g->id == owner)
			return g->state == GUEST_DYING ? NULL : &g->p2m;
	return NULL;
}

/* The guest whose turn it is: all pages of one, then all of the next. NULL: no guest shares. */
static struct guest *turn(void)
{
	struct guest *first = NULL;

	for (struct guest *g = guest_next(NULL); g; g = guest_next(g)) {
		if (g->state == GUEST_DYING || g->p2m.share_none)
			continue;
		if (g->id == scan.id && scan.gfn.v < g->p2m.gfn_count)
			return g;
		if (g->id > scan.id) {
			first = g;
			break;
		}
		if (!first)
			first = g;
	}
	if (first) {
		scan.id = first->id;
		scan.gfn = GFN(0);
	}
	return first;
}

/* At most `due` pages, LOOKS looks, and STEP_NS. */
static void step(uint32_t due, uint64_t start)
{
	struct overcommit_stats o;
	uint32_t scanned = 0, gained = 0;
	uint64_t now = start;

	overcommit_stats(&o);
	for (uint32_t look = 0; look < LOOKS && scanned < due && now - start < STEP_NS; look++) {
		struct guest *g = turn();

		if (!g)
			break;
		enum merge_result r = merge_page(
			&g->p2m, scan.gfn, o.level != POLICY_HIGH, sharing_p2m_of, &scan.gfn);

		scan.stats.result[r]++;
		scanned += r != MERGE_SKIPPED && r != MERGE_TAKEN;
		gained += r == MERGE_SHARED || r == MERGE_ZERO;
		now = platform_ns();
	}
	scan.stats.steps++;
	share_rate_done(&scan.rate, scanned, gained, now - start);
}

void sharing_poll(uint64_t now_ns)
{
	if (LIKELY(now_ns < scan.next_ns))
		return;
	scan.next_ns = now_ns + POLL_NS;
	uint32_t due = share_rate_due(&scan.rate, now_ns);

	if (!due)
		return;
	step(due, platform_ns());
	platform_listen(); /* a guest's turn comes next */
}

void sharing_stats(struct sharing_stats *out)
{
	struct share_counts n;

	share_counts(&n);
	*out = scan.stats;
	out->rate = scan.rate.rate;
	out->scanned = scan.rate.scanned;
	out->gained = scan.rate.gained;
	out->spent_ns = scan.rate.spent_ns;
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		out->pages += g->p2m.pages[P2M_SHARED];
	out->saved = out->pages - MIN(n.shared_frames, out->pages);
}

const char *sharing_result_name(enum merge_result r)
{
	static const char *const name[] = { "skipped", "unique", "shared", "zero", "taken_back", "busy" };

	return (unsigned int)r < ARRAY_COUNT(name) ? name[r] : "?";
}
