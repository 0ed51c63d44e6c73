/*
 * Balloon drivers that do not answer, of themselves or by driver-fault, under the real policy and ladder on the fake
 * machine: what the operator asked for arrives by the lower rungs, and the console says why so.
 */
#include "tests/unit/unit.h"

#include "mm/compress.h"
#include "mm/swap.h"
#include "tests/fake/hv.h"
#include "vmm/block.h"
#include "vmm/console.h"
#include "vmm/ladder.h"
#include "vmm/overcommit.h"

#define POOL     8192u /* 32 MiB */
#define DEADLINE 2000u /* ms */
#define PAST     500u
#define FIRST    512u  /* the gfns that it fills */
#define PAGES    3072u
#define TARGET   1536u /* 6 MiB */

static struct guest *g;

static void content(uint64_t gfn, uint64_t *page)
{
	uint64_t seed = gfn + 1;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		page[i] = gfn % 2 ? test_random(&seed) : seed + (i & 3);
}

static const char *says(const char *line)
{
	fake_serial_clear();
	fake_serial_type(line);
	fake_serial_type("\r");
	while (console_poll())
		;
	return fake_serial_out;
}

static void expect(const char *line, const char *text)
{
	if (!strstr(says(line), text))
		fail_msg("%s says \"%s\", not \"%s\"", line, fake_serial_out, text);
}

/* Milliseconds until it holds no more than `pages`, or `most`. */
static uint32_t run(uint64_t pages, uint32_t most)
{
	uint32_t ms = 0;

	for (; ms < most && p2m_resident(&g->p2m) > pages; ms++) {
		fake_tsc += 100000;
		overcommit_poll(platform_ns());
		for (uint32_t i = 0; i < 4; i++) {
			(void)ladder_poll();
			(void)platform_disk_poll();
		}
	}
	return ms;
}

static int start(void **state)
{
	(void)state;
	fake_hv_start(POOL);
	fake_serial_room = UINT32_MAX;
	hv_config.swap_bytes = MIB(16);
	hv_config.compressed_bytes = MIB(4);
	hv_config.debug_commands = true;
	block_init(&hv_config);
	if (compress_init(1) != OK)
		return 1;
	ladder_init(&hv_config);
	console_init();
	return !swap_is_on();
}

static int setup(void **state)
{
	(void)state;
	fake_tsc_step = 1;
	g = fake_hv_guest("vm0", 16);
	g->config.deadline_ms = DEADLINE;
	for (uint64_t gfn = FIRST; gfn < FIRST + PAGES; gfn++)
		content(gfn, fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_WRITE));
	assert_int_equal(fake_hv_call(g, AERO_HC_BALLOON_SETUP, 400 << PAGE_SHIFT, 0, 0), 0);
	(void)run(0, 100);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_hv_destroy_all();
	while (platform_disk_poll())
		;
	fake_tsc_step = 0;
	return fake_hv_audit() != 0;
}

static void all_is_there(void)
{
	uint64_t want[PAGE_BYTES / 8];

	for (uint64_t gfn = FIRST; gfn < FIRST + PAGES; gfn++) {
		void *page = NULL;

		for (uint32_t i = 0; !page && i < 1000; i++) {
			page = fake_hv_touch(g, gfn << PAGE_SHIFT, P2M_READ);
			(void)platform_disk_poll();
			if (!page)
				(void)run(0, 1); /* its limit follows the target by steps */
		}
		assert_non_null(page);
		content(gfn, want);
		assert_memory_equal(page, want, PAGE_BYTES);
	}
}

/* Asks for TARGET, sees it arrive, and what is said of it: first that the deadline runs. */
static void arrives(const char *before, const char *after)
{
	expect("mem-set vm0 6M", "vm0: 6M");
	(void)run(TARGET, 200);
	assert_true(p2m_resident(&g->p2m) > TARGET);
	expect("mem-why vm0", before);
	uint32_t ms = 200 + run(TARGET, 2 * DEADLINE);

	print_message("reached after %u ms\n", ms);
	assert_in_range(ms, DEADLINE / 2, DEADLINE + PAST);
	(void)run(0, 100);
	expect("mem-why vm0", after);
	expect("mem-why vm0", ": reached");
	expect("dmesg", "guest vm0: its balloon driver does not answer");
	assert_int_equal(fake_hv_audit(), 0);
	expect("mem-set vm0 16M", "vm0: 16M");
	(void)run(0, 100);
	all_is_there();
}

static void a_silent_driver(void **state)
{
	(void)state;
	arrives("its balloon is growing", "its balloon driver does not answer: its own pages were taken");
}

static void a_dead_driver(void **state)
{
	struct aero_range *r;

	(void)state;
	expect("driver-fault vm0 dead", "hears nothing");
	arrives("its balloon driver is dead", "its balloon driver is dead (driver-fault): its own pages were taken");
	/* It cannot have what it gives counted; when it is back, it can. */
	r = fake_hv_touch(g, 300 << PAGE_SHIFT, P2M_WRITE);
	*r = (struct aero_range){ .gfn = FIRST + PAGES - 256, .count = 100 };
	assert_int_equal(fake_hv_call(g, AERO_HC_BALLOON_INFLATE, 300 << PAGE_SHIFT, 1, 0), -AERO_EIO);
	assert_int_equal(balloon_actual_pages(&g->balloon), 0);
	expect("driver-fault vm0 off", "hears again");
	assert_int_equal(fake_hv_call(g, AERO_HC_BALLOON_INFLATE, 300 << PAGE_SHIFT, 1, 0), 1);
	assert_int_equal(balloon_actual_pages(&g->balloon), 100);
	assert_null(strstr(says("mem-why vm0"), "driver"));
}

/* One that says that it has nothing to give is no silent one. */
static void one_that_answers(void **state)
{
	(void)state;
	expect("mem-set vm0 6M", "vm0: 6M");
	for (uint32_t i = 0; i < 60; i++) {
		(void)run(0, 50);
		assert_int_equal(fake_hv_call(g, AERO_HC_BALLOON_REPORT, AERO_BALLOON_BACKOFF,
			AERO_REASON_NO_MEMORY, 2560), 0);
		assert_null(strstr(says("mem-why vm0"), "does not answer"));
	}
	assert_true(p2m_resident(&g->p2m) <= TARGET);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_that_answers),
		TEST(a_silent_driver),
		TEST(a_dead_driver),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
