/* What benchmarks need of the hypervisor: debug reclaim, debug latency, debug paging. */
#include "mm/alias.h"
#include "mm/evict.h"
#include "mm/swap.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/ladder.h"
#include "vmm/latency.h"
#include "vmm/overcommit.h"
#include "vmm/platform.h"

/* ---- debug reclaim: pages of a guest by one rung ------------------------------------------------ */

#define RANGE_MAX (1ull << 18) /* pages */

struct rung_trial {
	struct reclaim r;
	struct p2m *p;
	bool compress, swap;
	uint64_t step_ticks, disk_ticks, freed;
};
static struct rung_trial trial; /* too large for the stack; CPU 0's */

static uint32_t outstanding(void)
{
	struct platform_disk_stats s;

	return platform_disk_stats(hv_config.disk_index, &s) == OK ? s.outstanding : 0;
}

/* Until swap's buffers are on the disk: its engine bounds that. Looks in vain are not counted as work. */
static void wait_for_disk(struct rung_trial *t)
{
	while (platform_disk_busy()) {
		uint32_t before = outstanding();
		uint64_t start = platform_tsc();

		(void)platform_disk_poll();
		uint64_t ticks = platform_tsc() - start;

		t->disk_ticks += outstanding() < before ? ticks : 0;
	}
}

/* One window of neighbours. False: they cannot go by this rung. */
static bool window(struct rung_trial *t, uint64_t gfn, uint32_t pages)
{
	uint32_t freed, tries = 0;
	enum reclaim_limit limit = RECLAIM_NOTHING;

	t->r.hand = gfn;
	t->r.vain = 1; /* begin here, not at a place of its own choice */
	do {
		struct reclaim_order o = {
			.pages = t->r.count ? t->r.count : pages,
			.now = platform_tsc(),
			.compress = t->compress,
			.swap = t->swap,
			.clock = platform_tsc,
		};
		uint64_t start = platform_tsc();

		limit = reclaim_step(&t->r, t->p, &o, &freed);
		t->step_ticks += platform_tsc() - start;
		t->freed += freed;
		if (limit == RECLAIM_BUSY)
			wait_for_disk(t);
	} while (t->r.count && limit != RECLAIM_FULL && ++tries < 64);
	return limit != RECLAIM_FULL && limit != RECLAIM_PINNED;
}

static bool number(const char *word, uint64_t max, uint64_t *out)
{
	if (parse_u64(word, max, out) == OK)
		return true;
	command_error("debug: \"%.20s\": use a number up to %lu", word, max);
	return false;
}

void debug_reclaim(const struct command_args *a)
{
	struct guest *g = a->count == 5 ? command_guest(a->word[1]) : NULL;
	uint64_t first, pages;

	if (a->count != 5)
		command_error("debug reclaim GUEST GFN PAGES zero|compress|swap");
	if (!g)
		return;
	if (!number(a->word[2], g->p2m.gfn_count - 1, &first) ||
		!number(a->word[3], MIN(RANGE_MAX, g->p2m.gfn_count - first), &pages))
		return;
	trial = (struct rung_trial){ .r.seed = 1, .p = &g->p2m, .compress = !strcmp(a->word[4], "compress"),
		.swap = !strcmp(a->word[4], "swap") };
	for (uint64_t at = first; at < first + pages; at += PAGES_2M)
		if (p2m_split(&g->p2m, GFN(at)) == ERR_NOMEM)
			break;
	for (uint64_t at = 0; at < pages; at += EVICT_WINDOW)
		if (!window(&trial, first + at, (uint32_t)MIN(pages - at, (uint64_t)EVICT_WINDOW)))
			break;
	reclaim_let_go(&trial.r, &g->p2m);
	swap_push();
	wait_for_disk(&trial);
	console_printf("%lu of %lu pages, %lu ticks, disk %lu\n", trial.freed, pages, trial.step_ticks,
		trial.disk_ticks);
}

/* ---- debug latency: how long a target takes ----------------------------------------------------- */

bool latency_watching;
static struct {
	struct guest *guest; /* compared only, but for what runs on CPU 0 between a look at the list */
	uint16_t id;
	uint64_t goal, start, held, ticks;
} watch;

static struct guest *watched(void)
{
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		if (g == watch.guest && g->id == watch.id)
			return g;
	return NULL;
}

void latency_look(void)
{
	const struct guest *g = watched();

	if (g && p2m_resident(&g->p2m) > watch.goal)
		return;
	watch.ticks = g ? platform_tsc() - watch.start : 0;
	latency_watching = false;
}

void debug_latency(const struct command_args *a)
{
	struct guest *g = a->count == 3 ? command_guest(a->word[1]) : NULL;
	uint64_t bytes;

	if (a->count == 1) {
		if (latency_watching)
			console_printf("not yet\n");
		else
			console_printf("reached in %lu ticks, from %lu pages to %lu\n", watch.ticks, watch.held,
				watch.goal);
		return;
	}
	if (a->count != 3)
		command_error("debug latency [GUEST SIZE]");
	if (!g || !command_size(a->word[2], &bytes))
		return;
	watch.guest = g;
	watch.id = g->id;
	watch.held = p2m_resident(&g->p2m);
	watch.goal = bytes / PAGE_BYTES;
	watch.start = platform_tsc();
	(void)balloon_set_operator(&g->balloon, watch.goal);
	latency_watching = true;
	overcommit_nudge();
}

/* ---- debug paging: what two pagers cost that do not know of each other --------------------------- */

static void show_paging(struct guest *g)
{
	struct swap_counts s;
	struct alias_counts d;
	const struct p2m *p = &g->p2m;

	swap_counts(&s);
	alias_counts(&d);
	console_printf("at %lu; read_out %lu overwritten %lu expanded %lu swapped_in %lu dropped %lu broken %lu; "
		       "its disk: read %lu written %lu; swap: read %lu written %lu; dropped: read %lu\n",
		platform_tsc(), p->read_out, p->overwritten, p->fault_expand, p->fault_swap_in, d.taken, d.broken,
		g->disk.read_sectors / 8, g->disk.write_sectors / 8, s.read_pages, s.written_pages, d.read_pages);
}

void debug_paging(const struct command_args *a)
{
	struct guest *g;

	if (a->count == 2 && !strcmp(a->word[1], "naive"))
		p2m_naive = true;
	else if (a->count == 2 && !strcmp(a->word[1], "normal"))
		p2m_naive = false;
	else if (a->count == 2 && (!strcmp(a->word[1], "drop") || !strcmp(a->word[1], "nodrop")))
		ladder_set_drop(!strcmp(a->word[1], "drop"));
	else if (a->count != 2)
		command_error("debug paging GUEST | naive | normal | drop | nodrop");
	else if ((g = command_guest(a->word[1])))
		show_paging(g);
}
