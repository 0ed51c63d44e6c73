/* Pages that lie on their guest's own disk: dropped, read back, lost, and their blocks written under them. */
#include "tests/unit/alias.h"

#include <signal.h>
#include <sys/mman.h>

static uint64_t out_pages(void)
{
	struct alias_counts n;

	alias_counts(&n);
	return n.used;
}

static void drop_and_come_back(void **state)
{
	struct p2m_entry e;
	uint8_t page[PAGE_BYTES];

	(void)state;
	fill(memory[0], 1);
	assert_int_equal(copy(true, 0, 0, PAGE_BYTES, memory[0]), OK);
	reclaim(0);
	assert_int_equal(out_pages(), 0); /* nobody's disk has it: swap */
	assert_int_equal(request(AERO_BLOCK_WRITE, 8, 8, FIRST * PAGE_BYTES), 0);
	assert_int_equal(request(AERO_BLOCK_READ, 8, 8, (FIRST + 1) * PAGE_BYTES), 0);
	reclaim(0);
	assert_int_equal(out_pages(), 1);
	p2m_lookup(&guest->p2m, GFN(FIRST + 1), &e);
	assert_int_equal(e.state, P2M_SWAPPED);
	assert_int_equal(e.payload, ALIAS_SLOT + guest->disk.first_sector / 8 + 1);
	assert_int_equal(copy(false, 1, 0, PAGE_BYTES, page), OK); /* read where it lies */
	assert_memory_equal(page, memory[0], PAGE_BYTES);
	assert_int_equal(out_pages(), 1);
	assert_int_equal(copy(true, 1, 0, 1, memory[0]), OK); /* written to: it comes in */
	assert_int_equal(out_pages(), 0);
	reclaim(0);
	assert_int_equal(out_pages(), 1); /* the same byte: still what the disk has */
	page[7] = (uint8_t)~memory[0][7];
	assert_int_equal(copy(true, 1, 7, 1, page + 7), OK);
	reclaim(0);
	assert_int_equal(out_pages(), 0);
}

static void written_under_it(void **state)
{
	uint8_t page[PAGE_BYTES];

	(void)state;
	fill(memory[0], 1);
	fill(memory[2], 2);
	assert_int_equal(copy(true, 0, 0, PAGE_BYTES, memory[0]), OK);
	assert_int_equal(copy(true, 2, 0, PAGE_BYTES, memory[2]), OK);
	assert_int_equal(request(AERO_BLOCK_WRITE, 16, 8, FIRST * PAGE_BYTES), 0);
	reclaim(0);
	assert_int_equal(out_pages(), 1);
	assert_int_equal(request(AERO_BLOCK_WRITE, 19, 1, (FIRST + 2) * PAGE_BYTES), 0); /* one sector of it */
	assert_int_equal(out_pages(), 0);
	assert_int_equal(copy(false, 0, 0, PAGE_BYTES, page), OK);
	assert_memory_equal(page, memory[0], PAGE_BYTES);
	/* And the block is what it is now, whatever was read of it before. */
	assert_int_equal(request(AERO_BLOCK_READ, 16, 8, (FIRST + 3) * PAGE_BYTES), 0);
	memcpy(memory[0] + 3 * 512, memory[2], 512);
	reclaim(0);
	assert_int_equal(out_pages(), 1);
	assert_int_equal(copy(false, 3, 0, PAGE_BYTES, page), OK);
	assert_memory_equal(page, memory[0], PAGE_BYTES);
}

/* Taken, and its block written before it is settled: the writer finds the page where it was. */
static void taken_and_written(void **state)
{
	uint64_t slot, gfn = 0, block = guest->disk.first_sector / 8 + 5;
	struct alias_counts n;

	(void)state;
	fill(memory[0], 3);
	alias_learn(guest->id, block, FIRST, memory[0]);
	assert_false(alias_take((uint16_t)(guest->id + 1), FIRST, memory[0], &slot)); /* another's */
	alias_counts(&n);
	/* another's with the same hint */
	assert_false(alias_take((uint16_t)(guest->id + n.entries), FIRST, memory[0], &slot));
	assert_false(alias_take(guest->id, FIRST + 1, memory[0], &slot));
	assert_true(alias_take(guest->id, FIRST, memory[0], &slot));
	assert_false(alias_take(guest->id, FIRST, memory[0], &slot)); /* once */
	assert_int_equal(alias_break(block, 1, &gfn), ERR_BUSY);
	assert_int_equal(gfn, FIRST);
	swap_free(slot);
	assert_false(alias_take(guest->id, FIRST, memory[0], &slot)); /* doomed: not known again */
	assert_int_equal(alias_break(block, 1, &gfn), OK);
}

static void read_while_written(void **state)
{
	uint64_t slot, gfn, block = guest->disk.first_sector / 8 + 5;
	uint8_t page[PAGE_BYTES];

	(void)state;
	fill(memory[0], 3);
	memcpy(fake_disk_data(1) + block * PAGE_BYTES, memory[0], PAGE_BYTES);
	alias_learn(guest->id, block, FIRST, memory[0]);
	assert_true(alias_take(guest->id, FIRST, memory[0], &slot));
	assert_int_equal(swap_get(slot, page, NULL), ERR_BUSY); /* its group is being read */
	alias_wrote(block + 1, 1);                             /* a neighbour: what was read is stale */
	(void)platform_disk_poll();
	assert_int_equal(swap_get(slot, page, NULL), ERR_BUSY);
	(void)platform_disk_poll();
	assert_int_equal(swap_get(slot, page, NULL), OK);
	assert_memory_equal(page, memory[0], PAGE_BYTES);
	swap_free(slot);
	assert_int_equal(alias_break(block, 1, &gfn), OK);
}

static void disk_lies(void **state)
{
	uint64_t slot, block = guest->disk.first_sector / 8 + 5;
	uint8_t page[PAGE_BYTES];
	const char *why = "";
	status_t s = ERR_BUSY;

	(void)state;
	fill(memory[0], 3);
	for (uint32_t how = 0; how < 2; how++) { /* it has something else there; it reads nothing */
		fake_disk_error = how ? ERR_IO : OK;
		alias_learn(guest->id, block, FIRST, memory[0]);
		assert_true(alias_take(guest->id, FIRST, memory[0], &slot));
		for (uint32_t i = 0; i < 20 && (s = swap_get(slot, page, &why)) == ERR_BUSY; i++)
			(void)platform_disk_poll();
		assert_int_equal(s, ERR_IO);
		assert_non_null(strstr(why, how ? "cannot be read" : "is not what it was"));
		swap_free(slot);
		assert_false(alias_take(guest->id, FIRST, memory[0], &slot)); /* nor believed again */
	}
}

/* The vectors are CPython's hash() of these bytes, SipHash-1-3: PYTHONHASHSEED=0 is a key of zeros, 1 the other. */
static void keyed_hash(void **state)
{
	static const struct hash_key key[] = { { { 0, 0 } }, { { 0xaed66ce184be2329ull, 0xebe9bbf1f1499052ull } } };
	uint8_t page[PAGE_BYTES];

	(void)state;
	for (uint32_t i = 0; i < PAGE_BYTES; i++)
		page[i] = (uint8_t)i;
	assert_true(page_keyed_hash(page, &key[0]) == 0x640fa2af6788eb38ull);
	assert_true(page_keyed_hash(page, &key[1]) == 0x9b22e44e4ff867d6ull);
}

/* A page that is out in a block of the guest's disk, by way of the guest. */
static uint64_t drop_one(uint32_t page, uint32_t block)
{
	fill(memory[page], 70 + page);
	assert_int_equal(copy(true, page, 0, PAGE_BYTES, memory[page]), OK);
	assert_int_equal(request(AERO_BLOCK_WRITE, block * 8, 8, (uint64_t)(FIRST + page) * PAGE_BYTES), 0);
	reclaim(page & ~15u);
	assert_int_equal(out_pages(), 1);
	assert_int_equal(guest->p2m.on_own_disk, 1);
	return ALIAS_SLOT + guest->disk.first_sector / 8 + block;
}

/* Its group cannot be read; the page alone can. */
static void one_error_is_tried_again(void **state)
{
	uint8_t page[PAGE_BYTES];
	struct alias_counts n;

	(void)state;
	uint64_t slot = drop_one(0, 3);

	alias_counts(&n);
	uint64_t errors = n.errors, pages = n.read_pages;

	assert_int_equal(swap_get(slot, page, NULL), ERR_BUSY);
	fake_disk_error = ERR_IO;
	(void)platform_disk_poll();
	fake_disk_error = OK;
	assert_int_equal(copy(false, 0, 0, PAGE_BYTES, page), OK);
	assert_memory_equal(page, memory[0], PAGE_BYTES);
	alias_counts(&n);
	assert_int_equal(n.errors, errors + 1);
	assert_int_equal(n.read_pages, pages + SWAP_GROUP + 1); /* the second time alone */
}

static void lost_with_a_word(void **state)
{
	char text[96];
	uint8_t page[PAGE_BYTES];

	(void)state;
	(void)drop_one(0, 3);
	fake_disk_error = ERR_IO;
	assert_int_equal(copy(false, 0, 0, PAGE_BYTES, page), ERR_IO);
	guest_page_lost(guest);
	assert_int_equal(guest->state, GUEST_CRASHED);
	snprintf(text, sizeof(text), "its page at 0x%llx is lost: sector 24 of its disk (%llu of disk 1)",
		(unsigned long long)FIRST * PAGE_BYTES, (unsigned long long)guest->disk.first_sector + 24);
	assert_non_null(strstr(guest->reason, text));
	assert_non_null(strstr(guest->reason, "cannot be read"));
}

/* The guest's write to that block waits for the page, as nothing else has it; then it is lost, not written
 * over in silence. */
static void lost_before_it_is_overwritten(void **state)
{
	(void)state;
	(void)drop_one(0, 3);
	fake_disk_error = ERR_IO;
	assert_int_equal(request(AERO_BLOCK_WRITE, 24, 8, (uint64_t)(FIRST + 20) * PAGE_BYTES), -AERO_EIO);
	assert_int_equal(out_pages(), 1);
	fake_disk_error = OK;
	assert_memory_equal(fake_disk_data(1) + (guest->disk.first_sector + 24) * 512, memory[0], PAGE_BYTES);
}

/* It needs a frame for that, and waits while there is none. */
static void broken_when_a_frame_is_free(void **state)
{
	struct aero_block_req r = { .sector = 24, .gpa = (uint64_t)(FIRST + 20) * PAGE_BYTES, .sectors = 8,
		.op = AERO_BLOCK_WRITE };
	struct block_wait wait = { .bytes = 0 };
	uint8_t page[PAGE_BYTES];

	(void)state;
	(void)drop_one(0, 3);
	fill(memory[20], 5);
	assert_int_equal(copy(true, 20, 0, PAGE_BYTES, memory[20]), OK);
	guest->p2m.exchange = 0;
	frame_account_set_limit(&guest->p2m.account, 0);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(block_request(&guest->vcpu[0], &r, &wait), -AERO_ENOMEM);
		(void)platform_disk_poll();
	}
	assert_int_equal(wait.status, ERR_NOMEM);
	assert_int_equal(wait.gpa.v, (uint64_t)FIRST * PAGE_BYTES);
	assert_memory_equal(fake_disk_data(1) + (guest->disk.first_sector + 24) * 512, memory[0], PAGE_BYTES);
	frame_account_set_limit(&guest->p2m.account, UINT64_MAX);
	assert_int_equal(request(AERO_BLOCK_WRITE, 24, 8, r.gpa), 0);
	assert_int_equal(out_pages(), 0);
	assert_int_equal(guest->p2m.on_own_disk, 0);
	assert_int_equal(copy(false, 0, 0, PAGE_BYTES, page), OK);
	assert_memory_equal(page, memory[0], PAGE_BYTES);
	assert_memory_equal(fake_disk_data(1) + (guest->disk.first_sector + 24) * 512, memory[20], PAGE_BYTES);
}

/* The guest ends while one of its pages is being read, and begins anew: nothing is known of it. */
static void destroyed_while_read(void **state)
{
	char error[CONFIG_ERROR_BYTES];
	uint8_t page[PAGE_BYTES];
	struct alias_counts n;

	(void)state;
	uint64_t slot = drop_one(0, 3);

	assert_int_equal(swap_get(slot, page, NULL), ERR_BUSY);
	guest_destroy(guest);
	assert_int_equal(fake_hv_audit(), 0);
	while (platform_disk_busy())
		(void)platform_disk_poll();
	struct config_guest c = fake_hv_config("a", 16);

	assert_int_equal(guest_create(&c, &guest, error), OK);
	alias_counts(&n);
	assert_int_equal(n.known + n.used, 0);
	assert_false(alias_take(guest->id, FIRST, memory[0], &slot));
	assert_int_equal(request(AERO_BLOCK_READ, 24, 8, (uint64_t)FIRST * PAGE_BYTES), 0);
	assert_int_equal(copy(false, 0, 0, PAGE_BYTES, page), OK);
	assert_memory_equal(page, memory[0], PAGE_BYTES);
}

/* Only whole pages that are whole blocks are known, each by itself. */
static void odd_requests(void **state)
{
	uint64_t at = (uint64_t)FIRST * PAGE_BYTES;
	struct alias_counts n;

	(void)state;
	assert_int_equal(request(AERO_BLOCK_READ, 160, 8, at + 512), 0);
	assert_int_equal(request(AERO_BLOCK_WRITE, 81, 8, at), 0);
	assert_int_equal(request(AERO_BLOCK_READ, 88, 7, at), 0);
	alias_counts(&n);
	assert_int_equal(n.known, 0);
	assert_int_equal(request(AERO_BLOCK_READ, 80, 23, at), 0);
	alias_counts(&n);
	assert_int_equal(n.known, 2);
	assert_int_equal(request(AERO_BLOCK_WRITE, 87, 2, at), 0); /* the end of one and the other's begin */
	alias_counts(&n);
	assert_int_equal(n.known, 0);
}

static uint8_t *hashed; /* a page that cannot be read: who hashes it stands still there */
static uint64_t hashed_block;
static void (*meanwhile)(void);

static void on_read(int signal)
{
	(void)signal;
	if (mprotect(hashed, PAGE_BYTES, PROT_READ | PROT_WRITE))
		abort();
	meanwhile();
}

static void block_is_written(void)
{
	uint64_t gfn;

	if (alias_break(hashed_block, 1, &gfn) != OK)
		abort();
	alias_wrote(hashed_block, 1);
}

static void block_is_another_pages(void)
{
	block_is_written();
	alias_learn(guest->id, hashed_block, FIRST + 1, memory[0]);
}

/* The block is written, or another page's, while the taker hashes: without the lock. */
static void changed_while_hashed(void **state)
{
	static void (*const change[])(void) = { block_is_written, block_is_another_pages };
	struct sigaction was, now = { .sa_handler = on_read };
	uint64_t slot;

	(void)state;
	hashed_block = guest->disk.first_sector / 8 + 5;
	hashed = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(hashed != MAP_FAILED);
	assert_int_equal(sigaction(SIGSEGV, &now, &was), 0);
	fill(memory[0], 3);
	memcpy(hashed, memory[0], PAGE_BYTES);
	for (uint32_t i = 0; i < ARRAY_COUNT(change); i++) {
		meanwhile = change[i];
		alias_learn(guest->id, hashed_block, FIRST, memory[0]);
		assert_int_equal(mprotect(hashed, PAGE_BYTES, PROT_NONE), 0);
		assert_false(alias_take(guest->id, FIRST, hashed, &slot));
		assert_null(alias_check());
	}
	assert_int_equal(sigaction(SIGSEGV, &was, NULL), 0);
	assert_int_equal(munmap(hashed, PAGE_BYTES), 0);
}

/* A page that the guest frees for its balloon, or overwrites, leaves its block without being read. */
static void dropped_and_not_wanted(void **state)
{
	uint64_t reads = fake_disk_read_count;
	struct frame_batch batch;

	(void)state;
	(void)drop_one(0, 3);
	fill(memory[0], 4);
	assert_int_equal(copy(true, 0, 0, PAGE_BYTES, memory[0]), OK);
	assert_int_equal(out_pages(), 0);
	(void)drop_one(1, 4);
	p2m_batch_begin(&guest->p2m, &batch);
	assert_int_equal(p2m_inflate(&guest->p2m, GFN(FIRST + 1), ORDER_4K, &batch), OK);
	p2m_batch_finish(&guest->p2m, &batch);
	assert_int_equal(out_pages(), 0);
	assert_int_equal(guest->p2m.on_own_disk, 0);
	assert_int_equal(fake_disk_read_count, reads);
}

/* A full set: what is known is forgotten for what is new, what is out never. */
static void set_full_of_pages_that_are_out(void **state)
{
	uint64_t slot[9], gfn = 0;
	struct alias_counts n;

	(void)state;
	alias_counts(&n);
	for (uint32_t i = 0; i < 8; i++) {
		fill(memory[i], 30 + i);
		alias_learn(guest->id, 1000 + i * (n.entries / 8), FIRST + i, memory[i]);
		assert_true(alias_take(guest->id, FIRST + i, memory[i], &slot[i]));
	}
	fill(memory[8], 38);
	alias_learn(guest->id, 1000 + 8 * (n.entries / 8), FIRST + 8, memory[8]);
	assert_false(alias_take(guest->id, FIRST + 8, memory[8], &slot[8]));
	alias_learn(guest->id, 1000, FIRST + 8, memory[8]); /* nor is a block taken from the page that is out in it */
	assert_int_equal(alias_break(1000, 1, &gfn), ERR_BUSY);
	assert_int_equal(gfn, FIRST);
	for (uint32_t i = 0; i < 8; i++)
		alias_free(slot[i]);
	assert_int_equal(alias_break(1000, 1 + 8 * (n.entries / 8), &gfn), OK);
	assert_null(alias_check());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(drop_and_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(written_under_it, setup, teardown),
		cmocka_unit_test_setup_teardown(taken_and_written, setup, teardown),
		cmocka_unit_test_setup_teardown(read_while_written, setup, teardown),
		cmocka_unit_test_setup_teardown(disk_lies, setup, teardown),
		cmocka_unit_test_setup_teardown(keyed_hash, setup, teardown),
		cmocka_unit_test_setup_teardown(one_error_is_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_with_a_word, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_before_it_is_overwritten, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_when_a_frame_is_free, setup, teardown),
		cmocka_unit_test_setup_teardown(destroyed_while_read, setup, teardown),
		cmocka_unit_test_setup_teardown(dropped_and_not_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(set_full_of_pages_that_are_out, setup, teardown),
		cmocka_unit_test_setup_teardown(odd_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(changed_while_hashed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
