/* See mm/swap.h. */
#include "mm/swap.h"

#include "mm/alias.h"
#include "mm/hash.h"
#include "mm/heap.h"
#include "vmm/base/bug.h"
#include "vmm/base/string.h"

#define GROUP_FREE  0xffffu
#define CHUNK_SLOTS (1u << 16) /* of the owners' table: 1 MiB each */
#define CHUNKS_MAX  256u       /* 64 GiB of swap: the map of groups is one block of the heap */
#define SCAN_GROUPS 4096u      /* looked at by one swap_put() */

enum slot_state {
	SLOT_FREE = 0,
	SLOT_USED,
	SLOT_ZOMBIE, /* nobody's any more, but a write to it may be under way: free when that is done */
	SLOT_LOST,   /* used, and cannot be read */
};

struct slot {
	uint64_t hash;
	uint32_t gfn;
	uint16_t owner;
	uint8_t state; /* enum slot_state */
	uint8_t tries; /* reads that failed; then it is read alone */
};
_Static_assert(sizeof(struct slot) == 16, "a slot's owner is 16 bytes");
_Static_assert((uint64_t)CHUNKS_MAX * CHUNK_SLOTS / SWAP_GROUP * sizeof(uint16_t) <= MIB(2),
	"the map of groups fits what the heap gives at once");

enum buffer_state {
	BUFFER_FREE = 0,
	BUFFER_OPEN,    /* being filled */
	BUFFER_WRITING,
	BUFFER_STUCK,   /* could not be written: the only copy */
	BUFFER_READING,
	BUFFER_CLEAN,   /* as on the disk */
};

struct buffer {
	enum buffer_state state;
	bool from_disk;   /* CLEAN: its hashes are still to be looked at */
	uint64_t first;   /* slot */
	uint32_t count;   /* slots it covers; OPEN: filled so far */
	uint32_t room;    /* OPEN: may cover */
	uint32_t valid;   /* bit a slot: its content lies here */
	uint32_t wanted;  /* bit a slot: asked for, and not had yet */
	uint32_t checked; /* bit a slot: its hash was right */
	uint32_t tries;
	uint64_t used_at; /* swap.clock */
	struct swap_io io;
};

static struct {
	struct spinlock lock;
	/* set once by swap_init() */
	uint64_t slots, groups;
	char *memory;
	swap_submit_fn submit;
	struct slot *chunk[CHUNKS_MAX];
	/* guarded by lock */
	uint16_t *group; /* a bit a slot: free. Set once; the content is guarded */
	uint64_t hand;   /* group where the next search begins */
	uint64_t empty_groups; /* all 16 free */
	uint64_t clock;
	bool off;        /* by the operator */
	struct buffer buffer[SWAP_BUFFERS];
	struct swap_counts n;
} swap = { .lock = SPINLOCK_INIT(LOCK_RANK_SWAP) };

static struct slot *slot_at(uint64_t i)
{
	return &swap.chunk[i / CHUNK_SLOTS][i % CHUNK_SLOTS];
}

static void *page_at(const struct buffer *b, uint32_t i)
{
	return swap.memory + (((uint64_t)(b - swap.buffer) * SWAP_GROUP + i) << PAGE_SHIFT);
}

static bool unwritten(const struct buffer *b)
{
	return b->state == BUFFER_OPEN || b->state == BUFFER_WRITING || b->state == BUFFER_STUCK;
}

static void *table(uint64_t bytes)
{
	return bytes <= MIB(2) ? heap_alloc((size_t)bytes) : NULL;
}

status_t swap_init(uint64_t slots, void *buffers, swap_submit_fn submit)
{
	slots = MIN(ALIGN_DOWN(slots, SWAP_GROUP), (uint64_t)CHUNKS_MAX * CHUNK_SLOTS);
	memset(&swap, 0, sizeof(swap));
	spinlock_init(&swap.lock, LOCK_RANK_SWAP);
	swap.groups = slots / SWAP_GROUP;
	swap.empty_groups = swap.groups;
	swap.memory = buffers;
	swap.submit = submit;
	if (slots == 0)
		return OK;
	swap.group = table(swap.groups * sizeof(swap.group[0]));
	if (!swap.group)
		return ERR_NOMEM;
	memset(swap.group, 0xff, swap.groups * sizeof(swap.group[0]));
	for (uint64_t at = 0; at < slots; at += CHUNK_SLOTS) {
		uint64_t n = MIN(slots - at, (uint64_t)CHUNK_SLOTS);
		struct slot *c = table(n * sizeof(*c));

		if (!c)
			return ERR_NOMEM;
		swap.chunk[at / CHUNK_SLOTS] = c;
	}
	swap.slots = slots;
	return OK;
}

/* ---- slots and buffers, lock held ------------------------------------------------------------- */

static void slot_give(uint64_t i)
{
	uint16_t *g = &swap.group[i / SWAP_GROUP];

	*slot_at(i) = (struct slot){ .state = SLOT_FREE };
	*g = (uint16_t)(*g | 1u << i % SWAP_GROUP);
	swap.empty_groups += *g == GROUP_FREE;
}

static void slot_take(uint64_t i)
{
	uint16_t *g = &swap.group[i / SWAP_GROUP];

	swap.empty_groups -= *g == GROUP_FREE;
	*g = (uint16_t)(*g & ~(1u << i % SWAP_GROUP));
}

/* The buffer that covers slot `i` and has its content, or will. */
static struct buffer *find(uint64_t i)
{
	for (struct buffer *b = swap.buffer; b < swap.buffer + SWAP_BUFFERS; b++)
		if (b->state != BUFFER_FREE && i - b->first < b->count && b->valid >> (i - b->first) & 1)
			return b;
	return NULL;
}

static struct buffer *find_open(void)
{
	for (struct buffer *b = swap.buffer; b < swap.buffer + SWAP_BUFFERS; b++)
		if (b->state == BUFFER_OPEN)
			return b;
	return NULL;
}

/* One to use anew: a free one, else the clean one that was not used for the longest, those that
 * somebody still waits for last. */
static struct buffer *take_buffer(void)
{
	struct buffer *best = NULL;

	for (struct buffer *b = swap.buffer; b < swap.buffer + SWAP_BUFFERS; b++) {
		if (b->state == BUFFER_FREE) {
			best = b;
			break;
		}
		if (b->state == BUFFER_CLEAN &&
			(!best || (!b->wanted && best->wanted) ||
				(!b->wanted == !best->wanted && b->used_at < best->used_at)))
			best = b;
	}
	if (best)
		*best = (struct buffer){ .state = BUFFER_FREE, .used_at = ++swap.clock };
	return best;
}

static uint32_t count_unwritten(void)
{
	uint32_t n = 0;

	for (const struct buffer *b = swap.buffer; b < swap.buffer + SWAP_BUFFERS; b++)
		n += unwritten(b);
	return n;
}

/* Neighbouring free slots: a whole group if there is one. ERR_BUSY: none among those looked at. */
static status_t find_run(uint64_t *first, uint32_t *room)
{
	if (swap.n.used == swap.slots)
		return ERR_LIMIT;
	for (uint32_t n = 0; n < MIN((uint64_t)SCAN_GROUPS, swap.groups); n++) {
		uint64_t g = swap.hand;
		uint32_t mask = swap.group[g];

		swap.hand = g + 1 == swap.groups ? 0 : g + 1;
		if (mask != GROUP_FREE && (swap.empty_groups || mask == 0))
			continue;
		uint32_t low = (uint32_t)__builtin_ctz(mask);

		*first = g * SWAP_GROUP + low;
		*room = (uint32_t)__builtin_ctz(~(mask >> low));
		return OK;
	}
	return ERR_BUSY;
}

static status_t open_buffer(struct buffer **out)
{
	uint64_t first;
	uint32_t room;

	if (count_unwritten() >= SWAP_WRITING)
		return ERR_BUSY;
	status_t s = find_run(&first, &room);

	if (s != OK)
		return s;
	struct buffer *b = take_buffer();

	if (!b)
		return ERR_BUSY;
	b->state = BUFFER_OPEN;
	b->first = first;
	b->room = room;
	*out = b;
	return OK;
}

static void begin(struct buffer *b, bool write)
{
	b->state = write ? BUFFER_WRITING : BUFFER_READING;
	b->io.first = b->first;
	b->io.count = b->count;
	b->io.write = write;
	b->io.buf = page_at(b, 0);
	swap.n.writes += write;
	swap.n.reads += !write;
	*(write ? &swap.n.written_pages : &swap.n.read_pages) += b->count;
}

/* The lock is not held: the device may be done at once. */
static void submit(struct buffer *b)
{
	if (b && swap.submit(&b->io) != OK)
		swap_done(&b->io, ERR_IO);
}

static void free_zombies(const struct buffer *b)
{
	for (uint32_t i = 0; i < b->count; i++)
		if (slot_at(b->first + i)->state == SLOT_ZOMBIE)
			slot_give(b->first + i);
}

/* ---- out --------------------------------------------------------------------------------------- */

status_t swap_put(const void *page, uint16_t owner, uint64_t gfn, uint64_t *slot)
{
	struct buffer *full = NULL;

	if (swap.slots == 0)
		return ERR_LIMIT;
	spin_lock(&swap.lock);
	struct buffer *b = find_open();
	status_t s = swap.off || swap.n.failed ? ERR_LIMIT : b ? OK : open_buffer(&b);

	if (s == OK) {
		uint32_t i = b->count++;

		*slot = b->first + i;
		slot_take(*slot);
		memcpy(page_at(b, i), page, PAGE_BYTES);
		*slot_at(*slot) = (struct slot){ .hash = page_hash(page_at(b, i), *slot),
			.gfn = (uint32_t)gfn, .owner = owner, .state = SLOT_USED };
		b->valid |= 1u << i;
		b->used_at = ++swap.clock;
		swap.n.used++;
		swap.n.put++;
		if (b->count == b->room) {
			begin(b, true);
			full = b;
		}
	}
	spin_unlock(&swap.lock);
	submit(full);
	return s;
}

void swap_push(void)
{
	if (swap.slots == 0)
		return;
	spin_lock(&swap.lock);
	struct buffer *b = find_open();

	if (b && !swap.n.failed) {
		if (b->valid) {
			begin(b, true);
		} else { /* all of it was wanted back */
			b->state = BUFFER_CLEAN;
			free_zombies(b);
			b->state = BUFFER_FREE;
			b = NULL;
		}
	} else {
		b = NULL;
	}
	spin_unlock(&swap.lock);
	submit(b);
}

/* ---- in ---------------------------------------------------------------------------------------- */

static status_t lost(struct slot *s, const char **why)
{
	if (why)
		*why = s->tries & 0x80 ? "its checksum is wrong" : "it cannot be read";
	s->state = SLOT_LOST;
	return ERR_IO;
}

/* Reads the whole group around a slot, or, where that failed before, the slot alone. */
static struct buffer *begin_read(uint64_t i)
{
	struct buffer *b = take_buffer();

	if (!b)
		return NULL;
	bool alone = slot_at(i)->tries != 0;

	b->first = alone ? i : ALIGN_DOWN(i, SWAP_GROUP);
	b->count = alone ? 1 : SWAP_GROUP;
	for (uint32_t k = 0; k < b->count; k++) {
		const struct slot *s = slot_at(b->first + k);

		/* What lies in another buffer is newer there. */
		if (s->state == SLOT_USED && (b->first + k == i || !find(b->first + k)))
			b->valid |= 1u << k;
	}
	b->wanted = 1u << (i - b->first);
	begin(b, false);
	return b;
}

/* Slot `i` lies in `b`, which came from the disk: is it what was written? */
static bool check(struct buffer *b, uint64_t i)
{
	uint32_t k = (uint32_t)(i - b->first);
	struct slot *s = slot_at(i);

	if (!b->from_disk || b->checked >> k & 1)
		return true;
	if (page_hash(page_at(b, k), i) == s->hash) {
		b->checked |= 1u << k;
		s->tries = 0;
		return true;
	}
	swap.n.checksum_errors++;
	b->valid &= ~(1u << k);
	s->tries = (uint8_t)((s->tries + 1) | 0x80);
	return false;
}

status_t swap_get(uint64_t i, void *page, const char **why)
{
	struct buffer *read = NULL;
	status_t result = ERR_BUSY;

	if (alias_is(i))
		return alias_get(i, page, why);
	spin_lock(&swap.lock);
	HV_BUG_ON(i >= swap.slots);
	struct slot *s = slot_at(i);

	if (s->state != SLOT_USED && s->state != SLOT_LOST)
		HV_BUG("swap slot %llu is wanted, and is free", (unsigned long long)i);
	struct buffer *b = find(i);

	if (s->state == SLOT_LOST || (s->tries & 0x7f) >= SWAP_TRIES) {
		result = lost(s, why);
	} else if (b && b->state != BUFFER_READING && check(b, i)) {
		result = OK;
		b->used_at = ++swap.clock;
		if (page) {
			memcpy(page, page_at(b, (uint32_t)(i - b->first)), PAGE_BYTES);
			b->wanted &= ~(1u << (i - b->first));
			swap.n.got++;
			swap.n.from_buffer += !b->from_disk;
		}
	} else if (b && b->state == BUFFER_READING) {
		b->wanted |= 1u << (i - b->first);
	} else {
		read = begin_read(i);
	}
	spin_unlock(&swap.lock);
	submit(read);
	return result;
}

void swap_free(uint64_t i)
{
	if (alias_is(i)) {
		alias_free(i);
		return;
	}
	spin_lock(&swap.lock);
	HV_BUG_ON(i >= swap.slots);
	struct slot *s = slot_at(i);

	if (s->state != SLOT_USED && s->state != SLOT_LOST)
		HV_BUG("swap slot %llu is freed, and is free", (unsigned long long)i);
	struct buffer *b = find(i);

	if (b) {
		b->valid &= ~(1u << (i - b->first));
		b->wanted &= ~(1u << (i - b->first));
	}
	if (b && unwritten(b)) {
		*s = (struct slot){ .state = SLOT_ZOMBIE };
		if (b->state == BUFFER_STUCK && !b->valid) {
			free_zombies(b);
			b->state = BUFFER_FREE;
		}
	} else {
		slot_give(i);
	}
	swap.n.used--;
	swap.n.freed++;
	spin_unlock(&swap.lock);
}

/* ---- the device's answer ----------------------------------------------------------------------- */

/* True: it goes to the device once more. Lock held. */
static bool failed(struct buffer *b)
{
	bool write = b->io.write;

	*(write ? &swap.n.write_errors : &swap.n.read_errors) += 1;
	if (++b->tries < SWAP_TRIES)
		return true;
	if (write) {
		b->state = BUFFER_STUCK;
		swap.n.failed = true;
		return false;
	}
	/* One bad sector spoils a whole group: those in it are read alone from here on. */
	for (uint32_t k = 0; k < b->count; k++)
		if (b->valid >> k & 1)
			slot_at(b->first + k)->tries =
				b->count == 1 ? SWAP_TRIES : MAX(slot_at(b->first + k)->tries, (uint8_t)1);
	b->state = BUFFER_FREE;
	return false;
}

void swap_done(struct swap_io *io, status_t s)
{
	struct buffer *b =
		(struct buffer *)(void *)((char *)io - __builtin_offsetof(struct buffer, io));
	bool again = false;

	if (alias_is(io->first)) {
		alias_done(io, s);
		return;
	}
	spin_lock(&swap.lock);
	HV_BUG_ON(b->state != BUFFER_WRITING && b->state != BUFFER_READING);
	if (s != OK) {
		again = failed(b);
	} else {
		b->from_disk = b->state == BUFFER_READING;
		b->state = BUFFER_CLEAN;
		if (!b->from_disk)
			free_zombies(b);
		if (!b->valid)
			b->state = BUFFER_FREE;
	}
	spin_unlock(&swap.lock);
	if (again)
		submit(b);
}

void swap_set_on(bool on)
{
	uint32_t stuck = 0;

	spin_lock(&swap.lock);
	swap.off = !on;
	if (on) {
		swap.n.failed = false;
		for (uint32_t i = 0; i < SWAP_BUFFERS; i++) {
			struct buffer *b = &swap.buffer[i];

			if (b->state != BUFFER_STUCK)
				continue;
			b->tries = 0;
			begin(b, true);
			stuck |= 1u << i;
		}
	}
	spin_unlock(&swap.lock);
	for (; stuck; stuck &= stuck - 1)
		submit(&swap.buffer[__builtin_ctz(stuck)]);
}

bool swap_owner(uint64_t i, uint16_t *owner, uint64_t *gfn)
{
	bool used = false;

	if (alias_is(i))
		return alias_owner(i, owner, gfn);
	spin_lock(&swap.lock);
	if (i < swap.slots) {
		const struct slot *s = slot_at(i);

		used = s->state == SLOT_USED || s->state == SLOT_LOST;
		*owner = s->owner;
		*gfn = s->gfn;
	}
	spin_unlock(&swap.lock);
	return used;
}

void swap_counts(struct swap_counts *out)
{
	spin_lock(&swap.lock);
	*out = swap.n;
	out->slots = swap.slots;
	out->on = swap.slots && !swap.off && !swap.n.failed;
	out->unwritten = 0;
	for (const struct buffer *b = swap.buffer; b < swap.buffer + SWAP_BUFFERS; b++)
		if (unwritten(b))
			for (uint32_t rest = b->valid; rest; rest &= rest - 1)
				out->unwritten++;
	spin_unlock(&swap.lock);
}

bool swap_is_on(void)
{
	return swap.slots && !__atomic_load_n(&swap.off, __ATOMIC_RELAXED) &&
		!__atomic_load_n(&swap.n.failed, __ATOMIC_RELAXED);
}
