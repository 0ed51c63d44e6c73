#include "vmm/ladder.h"

#include "mm/alias.h"
#include "mm/evict.h"
#include "mm/heap.h"
#include "mm/swap.h"
#include "mm/zstore.h"
#include "vmm/base/fmt.h"
#include "vmm/block.h"
#include "vmm/hv.h"
#include "vmm/memwait.h"
#include "vmm/latency.h"
#include "vmm/platform.h"
#include "vmm/sharing.h"

/* A guest is brought a little below its limit, so that its next fault finds a frame. */
#define HEADROOM    32u
/*
 * No limit is below this: an instruction that touches six pages (its own, source and destination, each across a
 * boundary) needs their tables too, 25 in all, and as many again if an interrupt is delivered at it.
 */
#define LIMIT_LEAST 128u
#define STEP_US     500u /* a step, about; a page takes 4 us to compress on a processor, 560 in Bochs */
#define REST_MS     4u  /* pages lie unmapped for so long before they go: those in use come back in that time */
#define FULL_LASTS_NS 1000000000ull /* so long it is taken to be so */
#define RATE_NS     500000000ull /* a window to tell the rate by */
#define FULL_TOLD_NS 60000000000ull
#define GUESTS_POLL 2u  /* that one poll takes a step of */
#define WRITE_BACK  8u

static struct {
	/* set once at boot */
	uint32_t disk;
	uint64_t first_sector;
	char *buffers;
	uint64_t zstore_max;
	bool compress, swap;
	bool drop; /* debug paging */
	struct disk_io io[SWAP_BUFFERS + ALIAS_BUFFERS]; /* one a buffer, by its place */
	/* CPU 0's */
	struct guest *last; /* whose turn was last; compared only */
	bool active;
	uint64_t full_logged_ns;
	bool failed_told;
} ladder;

/* ---- swap on the disk -------------------------------------------------------------------------- */

static void io_done(struct disk_io *io)
{
	swap_done(io->ctx, io->status);
}

static status_t io_submit(struct swap_io *io)
{
	uint64_t index = (uint64_t)((char *)io->buf - ladder.buffers) / (SWAP_GROUP * PAGE_BYTES);
	struct disk_io *d = &ladder.io[index];

	bool own = alias_is(io->first); /* of a guest's own region: its place on the disk */

	*d = (struct disk_io){
		.disk = ladder.disk,
		.write = io->write,
		.sector = (own ? 0 : ladder.first_sector) +
			(io->first - (own ? ALIAS_SLOT : 0)) * (PAGE_BYTES / AERO_SECTOR_BYTES),
		.sectors = io->count * (uint32_t)(PAGE_BYTES / AERO_SECTOR_BYTES),
		.buf = io->buf,
		.done = io_done,
		.ctx = io,
	};
	return platform_disk_submit(d);
}

/* ---- at boot ----------------------------------------------------------------------------------- */

#define SWAP_PAGES   ((uint64_t)SWAP_BUFFERS * SWAP_GROUP)
#define BUFFER_PAGES (SWAP_PAGES + ALIAS_BUFFERS * SWAP_GROUP)

uint64_t ladder_heap_pages(const struct config *config)
{
	uint64_t slots = config->swap_bytes / PAGE_BYTES;
	uint64_t aliases = MIN(slots * 2, (uint64_t)ALIAS_ENTRIES_MAX);

	/* The owners' table is cut into pieces of 1 MiB, the map of groups is one. */
	return 2 * platform_cpu_count() + 2 +
		(slots ? BUFFER_PAGES + slots * 16 / PAGE_BYTES + slots / 8 / PAGE_BYTES +
					aliases * ALIAS_BYTES / PAGE_BYTES + 10 : 0);
}

static void open_swap(void)
{
	char error[CONFIG_ERROR_BYTES];
	uint64_t pages;
	status_t s = block_swap(&ladder.disk, &ladder.first_sector, &pages, error);

	if (s == ERR_NOENT)
		return;
	if (s != OK) {
		log_err("%s", error);
		return;
	}
	ladder.buffers = heap_alloc(BUFFER_PAGES * PAGE_BYTES);
	if (!ladder.buffers || swap_init(pages, ladder.buffers, io_submit) != OK) {
		log_err("no swap: the hypervisor's heap has no room for its tables and buffers");
		return;
	}
	ladder.swap = true;
	struct hash_key key = { { platform_random(), platform_random() } };

	ladder.drop = alias_init(pages, ladder.buffers + SWAP_PAGES * PAGE_BYTES, io_submit, &key) == OK;
	if (!ladder.drop)
		log_warn("pages that lie on their guest's own disk are swapped all the same: the heap is full");
	log_info("swap: %lu MiB on disk %u from sector %lu on", pages >> 8, ladder.disk,
		ladder.first_sector);
}

static void open_store(const struct config *config)
{
	struct frame_counts n;

	frame_counts(&n);
	/* Unasked, only where swap says that pages may leave without the balloon. */
	if (config->compressed_bytes == UINT64_MAX)
		ladder.zstore_max = config->swap_bytes ? n.pool_limit / 4 : 0;
	else
		ladder.zstore_max = config->compressed_bytes / PAGE_BYTES;
	if (zstore_init(ladder.zstore_max) != OK)
		ladder.zstore_max = 0;
	ladder.compress = ladder.zstore_max != 0;
}

void ladder_init(const struct config *config)
{
	if (p2m_scratch_init(platform_cpu_count()) != OK) {
		log_err("no reclaim: the hypervisor's heap has no room for its buffers");
		return;
	}
	open_store(config);
	open_swap();
}

void ladder_set_drop(bool on)
{
	ladder.drop = on;
}

/* ---- limits ------------------------------------------------------------------------------------ */

/*
 * Where nothing that a guest holds finds room, and there is no swap to have any, holding it back would not
 * bring it to its limit: it would only stand still, its balloon too, which needs memory to give memory. It
 * goes on within what the pool can give, and mem-why says why it is not there; but not in state LOW.
 */
static bool held_back(const struct guest *g)
{
	return g->ladder.wait_over || !g->ladder.full_ns || platform_ns() - g->ladder.full_ns > FULL_LASTS_NS;
}

static void apply_limit(struct guest *g)
{
	uint64_t limit = held_back(g) ? g->ladder.limit_pages : UINT64_MAX;

	/* The account pays for no SHARED page; the limit is for what p2m_resident() counts. */
	uint64_t shared = MIN((g->p2m.pages[P2M_SHARED] + 1) / 2, limit);

	frame_account_set_limit(&g->p2m.account,
		limit == UINT64_MAX ? UINT64_MAX : limit - shared + g->p2m.table_count);
}

void ladder_set_limit(struct guest *g, uint64_t limit_pages)
{
	g->ladder.limit_pages = MAX(limit_pages, (uint64_t)LIMIT_LEAST * g->vcpu_count);
	apply_limit(g);
}

static uint64_t owed(const struct guest *g)
{
	uint64_t limit = g->ladder.limit_pages, held = p2m_resident(&g->p2m);
	uint64_t want = limit > 2 * HEADROOM ? limit - HEADROOM : limit / 2;

	return limit != UINT64_MAX && held > want ? held - want : 0;
}

/* ---- steps ------------------------------------------------------------------------------------- */

/* What all guests together have of memory, by configuration. */
static uint64_t all_memory(void)
{
	uint64_t pages = 0;

	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		pages += g->p2m.gfn_count;
	return pages;
}

/*
 * While there is plenty of room, it is whose it is. In its last quarter each guest gets no farther than the part
 * of it that its memory is of all memory: one alone cannot leave others nowhere to go.
 */
static bool fair_use(const struct guest *g, uint64_t mine, uint64_t used, uint64_t room)
{
	return used < room - room / 4 || mine < room * g->p2m.gfn_count / MAX(all_memory(), 1u);
}

static bool may_compress(const struct guest *g)
{
	struct zstore_use use;
	uint64_t frames = zstore_frames();

	/* The store's own bound does not hold what has to go to where nothing is left: it is kept here. */
	if (!ladder.compress || frames >= ladder.zstore_max)
		return false;
	zstore_owner_use(g->id, &use);
	return fair_use(g, use.bytes / PAGE_BYTES, frames, ladder.zstore_max);
}

static bool may_swap(const struct guest *g)
{
	struct swap_counts n;

	if (!ladder.swap)
		return false;
	swap_counts(&n);
	return fair_use(g, g->p2m.pages[P2M_SWAPPED] - g->p2m.on_own_disk, n.used, n.slots);
}

static const char *store_text(const struct guest *g)
{
	if (zstore_frames() >= ladder.zstore_max)
		return "the compressed store is full";
	return may_compress(g) ? "its pages do not compress enough" :
				 "it has its part of the compressed store";
}

static const char *swap_text(const struct guest *g)
{
	struct swap_counts n;

	if (!ladder.swap)
		return "there is no swap";
	swap_counts(&n);
	if (n.failed)
		return "swap has failed: its disk takes no writes";
	if (!n.on)
		return "swap is off";
	return n.used < n.slots && !may_swap(g) ? "it has its part of swap" : "swap is full";
}

/* Nothing that it holds found room: what would help. CPU 0's, until it is called again. */
static const char *full_text(const struct guest *g)
{
	static char text[100];

	if (!ladder.swap && !ladder.compress)
		return "there is neither swap nor a compressed store";
	fmt_snprintf(text, sizeof(text), "%s, and %s",
		ladder.compress ? store_text(g) : "nothing is compressed", swap_text(g));
	return text;
}

/* Once in a while: the operator can ask mem-why. */
static void tell_full(struct guest *g, uint64_t now_ns)
{
	if (ladder.full_logged_ns && now_ns - ladder.full_logged_ns < FULL_TOLD_NS)
		return;
	ladder.full_logged_ns = now_ns;
	log_warn("memory: guest %s should give %lu pages, and they find no room: %s", g->config.name, owed(g),
		full_text(g));
}

static void note_rate(struct guest *g, uint64_t now_ns)
{
	if (now_ns - g->ladder.rate_ns < RATE_NS)
		return;
	g->ladder.rate = (g->ladder.freed - g->ladder.rate_freed) * 1000000000ull / (now_ns - g->ladder.rate_ns);
	g->ladder.rate_freed = g->ladder.freed;
	g->ladder.rate_ns = now_ns;
}

uint64_t ladder_rate(const struct guest *g)
{
	return platform_ns() - g->ladder.rate_ns < 4 * RATE_NS ? g->ladder.rate : 0;
}

/* Read before and after each page: a step takes longer than the console's port can hold what is typed. */
static uint64_t clock_and_listen(void)
{
	platform_listen();
	return platform_tsc();
}

/* True: frames came free, or may at once. */
static bool step(struct guest *g)
{
	struct reclaim_order order = {
		.pages = owed(g),
		.now = platform_tsc(),
		.rest_ticks = platform_ms_to_tsc(REST_MS),
		.drop = ladder.drop && swap_is_on() && !p2m_naive, /* a disk that fails is not relied on */
		.compress = may_compress(g),
		.swap = may_swap(g),
		.clock = clock_and_listen,
		.most_ticks = platform_tsc_khz * STEP_US / 1000,
		.p2m_of = sharing_p2m_of,
	};
	uint32_t freed;

	g->ladder.obstacle = reclaim_step(&g->ladder.reclaim, &g->p2m, &order, &freed);
	g->ladder.freed += freed;
	if (freed && g->grace_pages)
		memwait_repay(g, freed);
	note_rate(g, platform_ns());
	if (g->ladder.obstacle == RECLAIM_FULL) {
		g->ladder.full_ns = swap_is_on() ? 0 : platform_ns();
		tell_full(g, platform_ns());
	}
	if (freed)
		g->ladder.stuck_ns = 0;
	else if (g->ladder.obstacle == RECLAIM_FULL || g->ladder.obstacle == RECLAIM_PINNED)
		g->ladder.stuck_ns = platform_ns();
	apply_limit(g); /* its tables may have become more */
	return freed != 0;
}

/* The next one after the last that owes. */
static struct guest *next_debtor(void)
{
	struct guest *first = NULL;
	bool after = false;

	for (struct guest *g = guest_next(NULL); g; g = guest_next(g)) {
		bool owes = g->state != GUEST_DYING && owed(g) != 0;

		if (owes && after)
			return g;
		if (owes && !first)
			first = g;
		after |= g == ladder.last;
	}
	return first;
}

/* Nothing is wanted any more of those that were stepped: their held pages are theirs again. */
static void let_go(void)
{
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		if (g->ladder.reclaim.count && g->state != GUEST_DYING && g->ladder.limit_pages == UINT64_MAX) {
			reclaim_let_go(&g->ladder.reclaim, &g->p2m);
			g->ladder.obstacle = RECLAIM_NOTHING;
		}
}

/* Room for what is hotter, before the store is full. */
static bool keep_room(void)
{
	return ladder.compress && ladder.swap && swap_is_on() &&
		zstore_frames() > ladder.zstore_max - ladder.zstore_max / 8 &&
		reclaim_write_back(WRITE_BACK, sharing_p2m_of) != 0;
}

/* Once each time: it takes the operator to begin anew. */
static void tell_failed(void)
{
	struct swap_counts n;

	if (LIKELY(!ladder.swap || swap_is_on())) {
		ladder.failed_told = false;
		return;
	}
	swap_counts(&n);
	if (n.failed && !ladder.failed_told)
		log_err("swap: disk %u does not take writes: %u pages stay in memory, and no more go out until "
			"\"swap on\"", ladder.disk, n.unwritten);
	ladder.failed_told = n.failed;
}

bool ladder_is_stuck(const struct guest *g)
{
	return g->state != GUEST_RUNNING && g->ladder.stuck_ns &&
		platform_ns() - g->ladder.stuck_ns <= FULL_LASTS_NS;
}

bool ladder_poll(void)
{
	bool did = false, was_active = ladder.active;

	latency_poll();
	tell_failed();
	ladder.active = false;
	for (uint32_t i = 0; i < GUESTS_POLL; i++) {
		struct guest *g = next_debtor();

		if (!g)
			break;
		ladder.active = true;
		ladder.last = g;
		did |= step(g);
	}
	if (ladder.active)
		did |= keep_room();
	let_go();
	if (was_active && !ladder.active)
		swap_push(); /* nothing more comes: what is left goes out */
	return did;
}

bool ladder_active(void)
{
	return ladder.active;
}

const char *ladder_obstacle(const struct guest *g)
{
	if (!owed(g))
		return "";
	switch (g->ladder.obstacle) {
	case RECLAIM_BUSY:
		return "the disk is busy writing what was taken from it";
	case RECLAIM_FULL:
		return full_text(g);
	case RECLAIM_PINNED:
		return "what it still holds is pinned";
	default:
		return "its pages are being taken";
	}
}
