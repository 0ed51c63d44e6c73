/* The table of content hints. See mm/share.h. */
#include "mm/share.h"

#include "mm/frame_pool.h"
#include "mm/hash.h"
#include "vmm/base/string.h"

/* The set says what the hash's upper bits are, the tags what its lower 48. */
struct entry {
	uint32_t tag;
	uint32_t number; /* a frame: its mfn; a page: its gfn */
	uint32_t domain;
	uint16_t tag_high;
	uint16_t owner;  /* of a page; or one of those below, which no guest is */
};
_Static_assert(sizeof(struct entry) == 16, "a hint is 16 bytes");

#define OWNER_EMPTY  FRAME_OWNER_NONE
#define OWNER_FRAME  FRAME_OWNER_SHARED
#define SETS_IN_PAGE (PAGE_BYTES / (SHARE_WAYS * sizeof(struct entry)))

static struct {
	struct spinlock lock;
	/* set once by share_init() */
	struct entry *table;
	uint64_t sets;
	uint64_t salt;
	/* guarded by lock */
	uint64_t random; /* never 0 */
	struct share_counts n;
} share = { .lock = SPINLOCK_INIT(LOCK_RANK_SHARE) };

void share_init(void *memory, uint64_t pages, uint64_t salt)
{
	memset(&share, 0, sizeof(share));
	spinlock_init(&share.lock, LOCK_RANK_SHARE);
	/* An entry's place is a 32-bit number: 64 GiB of hints are enough. */
	share.sets = MIN(pages, UINT32_MAX / (SETS_IN_PAGE * SHARE_WAYS)) * SETS_IN_PAGE;
	share.table = memory;
	share.salt = salt;
	share.random = (salt ^ salt >> 32) * 0x9e3779b97f4a7c15ull | 1;
	share.n.entries = share.sets * SHARE_WAYS;
	for (uint64_t i = 0; i < share.n.entries; i++)
		share.table[i] = (struct entry){ .owner = OWNER_EMPTY };
}

uint64_t share_hash(const void *page)
{
	return page_hash(page, share.salt);
}

/* ---- one set, lock held ----------------------------------------------------------------------- */

static struct entry *set_of(uint64_t hash)
{
	return &share.table[(uint64_t)((unsigned __int128)hash * share.sets >> 64) * SHARE_WAYS];
}

static void write_entry(struct entry *e, const struct entry *with)
{
	share.n.pages += (uint64_t)(with->owner < OWNER_FRAME) - (e->owner < OWNER_FRAME);
	share.n.frames += (uint64_t)(with->owner == OWNER_FRAME) - (e->owner == OWNER_FRAME);
	*e = *with;
}

static void clear_entry(struct entry *e)
{
	write_entry(e, &(struct entry){ .owner = OWNER_EMPTY });
}

/* The entry for that content in that domain: there is one at most. */
static struct entry *find_entry(uint64_t hash, uint32_t domain)
{
	struct entry *e = set_of(hash), *end = e + SHARE_WAYS;

	for (; e < end; e++)
		if (e->tag == (uint32_t)hash && e->domain == domain && e->owner != OWNER_EMPTY &&
			e->tag_high == (uint16_t)(hash >> 32))
			return e;
	return NULL;
}

/* At random, below n <= SHARE_WAYS (xorshift). */
static uint32_t random_below(uint32_t n)
{
	share.random ^= share.random << 13;
	share.random ^= share.random >> 7;
	share.random ^= share.random << 17;
	return (uint32_t)((share.random >> 32) * n >> 32);
}

/* Where a new one may go: a way that is empty, else any page's at random, else any. */
static struct entry *make_room(uint64_t hash)
{
	struct entry *set = set_of(hash), *page[SHARE_WAYS];
	uint32_t pages = 0;

	for (uint32_t i = 0; i < SHARE_WAYS; i++) {
		if (set[i].owner == OWNER_EMPTY)
			return &set[i];
		if (set[i].owner != OWNER_FRAME)
			page[pages++] = &set[i];
	}
	share.n.replaced++;
	return pages ? page[random_below(pages)] : &set[random_below(SHARE_WAYS)];
}

/* ---- finding and offering --------------------------------------------------------------------- */

enum share_found share_find(uint64_t hash, uint16_t owner, uint16_t group, gfn_t gfn,
	struct share_hint *out)
{
	uint32_t domain = share_domain(owner, group);
	enum share_found found = SHARE_NOTHING;

	if (share.sets == 0)
		return found;
	spin_lock(&share.lock);
	struct entry *e = find_entry(hash, domain);

	share.n.finds++;
	if (e && e->owner == OWNER_FRAME) {
		if (frame_share_get_if(MFN(e->number), domain)) {
			found = SHARE_FRAME;
			share.n.found_frames++;
		} else {
			/* Dying just now, or as often referred to as a frame can be. */
			clear_entry(e);
			share.n.stale++;
		}
	} else if (e && !(e->owner == owner && e->number == (uint32_t)gfn.v)) {
		found = SHARE_PAGE;
		share.n.found_pages++;
	}
	if (found != SHARE_NOTHING)
		*out = (struct share_hint){
			.hash = hash,
			.domain = domain,
			.mfn = found == SHARE_FRAME ? MFN(e->number) : MFN_NONE,
			.owner = e->owner,
			.gfn = found == SHARE_PAGE ? GFN(e->number) : GFN_NONE,
		};
	spin_unlock(&share.lock);
	return found;
}

static void put_entry(uint64_t hash, uint32_t domain, uint16_t owner, uint64_t number)
{
	struct entry *e = find_entry(hash, domain);
	const struct entry with = {
		.tag = (uint32_t)hash,
		.tag_high = (uint16_t)(hash >> 32),
		.number = (uint32_t)number,
		.domain = domain,
		.owner = owner,
	};

	if (!e)
		e = make_room(hash);
	write_entry(e, &with);
	if (owner == OWNER_FRAME)
		__atomic_store_n(&frame_known(MFN(number))->u.shared.hint,
			(uint32_t)(e - share.table), __ATOMIC_RELAXED);
}

void share_offer(uint64_t hash, uint16_t owner, uint16_t group, gfn_t gfn)
{
	uint32_t domain = share_domain(owner, group);

	if (share.sets == 0 || owner >= OWNER_FRAME || gfn.v > UINT32_MAX)
		return;
	spin_lock(&share.lock);
	const struct entry *e = find_entry(hash, domain);

	share.n.offers++;
	if (!e || e->owner != OWNER_FRAME)
		put_entry(hash, domain, owner, gfn.v);
	spin_unlock(&share.lock);
}

void share_wrong(enum share_found found, const struct share_hint *hint)
{
	if (share.sets == 0 || found == SHARE_NOTHING)
		return;
	uint16_t owner = found == SHARE_FRAME ? OWNER_FRAME : hint->owner;
	uint64_t number = found == SHARE_FRAME ? hint->mfn.v : hint->gfn.v;

	spin_lock(&share.lock);
	struct entry *e = find_entry(hint->hash, hint->domain);

	share.n.wrong++;
	if (e && e->owner == owner && e->number == (uint32_t)number)
		clear_entry(e);
	spin_unlock(&share.lock);
}

/* ---- frames with their hints ------------------------------------------------------------------ */

status_t share_make(struct frame_account *a, mfn_t mfn, uint64_t hash, uint16_t group)
{
	uint32_t domain = share_domain(a->owner, group);
	status_t s = frame_share_make(a, mfn, domain);

	if (s != OK)
		return s;
	spin_lock(&share.lock);
	share.n.made++;
	if (share.sets)
		put_entry(hash, domain, OWNER_FRAME, mfn.v);
	spin_unlock(&share.lock);
	return OK;
}

/*
 * The frame is no longer what its hint says. It may by now be a SHARED frame again, with a hint in the
 * same place: then that one goes, and all that is lost is a hint.
 */
static void frame_ended(mfn_t mfn, uint32_t hint, uint64_t *count)
{
	spin_lock(&share.lock);
	(*count)++;
	if (hint < share.n.entries && share.table[hint].owner == OWNER_FRAME &&
		share.table[hint].number == (uint32_t)mfn.v)
		clear_entry(&share.table[hint]);
	spin_unlock(&share.lock);
}

/* While a reference is held. */
static uint32_t hint_of(mfn_t mfn)
{
	return __atomic_load_n(&frame_known(mfn)->u.shared.hint, __ATOMIC_RELAXED);
}

bool share_put(mfn_t mfn)
{
	uint32_t hint = hint_of(mfn);

	if (!frame_share_put(mfn))
		return false;
	frame_ended(mfn, hint, &share.n.freed);
	return true;
}

status_t share_take(struct frame_account *a, mfn_t mfn, gfn_t gfn, uint32_t flags)
{
	uint32_t hint = hint_of(mfn);
	status_t s = frame_share_take(a, mfn, gfn, flags);

	if (s == OK)
		frame_ended(mfn, hint, &share.n.taken);
	return s;
}

/* ---- the whole table -------------------------------------------------------------------------- */

void share_forget(uint16_t owner)
{
	const uint64_t in_page = SETS_IN_PAGE * SHARE_WAYS;
	uint32_t domain = share_domain(owner, 0);

	for (uint64_t first = 0; first < share.sets * SHARE_WAYS; first += in_page) {
		spin_lock(&share.lock);
		for (struct entry *e = &share.table[first]; e < &share.table[first + in_page]; e++)
			if (e->owner != OWNER_EMPTY && (e->owner == owner || e->domain == domain))
				clear_entry(e);
		spin_unlock(&share.lock);
	}
}

void share_counts(struct share_counts *out)
{
	spin_lock(&share.lock);
	*out = share.n;
	spin_unlock(&share.lock);
	out->shared_frames = __atomic_load_n(&frame_pool.shared.used_pages, __ATOMIC_RELAXED);
}

/* A frame's hint leads to a SHARED frame of its domain that knows its place. */
static bool frame_fits(const struct entry *e)
{
	const struct frame *f = frame_of(MFN(e->number));

	return f && f->state == FRAME_SHARED && f->owner == FRAME_OWNER_SHARED && f->link == e->domain &&
		f->u.shared.hint == (uint32_t)(e - share.table);
}

const char *share_check(void)
{
	uint64_t pages = 0, frames = 0;
	const char *why = NULL;

	spin_lock(&share.lock);
	for (uint64_t i = 0; i < share.sets * SHARE_WAYS; i++) {
		const struct entry *e = &share.table[i];

		if (e->owner == OWNER_EMPTY)
			continue;
		pages += e->owner < OWNER_FRAME;
		frames += e->owner == OWNER_FRAME;
		if (e->owner == OWNER_FRAME && !frame_fits(e))
			why = "a hint names a frame that is not shared, or of another domain";
		if (e->domain < 0x10000u && e->owner < OWNER_FRAME && e->domain != e->owner)
			why = "a page of one guest in the domain of another";
		for (uint64_t k = ALIGN_DOWN(i, SHARE_WAYS); k < i; k++)
			if (share.table[k].owner != OWNER_EMPTY && share.table[k].tag == e->tag &&
				share.table[k].tag_high == e->tag_high &&
				share.table[k].domain == e->domain)
				why = "two hints for one content";
	}
	if (pages != share.n.pages || frames != share.n.frames)
		why = "hints in use: miscounted";
	spin_unlock(&share.lock);
	return why;
}
