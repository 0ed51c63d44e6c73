/*
 * Over a million random operations on guests that share one pool, against a model so simple that it
 * is right: an array of states and stamps a guest. What a guest reads is compared through the
 * tables as a processor would walk them. With both formats of the second level.
 */
#include "mm/frame_pool.h"
#include "tests/fake/audit.h"
#include "tests/fake/cpu.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

#define GUESTS      3u
#define CPUS        4u /* played in turn: each has frames ahead of its own */
#define PAGES_MAX   4096u
#define EMERGENCY   32u
#define STEPS       300000u /* a run */
#define AUDIT_EVERY 10000u

struct model {
	struct p2m p2m;
	bool open;
	uint64_t pages, min;
	uint8_t state[PAGES_MAX];
	bool pinned[PAGES_MAX];
	uint64_t stamp[PAGES_MAX]; /* first word of the page, 0 if never written */
	uint32_t pins;
};

static struct model models[GUESTS];
static struct p2m *open_list[GUESTS];
static uint64_t seed, denied, joined, split, blocks, waited;

static const uint64_t sizes[GUESTS] = { 4096, 3000, 1537 };

static uint64_t rnd(uint64_t below)
{
	return test_random(&seed) % below;
}

/* Phases: memory becomes short while guests grow, plenty while they shrink. */
static bool shrinking;

/* Frames taken out in the batch that is open: still theirs until the flush. */
static mfn_t pending[16 * 512];
static uint32_t pending_count;

static void on_flush(struct slat_space *s)
{
	(void)s;
	for (uint32_t i = 0; i < pending_count; i++)
		assert_int_equal(frame_of(pending[i])->state, FRAME_PRIVATE);
}

static uint32_t open_guests(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < GUESTS; i++)
		if (models[i].open)
			open_list[n++] = &models[i].p2m;
	return n;
}

static void audit(void)
{
	fake_audit_clean(open_list, open_guests());
}

/* A refusal for lack of memory must be true. */
static void assert_scarce(const struct p2m *p)
{
	denied++;
	assert_true(frame_pool.headroom <= (int64_t)EMERGENCY + 4 ||
		    p->account.used_pages + 4 >= p->account.max_pages);
}

static void check_page(struct model *m, uint64_t gfn)
{
	struct p2m_entry e;
	const uint64_t *page;

	p2m_lookup(&m->p2m, GFN(gfn), &e);
	assert_int_equal(e.state, m->state[gfn]);
	assert_int_equal(e.pinned, m->pinned[gfn]);
	page = fake_guest_access(&m->p2m, gfn_to_gpa(GFN(gfn)), P2M_READ);
	if (m->state[gfn] == P2M_RAM) {
		assert_non_null(page);
		assert_int_equal(page[0], m->stamp[gfn]);
		assert_int_equal(page[511], m->stamp[gfn]);
	} else if (page) {
		assert_int_equal(m->state[gfn], P2M_EMPTY);
		assert_int_equal(page[0], 0);
		assert_null(fake_guest_access(&m->p2m, gfn_to_gpa(GFN(gfn)), P2M_WRITE));
	}
}

/* What is RAM now and was not: a frame of zeroes. */
static void became_ram(struct model *m, uint64_t first, uint64_t pages)
{
	for (uint64_t gfn = first; gfn < first + pages; gfn++) {
		const uint64_t *page = fake_guest_access(&m->p2m, gfn_to_gpa(GFN(gfn)), P2M_WRITE);

		if (m->state[gfn] == P2M_RAM)
			continue;
		assert_non_null(page);
		for (uint32_t i = 0; i < 512; i++)
			assert_int_equal(page[i], 0);
		m->state[gfn] = P2M_RAM;
		m->stamp[gfn] = 0;
	}
}

static bool touch(struct model *m, uint64_t gfn, uint32_t access)
{
	uint64_t in_2m = m->p2m.fault_2m;
	enum p2m_fault_result r =
		p2m_fault(&m->p2m, GPA(gfn << PAGE_SHIFT | rnd(PAGE_BYTES)), access);

	if (gfn >= m->pages) {
		assert_int_equal(r, P2M_FAULT_NOT_RAM);
		return false;
	}
	if (r == P2M_FAULT_WAIT) {
		if (!(access & P2M_GRACE))
			assert_scarce(&m->p2m);
		waited++;
		check_page(m, gfn);
		return false;
	}
	assert_int_equal(r, P2M_FAULT_MAPPED);
	if (access & P2M_WRITE) {
		if (m->p2m.fault_2m != in_2m)
			became_ram(m, ALIGN_DOWN(gfn, 512), 512);
		else
			became_ram(m, gfn, 1);
	} else if (m->state[gfn] == P2M_BALLOONED) {
		m->state[gfn] = P2M_EMPTY;
	}
	assert_non_null(fake_guest_access(&m->p2m, gfn_to_gpa(GFN(gfn)), access));
	return true;
}

static bool write_page(struct model *m, uint64_t gfn, uint32_t grace)
{
	uint64_t *page;

	if (!touch(m, gfn, P2M_WRITE | grace))
		return false;
	page = fake_guest_access(&m->p2m, gfn_to_gpa(GFN(gfn)), P2M_WRITE);
	assert_int_equal(page[0], m->stamp[gfn]);
	m->stamp[gfn] = page[0] = page[511] = test_random(&seed);
	return true;
}

static status_t expect_inflate(const struct model *m, uint64_t gfn, uint32_t order)
{
	if ((order != 0 && order != 9) || gfn & ((1ull << order) - 1) || gfn >= m->pages ||
		m->pages - gfn < 1ull << order)
		return ERR_RANGE;
	for (uint64_t i = gfn; i < gfn + (1ull << order); i++) {
		if (m->state[i] == P2M_BALLOONED)
			return ERR_EXIST;
		if (m->pinned[i])
			return ERR_BUSY;
	}
	return OK;
}

static status_t expect_deflate(const struct model *m, uint64_t gfn, uint32_t order)
{
	if ((order != 0 && order != 9) || gfn & ((1ull << order) - 1) || gfn >= m->pages ||
		m->pages - gfn < 1ull << order)
		return ERR_RANGE;
	for (uint64_t i = gfn; i < gfn + (1ull << order); i++)
		if (m->state[i] != P2M_BALLOONED)
			return ERR_NOENT;
	return OK;
}

static uint64_t pick_gfn(const struct model *m, uint32_t order)
{
	uint64_t gfn = rnd(64) ? rnd(m->pages) : test_random(&seed) >> rnd(64);

	return rnd(32) ? gfn & ~((1ull << order) - 1) : gfn;
}

static void note_pending(struct model *m, uint64_t gfn, uint32_t order)
{
	for (uint64_t i = gfn; i < gfn + (1ull << order); i++) {
		struct p2m_entry e;

		if (m->state[i] != P2M_RAM)
			continue;
		spin_unlock(&m->p2m.lock);
		p2m_lookup(&m->p2m, GFN(i), &e);
		spin_lock(&m->p2m.lock);
		pending[pending_count++] = e.mfn;
	}
}

static void balloon_batch(struct model *m)
{
	struct frame_batch batch;
	uint64_t flushes = fake_flush_count;
	bool inflate = rnd(10) < (shrinking ? 9u : 3u);
	uint32_t n = (uint32_t)rnd(15) + 1, order = rnd(3) ? 0 : rnd(16) ? 9 : (uint32_t)rnd(64);
	uint64_t gfn = pick_gfn(m, order & 31);

	p2m_batch_begin(&m->p2m, &batch);
	pending_count = 0;
	for (uint32_t i = 0; i < n;
		i++, gfn = rnd(2) ? gfn + (1ull << (order & 31)) : pick_gfn(m, order & 31)) {
		status_t want =
			inflate ? expect_inflate(m, gfn, order) : expect_deflate(m, gfn, order);
		status_t got;

		if (want == OK && inflate)
			note_pending(m, gfn, order);
		got = inflate ? p2m_inflate(&m->p2m, GFN(gfn), order, &batch)
			      : p2m_deflate(&m->p2m, GFN(gfn), order);
		if (got == ERR_NOMEM && want != ERR_RANGE) {
			assert_scarce(&m->p2m);
			break;
		}
		assert_int_equal(got, want);
		if (got != OK)
			continue;
		for (uint64_t j = gfn; j < gfn + (1ull << order); j++) {
			m->state[j] = inflate ? P2M_BALLOONED : P2M_EMPTY;
			m->stamp[j] = 0;
		}
	}
	if (pending_count)
		on_flush(NULL);
	bool unmapped = batch.pages;

	p2m_batch_finish(&m->p2m, &batch);
	if (unmapped)
		assert_int_equal(fake_flush_count, flushes + 1);
	pending_count = 0;
}

static void pin(struct model *m, uint64_t gfn)
{
	void *va = NULL;
	uint64_t in_2m = m->p2m.fault_2m;
	status_t s;

	if (gfn < m->pages && m->pinned[gfn]) {
		assert_int_equal(p2m_pin(&m->p2m, GFN(gfn), &va), ERR_EXIST);
		p2m_unpin(&m->p2m, GFN(gfn));
		m->pinned[gfn] = false;
		m->pins--;
		return;
	}
	if (m->pins > 4)
		return;
	s = p2m_pin(&m->p2m, GFN(gfn), &va);
	if (gfn >= m->pages) {
		assert_int_equal(s, ERR_RANGE);
		return;
	}
	if (m->p2m.fault_2m != in_2m)
		became_ram(m, ALIGN_DOWN(gfn, 512), 512);
	else if (s == OK)
		became_ram(m, gfn, 1);
	if (s == ERR_NOMEM) {
		struct p2m_entry e;

		assert_scarce(&m->p2m);
		p2m_lookup(&m->p2m, GFN(gfn), &e); /* may have been populated, and then not split */
		if (e.state == P2M_RAM)
			became_ram(m, gfn, 1);
		return;
	}
	assert_int_equal(s, OK);
	assert_int_equal(*(uint64_t *)va, m->stamp[gfn]);
	m->pinned[gfn] = true;
	m->pins++;
}

/* Bytes over a page's edge, through the hypervisor's own copies. */
static void copies(struct model *m, uint64_t gfn)
{
	uint64_t words[1024], in_2m = m->p2m.fault_2m;
	gpa_t gpa = gfn_to_gpa(GFN(gfn));
	bool inside = gfn < m->pages && m->pages - gfn >= 2;
	status_t s = p2m_copy_from(&m->p2m, gpa, words, sizeof(words));

	if (gfn > UINT64_MAX >> PAGE_SHIFT)
		return;
	if (!inside) {
		assert_int_equal(s, ERR_RANGE);
		assert_int_equal(p2m_copy_to(&m->p2m, gpa, words, sizeof(words)), ERR_RANGE);
		return;
	}
	for (uint64_t i = gfn; i < gfn + 2; i++) {
		struct p2m_entry e;

		p2m_lookup(&m->p2m, GFN(i), &e);
		if (e.state == P2M_EMPTY)
			m->state[i] = P2M_EMPTY; /* it left the balloon */
		if (s != OK)
			continue;
		assert_int_equal(words[(i - gfn) * 512], m->stamp[i]);
		assert_int_equal(words[(i - gfn) * 512 + 511], m->stamp[i]);
	}
	if (s != OK) {
		assert_scarce(&m->p2m);
		return;
	}
	if (m->state[gfn] != P2M_RAM || m->state[gfn + 1] != P2M_RAM || m->p2m.fault_2m != in_2m)
		return; /* written through copies only where it stays simple */
	for (uint32_t i = 0; i < 1024; i++)
		words[i] = 0x0123456789abcdefull + i / 512;
	assert_int_equal(p2m_copy_to(&m->p2m, gpa, words, sizeof(words)), OK);
	m->stamp[gfn] = words[0];
	m->stamp[gfn + 1] = words[512];
}

/* A 2 MiB block goes to the balloon and comes back whole, EMPTY: then it may become one leaf. */
static void renew(struct model *m, uint64_t gfn)
{
	struct frame_batch batch;
	status_t s = OK;

	gfn = ALIGN_DOWN(gfn, 512);
	p2m_batch_begin(&m->p2m, &batch);
	for (uint64_t i = gfn; i < gfn + 512 && i < m->pages && s == OK; i++)
		if (m->state[i] == P2M_BALLOONED && expect_inflate(m, gfn, 9) == ERR_EXIST) {
			s = p2m_deflate(&m->p2m, GFN(i), 0);
			m->state[i] = s == OK ? P2M_EMPTY : m->state[i];
		}
	if (s == OK && expect_inflate(m, gfn, 9) == OK &&
		p2m_inflate(&m->p2m, GFN(gfn), 9, &batch) == OK) {
		assert_int_equal(p2m_deflate(&m->p2m, GFN(gfn), 9), OK);
		memset(&m->state[gfn], P2M_EMPTY, 512);
		memset(&m->stamp[gfn], 0, 512 * sizeof(m->stamp[0]));
	}
	p2m_batch_finish(&m->p2m, &batch);
}

static void split_or_join(struct model *m, uint64_t gfn)
{
	struct p2m_entry before, after;
	status_t s;

	p2m_lookup(&m->p2m, GFN(gfn), &before);
	s = rnd(2) ? p2m_split(&m->p2m, GFN(gfn)) : p2m_join(&m->p2m, GFN(gfn));
	if (gfn >= m->pages)
		assert_int_equal(s, ERR_RANGE);
	p2m_lookup(&m->p2m, GFN(gfn), &after);
	assert_true(mfn_eq(before.mfn, after.mfn));
	assert_int_equal(before.state, after.state);
}

static void open_guest(struct model *m, uint32_t i)
{
	status_t s;

	*m = (struct model){ .pages = sizes[i], .min = 300 * (i + 1) };
	s = p2m_create(&m->p2m, (uint16_t)(i + 1), m->pages, m->min, NULL);
	if (s == ERR_NOMEM)
		return;
	assert_int_equal(s, OK);
	m->open = true;
	m->p2m.populate_2m = rnd(2);
	frame_account_set_max(&m->p2m.account, rnd(2) ? UINT64_MAX : m->pages * 3 / 4);
	for (uint64_t g = 0; g < m->pages; g++)
		m->state[g] = P2M_EMPTY;
}

static void close_guest(struct model *m)
{
	blocks += m->p2m.fault_2m;
	joined += m->p2m.join_2m;
	split += m->p2m.split_2m;
	p2m_destroy(&m->p2m);
	m->open = false;
}

static uint32_t step(void)
{
	uint32_t i = (uint32_t)rnd(GUESTS), n = 1;
	struct model *m = &models[i];
	uint64_t what = rnd(1000);

	if (rnd(1500) == 0)
		shrinking = !shrinking;
	if (shrinking && what < 290)
		what += 500;
	if (!m->open) {
		open_guest(m, i);
		return 1;
	}
	uint64_t gfn = pick_gfn(m, 0);

	if (what < 300) {
		write_page(m, gfn, 0);
	} else if (what < 320) { /* a run: what joins */
		n = (uint32_t)rnd(1100);
		gfn = rnd(4) ? ALIGN_DOWN(gfn, 512) : gfn;
		for (uint32_t j = 0; j < n; j++)
			if (!write_page(m, gfn + j, 0))
				return j / 8 + 1;
	} else if (what < 480 || (what < 500 && shrinking)) {
		touch(m, gfn, rnd(2) ? P2M_READ : P2M_EXEC);
	} else if (what < 500) {
		gfn = ALIGN_DOWN(gfn, 512);
		renew(m, gfn);
		for (n = 0; n < 512; n++)
			if (!write_page(m, gfn + n, 0))
				break;
		if (rnd(2))
			split_or_join(m, gfn);
	} else if (what < 800) {
		balloon_batch(m);
	} else if (what < 830) {
		pin(m, gfn);
	} else if (what < 900) {
		copies(m, gfn);
	} else if (what < 940) {
		split_or_join(m, gfn);
	} else if (what < 960) {
		frame_scrub(rnd(4) ? rnd(600) : UINT64_MAX);
	} else if (what < 961) {
		p2m_deflate_all(&m->p2m);
		for (uint64_t g = 0; g < m->pages; g++)
			if (m->state[g] == P2M_BALLOONED)
				m->state[g] = P2M_EMPTY;
	} else if (what < 980) {
		write_page(m, gfn, frame_pool_free() > 8 ? P2M_GRACE : 0);
	} else if (what < 983) {
		close_guest(m);
	} else if (gfn < m->pages) {
		check_page(m, gfn);
	}
	return n / 8 + 1;
}

static void run(const struct slat_format *format, uint64_t pool, uint64_t first_seed)
{
	uint64_t steps = 0, next_audit = 0;

	slat_format = format;
	seed = first_seed;
	denied = joined = split = blocks = waited = 0;
	memset(models, 0, sizeof(models));
	fake_machine(pool + 200);
	assert_int_equal(frame_pool_init(pool, 100, EMERGENCY), OK);
	fake_flush_hook = on_flush;
	while (steps < STEPS) {
		fake_cpu_index = rnd(8) ? fake_cpu_index : (uint32_t)rnd(CPUS);
		steps += step();
		if (steps < next_audit)
			continue;
		next_audit = steps + AUDIT_EVERY;
		audit();
		for (uint32_t i = 0; i < GUESTS; i++)
			for (uint64_t g = 0; models[i].open && g < models[i].pages; g++)
				check_page(&models[i], g);
	}
	for (uint32_t i = 0; i < GUESTS; i++)
		if (models[i].open)
			close_guest(&models[i]);
	fake_audit_clean(NULL, 0);
	fake_flush_hook = NULL;
	assert_int_equal(frame_pool_free(), pool);
	print_message(
		"%s, %llu pages: %llu joins, %llu splits, %llu blocks, %llu waits, %llu denied\n",
		format->name, (unsigned long long)pool, (unsigned long long)joined,
		(unsigned long long)split, (unsigned long long)blocks, (unsigned long long)waited,
		(unsigned long long)denied);
}

#define SCARCE 5000u /* the guests have 8633 pages */
#define PLENTY 12000u

static void scarce(void **state)
{
	(void)state;
	run(&fake_ept, SCARCE, 1);
	assert_true(waited > 100 && denied > 100);
	run(&fake_npt, SCARCE, 2);
	assert_true(waited > 100 && denied > 100);
}

static void plenty(void **state)
{
	(void)state;
	run(&fake_ept, PLENTY, 3);
	assert_true(joined + blocks > 5 && split > 5);
	run(&fake_npt, PLENTY, 4);
	assert_true(joined + blocks > 5 && split > 5);
	run(&fake_npt_no_exec, PLENTY, 5);
	assert_true(joined + blocks > 5 && split > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scarce),
		cmocka_unit_test(plenty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
