/* See mm/alias.h. */
#include "mm/alias.h"

#include "mm/hash.h"
#include "mm/heap.h"
#include "vmm/base/bug.h"
#include "vmm/base/string.h"

#define WAYS         8u
#define FORGET_STEP  1024u /* entries looked at under the lock at a time */

enum entry_state {
	ENTRY_FREE = 0,
	ENTRY_KNOWN,  /* the block has the content that this gfn had */
	ENTRY_USED,   /* and the page is nowhere else */
	ENTRY_DOOMED, /* USED, and the block is about to be written: not KNOWN when it is free */
};

struct entry {
	uint64_t hash;
	uint32_t block, gfn;
	uint16_t owner;
	uint8_t state;     /* enum entry_state */
	uint8_t tries : 7; /* reads that failed, or were not what was known */
	uint8_t wrong : 1; /* the last of them was not */
};
_Static_assert(sizeof(struct entry) + sizeof(uint32_t) == ALIAS_BYTES, "what an entry takes");

struct reader {
	enum { READER_FREE, READER_BUSY, READER_READY } state;
	bool stale;       /* BUSY: written to since it was begun */
	uint64_t first;   /* block */
	uint32_t count;
	uint32_t wanted;  /* bit a block: asked for, and not had yet */
	uint32_t checked; /* bit a block: it was what is known of it */
	uint64_t used_at;
	struct swap_io io;
};

static struct {
	struct spinlock lock;
	/* set once by alias_init() */
	uint32_t count; /* of entries, a power of two; 0: off */
	struct entry *entry;
	uint32_t *by_page; /* index + 1 of the entry that a page was last known by; a hint */
	char *memory;
	swap_submit_fn submit;
	struct hash_key key;
	/* guarded by lock */
	uint32_t turn; /* of the way that is forgotten next */
	uint64_t clock;
	struct reader reader[ALIAS_BUFFERS];
	uint64_t in_use; /* entries that are not FREE; one number, as alias_break() reads it without the lock */
	struct alias_counts n;
} alias = { .lock = SPINLOCK_INIT(LOCK_RANK_SWAP) };

status_t alias_init(uint64_t entries, void *buffers, swap_submit_fn submit, const struct hash_key *key)
{
	uint32_t count = WAYS;

	memset(&alias, 0, sizeof(alias));
	spinlock_init(&alias.lock, LOCK_RANK_SWAP);
	while (count < entries && count < ALIAS_ENTRIES_MAX)
		count *= 2;
	alias.entry = heap_alloc(count * sizeof(alias.entry[0]));
	alias.by_page = heap_alloc(count * sizeof(alias.by_page[0]));
	if (!alias.entry || !alias.by_page) {
		heap_free(alias.entry, count * sizeof(alias.entry[0]));
		heap_free(alias.by_page, count * sizeof(alias.by_page[0]));
		return ERR_NOMEM;
	}
	alias.memory = buffers;
	alias.submit = submit;
	alias.key = *key;
	alias.n.entries = alias.count = count;
	return OK;
}

/* ---- entries, lock held ------------------------------------------------------------------------- */

static struct entry *set_of(uint64_t block)
{
	return &alias.entry[block * WAYS & (alias.count - 1)];
}

static struct entry *find(uint64_t block)
{
	struct entry *e = set_of(block);

	for (uint32_t i = 0; i < WAYS; i++, e++)
		if (e->state != ENTRY_FREE && e->block == block)
			return e;
	return NULL;
}

static uint32_t *hint_of(uint16_t owner, uint64_t gfn)
{
	return &alias.by_page[(gfn ^ owner * 0x9e5ull) & (alias.count - 1)];
}

static bool is_out(const struct entry *e)
{
	return e->state == ENTRY_USED || e->state == ENTRY_DOOMED;
}

static void forget(struct entry *e)
{
	alias.n.known--;
	__atomic_fetch_sub(&alias.in_use, 1, __ATOMIC_RELAXED);
	e->state = ENTRY_FREE;
}

/* One to use anew, in the block's set; NULL: all are pages that are out. */
static struct entry *make_room(uint64_t block)
{
	struct entry *set = set_of(block), *victim = NULL;

	for (uint32_t i = 0; i < WAYS; i++) {
		struct entry *e = &set[(alias.turn + i) % WAYS];

		if (e->state == ENTRY_FREE)
			return e;
		if (e->state == ENTRY_KNOWN && !victim)
			victim = e;
	}
	alias.turn++;
	if (victim)
		forget(victim);
	return victim;
}

void alias_learn(uint16_t owner, uint64_t block, uint64_t gfn, const void *page)
{
	if (!alias.count || block >= ALIAS_BLOCKS || gfn > UINT32_MAX)
		return;
	uint64_t hash = page_keyed_hash(page, &alias.key);

	spin_lock(&alias.lock);
	struct entry *e = find(block);

	if (!e)
		e = make_room(block);
	else if (e->state == ENTRY_KNOWN)
		forget(e);
	if (e && !is_out(e)) {
		*e = (struct entry){ .hash = hash, .block = (uint32_t)block, .gfn = (uint32_t)gfn,
			.owner = owner, .state = ENTRY_KNOWN };
		*hint_of(owner, gfn) = (uint32_t)(e - alias.entry) + 1;
		alias.n.known++;
		__atomic_fetch_add(&alias.in_use, 1, __ATOMIC_RELAXED);
	}
	spin_unlock(&alias.lock);
}

status_t alias_break(uint64_t first, uint64_t count, uint64_t *gfn)
{
	status_t s = OK;

	/* Whoever could learn one of these is the caller, so that none appears meanwhile. */
	if (!alias.count || !__atomic_load_n(&alias.in_use, __ATOMIC_RELAXED))
		return OK;
	spin_lock(&alias.lock);
	for (uint64_t b = first; b < first + count && s == OK; b++) {
		struct entry *e = find(b);

		if (!e)
			continue;
		if (e->state == ENTRY_KNOWN) {
			forget(e);
			continue;
		}
		alias.n.broken += e->state == ENTRY_USED;
		e->state = ENTRY_DOOMED;
		*gfn = e->gfn;
		s = ERR_BUSY;
	}
	spin_unlock(&alias.lock);
	return s;
}

static bool overlap(const struct reader *r, uint64_t first, uint64_t count)
{
	return r->first < first + count && first < r->first + r->count;
}

void alias_wrote(uint64_t first, uint64_t count)
{
	if (!alias.count)
		return;
	spin_lock(&alias.lock);
	for (struct reader *r = alias.reader; r < alias.reader + ALIAS_BUFFERS; r++) {
		if (r->state == READER_FREE || !overlap(r, first, count))
			continue;
		if (r->state == READER_BUSY)
			r->stale = true;
		else
			r->state = READER_FREE;
	}
	spin_unlock(&alias.lock);
}

void alias_forget(uint64_t first, uint64_t count)
{
	if (!alias.count)
		return;
	for (uint32_t i = 0; i < alias.count; i += WAYS) {
		if (i % FORGET_STEP == 0)
			spin_lock(&alias.lock);
		for (struct entry *e = &alias.entry[i]; e < &alias.entry[i + WAYS]; e++) {
			if (e->state == ENTRY_FREE || e->block < first || e->block - first >= count)
				continue;
			HV_BUG_ON(e->state != ENTRY_KNOWN);
			forget(e);
		}
		if ((i + WAYS) % FORGET_STEP == 0 || i + WAYS == alias.count)
			spin_unlock(&alias.lock);
	}
}

/* ---- out ---------------------------------------------------------------------------------------- */

/* The entry that the page is known by, if it is. */
static struct entry *known_by(uint16_t owner, uint64_t gfn)
{
	uint32_t hint = *hint_of(owner, gfn);
	struct entry *e = hint ? &alias.entry[hint - 1] : NULL;

	return e && e->state == ENTRY_KNOWN && e->owner == owner && e->gfn == gfn ? e : NULL;
}

bool alias_take(uint16_t owner, uint64_t gfn, const void *page, uint64_t *slot)
{
	if (!alias.count)
		return false;
	spin_lock(&alias.lock);
	struct entry *e = known_by(owner, gfn);
	uint64_t hash = e ? e->hash : 0;

	spin_unlock(&alias.lock);
	if (!e || page_keyed_hash(page, &alias.key) != hash)
		return false;
	spin_lock(&alias.lock); /* the hash was taken without it: it may be another block's now */
	bool same = e == known_by(owner, gfn) && e->hash == hash;

	if (same) {
		e->state = ENTRY_USED;
		e->tries = 0;
		*slot = ALIAS_SLOT + e->block;
		alias.n.known--;
		alias.n.used++;
		alias.n.taken++;
	}
	spin_unlock(&alias.lock);
	return same;
}

static struct entry *out_at(uint64_t slot)
{
	struct entry *e = find(slot - ALIAS_SLOT);

	if (!e || !is_out(e))
		HV_BUG("block %llu is wanted as a page's, and is nobody's", (unsigned long long)(slot - ALIAS_SLOT));
	return e;
}

void alias_free(uint64_t slot)
{
	spin_lock(&alias.lock);
	struct entry *e = out_at(slot);

	alias.n.used--;
	alias.n.known++;
	for (struct reader *r = alias.reader; r < alias.reader + ALIAS_BUFFERS; r++)
		if (r->state != READER_FREE && e->block - r->first < r->count)
			r->wanted &= ~(1u << (e->block - r->first));
	if (e->state == ENTRY_DOOMED || e->tries)
		forget(e);
	else
		e->state = ENTRY_KNOWN;
	spin_unlock(&alias.lock);
}

/* ---- in ------------------------------------------------------------------------------------------ */

static void *page_at(const struct reader *r, uint64_t block)
{
	return alias.memory + (((uint64_t)(r - alias.reader) * SWAP_GROUP + (block - r->first)) << PAGE_SHIFT);
}

static struct reader *covering(uint64_t block)
{
	for (struct reader *r = alias.reader; r < alias.reader + ALIAS_BUFFERS; r++)
		if (r->state != READER_FREE && !r->stale && block - r->first < r->count)
			return r;
	return NULL;
}

/* The one that was not used for the longest; those that somebody still waits for last. */
static struct reader *begin_read(const struct entry *e)
{
	struct reader *best = NULL;

	for (struct reader *r = alias.reader; r < alias.reader + ALIAS_BUFFERS; r++) {
		if (r->state == READER_BUSY)
			continue;
		if (r->state == READER_FREE)
			r->wanted = 0, r->used_at = 0;
		if (!best || !r->wanted > !best->wanted ||
			(!r->wanted == !best->wanted && r->used_at < best->used_at))
			best = r;
	}
	if (!best)
		return NULL;
	/* A group around it; alone where that failed, and where it is wanted for its block to be overwritten:
	 * mostly the guest has no use for that page any more, nor for its neighbours. */
	bool alone = e->tries || e->state == ENTRY_DOOMED;
	uint64_t first = alone ? e->block : ALIGN_DOWN(e->block, (uint64_t)SWAP_GROUP);

	*best = (struct reader){ .state = READER_BUSY, .first = first, .count = alone ? 1 : SWAP_GROUP,
		.wanted = 1u << (e->block - first), .used_at = ++alias.clock };
	best->io = (struct swap_io){ .first = ALIAS_SLOT + first, .count = best->count,
		.buf = page_at(best, first) };
	alias.n.reads++;
	alias.n.read_pages += best->count;
	return best;
}

/* Is what was read what is known of the block? A write that went wrong, or a disk that does, shows here. */
static bool check(struct reader *r, struct entry *e)
{
	uint32_t bit = 1u << (e->block - r->first);

	if (r->checked & bit)
		return true;
	if (page_keyed_hash(page_at(r, e->block), &alias.key) != e->hash) {
		alias.n.wrong++;
		e->wrong = true;
		e->tries++;
		r->state = READER_FREE;
		return false;
	}
	r->checked |= bit;
	return true;
}

status_t alias_get(uint64_t slot, void *page, const char **why)
{
	struct reader *read = NULL;
	status_t result = ERR_BUSY;

	spin_lock(&alias.lock);
	struct entry *e = out_at(slot);
	struct reader *r = covering(e->block);

	if (e->tries >= SWAP_TRIES) {
		result = ERR_IO;
		if (why)
			*why = e->wrong ? "is not what it was" : "cannot be read";
	} else if (r && r->state == READER_READY && check(r, e)) {
		result = OK;
		r->used_at = ++alias.clock;
		if (page) {
			memcpy(page, page_at(r, e->block), PAGE_BYTES);
			r->wanted &= ~(1u << (e->block - r->first));
		}
	} else if (r && r->state == READER_BUSY) {
		r->wanted |= 1u << (e->block - r->first);
	} else {
		read = begin_read(e);
	}
	spin_unlock(&alias.lock);
	if (read && alias.submit(&read->io) != OK)
		alias_done(&read->io, ERR_IO);
	return result;
}

void alias_done(struct swap_io *io, status_t s)
{
	struct reader *r = container_of(io, struct reader, io);

	spin_lock(&alias.lock);
	HV_BUG_ON(r->state != READER_BUSY);
	r->state = s == OK && !r->stale ? READER_READY : READER_FREE;
	if (s != OK) {
		alias.n.errors++;
		/* Those that were asked for count it; from then on each is read alone. */
		for (uint32_t rest = r->wanted; rest; rest &= rest - 1) {
			struct entry *e = find(r->first + (uint32_t)__builtin_ctz(rest));

			if (!e || !is_out(e) || e->tries >= SWAP_TRIES)
				continue;
			e->tries++;
			e->wrong = false;
		}
	}
	r->stale = false;
	spin_unlock(&alias.lock);
}

bool alias_owner(uint64_t slot, uint16_t *owner, uint64_t *gfn)
{
	spin_lock(&alias.lock);
	const struct entry *e = alias.count ? find(slot - ALIAS_SLOT) : NULL;
	bool out = e && is_out(e);

	if (e) {
		*owner = e->owner;
		*gfn = e->gfn;
	}
	spin_unlock(&alias.lock);
	return out;
}

void alias_counts(struct alias_counts *out)
{
	spin_lock(&alias.lock);
	*out = alias.n;
	spin_unlock(&alias.lock);
}

const char *alias_check(void)
{
	uint64_t known = 0, used = 0;
	const char *why = NULL;

	spin_lock(&alias.lock);
	for (uint32_t i = 0; i < alias.count; i++) {
		const struct entry *e = &alias.entry[i];

		if (e->state == ENTRY_FREE)
			continue;
		known += e->state == ENTRY_KNOWN;
		used += is_out(e);
		if (set_of(e->block) != &alias.entry[i & ~(WAYS - 1)])
			why = "a block in another's set";
		for (uint32_t k = i & ~(WAYS - 1); k < i; k++)
			if (alias.entry[k].state != ENTRY_FREE && alias.entry[k].block == e->block)
				why = "a block is known twice";
	}
	if (known != alias.n.known || used != alias.n.used || known + used != alias.in_use)
		why = "blocks known, or pages out in them: miscounted";
	spin_unlock(&alias.lock);
	return why;
}
