/* The store of compressed pages, looked at: what is in it, what is coldest, and whether all is right. */
#include "mm/zstore_frame.h"
#include "vmm/base/bug.h"

static void describe(uint64_t ref, struct zstore_object *out)
{
	const struct zobject *o = object_at(ref);

	*out = (struct zstore_object){
		.handle = object_handle(ref),
		.gfn = o->gfn,
		.owner = zstore.list[o->list - 1u].owner,
		.bytes = o->bytes,
	};
}

status_t zstore_find(uint64_t handle, struct zstore_object *out)
{
	uint64_t ref;

	spin_lock(&zstore.lock);
	bool found = zstore_object(handle, &ref) != NULL;

	if (found)
		describe(ref, out);
	spin_unlock(&zstore.lock);
	return found ? OK : ERR_NOENT;
}

/* The place in at[0 .. count) of the oldest object. */
static uint32_t oldest_of(const uint64_t *at, uint32_t count)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < count; i++)
		if ((int32_t)(object_at(at[i])->sequence - object_at(at[best])->sequence) < 0)
			best = i;
	return best;
}

uint32_t zstore_coldest(uint16_t owner, struct zstore_object *out, uint32_t n)
{
	uint64_t at[MM_OWNER_MAX]; /* the next of each owner that has one */
	uint32_t count = 0, found = 0;

	spin_lock(&zstore.lock);
	for (uint32_t i = 0; i < MM_OWNER_MAX; i++)
		if ((owner == 0 || owner == zstore.list[i].owner) && zstore.list[i].oldest != REF_NONE)
			at[count++] = zstore.list[i].oldest;
	while (found < n && count) {
		uint32_t i = oldest_of(at, count);

		describe(at[i], &out[found++]);
		at[i] = object_newer(object_at(at[i]));
		if (at[i] == REF_NONE)
			at[i] = at[--count];
	}
	spin_unlock(&zstore.lock);
	return found;
}

void zstore_owner_use(uint16_t owner, struct zstore_use *out)
{
	spin_lock(&zstore.lock);
	const struct zlist *l = owner ? zstore_list(owner) : NULL;

	*out = l ? l->use : (struct zstore_use){ 0 };
	spin_unlock(&zstore.lock);
}

uint64_t zstore_owner_frames(uint16_t owner)
{
	spin_lock(&zstore.lock);
	const struct zlist *l = owner ? zstore_list(owner) : NULL;
	uint64_t mine = l ? l->use.bytes : 0, all = zstore.n.use.bytes;
	uint64_t frames = zstore.n.data_frames + zstore.n.table_frames;

	spin_unlock(&zstore.lock);
	return mine ? (frames * mine + all - 1) / all : 0; /* bytes are below 2^40, frames below 2^24 */
}

void zstore_counts(struct zstore_counts *out)
{
	spin_lock(&zstore.lock);
	uint64_t bytes = zstore.n.use.bytes;
	uint64_t held = (zstore.n.data_frames + zstore.n.table_frames) * PAGE_BYTES;

	*out = zstore.n;
	out->max_frames = zstore.account.max_pages;
	out->peak_frames = zstore.account.peak_pages;
	out->overhead_permille = bytes ? (held - bytes) * 1000 / bytes : 0;
	spin_unlock(&zstore.lock);
}

uint64_t zstore_frames(void)
{
	return __atomic_load_n(&zstore.account.used_pages, __ATOMIC_RELAXED);
}

/* ---- the proof -------------------------------------------------------------------------------- */

struct proof {
	void (*problem)(void *ctx, const char *what, uint64_t counted, uint64_t found);
	void *ctx;
	uint64_t problems;
	uint64_t chunks; /* reached from objects */
};

static void expect(struct proof *p, const char *what, uint64_t counted, uint64_t found)
{
	if (counted == found)
		return;
	p->problems++;
	if (p->problem)
		p->problem(p->ctx, what, counted, found);
}

static const struct frame *zframe(uint64_t ref, enum zpool_kind kind)
{
	const struct frame *f = frame_of(ref_mfn(ref));

	return f && f->state == FRAME_ZPOOL && f->owner == FRAME_OWNER_ZSTORE && f->u.zpool.kind == kind
		       ? f
		       : NULL;
}

static bool object_valid(uint64_t ref)
{
	return zframe(ref, ZPOOL_TABLE) && ref_number(ref) < ZSTORE_OBJECTS_FRAME;
}

/* Its chunks, each where chunks are; as many as it needs; the last one leads back. A chunk leads to one
 * object only, so no two share one, and it is enough to count them all. */
static void prove_ring(struct proof *p, uint64_t ref)
{
	const struct zobject *o = object_at(ref);
	uint64_t at = object_first(o);

	for (uint32_t left = chunks_for(o->bytes); left; left--) {
		const struct frame *f = zframe(at, ZPOOL_DATA);
		uint64_t end = left == 1 ? LINK_LAST | ref : 0;

		if (!f || ref_number(at) >= f->u.zpool.used) {
			expect(p, "chunk of a compressed page outside the store's data", ref, at);
			return;
		}
		if (left == 1 || *link_at(at) & LINK_LAST)
			expect(p, "end of a compressed page's chunks", end, *link_at(at));
		p->chunks++;
		at = *link_at(at) & REF_MASK;
	}
}

static void prove_list(struct proof *p, uint32_t list)
{
	const struct zlist *l = &zstore.list[list];
	uint64_t objects = 0, bytes = 0, older = REF_NONE;

	for (uint64_t ref = l->oldest; ref != REF_NONE; ref = object_newer(object_at(ref))) {
		if (!object_valid(ref) || objects > l->use.objects)
			break;
		const struct zobject *o = object_at(ref);

		expect(p, "list of a compressed page", list + 1, o->list);
		expect(p, "older neighbour of a compressed page", older, object_older(o));
		if (older != REF_NONE && (int32_t)(o->sequence - object_at(older)->sequence) <= 0)
			expect(p, "age of a compressed page", object_at(older)->sequence, o->sequence);
		if (o->bytes == 0 || o->bytes > ZSTORE_MAX_BYTES)
			expect(p, "size of a compressed page", ZSTORE_MAX_BYTES, o->bytes);
		else
			prove_ring(p, ref);
		objects++;
		bytes += o->bytes;
		older = ref;
	}
	expect(p, "newest compressed page of a guest", l->newest, older);
	expect(p, "a guest with compressed pages", l->owner != 0, l->oldest != REF_NONE);
	expect(p, "compressed pages of a guest", l->use.objects, objects);
	expect(p, "compressed bytes of a guest", l->use.bytes, bytes);
}

static void prove_frames(struct proof *p)
{
	const struct zstore_counts *n = &zstore.n;
	uint64_t data = 0, tables = 0, chunks = 0, objects = 0;

	for (uint64_t i = 0; i < frame_table.count; i++) {
		uint64_t mfn = frame_table.base + i;
		const struct frame *f;

		if ((f = zframe(ref_make(mfn, 0), ZPOOL_DATA))) {
			data++;
			chunks += f->u.zpool.used;
			if (mfn != zstore.top)
				expect(p, "chunks in a frame below the top", ZSTORE_CHUNKS_FRAME,
					f->u.zpool.used);
		} else if ((f = zframe(ref_make(mfn, 0), ZPOOL_TABLE))) {
			tables++;
			objects += f->u.zpool.used;
		}
	}
	expect(p, "frames of compressed data", n->data_frames, data);
	expect(p, "tables of compressed pages", n->table_frames, tables);
	expect(p, "frames charged to the compressed store", zstore.account.used_pages, data + tables);
	expect(p, "chunks in frames", n->chunks, chunks);
	expect(p, "objects in tables", n->use.objects, objects);
}

uint64_t zstore_audit(void (*problem)(void *ctx, const char *what, uint64_t counted, uint64_t found),
	void *ctx)
{
	struct proof p = { .problem = problem, .ctx = ctx };
	struct zstore_use sum = { 0 };

	spin_lock(&zstore.lock);
	for (uint32_t i = 0; i < MM_OWNER_MAX; i++) {
		if (zstore.list[i].owner || zstore.list[i].use.objects)
			prove_list(&p, i);
		sum.objects += zstore.list[i].use.objects;
		sum.bytes += zstore.list[i].use.bytes;
	}
	expect(&p, "compressed pages of all guests", zstore.n.use.objects, sum.objects);
	expect(&p, "compressed bytes of all guests", zstore.n.use.bytes, sum.bytes);
	expect(&p, "chunks reached from compressed pages", zstore.n.chunks, p.chunks);
	if (zstore.account.used_pages)
		prove_frames(&p);
	spin_unlock(&zstore.lock);
	return p.problems;
}
