#include "balloon/balloon.h"
#include "vmm/base/string.h"

/* Work that one range hypercall may do: a 4 KiB page costs 1, a 2 MiB block BLOCK_COST. */
#define CALL_BUDGET 2048u
#define BLOCK_COST  32u

void balloon_init(struct balloon *b, struct p2m *p2m, void (*notify)(void *ctx, uint32_t events),
	void *ctx)
{
	memset(b, 0, sizeof(*b));
	spinlock_init(&b->lock, LOCK_RANK_BALLOON);
	b->p2m = p2m;
	b->notify = notify;
	b->notify_ctx = ctx;
	b->operator_pages = p2m->gfn_count;
	b->page_gfn = GFN_NONE;
	for (uint32_t i = 0; i < AERO_STAT_COUNT; i++)
		b->stats[i] = AERO_STAT_UNKNOWN;
}

/* The page is the guest's to scribble on: the hypervisor writes its part and never reads it back. */
static void publish(struct balloon *b)
{
	if (!b->page || b->dead)
		return;
	b->page->target_pages = b->target_pages;
	b->page->counted_pages = balloon_actual_pages(b);
	b->page->stats_request = b->stats_request;
	__atomic_store_n(&b->page->generation, b->generation, __ATOMIC_RELEASE);
}

static void detach(struct balloon *b)
{
	if (!b->page)
		return;
	p2m_unpin(b->p2m, b->page_gfn);
	b->page = NULL;
	b->page_gfn = GFN_NONE;
	b->state = AERO_BALLOON_IDLE;
	b->reason = AERO_REASON_NONE;
	b->short_pages = 0;
	b->backoff_ns = 0;
	b->stats_ns = 0;
	b->asked_ns = 0;
	b->silence_told = false;
}

void balloon_fini(struct balloon *b)
{
	spin_lock(&b->lock);
	detach(b);
	spin_unlock(&b->lock);
}

static uint64_t ceiling(const struct balloon *b, uint64_t now_ns)
{
	uint64_t memory = b->p2m->gfn_count, min = b->p2m->account.min_pages;
	uint64_t most = memory > min ? memory - min : 0;

	return now_ns < b->cap_ns ? MIN(most, b->cap_pages) : most;
}

static void note_reached(struct balloon *b, uint64_t now_ns)
{
	if (!b->reached_ns && balloon_actual_pages(b) == b->target_pages)
		b->reached_ns = now_ns;
}

/* Returns true if it moved. */
static bool move_target(struct balloon *b, uint64_t pages, uint64_t now_ns)
{
	if (pages == b->target_pages)
		return false;
	b->target_pages = pages;
	b->generation++;
	b->target_ns = now_ns;
	b->reached_ns = 0;
	if (b->page && !b->asked_ns)
		b->asked_ns = MAX(now_ns, 1u);
	note_reached(b, now_ns);
	publish(b);
	return true;
}

void balloon_set_target(struct balloon *b, uint64_t target_pages, uint64_t spare_pages,
	uint64_t now_ns)
{
	spin_lock(&b->lock);
	b->spare_pages = spare_pages;
	bool moved = move_target(b, MIN(target_pages, ceiling(b, now_ns)), now_ns);
	bool tell = moved && b->page && !b->dead;
	spin_unlock(&b->lock);
	if (tell)
		b->notify(b->notify_ctx, AERO_EVENT_BALLOON);
}

uint64_t balloon_set_operator(struct balloon *b, uint64_t size_pages)
{
	uint64_t size = MIN(MAX(size_pages, b->p2m->account.min_pages), b->p2m->gfn_count);

	spin_lock(&b->lock);
	b->operator_pages = size;
	b->cap_ns = 0; /* the operator's word is newer than the guest's */
	spin_unlock(&b->lock);
	return size;
}

void balloon_request_stats(struct balloon *b)
{
	spin_lock(&b->lock);
	bool tell = b->page && !b->dead;
	if (tell) {
		b->stats_request++;
		publish(b);
	}
	spin_unlock(&b->lock);
	if (tell)
		b->notify(b->notify_ctx, AERO_EVENT_STATS);
}

/* ---- a driver that is dead, or seems so --------------------------------------------------------- */

void balloon_set_dead(struct balloon *b, bool dead)
{
	spin_lock(&b->lock);
	bool tell = b->dead && !dead && b->page;
	b->dead = dead;
	if (tell) {
		b->generation++;
		b->stats_request++;
		publish(b);
	}
	spin_unlock(&b->lock);
	if (tell)
		b->notify(b->notify_ctx, AERO_EVENT_BALLOON | AERO_EVENT_STATS);
}

bool balloon_is_silent(const struct balloon *b, uint64_t patience_ns, uint64_t now_ns)
{
	uint64_t asked = b->asked_ns;

	return b->page && asked && balloon_actual_pages(b) != b->target_pages &&
	       now_ns - MIN(asked, now_ns) >= patience_ns;
}

bool balloon_first_silence(struct balloon *b, uint64_t patience_ns, uint64_t now_ns)
{
	spin_lock(&b->lock);
	bool first = !b->silence_told && balloon_is_silent(b, patience_ns, now_ns);
	b->silence_told |= first;
	spin_unlock(&b->lock);
	return first;
}

/* Its driver called; lock held. False: its call is to change nothing. */
static bool heard(struct balloon *b)
{
	if (b->dead)
		return false;
	b->asked_ns = 0;
	return true;
}

/* ---- hypercalls --------------------------------------------------------------------------------- */

static int64_t error_of(status_t s)
{
	switch (s) {
	case OK:
		return 0;
	case ERR_RANGE:
		return -AERO_ERANGE;
	case ERR_EXIST:
		return -AERO_EEXIST;
	case ERR_NOENT:
		return -AERO_EALREADY;
	case ERR_BUSY:
		return -AERO_EBUSY;
	case ERR_NOMEM:
	case ERR_LIMIT:
		return -AERO_ENOMEM;
	default:
		return -AERO_EINVAL;
	}
}

static int64_t end_balloon(struct balloon *b, uint64_t now_ns)
{
	detach(b);
	p2m_deflate_all(b->p2m);
	move_target(b, 0, now_ns);
	return 0;
}

/* The old page goes only when the new one is had. */
static int64_t attach(struct balloon *b, gfn_t gfn)
{
	void *va = b->page;
	status_t s = b->page && gfn.v == b->page_gfn.v ? OK : p2m_pin(b->p2m, gfn, &va);

	if (s != OK)
		return s == ERR_RANGE ? -AERO_EFAULT : error_of(s == ERR_EXIST ? ERR_BUSY : s);
	if (va != b->page)
		detach(b);
	b->page = va;
	b->page_gfn = gfn;
	b->page->magic = AERO_BALLOON_MAGIC;
	b->page->version = AERO_ABI_MAJOR << 16 | AERO_ABI_MINOR;
	b->generation++;
	publish(b);
	return 0;
}

int64_t balloon_hc_setup(struct balloon *b, gpa_t page, uint64_t flags, uint64_t now_ns)
{
	if (flags || (page.v & PAGE_OFFSET_MASK))
		return -AERO_EINVAL;
	spin_lock(&b->lock);
	(void)heard(b);
	int64_t result = page.v ? attach(b, gpa_to_gfn(page)) : end_balloon(b, now_ns);
	bool tell = !result && b->page && b->target_pages && !b->dead;
	spin_unlock(&b->lock);
	if (tell)
		b->notify(b->notify_ctx, AERO_EVENT_BALLOON);
	return result;
}

/* Pages whose content lies elsewhere: each that the balloon takes is work of its own. */
static inline uint64_t pages_out(const struct p2m *p)
{
	return p->pages[P2M_COMPRESSED] + p->pages[P2M_SWAPPED];
}

static inline status_t do_block(struct balloon *b, bool inflate, gfn_t gfn, uint32_t order, struct frame_batch *out)
{
	return inflate ? p2m_inflate(b->p2m, gfn, order, out) : p2m_deflate(b->p2m, gfn, order);
}

/* Blocks until the end, a failure (*s), or the budget's end. Returns how many. A loop each way: it is a page's path. */
static inline __attribute__((always_inline)) uint32_t pages_loop(struct balloon *b, bool inflate,
	const struct aero_range *r, uint32_t *budget, struct frame_batch *out, status_t *s)
{
	uint32_t done = 0, end = MIN(r->count, *budget);

	for (; done < end; done++) {
		*s = do_block(b, inflate, GFN(r->gfn + done), ORDER_4K, out);
		if (UNLIKELY(*s != OK))
			break;
	}
	*budget -= done;
	return done;
}

static uint32_t do_pages(struct balloon *b, bool inflate, const struct aero_range *r, uint32_t *budget,
	struct frame_batch *out, status_t *s)
{
	return inflate ? pages_loop(b, true, r, budget, out, s) : pages_loop(b, false, r, budget, out, s);
}

static uint32_t do_large(struct balloon *b, bool inflate, const struct aero_range *r, uint32_t *budget,
	struct frame_batch *out, status_t *s)
{
	uint64_t were_out = pages_out(b->p2m);
	uint32_t done = 0;

	for (; done < r->count && *budget >= BLOCK_COST; done++) {
		*s = do_block(b, inflate, GFN(r->gfn + ((uint64_t)done << r->order)), r->order, out);
		if (UNLIKELY(*s != OK))
			break;
		uint64_t now_out = pages_out(b->p2m);
		uint64_t cost = BLOCK_COST + (were_out - MIN(now_out, were_out));

		*budget -= (uint32_t)MIN(cost, (uint64_t)*budget);
		were_out = now_out;
	}
	return done;
}

static void do_range(struct balloon *b, bool inflate, struct aero_range *r, uint32_t *budget,
	struct frame_batch *out)
{
	status_t s = OK;
	uint32_t done = (r->order ? do_large : do_pages)(b, inflate, r, budget, out, &s);

	*budget -= MIN(*budget, r->order ? BLOCK_COST : 1u);
	r->done = done;
	r->status = s != OK ? (int16_t)error_of(s) : done < r->count ? -AERO_EBUSY : 0;
}

static uint64_t count_range(struct balloon *b, bool inflate, const struct aero_range *r)
{
	uint64_t pages = (uint64_t)r->done << r->order;

	if (r->status && r->status != -AERO_EBUSY)
		b->refused_ranges++;
	if (inflate) {
		b->inflate_pages += pages;
		b->inflate_2m += r->order ? r->done : 0;
	} else {
		b->deflate_pages += pages;
	}
	return pages;
}

int64_t balloon_hc_ranges(struct balloon *b, bool inflate, struct aero_range *ranges, uint32_t count,
	uint64_t flags, uint64_t now_ns)
{
	struct frame_batch out;
	uint32_t budget = CALL_BUDGET, i;
	uint64_t pages = 0;

	if ((flags & ~(uint64_t)(inflate ? 0 : AERO_DEFLATE_URGENT)) || count > AERO_RANGE_MAX)
		return -AERO_EINVAL;
	spin_lock(&b->lock);
	if (!b->page) {
		spin_unlock(&b->lock);
		return -AERO_ENOENT; /* no AERO_HC_BALLOON_SETUP yet */
	}
	if (!heard(b) && inflate) {
		spin_unlock(&b->lock);
		return -AERO_EIO;
	}
	p2m_batch_begin(b->p2m, &out);
	for (i = 0; i < count && budget >= BLOCK_COST; i++) {
		struct aero_range *r = &ranges[i];
		if ((r->order != ORDER_4K && r->order != ORDER_2M) || r->reserved || !r->count) {
			r->done = 0;
			r->status = -AERO_EINVAL;
			b->refused_ranges++;
			budget--;
			continue;
		}
		do_range(b, inflate, r, &budget, &out);
		pages += count_range(b, inflate, r);
	}
	p2m_batch_finish(b->p2m, &out);
	if (flags & AERO_DEFLATE_URGENT) {
		b->deflate_urgent_pages += pages;
		b->cap_pages = balloon_actual_pages(b);
		b->cap_ns = now_ns + BALLOON_CAP_NS;
		move_target(b, MIN(b->target_pages, b->cap_pages), now_ns);
	}
	if (inflate && pages)
		b->progress_ns = now_ns;
	note_reached(b, now_ns);
	if (!b->dead)
		b->page->counted_pages = balloon_actual_pages(b);
	spin_unlock(&b->lock);
	return i;
}

int64_t balloon_hc_report(struct balloon *b, uint64_t state, uint64_t reason, uint64_t short_pages,
	uint64_t now_ns)
{
	if (state > AERO_BALLOON_BACKOFF || reason >= AERO_REASON_COUNT)
		return -AERO_EINVAL;
	spin_lock(&b->lock);
	if (!heard(b)) {
		spin_unlock(&b->lock);
		return -AERO_EIO;
	}
	b->report_count++;
	b->backoff_count += state == AERO_BALLOON_BACKOFF;
	if (state != AERO_BALLOON_BACKOFF)
		b->backoff_ns = 0;
	else if (!b->backoff_ns)
		b->backoff_ns = MAX(now_ns, 1u);
	b->state = (uint32_t)state;
	b->reason = (uint32_t)reason;
	b->short_pages = MIN(short_pages, b->p2m->gfn_count);
	spin_unlock(&b->lock);
	return 0;
}

int64_t balloon_hc_stats(struct balloon *b, uint64_t request, uint64_t now_ns)
{
	int64_t result = -AERO_ENOENT;

	spin_lock(&b->lock);
	if (!heard(b)) {
		result = -AERO_EIO;
	} else if (b->page) {
		result = request == b->stats_request ? 0 : -AERO_EINVAL;
		if (!result) {
			memcpy(b->stats, b->page->stats, sizeof(b->stats));
			b->stats_ns = now_ns;
			b->stats_size_pages = b->p2m->gfn_count - balloon_actual_pages(b);
			b->stats_used_pages = p2m_resident(b->p2m);
			b->stats_count++;
		}
	}
	spin_unlock(&b->lock);
	return result;
}

/*
 * Grants at once what the last step of the policy left to spare, as far as it is the policy (rather
 * than the operator) that holds it in the balloon. The next step, which the caller kicks, sees the rest.
 */
int64_t balloon_hc_pressure(struct balloon *b, uint64_t level, uint64_t pages, uint64_t now_ns)
{
	if (level > AERO_PRESSURE_FULL)
		return -AERO_EINVAL;
	spin_lock(&b->lock);
	if (!heard(b)) {
		spin_unlock(&b->lock);
		return -AERO_EIO;
	}
	const struct frame_account *a = &b->p2m->account;
	uint64_t memory = b->p2m->gfn_count, most = a->max_pages - MIN(b->p2m->table_count, a->max_pages);
	uint64_t floor = memory - MIN(b->operator_pages, MIN(most, memory));
	uint64_t over = b->target_pages > floor ? b->target_pages - floor : 0;

	b->pressure_count++;
	b->pressure = (uint32_t)level;
	b->wanted_pages = level == AERO_PRESSURE_NONE ? 0 : MIN(pages, memory);
	b->pressure_ns = now_ns;
	uint64_t grant = MIN(MIN(b->wanted_pages, b->spare_pages), over);
	b->spare_pages -= grant;
	move_target(b, b->target_pages - grant, now_ns);
	int64_t target = (int64_t)b->target_pages;
	spin_unlock(&b->lock);
	return target;
}

const char *balloon_state_name(uint32_t state)
{
	static const char *const name[] = { "idle", "inflating", "deflating", "backoff" };

	return state < ARRAY_COUNT(name) ? name[state] : "unknown";
}

const char *balloon_reason_text(uint32_t reason)
{
	static const char *const text[] = {
		[AERO_REASON_NONE] = "",
		[AERO_REASON_NO_MEMORY] = "the guest has nothing left to give",
		[AERO_REASON_NO_SWAP] = "the guest has no swap to page out to",
		[AERO_REASON_OOM_GUARD] = "the guest took memory back rather than kill a process",
		[AERO_REASON_PINNED] = "the guest's memory is pinned",
		[AERO_REASON_FRAGMENTED] = "the guest's memory is fragmented",
		[AERO_REASON_REFUSED] = "the hypervisor refused the guest's pages",
	};

	return reason < ARRAY_COUNT(text) ? text[reason] : "unknown";
}
