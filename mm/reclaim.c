/* See mm/reclaim.h. */
#include "mm/reclaim.h"

#include "mm/alias.h"
#include "mm/compress.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zero.h"
#include "mm/zstore.h"
#include "vmm/base/directmap.h"
#include "vmm/base/string.h"

#define LOOKS      64u /* windows that a step looks at */
#define WRITE_BACK 16u
#define PAUSES_MAX 6u  /* doublings */

struct reclaim_counts reclaim_total;

/* The page that is being looked at, and what it was made into. The control plane's. */
static uint64_t page[PAGE_BYTES / 8];
static uint8_t packed[ZSTORE_MAX_BYTES];

const char *reclaim_rung_name(enum reclaim_rung r)
{
	static const char *const name[] = { "zero", "drop", "share", "compress", "swap" };

	return (unsigned int)r < ARRAY_COUNT(name) ? name[r] : "?";
}

static uint64_t dice(struct reclaim *r)
{
	r->seed ^= r->seed << 13;
	r->seed ^= r->seed >> 7;
	r->seed ^= r->seed << 17;
	return r->seed;
}

/* ---- holding ----------------------------------------------------------------------------------- */

static void keep(struct reclaim *r, const struct evict_page *pages, uint32_t n, uint64_t now)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = (r->first + r->count++) % RECLAIM_HELD_MAX;

		r->held[at] = pages[i];
		r->since[at] = now;
	}
	r->n.held += n;
	reclaim_total.held += n;
}

/* Most of what the guest holds is in 2 MiB leaves, so that what is wanted cannot come from elsewhere. */
static bool may_split(const struct p2m *p, uint64_t wanted)
{
	return p->pages[P2M_RAM] - MIN(p->pages_in_2m, p->pages[P2M_RAM]) < wanted + EVICT_WINDOW;
}

/* What it shares with others is not its to give, unless there is nothing else left of it. */
static bool may_unshare(const struct p2m *p, uint64_t wanted)
{
	return p->pages[P2M_SHARED] && p->pages[P2M_RAM] < wanted + EVICT_WINDOW;
}

/* Where the next window is: behind this one, or, what has nothing in it, behind its 2 MiB. */
static void advance(struct reclaim *r, const struct p2m *p, enum evict_found found)
{
	uint64_t next = (found == EVICT_NONE ? ALIGN_DOWN(r->hand, PAGES_2M) + PAGES_2M :
					       r->hand + EVICT_WINDOW);

	r->vain += next - r->hand;
	r->hand = next < p->gfn_count ? next : 0;
}

/*
 * Windows at random places, so that a guest's own choice (it pages out what it used longest ago) is not met
 * head-on; from a place where nothing lies it goes on to the next, round and round.
 */
static void hold_more(struct reclaim *r, struct p2m *p, uint64_t wanted, uint64_t now)
{
	struct evict_page got[EVICT_WINDOW];

	for (uint32_t look = 0; look < LOOKS && r->count < wanted && r->vain <= p->gfn_count &&
		r->count + EVICT_WINDOW <= RECLAIM_HELD_MAX; look++) {
		if (r->vain == 0)
			r->hand = dice(r) % p->gfn_count & ~(uint64_t)(EVICT_WINDOW - 1);
		gfn_t at = GFN(r->hand);
		uint32_t n;
		enum evict_found found = p2m_hold(p, at, EVICT_WINDOW, got, &n);

		if (found == EVICT_HUGE && n == 0 && may_split(p, wanted) &&
			p2m_split(p, at) == OK) {
			r->n.split++;
			reclaim_total.split++;
			(void)p2m_hold(p, at, EVICT_WINDOW, got, &n);
		}
		if (n == 0 && may_unshare(p, wanted))
			n = p2m_hold_shared(p, at, EVICT_WINDOW, got);
		keep(r, got, n, now);
		if (n)
			r->vain = 0;
		else
			advance(r, p, found);
	}
}

/* ---- what becomes of a page -------------------------------------------------------------------- */

/* Puts the content away; false: it cannot go, *limit says why. */
static bool put_away(struct p2m *p, const struct reclaim_order *o, struct evict_page *e,
	enum reclaim_rung *rung, enum reclaim_limit *limit)
{
	const void *frame = mfn_to_va(e->mfn);
	uint32_t bytes;

	/* Where it lies: nothing is kept of it, and if it is taken back and written to meanwhile, it is not settled. */
	if (page_all_zero(frame)) {
		*rung = RECLAIM_ZERO;
		e->to = P2M_EMPTY;
		return true;
	}
	memcpy(page, frame, PAGE_BYTES);
	if (o->drop && alias_take(p->account.owner, e->gfn.v, page, &e->payload)) {
		*rung = RECLAIM_DROP;
		e->to = P2M_SWAPPED;
		return true;
	}
	if (o->p2m_of && !e->shared) {
		mfn_t with = merge_find(p, e->gfn, page, o->p2m_of);

		if (!mfn_is_none(with)) {
			*rung = RECLAIM_SHARE;
			e->to = P2M_SHARED;
			e->payload = with.v;
			return true;
		}
	}
	if (o->compress && page_compress(page, packed, sizeof(packed), &bytes) == OK &&
		zstore_put(packed, bytes, p->account.owner, (uint32_t)e->gfn.v,
			FRAME_ALLOC_EMERGENCY, &e->payload) == OK) {
		*rung = RECLAIM_COMPRESS;
		e->to = P2M_COMPRESSED;
		return true;
	}
	status_t s = o->swap ? swap_put(page, p->account.owner, e->gfn.v, &e->payload) : ERR_LIMIT;

	if (s == OK) {
		*rung = RECLAIM_SWAP;
		e->to = P2M_SWAPPED;
		return true;
	}
	*limit = s == ERR_BUSY ? RECLAIM_BUSY : RECLAIM_FULL;
	return false;
}

static void drop(const struct evict_page *e)
{
	if (e->to == P2M_COMPRESSED)
		zstore_free(e->payload);
	else if (e->to == P2M_SWAPPED)
		swap_free(e->payload);
	else if (e->to == P2M_SHARED)
		share_put(MFN(e->payload));
}

/* One step's pages, what became of each, and what it cost. */
struct batch {
	struct evict_page pages[RECLAIM_STEP];
	enum reclaim_rung rung[RECLAIM_STEP];
	uint64_t ticks[RECLAIM_STEP];
	uint32_t count;
};

static uint32_t settle(struct reclaim *r, struct p2m *p, struct batch *b)
{
	uint32_t freed = p2m_settle(p, b->pages, b->count);

	for (uint32_t i = 0; i < b->count; i++) {
		const struct evict_page *e = &b->pages[i];

		if (e->gone) {
			r->n.pages[b->rung[i]]++;
			r->n.ticks[b->rung[i]] += b->ticks[i];
			reclaim_total.pages[b->rung[i]]++;
			reclaim_total.ticks[b->rung[i]] += b->ticks[i];
		} else if (e->to != P2M_RAM) {
			drop(e);
			r->n.wanted_back++;
			reclaim_total.wanted_back++;
		}
	}
	return freed;
}

/* The oldest held page. */
static struct evict_page *oldest(struct reclaim *r)
{
	return &r->held[r->first];
}

static void forget_oldest(struct reclaim *r)
{
	r->first = (r->first + 1) % RECLAIM_HELD_MAX;
	r->count--;
}

/*
 * Some pages found no room. If none did, trying costs as much as success, so that it is left for a while,
 * longer each time: up to 64 times a page's rest.
 */
static enum reclaim_limit after_refusals(
	struct reclaim *r, const struct reclaim_order *o, uint32_t freed)
{
	if (freed)
		return RECLAIM_NOTHING;
	r->pause_until = o->now + (o->rest_ticks << r->pauses);
	r->pauses += r->pauses < PAUSES_MAX;
	return RECLAIM_FULL;
}

enum reclaim_limit reclaim_step(
	struct reclaim *r, struct p2m *p, const struct reclaim_order *o, uint32_t *freed)
{
	enum reclaim_limit limit = RECLAIM_NOTHING;
	struct batch b = { .count = 0 };
	uint32_t seen = 0, most = (uint32_t)MIN(o->pages, (uint64_t)RECLAIM_STEP);
	uint64_t spent = 0;
	bool full = false, room = false;

	*freed = 0;
	if (o->now < r->pause_until)
		return RECLAIM_FULL;
	if (r->count < o->pages)
		hold_more(r, p, MIN(o->pages, (uint64_t)RECLAIM_HELD_MAX), o->now);
	if (r->count == 0) {
		bool all_round = r->vain > p->gfn_count;

		r->vain = all_round ? 1 : r->vain; /* and again from here, at the next step */
		return all_round ? RECLAIM_PINNED : RECLAIM_RESTING;
	}
	while (r->count && seen++ < 4 * RECLAIM_STEP && b.count < most) {
		struct evict_page *e = oldest(r);

		if (o->now - r->since[r->first] < o->rest_ticks) {
			limit = RECLAIM_RESTING;
			break;
		}
		if (!p2m_held(p, e)) { /* touched since: it is in use */
			r->n.wanted_back++;
			reclaim_total.wanted_back++;
			forget_oldest(r);
			continue;
		}
		uint64_t start = o->clock();

		/*
		 * It may stand in the ring twice: touched, and held again. What counts is what it is now:
		 * from here to settle() only merge_find() holds pages, and leaves none held, so that one
		 * written to meanwhile is not IN_FLIGHT then.
		 */
		if (!put_away(p, o, e, &b.rung[b.count], &limit)) {
			if (limit != RECLAIM_FULL)
				break; /* it stays held, and is tried again */
			/* This one does not go, those behind it may: it is the guest's again. */
			full = true;
			limit = RECLAIM_NOTHING;
			e->to = P2M_RAM;
		}
		room |= e->to != P2M_RAM;
		b.pages[b.count] = *e;
		b.ticks[b.count] = o->clock() - start;
		spent += b.ticks[b.count++];
		forget_oldest(r);
		/* It is mapped still: could be written to, and be made SHARED again in that frame by the next
		 * merge_find(). */
		if (e->shared || (room && o->most_ticks && spent >= o->most_ticks))
			break;
	}
	if (b.count)
		*freed = settle(r, p, &b);
	if (*freed)
		r->pauses = 0;
	return full ? after_refusals(r, o, *freed) : limit;
}

void reclaim_let_go(struct reclaim *r, struct p2m *p)
{
	struct evict_page some[RECLAIM_STEP];

	while (r->count) {
		uint32_t n = 0;

		for (; n < RECLAIM_STEP && r->count; n++) {
			some[n] = *oldest(r);
			some[n].to = P2M_RAM;
			forget_oldest(r);
		}
		(void)p2m_settle(p, some, n);
	}
}

/* ---- from the compressed store to swap --------------------------------------------------------- */

uint32_t reclaim_write_back(uint32_t pages, struct p2m *(*p2m_of)(uint16_t owner))
{
	struct zstore_object cold[WRITE_BACK];
	uint32_t n = zstore_coldest(0, cold, MIN(pages, WRITE_BACK)), done = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct p2m *p = p2m_of(cold[i].owner);
		uint64_t slot;
		uint32_t bytes;

		if (!p || !p2m_take_compressed(p, GFN(cold[i].gfn), cold[i].handle, packed, &bytes) ||
			page_decompress(packed, bytes, page) != OK)
			continue;
		if (swap_put(page, cold[i].owner, cold[i].gfn, &slot) != OK)
			break;
		if (p2m_restore_to_swap(p, GFN(cold[i].gfn), cold[i].handle, slot))
			done++;
		else
			swap_free(slot);
	}
	return done;
}
