/*
 * The ladder under the scheduler: guests whose pages are in swap or in the compressed store, on the fake machine
 * with its slow disk. Everybody gets on, and no bound is passed.
 */
#include "tests/unit/unit.h"

#include "mm/compress.h"
#include "mm/evict.h"
#include "mm/swap.h"
#include "mm/zstore.h"
#include "tests/fake/hv.h"
#include "vmm/base/directmap.h"
#include "vmm/block.h"
#include "vmm/ladder.h"
#include "vmm/memwait.h"
#include "vmm/sched.h"

#include <sys/wait.h>
#include <unistd.h>

#define POOL    8192u /* 32 MiB */
#define THRASH  28u   /* guests: more than swap has buffers */
#define PAGES   48u   /* of each that it walks through, one group of swap after the other */
#define FIRST   256u  /* the first of them */

static struct guest *guests[THRASH];
static uint32_t at[65536]; /* by id: the page that a guest reads next */

static void content(uint16_t id, uint64_t gfn, uint64_t *page)
{
	uint64_t seed = (uint64_t)id << 32 | (gfn + 1);

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		page[i] = test_random(&seed);
}

static struct p2m *p2m_of(struct fake_vcpu *v)
{
	return container_of(v->virt.slat, struct p2m, slat);
}

/* Reads its pages one after the other; each has what it wrote. */
static enum virt_exit_kind read_on(struct fake_vcpu *v, uint64_t deadline)
{
	uint16_t id = (uint16_t)v->virt.guest_id;
	uint64_t want[PAGE_BYTES / 8];

	while (at[id] < PAGES) {
		uint64_t gfn = FIRST + at[id];
		void *page = fake_guest_access(p2m_of(v), gfn_to_gpa(GFN(gfn)), P2M_READ);

		if (!page)
			return fake_virt_fault(v, gfn << PAGE_SHIFT, P2M_READ);
		content(id, gfn, want);
		assert_memory_equal(page, want, PAGE_BYTES);
		at[id]++;
	}
	(void)deadline;
	return VIRT_EXIT_HALT;
}

/* By the lowest rung, at once: the neighbours lie side by side. */
static void swap_out(struct guest *g, uint64_t first, uint32_t count)
{
	struct evict_page held[EVICT_WINDOW];
	uint32_t n;

	for (uint64_t gfn = first; gfn < first + count; gfn += EVICT_WINDOW) {
		assert_int_equal(p2m_hold(&g->p2m, GFN(gfn), EVICT_WINDOW, held, &n), EVICT_PAGES);
		for (uint32_t i = 0; i < n; i++) {
			while (swap_put(mfn_to_va(held[i].mfn), g->id, held[i].gfn.v, &held[i].payload) == ERR_BUSY)
				(void)platform_disk_poll();
			held[i].to = P2M_SWAPPED;
		}
		assert_int_equal(p2m_settle(&g->p2m, held, n), n);
	}
}

/* Buffers hold others' pages now. */
static void wash_buffers(void)
{
	static uint64_t page[PAGE_BYTES / 8];
	uint64_t slot[(SWAP_BUFFERS + 1) * SWAP_GROUP];

	for (uint32_t i = 0; i < ARRAY_COUNT(slot); i++)
		while (swap_put(page, 1, 0, &slot[i]) == ERR_BUSY)
			(void)platform_disk_poll();
	while (platform_disk_poll())
		;
	for (uint32_t i = 0; i < ARRAY_COUNT(slot); i++)
		swap_free(slot[i]);
}

static struct guest *with_pages_in_swap(const char *name, uint64_t mib)
{
	struct config_guest c = fake_hv_config(name, mib);
	char error[CONFIG_ERROR_BYTES];
	struct guest *g;

	c.disk_bytes = PAGES * PAGE_BYTES;
	c.min_bytes = 0;
	assert_int_equal(guest_create(&c, &g, error), OK);
	for (uint64_t gfn = FIRST; gfn < FIRST + PAGES; gfn++)
		content(g->id, gfn, fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_WRITE));
	swap_out(g, FIRST, PAGES);
	at[g->id] = 0;
	return g;
}

static int start_with(uint64_t compressed_bytes)
{
	fake_hv_start(POOL);
	hv_config.swap_bytes = MIB(8);
	hv_config.compressed_bytes = compressed_bytes;
	block_init(&hv_config);
	if (compress_init(1) != OK)
		return 1;
	ladder_init(&hv_config);
	return !swap_is_on();
}

static int start(void **state)
{
	(void)state;
	return start_with(MIB(1));
}

static int start_uncompressed(void **state)
{
	(void)state;
	return start_with(0);
}

static int setup(void **state)
{
	(void)state;
	fake_tsc_step = 1;
	fake_virt_code = NULL;
	memset(guests, 0, sizeof(guests));
	return 0;
}

static int teardown(void **state)
{
	struct swap_counts n;

	(void)state;
	fake_virt_code = NULL;
	fake_disk_hold = 0;
	fake_hv_destroy_all();
	while (platform_disk_poll())
		;
	fake_tsc_step = 0;
	swap_counts(&n);
	assert_int_equal(n.used, 0);
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

static void passes(int n)
{
	while (n--)
		if (!sched_pass())
			fake_tsc += 5000; /* 50 us */
}

/* More wait for the disk than there are buffers: each gets what it asked for before its buffer is another's. */
static void everybody_gets_his_page(void **state)
{
	char name[8];
	uint32_t done = 0;

	(void)state;
	for (uint32_t i = 0; i < THRASH; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		guests[i] = with_pages_in_swap(name, 2);
	}
	wash_buffers();
	fake_virt_code = read_on;
	passes(20000);
	for (uint32_t i = 0; i < THRASH; i++)
		done += at[guests[i]->id] == PAGES;
	assert_int_equal(done, THRASH);
}

/* They end, are paused and go on, while pages of theirs are held, in buffers, or on their way from the disk. */
/*
 * Nothing runs and a guest waits for its page: somebody looks for it again and again, far more often than the control
 * plane's millisecond, and sleeps in between. There is no interrupt of the disk.
 */
static void an_idle_machine_looks_for_a_page_on_its_way(void **state)
{
	uint64_t worst = 0;
	uint32_t groups = 0;

	(void)state;
	struct guest *g = with_pages_in_swap("a", 2);

	wash_buffers();
	fake_virt_code = read_on;
	while (at[g->id] < PAGES) {
		uint32_t had = at[g->id], idle = fake_idle_count;

		fake_disk_hold = UINT32_MAX;
		for (uint64_t until = fake_tsc + 300 * 100; fake_tsc < until;) /* 300 us at 100 MHz */
			if (!sched_pass())
				sched_rest();
		if (had == at[g->id]) { /* it did wait */
			assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_WAIT_MEMORY);
			assert_in_range(fake_idle_count - idle, 4, 30);
			groups++;
		}
		uint64_t ready = fake_tsc;

		had = at[g->id];
		fake_disk_hold = 0;
		while (at[g->id] == had && at[g->id] < PAGES && fake_tsc < ready + 100000)
			if (!sched_pass())
				sched_rest();
		worst = MAX(worst, fake_tsc - ready);
	}
	assert_true(groups > 1);
	print_message("%u times, %llu ticks at most\n", groups, (unsigned long long)worst);
	assert_in_range(worst, 1, 150 * 100);
}

static void guests_die_while_their_pages_are_on_their_way(void **state)
{
	uint64_t seed = 42;
	char name[16];
	uint32_t read = 0;

	(void)state;
	for (uint32_t i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		guests[i] = with_pages_in_swap(name, 2);
	}
	wash_buffers();
	fake_virt_code = read_on;
	for (uint32_t i = 0; i < 1500; i++) {
		uint64_t r = test_random(&seed);
		struct guest **g = &guests[r >> 8 & 7]; /* the other four just go on */

		passes((int)(r >> 16 & 15));
		fake_disk_hold = r >> 24 & 7;
		for (uint32_t j = 0; j < 8; j++)
			ladder_set_limit(guests[j], r >> (32 + j) & 1 ? 128 : UINT64_MAX);
		(void)ladder_poll();
		switch (r & 7) {
		case 0:
			read += at[(*g)->id];
			guest_destroy(*g);
			snprintf(name, sizeof(name), "g%u", (uint32_t)(g - guests));
			*g = with_pages_in_swap(name, 2);
			break;
		case 1:
			if (guest_pause(*g) != OK)
				assert_int_equal(guest_unpause(*g), OK);
			break;
		case 2:
			fake_tsc += 500000;
			break;
		}
		if (i % 100 == 0)
			assert_int_equal(fake_hv_audit(), 0);
	}
	for (uint32_t i = 0; i < 12; i++)
		if (guests[i]->state == GUEST_PAUSED)
			assert_int_equal(guest_unpause(guests[i]), OK);
	passes(5000);
	for (uint32_t i = 0; i < 12; i++)
		assert_int_equal(at[guests[i]->id], PAGES);
	assert_true(read > 500);
}

/* Each writes its pages to its disk, from where they lie: read in place as long as that comes to an end. */
static enum virt_exit_kind write_out(struct fake_vcpu *v, uint64_t deadline)
{
	uint16_t id = (uint16_t)v->virt.guest_id;
	struct aero_block_req *r = v->user;

	(void)deadline;
	if (r && v->virt.gpr[VIRT_RAX] == 1) {
		assert_int_equal(r->status, 0);
		at[id]++;
		v->user = NULL;
	}
	if (at[id] == PAGES)
		return VIRT_EXIT_HALT;
	if (!v->user) {
		r = v->user = fake_guest_access(p2m_of(v), GPA((FIRST - 1) * PAGE_BYTES), P2M_WRITE);
		assert_non_null(r);
		*r = (struct aero_block_req){ .sector = at[id] * 8, .sectors = 8, .op = AERO_BLOCK_WRITE,
			.gpa = (FIRST + at[id]) << PAGE_SHIFT, .status = 77 };
	}
	return fake_virt_hypercall(v, AERO_HC_BLOCK_IO, (FIRST - 1) * PAGE_BYTES, 1, 0);
}

static void everybody_writes_out_what_is_in_swap(void **state)
{
	char name[8];
	uint32_t done = 0, in_place = 0;
	uint64_t want[PAGE_BYTES / 8];

	(void)state;
	for (uint32_t i = 0; i < THRASH; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		guests[i] = with_pages_in_swap(name, 2);
		(void)fake_hv_touch(guests[i], (FIRST - 1) * PAGE_BYTES, P2M_WRITE);
	}
	wash_buffers();
	fake_virt_code = write_out;
	passes(60000);
	for (uint32_t i = 0; i < THRASH; i++) {
		const struct guest *g = guests[i];

		done += at[g->id] == PAGES;
		in_place += g->p2m.pages[P2M_SWAPPED] > 0;
		for (uint32_t page = 0; page < PAGES && at[g->id] == PAGES; page++) {
			content(g->id, FIRST + page, want);
			assert_memory_equal(fake_disk_data(1) + g->disk.first_sector * 512 + page * PAGE_BYTES,
				want, PAGE_BYTES);
		}
	}
	assert_int_equal(done, THRASH);
	assert_true(in_place > 0);
}

/* A guest of `mib` with all pages of a kind. Nobody enters it. */
static struct guest *filled(const char *name, uint64_t mib, bool compresses)
{
	struct config_guest c = fake_hv_config(name, mib);
	char error[CONFIG_ERROR_BYTES];
	struct guest *g;

	c.disk_bytes = 0;
	c.min_bytes = 0;
	assert_int_equal(guest_create(&c, &g, error), OK);
	for (uint64_t gfn = FIRST; gfn < g->p2m.gfn_count; gfn++) {
		uint64_t *page = fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_WRITE);

		content(g->id, gfn, page);
		if (compresses)
			memset(page + 256, 0, PAGE_BYTES / 2);
	}
	return g;
}

static void ladder_runs(int polls)
{
	while (polls--) {
		(void)ladder_poll();
		(void)platform_disk_poll();
		fake_tsc += 100000; /* a millisecond */
	}
}

/* The store is asked to take what has to go in the worst of times; its bound holds all the same. */
static void the_store_keeps_its_bound(void **state)
{
	struct guest *g = filled("a", 8, true);

	(void)state;
	swap_set_on(false);
	ladder_set_limit(g, 200);
	ladder_runs(5000);
	assert_in_range(zstore_frames(), 200, 256 + 2 * RECLAIM_STEP);
	assert_string_equal(ladder_obstacle(g), "the compressed store is full, and swap is off");
	swap_set_on(true);
	ladder_runs(5000);
	assert_true(p2m_resident(&g->p2m) <= 200);
}

/* Swap and the store are full, and the guest is beyond its limit: what comes in makes room for what goes out. */
static void a_guest_goes_on_when_there_is_no_room_left(void **state)
{
	struct guest *g = filled("a", 16, false);
	uint64_t want[PAGE_BYTES / 8];
	struct swap_counts n;

	(void)state;
	ladder_set_limit(g, 200);
	ladder_runs(3000);
	swap_counts(&n);
	assert_int_equal(n.used, n.slots);
	assert_true(p2m_resident(&g->p2m) > 1000);
	for (uint64_t gfn = FIRST; gfn < g->p2m.gfn_count; gfn++) {
		enum p2m_fault_result r = P2M_FAULT_WAIT;

		for (uint32_t tries = 0; tries < 1000 && r != P2M_FAULT_MAPPED; tries++) {
			r = p2m_fault(&g->p2m, gfn_to_gpa(GFN(gfn)), P2M_READ);
			if (r != P2M_FAULT_MAPPED)
				ladder_runs(1);
		}
		assert_int_equal(r, P2M_FAULT_MAPPED);
		content(g->id, gfn, want);
		assert_memory_equal(fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_READ), want, PAGE_BYTES);
	}
	assert_true(p2m_resident(&g->p2m) < 1840);
}

static void p2m_inflate_one(struct guest *g, gpa_t gpa)
{
	struct frame_batch batch;

	p2m_batch_begin(&g->p2m, &batch);
	assert_int_equal(p2m_inflate(&g->p2m, gpa_to_gfn(gpa), 0, &batch), OK);
	p2m_batch_finish(&g->p2m, &batch);
}

static void what_stands_in_the_way_is_told(void **state)
{
	struct guest *g = filled("a", 4, false);

	(void)state;
	swap_set_on(false);
	ladder_set_limit(g, 200);
	ladder_runs(500);
	assert_string_equal(ladder_obstacle(g), "its pages do not compress enough, and swap is off");
	swap_set_on(true);
	ladder_runs(1000);
	assert_string_equal(ladder_obstacle(g), "");
}

/* Writes fail: it is told, what was on its way stays where it is, and with the disk back all goes on. */
static void a_swap_that_has_failed_is_told(void **state)
{
	struct guest *g = filled("a", 4, false);
	uint64_t want[PAGE_BYTES / 8];
	struct swap_counts n;

	(void)state;
	fake_disk_error = ERR_IO;
	ladder_set_limit(g, 200);
	ladder_runs(500);
	swap_counts(&n);
	assert_true(n.failed && n.unwritten > 0);
	assert_string_equal(ladder_obstacle(g),
		"its pages do not compress enough, and swap has failed: its disk takes no writes");
	for (uint64_t gfn = FIRST; gfn < g->p2m.gfn_count; gfn++) {
		content(g->id, gfn, want);
		assert_memory_equal(fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_READ), want, PAGE_BYTES);
	}
	fake_disk_error = OK;
	swap_set_on(true);
	ladder_runs(1000);
	assert_string_equal(ladder_obstacle(g), "");
	swap_counts(&n);
	assert_false(n.failed);
}

static void full_swap_without_a_store_is_told(void **state)
{
	struct guest *a = filled("a", 16, false), *b = filled("b", 14, false);

	(void)state;
	swap_set_on(false);
	ladder_set_limit(a, 200);
	ladder_runs(100);
	assert_string_equal(ladder_obstacle(a), "nothing is compressed, and swap is off");
	swap_set_on(true);
	ladder_runs(5000);
	assert_string_equal(ladder_obstacle(a), "nothing is compressed, and it has its part of swap");
	ladder_set_limit(b, 200);
	ladder_runs(5000);
	assert_string_equal(ladder_obstacle(b), "nothing is compressed, and swap is full");
}

/* Where its pages find no room a limit is not worth standing still for; in state LOW it waits all the same. */
static void a_limit_that_cannot_be_reached_does_not_stop_a_guest(void **state)
{
	struct guest *g = filled("a", 4, false);
	gpa_t another = gfn_to_gpa(GFN(g->p2m.gfn_count - 1));

	(void)state;
	swap_set_on(false);
	p2m_inflate_one(g, another); /* it is not there, so that the guest needs a frame for it */
	ladder_set_limit(g, 200);
	assert_int_equal(p2m_fault(&g->p2m, another, P2M_WRITE), P2M_FAULT_WAIT);
	g->ladder.wait_over = true;
	ladder_runs(500);
	assert_int_equal(p2m_fault(&g->p2m, another, P2M_WRITE), P2M_FAULT_WAIT);
	g->ladder.wait_over = false;
	ladder_runs(1);
	assert_int_equal(p2m_fault(&g->p2m, another, P2M_WRITE), P2M_FAULT_MAPPED);
	swap_set_on(true);
	ladder_runs(1000);
	assert_string_equal(ladder_obstacle(g), "");
}

/* A guest that has much to put away leaves others their part of swap. */
static void one_cannot_have_all_of_swap(void **state)
{
	struct guest *a = filled("a", 16, false), *b = filled("b", 14, false);
	struct swap_counts n;

	(void)state;
	ladder_set_limit(a, 200);
	ladder_runs(5000);
	swap_counts(&n);
	assert_int_equal(n.slots, 2048);
	assert_in_range(a->p2m.pages[P2M_SWAPPED], 1400, 1536 + RECLAIM_STEP);
	ladder_set_limit(b, 200);
	ladder_runs(5000);
	swap_counts(&n);
	assert_true(n.used > 2000);
	assert_int_equal(a->p2m.pages[P2M_SWAPPED] + b->p2m.pages[P2M_SWAPPED], n.used);
}

/* An instruction needs so many pages, whatever the policy thinks. */
static void no_limit_is_below_what_an_instruction_needs(void **state)
{
	struct guest *g = filled("a", 8, true);

	(void)state;
	ladder_set_limit(g, 0);
	ladder_runs(3000);
	assert_in_range(p2m_resident(&g->p2m), 64, 128);
	for (uint64_t gfn = FIRST; gfn < FIRST + 32; gfn++) {
		while (p2m_fault(&g->p2m, gfn_to_gpa(GFN(gfn)), P2M_READ) == P2M_FAULT_DISK)
			(void)platform_disk_poll();
		assert_non_null(fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_READ));
	}
}

/* Frames fill the reserve, whoever takes them from the guest. */
static void what_the_ladder_takes_pays_for_grace(void **state)
{
	struct guest *g = filled("a", 8, true);

	(void)state;
	g->grace_pages = 10;
	ladder_set_limit(g, 1000);
	ladder_runs(100);
	assert_int_equal(g->grace_pages, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(everybody_gets_his_page),
		TEST(an_idle_machine_looks_for_a_page_on_its_way),
		TEST(guests_die_while_their_pages_are_on_their_way),
		TEST(everybody_writes_out_what_is_in_swap),
		TEST(the_store_keeps_its_bound),
		TEST(a_guest_goes_on_when_there_is_no_room_left),
		TEST(what_stands_in_the_way_is_told),
		TEST(a_swap_that_has_failed_is_told),
		TEST(a_limit_that_cannot_be_reached_does_not_stop_a_guest),
		TEST(one_cannot_have_all_of_swap),
		TEST(no_limit_is_below_what_an_instruction_needs),
		TEST(what_the_ladder_takes_pays_for_grace),
	};

	const struct CMUnitTest uncompressed[] = {
		TEST(full_swap_without_a_store_is_told),
	};

	/* The hypervisor's heap begins once in a process. */
	pid_t other = fork();

	if (other == 0)
		return cmocka_run_group_tests(uncompressed, start_uncompressed, NULL);
	int how = 1;

	if (other < 0 || waitpid(other, &how, 0) != other)
		return 1;
	return cmocka_run_group_tests(tests, start, NULL) + (how != 0);
}
