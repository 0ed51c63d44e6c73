/* The auditor must find each kind of damage: make it, ask, undo it. */
#include "mm/frame_pool.h"
#include "mm/p2m_walk.h"
#include "tests/fake/audit.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

static struct p2m a, b;
static struct p2m *both[] = { &a, &b };

/* Pages 63 and 66 of b as one SHARED frame, by hand. Their table has no order to lose. */
static void share_two(void)
{
	uint64_t *first = p2m_walk(&b, GFN(63)).entry, *second = p2m_walk(&b, GFN(66)).entry;
	mfn_t mfn = entry_mfn(*first);

	frame_free(&b.account, entry_mfn(*second), 0);
	assert_int_equal(frame_share_make(&b.account, mfn, 2), OK);
	frame_share_get(mfn);
	*first = *second = mfn_to_hpa(mfn).v | slat_format->leaf_4k | LEAF(P2M_SHARED);
	b.pages[P2M_RAM] -= 2;
	b.pages[P2M_SHARED] += 2;
	frame_of(p2m_walk(&b, GFN(63)).table)->u.table.in_order = 0;
}

/* Two guests with RAM, a 2 MiB leaf, zero mappings, a balloon, a pin and two equal pages; free frames of both
 * kinds. */
static int setup(void **state)
{
	struct frame_batch batch;
	void *va;
	mfn_t hv;

	(void)state;
	fake_machine(4096);
	assert_int_equal(frame_pool_init(UINT64_MAX, 100, 16), OK);
	frame_scrub(3000);
	assert_int_equal(frame_alloc(NULL, FRAME_HV, 0, GFN(0), MFN_NONE, 0, &hv), OK);
	assert_int_equal(p2m_create(&a, 1, 2048, 100, NULL), OK);
	assert_int_equal(p2m_create(&b, 2, 1000, 900, NULL), OK);
	for (uint64_t i = 0; i < 600; i++)
		assert_int_equal(p2m_fault(&a, gfn_to_gpa(GFN(i)), P2M_WRITE), P2M_FAULT_MAPPED);
	for (uint64_t i = 0; i < 50; i++) {
		assert_int_equal(
			p2m_fault(&b, gfn_to_gpa(GFN(i * 3)), P2M_WRITE), P2M_FAULT_MAPPED);
		assert_int_equal(
			p2m_fault(&b, gfn_to_gpa(GFN(300 + i)), P2M_READ), P2M_FAULT_MAPPED);
	}
	p2m_batch_begin(&b, &batch);
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(p2m_inflate(&b, GFN(i), 0, &batch), OK);
	p2m_batch_finish(&b, &batch);
	assert_int_equal(p2m_pin(&b, GFN(21), &va), OK);
	share_two();
	return 0;
}

static void finds(const char *text)
{
	if (fake_audit_problems(both, 2) && fake_audit_said(text))
		return;
	for (uint32_t i = 0; i < AUDIT_MESSAGE_MAX && i < fake_audit_report.problems; i++)
		print_message("audit: %s\n", fake_audit_report.message[i]);
	fail_msg("not found: %s", text);
}

static void clean(void)
{
	fake_audit_clean(both, 2);
}

/* Sets an lvalue, expects a message with `text`, sets it back, expects none. */
#define DAMAGE(lvalue, value, text)                                                                \
	do {                                                                                       \
		__typeof__(lvalue) *at_ = &(lvalue), was_ = *at_;                                  \
		*at_ = (value);                                                                    \
		finds(text);                                                                       \
		*at_ = was_;                                                                       \
		clean();                                                                           \
	} while (0)

static struct frame *frame_in(enum frame_state s, bool head)
{
	for (uint64_t i = 0; i < frame_table.count; i++) {
		struct frame *f = &frame_table.array[i];

		if (f->state == s && (!frame_state_is_free(s) || head == (f->u.free.head != 0)))
			return f;
	}
	fail_msg("no frame is %s", frame_state_name(s));
	return NULL;
}

static uint64_t *entry(struct p2m *p, uint64_t gfn)
{
	return p2m_walk(p, GFN(gfn)).entry;
}

static void sound(void **state)
{
	(void)state;
	clean();
	assert_int_equal(fake_audit_report.frames_checked, 4096);
	assert_int_equal(fake_audit_report.gfns_checked, 3048);
}

static void frame_states(void **state)
{
	(void)state;
	DAMAGE(frame_in(FRAME_PRIVATE, false)->state, FRAME_HV, "private");
	DAMAGE(frame_in(FRAME_TABLE, false)->state, FRAME_PRIVATE, "table");
	DAMAGE(frame_in(FRAME_HV, false)->state, 77, "state 77");
	DAMAGE(frame_in(FRAME_FREE, false)->state, FRAME_DIRTY, "inside a");
	DAMAGE(frame_in(FRAME_FREE, false)->state, FRAME_PRIVATE, "inside a");
	DAMAGE(frame_in(FRAME_HV, false)->state, FRAME_SHARED, "shared frames charged");
	DAMAGE(frame_in(FRAME_HV, false)->state, FRAME_FREE, "in no block");
	DAMAGE(frame_of(frame_zero_mfn())->state, FRAME_HV, "zero frame");
	DAMAGE(frame_pool.by_state[FRAME_HV], 7, "hv frames");
}

static void free_lists(void **state)
{
	struct buddy *b_ = &frame_pool.buddy;
	uint32_t order = (uint32_t)__builtin_ctz(b_->mask[BUDDY_CLEAN]);

	(void)state;
	DAMAGE(frame_in(FRAME_FREE, true)->order, 12, "order 12");
	DAMAGE(frame_in(FRAME_FREE, true)->u.free.head, 0, "in no block");
	DAMAGE(frame_in(FRAME_FREE, false)->u.free.head, 1, "looks like a head");
	DAMAGE(frame_in(FRAME_FREE, true)->u.free.prev, 3, "broken");
	DAMAGE(frame_in(FRAME_DIRTY, true)->link, 99999, "broken");
	DAMAGE(frame_in(FRAME_DIRTY, true)->owner, 4, "has owner 4");
	DAMAGE(b_->head[BUDDY_CLEAN][order], BUDDY_NONE, "listed 0");
	DAMAGE(b_->blocks[BUDDY_CLEAN][order], 0, "broken");
	DAMAGE(b_->mask[BUDDY_CLEAN], 0, "mask");
	DAMAGE(b_->pages[BUDDY_DIRTY], 1, "dirty pages");
	DAMAGE(b_->pages[BUDDY_CLEAN], 1, "clean pages");
}

static void free_means_zero(void **state)
{
	uint64_t *page = mfn_to_va(MFN(
		frame_table.base + (uint64_t)(frame_in(FRAME_FREE, false) - frame_table.array)));
	uint64_t *zero = mfn_to_va(frame_zero_mfn());

	(void)state;
	DAMAGE(page[511], 1, "free and not zero");
	DAMAGE(zero[3], 1, "zero frame");
}

static void mappings(void **state)
{
	uint64_t *ram = entry(&a, 550), *other = entry(&a, 551), *leaf = entry(&a, 5);
	uint64_t *empty = entry(&b, 400), *zero = entry(&b, 310), *pinned = entry(&b, 21);
	uint64_t *foreign = entry(&b, 60);

	(void)state;
	assert_int_equal(p2m_walk(&a, GFN(5)).level, 2);
	DAMAGE(*ram, ENTRY(P2M_EMPTY), "private frames");
	DAMAGE(*ram, *other, "maps frame");
	DAMAGE(*ram, *foreign, "maps frame");
	DAMAGE(*ram, *ram + (1ull << 40), "no frame");
	DAMAGE(*leaf, ENTRY(P2M_BALLOONED), "private frames");
	DAMAGE(*leaf, *leaf + (2ull << 20), "maps frame");
	DAMAGE(*empty, *ram, "maps frame");
	DAMAGE(*empty, ENTRY(P2M_IN_FLIGHT), "maps frame");
	DAMAGE(*empty, ENTRY(P2M_COMPRESSED) | 5ull << 12, "nobody's");
	DAMAGE(*empty, ENTRY(P2M_SWAPPED) | 5ull << 12, "nobody's");
	DAMAGE(*empty, ENTRY(P2M_EMPTY) | 1ull << 20, "bad entry");
	DAMAGE(*zero, *zero | slat_format->write, "bad entry");
	DAMAGE(*zero, ENTRY(P2M_EMPTY), "zero frame");
	DAMAGE(*pinned, *pinned & ~LEAF_PINNED, "pinned");
	DAMAGE(frame_of(entry_mfn(*ram))->u.gfn, 9, "maps frame");
	DAMAGE(frame_of(entry_mfn(*ram))->owner, 9, "maps frame");
	DAMAGE(frame_of(frame_zero_mfn())->u.refs, 1, "references");
	DAMAGE(*entry(&b, 999), *entry(&b, 998) ^ 1ull << 8, "bad entry");
	DAMAGE(entry(&b, 999)[1], ENTRY(P2M_EMPTY), "beyond");
}

static void shared_frames(void **state)
{
	uint64_t *first = entry(&b, 63), *ram = entry(&b, 60);
	struct frame *f = frame_of(entry_mfn(*first));

	(void)state;
	DAMAGE(f->u.shared.refs, 1, "references to shared frames");
	DAMAGE(f->u.shared.refs, 0, "0 references");
	DAMAGE(f->owner, 2, "of guest 2");
	DAMAGE(f->state, FRAME_PRIVATE, "shared entry");
	DAMAGE(*first, *first | slat_format->write, "shared entry");
	DAMAGE(*first, *first | LEAF_PINNED, "shared entry");
	DAMAGE(*first, mfn_to_hpa(frame_zero_mfn()).v | slat_format->leaf_4k | LEAF(P2M_SHARED), "shared entry");
	DAMAGE(*first, mfn_to_hpa(entry_mfn(*ram)).v | slat_format->leaf_4k | LEAF(P2M_SHARED), "shared entry");
	DAMAGE(*first, ENTRY(P2M_EMPTY), "references to shared frames");
	DAMAGE(frame_pool.shared.used_pages, 2, "shared frames charged");
	/* As many references as entries, but to another frame. */
	mfn_t mfn = entry_mfn(*ram);
	uint64_t was = *ram;

	assert_int_equal(frame_share_make(&b.account, mfn, 2), OK);
	*ram = mfn_to_hpa(mfn).v | slat_format->leaf_4k | LEAF(P2M_SHARED);
	b.pages[P2M_RAM]--;
	b.pages[P2M_SHARED]++;
	clean();
	f->u.shared.refs = 1;
	frame_of(mfn)->u.shared.refs = 2;
	finds("not the frames that are mapped");
	f->u.shared.refs = 2;
	frame_of(mfn)->u.shared.refs = 1;
	assert_int_equal(frame_share_take(&b.account, mfn, GFN(60), 0), OK);
	*ram = was;
	b.pages[P2M_RAM]++;
	b.pages[P2M_SHARED]--;
	clean();
}

static void tables(void **state)
{
	struct p2m_slot above = p2m_walk_to(&b, GFN(0), 2), l1 = p2m_walk(&b, GFN(0));
	struct p2m_slot other = p2m_walk(&a, GFN(550));
	uint64_t *root = (uint64_t *)mfn_to_va(b.slat.root);

	(void)state;
	DAMAGE(*above.entry, mfn_to_hpa(other.table).v | slat_format->table, "is table of guest 1");
	DAMAGE(*above.entry, mfn_to_hpa(MFN(3)).v | slat_format->table, "no frame");
	DAMAGE(above.entry[1], *above.entry, "table");
	DAMAGE(*root, mfn_to_hpa(b.slat.root).v | slat_format->table,
		"table"); /* no endless walk */
	DAMAGE(frame_of(l1.table)->u.table.in_order, 512, "in order");
	DAMAGE(frame_of(l1.table)->u.table.level, 2, "level");
	DAMAGE(frame_of(l1.table)->owner, 1, "of guest 1");
}

static void counters(void **state)
{
	(void)state;
	DAMAGE(a.pages[P2M_RAM], 1, "ram");
	DAMAGE(b.pages[P2M_BALLOONED], 1, "ballooned");
	DAMAGE(b.pages[P2M_EMPTY], 1, "empty");
	DAMAGE(a.pages_in_2m, 0, "2 MiB");
	DAMAGE(b.zero_mapped, 0, "zero-mapped");
	DAMAGE(b.pinned, 0, "pinned");
	DAMAGE(b.table_count, 0, "tables");
	DAMAGE(b.account.used_pages, 1, "charged");
	DAMAGE(b.account.min_pages, 1, "mins");
	DAMAGE(frame_pool.used, 1, "pool used");
	DAMAGE(frame_pool.headroom, 1, "headroom");
	DAMAGE(frame_pool.limit, 1, "pool: ");
	DAMAGE(frame_pool.limit, 100000, "owed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound),
		cmocka_unit_test(frame_states),
		cmocka_unit_test(free_lists),
		cmocka_unit_test(free_means_zero),
		cmocka_unit_test(mappings),
		cmocka_unit_test(shared_frames),
		cmocka_unit_test(tables),
		cmocka_unit_test(counters),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
