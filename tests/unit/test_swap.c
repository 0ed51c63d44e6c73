/* mm/swap.c against a disk in memory that is slow, answers out of order, fails and lies. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "mm/heap.h"
#include "mm/swap.h"
#include "tests/fake/slat.h"

#define SLOTS   512u
#define PENDING 64u

static uint8_t disk[SLOTS][PAGE_BYTES];
static uint8_t buffers[SWAP_BUFFERS * SWAP_GROUP][PAGE_BYTES] __attribute__((aligned(4096)));
static struct swap_io *pending[PENDING];
static uint32_t pending_count;
static uint32_t fail_writes, fail_reads; /* so many from now on */
static uint64_t bad_slot;                /* a read that touches it fails */
static bool gone;                        /* takes nothing any more */
static bool merciful;                    /* no transfer fails as often as it is tried */

static status_t take(struct swap_io *io)
{
	if (gone)
		return ERR_IO;
	assert_true(pending_count < PENDING);
	assert_true(io->count > 0 && io->first + io->count <= SLOTS);
	pending[pending_count++] = io;
	return OK;
}

/* Failures of one transfer in a row, by its address. */
static uint32_t *failures_of(const struct swap_io *io)
{
	static struct { const struct swap_io *io; uint32_t count; } of[SWAP_BUFFERS];
	uint32_t i = 0;

	while (of[i].io && of[i].io != io)
		i++;
	of[i].io = io;
	return &of[i].count;
}

/* Content moves when a transfer ends: until then the buffer may not be touched. */
static void answer(uint32_t i)
{
	struct swap_io *io = pending[i];
	uint32_t *fail = io->write ? &fail_writes : &fail_reads;
	bool bad = !io->write && bad_slot - io->first < io->count;

	pending[i] = pending[--pending_count];
	bad = bad || *fail;
	if (merciful && *failures_of(io) == SWAP_TRIES - 1)
		bad = false;
	*failures_of(io) = bad ? *failures_of(io) + 1 : 0;
	if (bad) {
		*fail -= *fail > 0;
		swap_done(io, ERR_IO);
		return;
	}
	if (io->write)
		memcpy(disk[io->first], io->buf, io->count * PAGE_BYTES);
	else
		memcpy(io->buf, disk[io->first], io->count * PAGE_BYTES);
	swap_done(io, OK);
}

static void answer_all(void)
{
	while (pending_count)
		answer(0);
}

static void fill(void *page, uint64_t what)
{
	uint64_t *w = page;

	for (uint32_t i = 0; i < PAGE_BYTES / 8; i++)
		w[i] = what * 0x9e3779b97f4a7c15ull + i;
}

static bool holds(const void *page, uint64_t what)
{
	uint8_t expect[PAGE_BYTES];

	fill(expect, what);
	return memcmp(page, expect, PAGE_BYTES) == 0;
}

static int machine(void **state)
{
	(void)state;
	fake_machine(2048);
	return frame_pool_init(512, 1400, 16) != OK;
}

static int setup(void **state)
{
	(void)state;
	memset(disk, 0xee, sizeof(disk));
	pending_count = fail_writes = fail_reads = 0;
	bad_slot = UINT64_MAX;
	gone = merciful = false;
	assert_int_equal(swap_init(SLOTS, buffers, take), OK);
	return 0;
}

static struct swap_counts counts(void)
{
	struct swap_counts n;

	swap_counts(&n);
	return n;
}

static uint64_t put(uint64_t what)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot = SWAP_NONE;

	fill(page, what);
	assert_int_equal(swap_put(page, 1, what, &slot), OK);
	return slot;
}

/* Through the disk if need be. */
static status_t get(uint64_t slot, void *page, const char **why)
{
	for (uint32_t i = 0; i < 100; i++) {
		status_t s = swap_get(slot, page, why);

		if (s != ERR_BUSY)
			return s;
		answer_all();
	}
	return ERR_BUSY;
}

static void pages_go_out_sixteen_at_a_time(void **state)
{
	uint64_t slot[2 * SWAP_GROUP];

	(void)state;
	for (uint32_t i = 0; i < 2 * SWAP_GROUP; i++)
		slot[i] = put(i);
	assert_int_equal(pending_count, 2);
	assert_int_equal(pending[0]->count, SWAP_GROUP);
	for (uint32_t i = 1; i < 2 * SWAP_GROUP; i++)
		assert_int_equal(slot[i], slot[i - 1] + 1);
	answer_all();
	assert_int_equal(counts().writes, 2);
	assert_int_equal(counts().written_pages, 2 * SWAP_GROUP);
	assert_true(holds(disk[slot[5]], 5));
}

static void what_is_under_way_is_had_without_the_disk(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t open = put(1), slot;

	(void)state;
	assert_int_equal(swap_get(open, page, NULL), OK);
	assert_true(holds(page, 1));
	for (uint32_t i = 2; i <= SWAP_GROUP; i++)
		slot = put(i);
	assert_int_equal(pending_count, 1); /* and not answered */
	assert_int_equal(swap_get(slot, page, NULL), OK);
	assert_true(holds(page, SWAP_GROUP));
	assert_int_equal(counts().reads, 0);
	assert_int_equal(counts().from_buffer, 2);
}

/* So many pages that the first ones' buffers have been used for others. */
static uint64_t push_out_of_the_buffers(uint64_t from)
{
	uint64_t n = (SWAP_BUFFERS + 1) * SWAP_GROUP;

	for (uint64_t i = 0; i < n; i++) {
		(void)put(from + i);
		if (pending_count > 4)
			answer_all();
	}
	swap_push();
	answer_all();
	return n;
}

static void neighbours_come_in_with_a_page(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot[SWAP_GROUP];

	(void)state;
	for (uint32_t i = 0; i < SWAP_GROUP; i++)
		slot[i] = put(i);
	push_out_of_the_buffers(1000);
	for (uint32_t i = 0; i < SWAP_GROUP; i++) {
		assert_int_equal(get(slot[i], page, NULL), OK);
		assert_true(holds(page, i));
	}
	assert_int_equal(counts().reads, 1);
	assert_int_equal(counts().read_pages, SWAP_GROUP);
}

static void full_and_busy_are_told_apart(void **state)
{
	uint8_t page[PAGE_BYTES] = { 1 };
	uint64_t slot, taken = 0;

	(void)state;
	while (swap_put(page, 1, taken, &slot) == OK)
		taken++;
	assert_int_equal(swap_put(page, 1, 0, &slot), ERR_BUSY);
	assert_int_equal(taken, SWAP_WRITING * SWAP_GROUP);
	for (;;) {
		answer_all();
		status_t s = swap_put(page, 1, taken, &slot);

		if (s != OK) {
			assert_int_equal(s, ERR_LIMIT);
			break;
		}
		taken++;
	}
	assert_int_equal(taken, SLOTS);
	swap_free(17);
	answer_all();
	assert_int_equal(swap_put(page, 1, taken, &slot), OK);
	assert_int_equal(slot, 17);
}

/* A slot that is freed while it is written is not given to another before that write is done. */
static void a_slot_under_way_is_not_reused(void **state)
{
	uint64_t first = put(0);
	uint8_t page[PAGE_BYTES];

	(void)state;
	for (uint32_t i = 1; i < SWAP_GROUP; i++)
		(void)put(i);
	swap_free(first);
	for (uint32_t i = 0; i < SLOTS - SWAP_GROUP; i++) {
		assert_int_not_equal(put(100 + i), first);
		while (pending_count > 1)
			answer(1); /* the first stays under way */
	}
	assert_int_equal(swap_put(page, 1, 1, &first), ERR_BUSY);
	answer_all();
	assert_int_equal(put(77), 0);
	assert_int_equal(counts().used, SLOTS);
}

static void a_write_that_fails_is_tried_again(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot = put(5);

	(void)state;
	fail_writes = SWAP_TRIES - 1;
	swap_push();
	answer_all();
	assert_true(counts().on);
	assert_int_equal(counts().write_errors, SWAP_TRIES - 1);
	assert_true(holds(disk[slot], 5));
	assert_int_equal(swap_get(slot, page, NULL), OK);
}

static void a_disk_that_takes_no_writes_loses_nothing(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot = put(5), other;

	(void)state;
	fail_writes = UINT32_MAX;
	swap_push();
	answer_all();
	assert_true(counts().failed);
	assert_int_equal(swap_put(page, 1, 9, &other), ERR_LIMIT);
	assert_int_equal(swap_get(slot, page, NULL), OK);
	assert_true(holds(page, 5));
	assert_int_equal(counts().unwritten, 1);
	fail_writes = 0;
	swap_set_on(true);
	answer_all();
	assert_int_equal(counts().unwritten, 0);
	assert_true(holds(disk[slot], 5));
	assert_int_equal(swap_put(page, 1, 9, &other), OK);
}

static void a_sector_that_cannot_be_read_costs_one_page(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot[SWAP_GROUP];
	const char *why = "";

	(void)state;
	for (uint32_t i = 0; i < SWAP_GROUP; i++)
		slot[i] = put(i);
	push_out_of_the_buffers(1000);
	bad_slot = slot[3];
	for (uint32_t i = 0; i < SWAP_GROUP; i++) {
		assert_int_equal(get(slot[i], page, &why), i == 3 ? ERR_IO : OK);
		if (i != 3)
			assert_true(holds(page, i));
	}
	assert_string_equal(why, "it cannot be read");
	swap_free(slot[3]);
}

static void a_wrong_checksum_is_told(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot = put(1);
	const char *why = "";

	(void)state;
	push_out_of_the_buffers(1000);
	disk[slot][100] ^= 4;
	assert_int_equal(get(slot, page, &why), ERR_IO);
	assert_string_equal(why, "its checksum is wrong");
	assert_int_equal(counts().checksum_errors, SWAP_TRIES);
}

static void a_device_that_is_gone_says_so(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot = put(1), held;

	(void)state;
	push_out_of_the_buffers(1000);
	held = put(2);
	gone = true;
	swap_push();
	assert_true(counts().failed);
	assert_int_equal(swap_get(held, page, NULL), OK);
	assert_int_equal(get(slot, page, NULL), ERR_IO);
}

static void no_swap_at_all(void **state)
{
	uint8_t page[PAGE_BYTES];
	uint64_t slot;

	(void)state;
	assert_int_equal(swap_init(0, buffers, take), OK);
	assert_int_equal(swap_put(page, 1, 1, &slot), ERR_LIMIT);
	swap_push();
	assert_false(counts().on);
}

/* A million steps against a list of what was put where. */
static void a_million_steps(void **state)
{
	static struct { uint64_t what; bool used; } model[SLOTS];
	uint64_t used = 0, next = 1, seed = 7;
	uint8_t page[PAGE_BYTES];

	(void)state;
	memset(model, 0, sizeof(model));
	merciful = true;
	for (uint32_t step = 0; step < 1000000; step++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint32_t dice = (uint32_t)(seed >> 33) % 100;
		uint64_t at = (seed >> 20) % SLOTS;

		if (dice < 34) {
			uint64_t slot;

			fill(page, next);
			status_t s = swap_put(page, (uint16_t)(next % 60), next & 0xffffffff, &slot);

			if (s == OK) {
				assert_false(model[slot].used);
				model[slot].used = true;
				model[slot].what = next++;
				used++;
			} else {
				assert_true(s == ERR_BUSY || used == SLOTS);
			}
		} else if (dice < 64) {
			if (!model[at].used)
				continue;
			status_t s = swap_get(at, page, NULL);

			assert_true(s == OK || s == ERR_BUSY);
			if (s == OK)
				assert_true(holds(page, model[at].what));
		} else if (dice < 88) {
			if (!model[at].used)
				continue;
			swap_free(at);
			model[at].used = false;
			used--;
		} else if (dice < 90) {
			swap_push();
		} else if (dice == 90) {
			fail_reads = fail_writes = 2;
		} else if (pending_count) {
			answer((uint32_t)(seed >> 40) % pending_count);
		}
		if (step % 1000 == 0) {
			uint16_t owner;
			uint64_t gfn;

			assert_false(counts().failed);
			assert_int_equal(counts().used, used);
			for (uint32_t i = 0; i < SLOTS; i++) {
				assert_int_equal(swap_owner(i, &owner, &gfn), model[i].used);
				if (model[i].used)
					assert_int_equal(gfn, model[i].what);
			}
		}
	}
	assert_true(next > 50000 && counts().from_buffer > 1000 && counts().reads > 1000);
	assert_true(counts().read_errors > 100 && counts().write_errors > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(pages_go_out_sixteen_at_a_time, setup),
		cmocka_unit_test_setup(what_is_under_way_is_had_without_the_disk, setup),
		cmocka_unit_test_setup(neighbours_come_in_with_a_page, setup),
		cmocka_unit_test_setup(full_and_busy_are_told_apart, setup),
		cmocka_unit_test_setup(a_slot_under_way_is_not_reused, setup),
		cmocka_unit_test_setup(a_write_that_fails_is_tried_again, setup),
		cmocka_unit_test_setup(a_disk_that_takes_no_writes_loses_nothing, setup),
		cmocka_unit_test_setup(a_sector_that_cannot_be_read_costs_one_page, setup),
		cmocka_unit_test_setup(a_wrong_checksum_is_told, setup),
		cmocka_unit_test_setup(a_device_that_is_gone_says_so, setup),
		cmocka_unit_test_setup(no_swap_at_all, setup),
		cmocka_unit_test_setup(a_million_steps, setup),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
