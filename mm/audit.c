/*
 * The auditor: see mm/audit.h. It only reads, trusts no link it follows (indices are checked, lists
 * bounded), and proves the mapping one to one by counting: each leaf's frame names that guest and
 * gfn back, so two leaves cannot name one frame, and there are as many leaves as PRIVATE frames.
 */
#include <stdarg.h>

#include "mm/alias.h"
#include "mm/audit.h"
#include "mm/frame_pool.h"
#include "mm/p2m_walk.h"
#include "mm/share.h"
#include "mm/swap.h"
#include "mm/zstore.h"
#include "vmm/base/fmt.h"

struct audit {
	struct audit_report *out;
	bool check_zero;
	uint64_t by_state[FRAME_STATE_COUNT];                 /* frames found */
	uint32_t heads[BUDDY_KINDS][BUDDY_ORDERS];            /* free blocks found in the array */
	uint64_t private_pages, tables, zero_mappings, used; /* found in the guests */
	/* pages that are out; dropped: on their guest's own disk */
	uint64_t compressed, swapped, dropped;
	/* of SHARED frames but the zero frame: references in the guests' entries, and in the frames; the
	 * same once more with each times a number of its frame's own: equal only if all are */
	uint64_t shared_leaves, shared_refs, shared_leaves_sum, shared_refs_sum;
	uint64_t min_total;
	int64_t owed;
};

/* One guest's. */
struct guest_audit {
	struct audit *a;
	const struct p2m *p;
	uint64_t pages[P2M_STATE_COUNT];
	uint64_t pages_in_2m, zero_mapped, pinned, tables, on_own_disk;
};

static void PRINTF(2, 3) problem(struct audit *a, const char *fmt, ...)
{
	struct audit_report *r = a->out;
	va_list ap;

	if (r->problems < AUDIT_MESSAGE_MAX) {
		va_start(ap, fmt);
		fmt_vsnprintf(r->message[r->problems], sizeof(r->message[0]), fmt, ap);
		va_end(ap);
	}
	r->problems++;
}

#define LLU(x) ((unsigned long long)(x))

static void expect(struct audit *a, const char *what, uint64_t counted, uint64_t found)
{
	if (counted != found)
		problem(a, "%s: counted %llu, found %llu", what, LLU(counted), LLU(found));
}

static uint64_t number(uint64_t index)
{
	return frame_table.base + index;
}

static bool page_is_zero(uint64_t index)
{
	const uint64_t *w = mfn_to_va(MFN(number(index)));

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		if (w[i])
			return false;
	return true;
}

static uint64_t scrambled(uint64_t mfn)
{
	uint64_t x = (mfn + 1) * 0x9e3779b97f4a7c15ull;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
}

static void check_shared(struct audit *a, uint64_t index)
{
	const struct frame *f = &frame_table.array[index];

	a->shared_refs += f->u.shared.refs;
	a->shared_refs_sum += f->u.shared.refs * scrambled(number(index));
	if (f->owner != FRAME_OWNER_SHARED || f->order || f->u.shared.refs == 0)
		problem(a, "shared frame %llu: of guest %u, order %u, %u references", LLU(number(index)),
			f->owner, f->order, f->u.shared.refs);
}

/* A frame of a free block that `head` heads. */
static void check_free(struct audit *a, uint64_t index, uint64_t head)
{
	const struct frame *f = &frame_table.array[index], *h = &frame_table.array[head];

	if (f->state != h->state)
		problem(a, "frame %llu is %s inside a %s block at %llu", LLU(number(index)),
			frame_state_name(f->state), frame_state_name(h->state), LLU(number(head)));
	if (index != head && (f->u.free.head || f->order || f->link != FRAME_LINK_NONE))
		problem(a, "frame %llu inside the free block at %llu looks like a head",
			LLU(number(index)), LLU(number(head)));
	if (f->owner != FRAME_OWNER_NONE)
		problem(a, "free frame %llu has owner %u", LLU(number(index)), f->owner);
	if (a->check_zero && f->state == FRAME_FREE && !page_is_zero(index))
		problem(a, "frame %llu is free and not zero", LLU(number(index)));
}

/* The block's last index + 1; a frame that heads none counts as a block of one. */
static uint64_t check_block(struct audit *a, uint64_t index)
{
	const struct frame *f = &frame_table.array[index];

	if (!f->u.free.head) {
		problem(a, "frame %llu is %s but in no block", LLU(number(index)),
			frame_state_name(f->state));
		return index + 1;
	}
	if (f->order >= BUDDY_ORDERS || index & ((1ull << f->order) - 1) ||
		frame_table.count - index < 1ull << f->order) {
		problem(a, "free block at %llu has order %u", LLU(number(index)), f->order);
		return index + 1;
	}
	a->heads[f->state == FRAME_FREE][f->order]++;
	return index + (1ull << f->order);
}

static void walk_frames(struct audit *a)
{
	uint64_t head = 0, end = 0; /* of the free block we are in */

	for (uint64_t i = 0; i < frame_table.count; i++) {
		const struct frame *f = &frame_table.array[i];

		a->out->frames_checked++;
		if (f->state >= FRAME_STATE_COUNT) {
			problem(a, "frame %llu has state %u", LLU(number(i)), f->state);
			continue;
		}
		a->by_state[f->state]++;
		if (i >= end && frame_state_is_free(f->state)) {
			head = i;
			end = check_block(a, i);
		}
		if (i < end)
			check_free(a, i, head);
		else if (f->state == FRAME_SHARED && number(i) != frame_pool.zero.v)
			check_shared(a, i);
	}
}

/* One free list: each entry a block's head of that kind, linked both ways, as many as counted. */
static void walk_list(struct audit *a, enum buddy_kind kind, uint32_t order)
{
	const struct buddy *b = &frame_pool.buddy;
	uint32_t prev = BUDDY_NONE, count = 0;
	uint8_t state = kind == BUDDY_CLEAN ? FRAME_FREE : FRAME_DIRTY;

	for (uint32_t i = b->head[kind][order]; i != BUDDY_NONE; i = frame_table.array[i].link) {
		const struct frame *f = i < frame_table.count ? &frame_table.array[i] : NULL;

		if (!f || f->state != state || !f->u.free.head || f->order != order ||
			f->u.free.prev != prev || ++count > b->blocks[kind][order]) {
			problem(a, "free list %s order %u is broken at frame %llu",
				frame_state_name(state), order, LLU(number(i)));
			return;
		}
		prev = i;
	}
	if (count != b->blocks[kind][order] || count != a->heads[kind][order])
		problem(a, "free list %s order %u: counted %u, listed %u, found %u",
			frame_state_name(state), order, b->blocks[kind][order], count,
			a->heads[kind][order]);
	if (!(b->mask[kind] >> order & 1) != !count)
		problem(a, "free list %s order %u: mask is wrong", frame_state_name(state), order);
}

static void walk_lists(struct audit *a)
{
	for (uint32_t order = 0; order < BUDDY_ORDERS; order++) {
		walk_list(a, BUDDY_DIRTY, order);
		walk_list(a, BUDDY_CLEAN, order);
	}
	expect(a, "clean pages", frame_pool.buddy.pages[BUDDY_CLEAN], a->by_state[FRAME_FREE]);
	expect(a, "dirty pages", frame_pool.buddy.pages[BUDDY_DIRTY], a->by_state[FRAME_DIRTY]);
	for (uint32_t s = 0; s < FRAME_STATE_COUNT; s++)
		if (a->by_state[s] != frame_pool.by_state[s])
			problem(a, "%s frames: counted %llu, found %llu", frame_state_name(s),
				LLU(frame_pool.by_state[s]), LLU(a->by_state[s]));
}

static void check_private(struct guest_audit *g, uint64_t gfn, uint64_t mfn)
{
	const struct frame *f = frame_of(MFN(mfn));
	uint16_t owner = g->p->account.owner;

	g->a->private_pages++;
	if (!f || f->state != FRAME_PRIVATE || f->owner != owner || f->u.gfn != gfn)
		problem(g->a, "guest %u gfn %#llx maps frame %llx: %s of guest %u gfn %#llx", owner,
			LLU(gfn), LLU(mfn), f ? frame_state_name(f->state) : "no frame",
			f ? f->owner : 0u, f ? LLU(f->u.gfn) : 0);
}

/* A present leaf of `level` at `gfn`. */
static void check_leaf(struct guest_audit *g, uint64_t gfn, uint64_t e, uint32_t level)
{
	uint64_t mfn = entry_mfn(e).v;
	uint16_t owner = g->p->account.owner;

	if (entry_state(e) == P2M_SHARED) {
		const struct frame *f = frame_of(MFN(mfn));

		g->a->shared_leaves++;
		g->a->shared_leaves_sum += scrambled(mfn);
		if (!f || f->state != FRAME_SHARED || f->owner != FRAME_OWNER_SHARED || level != 1 ||
			f->link != share_domain(owner, g->p->share_group) || g->p->share_none ||
			e & (slat_format->write | LEAF_PINNED))
			problem(g->a, "guest %u gfn %#llx: bad shared entry %#llx", owner, LLU(gfn), LLU(e));
		return;
	}
	if (entry_state(e) != P2M_RAM) {
		g->zero_mapped++;
		if (entry_state(e) != P2M_EMPTY || level != 1 || mfn != frame_pool.zero.v ||
			e & (slat_format->write | LEAF_PINNED))
			problem(g->a, "guest %u gfn %#llx: bad entry %#llx", owner, LLU(gfn),
				LLU(e));
		return;
	}
	if (level > 2)
		problem(g->a, "guest %u gfn %#llx: leaf of level %u", owner, LLU(gfn), level);
	if (level == 2)
		g->pages_in_2m += PAGES_2M;
	if (e & LEAF_PINNED)
		g->pinned++;
	for (uint64_t i = 0; i < 1ull << level_order(level); i++)
		check_private(g, gfn + i, mfn + i);
}

/* A page that is out: whoever has its content says that it is this page's. */
static void check_out(struct guest_audit *g, uint64_t gfn, uint64_t e)
{
	uint64_t payload = entry_payload(e), owner_gfn = 0;
	struct zstore_object o;
	uint16_t owner = 0;
	bool found = true;

	switch (entry_state(e)) {
	case P2M_IN_FLIGHT:
		check_private(g, gfn, payload);
		return;
	case P2M_COMPRESSED:
		found = zstore_find(payload, &o) == OK;
		owner = o.owner;
		owner_gfn = o.gfn;
		g->a->compressed++;
		break;
	default:
		found = swap_owner(payload, &owner, &owner_gfn);
		g->on_own_disk += alias_is(payload);
		*(alias_is(payload) ? &g->a->dropped : &g->a->swapped) += 1;
		break;
	}
	if (!found || owner != g->p->account.owner || owner_gfn != gfn)
		problem(g->a, "guest %u gfn %#llx is %s in %#llx: %s of guest %u gfn %#llx",
			g->p->account.owner, LLU(gfn), p2m_state_name(entry_state(e)), LLU(payload),
			found ? "that is" : "nobody's, last", found ? owner : 0u,
			found ? LLU(owner_gfn) : 0);
}

/* Returns whether the table at `mfn` may be walked: it is this guest's, of this place. */
static bool check_table(struct guest_audit *g, uint64_t mfn, uint64_t gfn, uint32_t level)
{
	const struct frame *f = frame_of(MFN(mfn));
	uint16_t owner = g->p->account.owner;

	if (f && f->state == FRAME_TABLE && f->owner == owner && f->u.table.level == level &&
		f->u.table.block == (uint32_t)(gfn >> 9)) {
		g->tables++;
		return true;
	}
	problem(g->a, "guest %u gfn %#llx: table %llx of level %u is %s of guest %u level %u",
		owner, LLU(gfn), LLU(mfn), level, f ? frame_state_name(f->state) : "no frame",
		f ? f->owner : 0u, f ? f->u.table.level : 0u);
	return false;
}

static void walk_table(struct guest_audit *g, uint64_t mfn, uint64_t first, uint32_t level)
{
	const uint64_t *t = mfn_to_va(MFN(mfn));
	const struct frame *f = frame_of(MFN(mfn));
	uint64_t order = level_order(level), in_order = 0;

	for (uint32_t i = 0; i < TABLE_ENTRIES; i++) {
		uint64_t e = t[i], gfn = first + ((uint64_t)i << order);
		uint64_t end = g->p->gfn_count > gfn ? g->p->gfn_count - gfn : 0;
		uint64_t pages = MIN(end, 1ull << order);

		if (pages == 0) {
			if (e)
				problem(g->a, "guest %u gfn %#llx is beyond its memory: %#llx",
					g->p->account.owner, LLU(gfn), LLU(e));
			continue;
		}
		if (entry_is_table(e, level)) {
			if (check_table(g, entry_mfn(e).v, gfn, level - 1))
				walk_table(g, entry_mfn(e).v, gfn, level - 1);
			continue;
		}
		g->a->out->gfns_checked += pages;
		if (entry_state(e) < P2M_STATE_COUNT)
			g->pages[entry_state(e)] += pages;
		if (entry_present(e)) {
			check_leaf(g, gfn, e, level);
			in_order += entry_state(e) == P2M_RAM && entry_mfn(e).v == f->link + i;
		} else if (level == 1 && entry_is_out(e)) {
			check_out(g, gfn, e);
		} else if (e != ENTRY(P2M_EMPTY) && e != ENTRY(P2M_BALLOONED)) {
			problem(g->a, "guest %u gfn %#llx: bad entry %#llx", g->p->account.owner,
				LLU(gfn), LLU(e));
		}
	}
	if (level == 1 && f->u.table.in_order > in_order)
		problem(g->a, "guest %u table %llx: %u pages in order, found %llu",
			g->p->account.owner, LLU(mfn), f->u.table.in_order, LLU(in_order));
}

static void expect_guest(struct guest_audit *g, const char *what, uint64_t counted, uint64_t found)
{
	if (counted != found)
		problem(g->a, "guest %u, %s: counted %llu, found %llu", g->p->account.owner, what,
			LLU(counted), LLU(found));
}

static void audit_guest(struct audit *a, const struct p2m *p)
{
	struct guest_audit g = { .a = a, .p = p };
	const struct frame_account *acc = &p->account;
	uint64_t all = 0;

	if (p->gfn_count == 0)
		return; /* destroyed */
	if (check_table(&g, p->slat.root.v, 0, SLAT_LEVELS))
		walk_table(&g, p->slat.root.v, 0, SLAT_LEVELS);
	for (enum p2m_state s = P2M_NONE; s < P2M_STATE_COUNT; s++) {
		expect_guest(&g, p2m_state_name(s), p->pages[s], g.pages[s]);
		all += g.pages[s];
	}
	expect_guest(&g, "pages of memory", p->gfn_count, all);
	expect_guest(&g, "pages in 2 MiB leaves", p->pages_in_2m, g.pages_in_2m);
	expect_guest(&g, "zero-mapped pages", p->zero_mapped, g.zero_mapped);
	expect_guest(&g, "pinned pages", p->pinned, g.pinned);
	expect_guest(&g, "tables", p->table_count, g.tables);
	expect_guest(&g, "pages on its own disk", p->on_own_disk, g.on_own_disk);
	expect_guest(&g, "frames charged", acc->used_pages,
		g.pages[P2M_RAM] + g.pages[P2M_IN_FLIGHT] + g.tables);
	a->tables += g.tables;
	a->zero_mappings += g.zero_mapped;
	a->used += acc->used_pages;
	a->min_total += acc->min_pages;
	if (acc->min_pages > acc->used_pages)
		a->owed += (int64_t)(acc->min_pages - acc->used_pages);
}

static void check_pool(struct audit *a)
{
	const struct frame_pool *p = &frame_pool;
	const struct frame *zero = frame_of(p->zero);

	expect(a, "guests' pages (private frames)", a->by_state[FRAME_PRIVATE], a->private_pages);
	expect(a, "table frames", a->by_state[FRAME_TABLE], a->tables);
	expect(a, "frames of the compressed store", zstore_frames(), a->by_state[FRAME_ZPOOL]);
	expect(a, "shared frames charged", p->shared.used_pages,
		a->by_state[FRAME_SHARED] - !mfn_is_none(p->zero));
	expect(a, "references to shared frames", a->shared_refs, a->shared_leaves);
	if (a->shared_refs_sum != a->shared_leaves_sum)
		problem(a, "references to shared frames: they are not the frames that are mapped");
	expect(a, "pool used", p->used, a->used + zstore_frames() + p->shared.used_pages);
	expect(a, "sum of mins", p->min_total, a->min_total);
	if (p->headroom != (int64_t)(p->limit - p->used) - a->owed)
		problem(a, "pool headroom: counted %lld, found %lld", (long long)p->headroom,
			(long long)(p->limit - p->used) - (long long)a->owed);
	if (p->used > p->limit)
		problem(a, "pool: %llu used of %llu", LLU(p->used), LLU(p->limit));
	if (a->by_state[FRAME_FREE] + a->by_state[FRAME_DIRTY] < p->limit - p->used)
		problem(a, "pool: %llu owed, %llu free", LLU(p->limit - p->used),
			LLU(a->by_state[FRAME_FREE] + a->by_state[FRAME_DIRTY]));
	if (!zero)
		return;
	if (zero->state != FRAME_SHARED || !page_is_zero(p->zero.v - frame_table.base))
		problem(a, "the zero frame is %s, or not zero", frame_state_name(zero->state));
	expect(a, "references to the zero frame", zero->u.refs, a->zero_mappings);
}

/* No slot and no object is owned twice: each names its page, and there are as many as pages. */
static void check_stores(struct audit *a)
{
	struct zstore_counts z;
	struct swap_counts s;
	struct alias_counts d;
	const char *why = alias_check();

	zstore_counts(&z);
	swap_counts(&s);
	alias_counts(&d);
	expect(a, "compressed pages", z.use.objects, a->compressed);
	expect(a, "swapped pages", s.used, a->swapped);
	expect(a, "pages on their guests' own disks", d.used, a->dropped);
	if (why)
		problem(a, "blocks of guests' disks: %s", why);
}

static void zstore_problem(void *ctx, const char *what, uint64_t counted, uint64_t found)
{
	expect(ctx, what, counted, found);
}

void audit_run(struct p2m *(*p2m_at)(void *ctx, uint32_t i), void *ctx, bool check_zero,
	struct audit_report *out)
{
	struct audit a = { .out = out, .check_zero = check_zero };
	struct p2m *p;

	*out = (struct audit_report){ 0 };
	for (uint32_t i = 0; (p = p2m_at(ctx, i)) != NULL; i++) {
		spin_lock(&p->lock);
		audit_guest(&a, p);
		spin_unlock(&p->lock);
	}
	check_stores(&a);
	zstore_audit(zstore_problem, &a);
	const char *hints = share_check();

	if (hints)
		problem(&a, "hints of equal pages: %s", hints);
	frame_lock_all();
	walk_frames(&a);
	walk_lists(&a);
	check_pool(&a);
	frame_unlock_all();
}
