/* The store of compressed pages: see mm/zstore.h, and mm/zstore_frame.h for what lies where. */
#include "mm/zstore_frame.h"
#include "vmm/base/bug.h"
#include "vmm/base/string.h"

/* Until zstore_init() it holds nothing and takes nothing: the account's max is 0. */
struct zstore zstore = { .lock = SPINLOCK_INIT(LOCK_RANK_ZSTORE), .top = FRAME_LINK_NONE,
	.tables = FRAME_LINK_NONE };

status_t zstore_init(uint64_t max_pages)
{
	struct zstore *z = &zstore;

	*z = (struct zstore){ .lock = SPINLOCK_INIT(LOCK_RANK_ZSTORE), .top = FRAME_LINK_NONE,
		.tables = FRAME_LINK_NONE };
	for (uint32_t i = 0; i < MM_OWNER_MAX; i++)
		z->list[i] = (struct zlist){ .oldest = REF_NONE, .newest = REF_NONE };
	status_t s = frame_account_open(&z->account, FRAME_OWNER_ZSTORE, 0, NULL);

	if (s == OK)
		frame_account_set_max(&z->account, max_pages);
	return s;
}

void zstore_set_max(uint64_t max_pages)
{
	frame_account_set_max(&zstore.account, max_pages);
}

/* ---- frames ----------------------------------------------------------------------------------- */

static status_t frame_new(enum zpool_kind kind, uint32_t flags, mfn_t *out)
{
	status_t s = frame_alloc(&zstore.account, FRAME_ZPOOL, ORDER_4K, GFN(0), MFN_NONE, flags, out);

	if (s != OK)
		return s;
	struct frame *f = frame_known(*out);

	f->u.zpool.used = 0;
	f->u.zpool.kind = (uint8_t)kind;
	f->u.zpool.first = 0;
	f->u.zpool.prev = FRAME_LINK_NONE;
	return OK;
}

static void frame_give_back(uint64_t mfn)
{
	struct frame *f = frame_known(MFN(mfn));

	f->link = FRAME_LINK_NONE;
	frame_free(&zstore.account, MFN(mfn), ORDER_4K);
}

/* ---- the dense array of chunks ---------------------------------------------------------------- */

static inline uint32_t top_room(void)
{
	return zstore.top == FRAME_LINK_NONE
		       ? 0
		       : ZSTORE_CHUNKS_FRAME - frame_known(MFN(zstore.top))->u.zpool.used;
}

/* One more chunk on top; `fresh` becomes the topmost frame if the present one is full. */
static uint64_t chunk_push(mfn_t fresh)
{
	if (!top_room()) {
		frame_known(fresh)->link = zstore.top;
		zstore.top = (uint32_t)fresh.v;
		zstore.n.data_frames++;
	}
	zstore.n.chunks++;
	return ref_make(zstore.top, frame_known(MFN(zstore.top))->u.zpool.used++);
}

/* An object's chunks in their order. */
struct ring {
	uint64_t object; /* ref */
	uint32_t count;
	uint64_t at[CHUNKS_MAX];
};

static void ring_read(struct ring *r, uint64_t object)
{
	const struct zobject *o = object_at(object);
	uint64_t at = object_first(o);

	r->object = object;
	r->count = chunks_for(o->bytes);
	for (uint32_t i = 0; i < r->count; i++) {
		r->at[i] = at;
		at = *link_at(at);
	}
	HV_BUG_ON(at != (LINK_LAST | object));
}

/* The object that a chunk is of: the last chunk of each names it. */
static uint64_t chunk_object(uint64_t at)
{
	uint32_t steps = 0;

	while (!(*link_at(at) & LINK_LAST)) {
		at = *link_at(at);
		HV_BUG_ON(++steps > CHUNKS_MAX);
	}
	return *link_at(at) & REF_MASK;
}

/*
 * The topmost chunk goes into a hole: whoever points to it learns that. `own`: of the object that is being
 * freed, whose ring is whole without what it has lost. `other`: of the object on top, read once for all of
 * its chunks that move: they lie in their order, so the next one is its last that has not moved yet.
 */
static void chunk_redirect(uint64_t from, uint64_t to, struct ring *own, struct ring *other)
{
	struct ring *r = other;

	if (!r->count || r->at[r->count - 1] != from) {
		uint64_t object = chunk_object(from);

		if (object == own->object)
			r = own;
		else
			ring_read(r, object);
	}
	uint32_t i = r->count - 1;

	while (r->at[i] != from)
		HV_BUG_ON(i-- == 0);
	if (i == 0)
		object_set_first(object_at(r->object), to);
	else
		*link_at(r->at[i - 1]) = to;
	r->at[i] = to;
	if (r == other)
		r->count = i;
}

/* The chunk at `hole` is nobody's any more: the topmost takes its place. */
static void chunk_remove(uint64_t hole, struct ring *own, struct ring *other)
{
	struct frame *top = frame_known(MFN(zstore.top));
	uint64_t last = ref_make(zstore.top, top->u.zpool.used - 1u);

	if (last != hole) {
		chunk_redirect(last, hole, own, other);
		*link_at(hole) = *link_at(last);
		memcpy(chunk_at(hole), chunk_at(last), ZSTORE_CHUNK_BYTES);
		zstore.n.moved_chunks++;
	}
	zstore.n.chunks--;
	if (--top->u.zpool.used == 0) {
		uint32_t empty = zstore.top;

		zstore.top = top->link;
		zstore.n.data_frames--;
		frame_give_back(empty);
	}
}

/* ---- tables of objects ------------------------------------------------------------------------ */

static void tables_add(uint32_t mfn)
{
	struct frame *f = frame_known(MFN(mfn));

	f->link = zstore.tables;
	f->u.zpool.prev = FRAME_LINK_NONE;
	if (zstore.tables != FRAME_LINK_NONE)
		frame_known(MFN(zstore.tables))->u.zpool.prev = mfn;
	zstore.tables = mfn;
}

static void tables_remove(uint32_t mfn)
{
	struct frame *f = frame_known(MFN(mfn));

	if (f->link != FRAME_LINK_NONE)
		frame_known(MFN(f->link))->u.zpool.prev = f->u.zpool.prev;
	if (f->u.zpool.prev != FRAME_LINK_NONE)
		frame_known(MFN(f->u.zpool.prev))->link = f->link;
	else
		zstore.tables = f->link;
}

/* Generations begin elsewhere in each table: the frame may have been one before. */
static void table_make(mfn_t mfn)
{
	struct zobject *o = mfn_to_va(mfn);

	zstore.generation = (zstore.generation + 5) & GENERATION_MASK;
	for (uint32_t i = 0; i < ZSTORE_OBJECTS_FRAME; i++)
		o[i] = (struct zobject){ .generation = zstore.generation,
			.first_number = i + 1 < ZSTORE_OBJECTS_FRAME ? (uint8_t)(i + 2) : 0 };
	frame_known(mfn)->u.zpool.first = 1;
	zstore.n.table_frames++;
	tables_add((uint32_t)mfn.v);
}

/* There is a table with room. */
static uint64_t object_take(void)
{
	uint32_t mfn = zstore.tables;
	struct frame *f = frame_known(MFN(mfn));
	uint64_t ref = ref_make(mfn, f->u.zpool.first - 1u);

	f->u.zpool.first = object_at(ref)->first_number;
	f->u.zpool.used++;
	if (!f->u.zpool.first)
		tables_remove(mfn);
	return ref;
}

static void object_give_back(uint64_t ref)
{
	struct frame *f = frame_known(ref_mfn(ref));
	struct zobject *o = object_at(ref);
	uint32_t mfn = (uint32_t)ref_mfn(ref).v;

	o->list = 0;
	o->generation = (o->generation + 1) & GENERATION_MASK;
	o->first_number = f->u.zpool.first;
	if (!f->u.zpool.first)
		tables_add(mfn);
	f->u.zpool.first = (uint8_t)(ref_number(ref) + 1);
	if (--f->u.zpool.used == 0) {
		tables_remove(mfn);
		zstore.n.table_frames--;
		frame_give_back(mfn);
	}
}

struct zobject *zstore_object(uint64_t handle, uint64_t *ref)
{
	*ref = handle & REF_MASK;
	const struct frame *f = frame_of(ref_mfn(*ref));

	if (!f || f->state != FRAME_ZPOOL || f->owner != FRAME_OWNER_ZSTORE ||
		f->u.zpool.kind != ZPOOL_TABLE || ref_number(*ref) >= ZSTORE_OBJECTS_FRAME)
		return NULL;
	struct zobject *o = object_at(*ref);

	return o->list && o->generation == handle >> REF_BITS ? o : NULL;
}

static struct zobject *object_known(uint64_t handle, uint64_t *ref)
{
	struct zobject *o = zstore_object(handle, ref);

	if (UNLIKELY(!o))
		HV_BUG("compressed page %#llx: there is none", (unsigned long long)handle);
	return o;
}

/* ---- lists by age ----------------------------------------------------------------------------- */

/* An owner's list, one of nobody's if it has none yet: there are as many as guests. */
static struct zlist *list_for(uint16_t owner)
{
	struct zlist *l = zstore_list(owner);

	if (l)
		return l;
	for (uint32_t i = 0; i < MM_OWNER_MAX; i++) {
		l = &zstore.list[(owner + i) % MM_OWNER_MAX];
		if (!l->owner) {
			l->owner = owner;
			return l;
		}
	}
	HV_BUG("guest %u is one too many with compressed pages", owner);
}

static void list_append(struct zlist *l, uint64_t ref)
{
	struct zobject *o = object_at(ref);

	object_set_older(o, l->newest);
	object_set_newer(o, REF_NONE);
	if (l->newest == REF_NONE)
		l->oldest = ref;
	else
		object_set_newer(object_at(l->newest), ref);
	l->newest = ref;
}

static void list_unlink(struct zlist *l, const struct zobject *o)
{
	if (object_older(o) == REF_NONE)
		l->oldest = object_newer(o);
	else
		object_set_newer(object_at(object_older(o)), object_newer(o));
	if (object_newer(o) == REF_NONE)
		l->newest = object_older(o);
	else
		object_set_older(object_at(object_newer(o)), object_older(o));
}

/* ---- what others call ------------------------------------------------------------------------- */

/* All that may fail. *fresh: a frame for the top of the stack if the chunks need one. */
static status_t prepare(uint32_t chunks, uint32_t flags, mfn_t *fresh)
{
	status_t s = OK;
	mfn_t table;

	*fresh = MFN_NONE;
	if (top_room() < chunks)
		s = frame_new(ZPOOL_DATA, flags, fresh);
	if (s == OK && zstore.tables == FRAME_LINK_NONE) {
		s = frame_new(ZPOOL_TABLE, flags, &table);
		if (s == OK)
			table_make(table);
		else if (!mfn_is_none(*fresh))
			frame_give_back(fresh->v);
	}
	zstore.n.refused_nomem += s == ERR_NOMEM;
	zstore.n.refused_limit += s == ERR_LIMIT;
	return s;
}

static void count_use(struct zlist *l, int64_t objects, int64_t bytes)
{
	l->use.objects += (uint64_t)objects;
	l->use.bytes += (uint64_t)bytes;
	zstore.n.use.objects += (uint64_t)objects;
	zstore.n.use.bytes += (uint64_t)bytes;
}

static void store_chunks(uint64_t ref, const uint8_t *data, uint32_t bytes, mfn_t fresh)
{
	uint64_t at = chunk_push(fresh);

	object_set_first(object_at(ref), at);
	while (bytes > ZSTORE_CHUNK_BYTES) {
		uint64_t next = chunk_push(fresh);

		memcpy(chunk_at(at), data, ZSTORE_CHUNK_BYTES);
		*link_at(at) = next;
		data += ZSTORE_CHUNK_BYTES;
		bytes -= ZSTORE_CHUNK_BYTES;
		at = next;
	}
	memcpy(chunk_at(at), data, bytes);
	*link_at(at) = LINK_LAST | ref;
}

static void commit_put(const void *data, uint32_t bytes, uint16_t owner, uint32_t gfn, mfn_t fresh,
	uint64_t *handle)
{
	struct zlist *l = list_for(owner);
	uint64_t ref = object_take();
	struct zobject *o = object_at(ref);

	o->list = (uint8_t)(l - zstore.list + 1);
	o->gfn = gfn;
	o->bytes = (uint16_t)bytes;
	o->sequence = zstore.sequence++;
	list_append(l, ref);
	store_chunks(ref, data, bytes, fresh);
	count_use(l, 1, bytes);
	zstore.n.put_count++;
	*handle = object_handle(ref);
}

status_t zstore_put(const void *data, uint32_t bytes, uint16_t owner, uint32_t gfn, uint32_t flags,
	uint64_t *handle)
{
	mfn_t fresh;
	status_t s;

	HV_BUG_ON(owner == 0 || owner >= FRAME_OWNER_ZSTORE);
	spin_lock(&zstore.lock);
	if (bytes == 0 || bytes > ZSTORE_MAX_BYTES) {
		zstore.n.refused_size++;
		s = ERR_INVAL;
	} else {
		s = prepare(chunks_for(bytes), flags, &fresh);
		if (s == OK)
			commit_put(data, bytes, owner, gfn, fresh, handle);
	}
	spin_unlock(&zstore.lock);
	return s;
}

void zstore_get(uint64_t handle, void *buf, uint32_t *bytes)
{
	uint8_t *to = buf;
	uint64_t ref;

	spin_lock(&zstore.lock);
	const struct zobject *o = object_known(handle, &ref);
	uint32_t left = o->bytes;
	uint64_t at = object_first(o);

	*bytes = left;
	while (left > ZSTORE_CHUNK_BYTES) {
		memcpy(to, chunk_at(at), ZSTORE_CHUNK_BYTES);
		at = *link_at(at);
		to += ZSTORE_CHUNK_BYTES;
		left -= ZSTORE_CHUNK_BYTES;
	}
	memcpy(to, chunk_at(at), left);
	zstore.n.get_count++;
	spin_unlock(&zstore.lock);
}

/* From the last one on: of the newest object all are on top and nothing moves. */
static void free_chunks(uint64_t ref)
{
	struct ring own, other = { .count = 0 };

	ring_read(&own, ref);
	while (own.count) {
		uint64_t hole = own.at[--own.count];

		if (own.count)
			*link_at(own.at[own.count - 1]) = LINK_LAST | ref;
		chunk_remove(hole, &own, &other);
	}
}

void zstore_free(uint64_t handle)
{
	uint64_t ref;

	spin_lock(&zstore.lock);
	struct zobject *o = object_known(handle, &ref);
	struct zlist *l = &zstore.list[o->list - 1u];

	free_chunks(ref);
	count_use(l, -1, -(int64_t)o->bytes);
	list_unlink(l, o);
	if (l->oldest == REF_NONE)
		l->owner = 0;
	object_give_back(ref);
	zstore.n.free_count++;
	spin_unlock(&zstore.lock);
}
