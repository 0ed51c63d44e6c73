/* A guest whose pages lie on its own disk (mm/alias.h), with block calls, swap and ladder over a disk in memory. */
#pragma once

#include "mm/alias.h"
#include "mm/reclaim.h"
#include "tests/fake/hv.h"
#include "tests/unit/unit.h"
#include "vmm/block.h"
#include "vmm/ladder.h"

#define FIRST  1024u /* gfn */
#define PAGES  96u
#define BLOCKS 256u /* of the guest's disk */

static uint8_t memory[PAGES][PAGE_BYTES], disk[BLOCKS][PAGE_BYTES];
static struct guest *guest;
static struct reclaim ladder;
static uint64_t seed;

static inline int machine(void **state)
{
	(void)state;
	fake_hv_start(8192);
	hv_config.swap_bytes = MIB(1);
	hv_config.compressed_bytes = 0;
	block_init(&hv_config);
	ladder_init(&hv_config);
	return 0;
}

static inline int setup(void **state)
{
	char error[CONFIG_ERROR_BYTES];

	(void)state;
	while (platform_disk_busy())
		(void)platform_disk_poll();
	memset(fake_disk_data(1) + BLOCK_FIRST_SECTOR * 512, 0, MIB(1));
	alias_wrote(0, UINT32_MAX); /* we did, behind its back */
	fake_disk_hold = 0;
	struct config_guest c = fake_hv_config("a", 16);

	assert_int_equal(guest_create(&c, &guest, error), OK);
	guest->ladder.limit_pages = 4096; /* it owes: what it reads and writes is remembered */
	memset(memory, 0, sizeof(memory));
	memset(disk, 0, sizeof(disk));
	ladder = (struct reclaim){ .seed = 1 };
	seed = 42;
	return 0;
}

static inline int teardown(void **state)
{
	struct alias_counts n;

	(void)state;
	fake_disk_error = OK;
	assert_int_equal(fake_hv_audit(), 0);
	fake_hv_destroy_all();
	assert_int_equal(fake_hv_audit(), 0);
	alias_counts(&n);
	assert_int_equal(n.used, 0);
	assert_int_equal(n.known, 0);
	return 0;
}

static inline uint64_t dice(uint64_t n)
{
	return test_random(&seed) % n;
}

static inline void fill(uint8_t *page, uint64_t kind)
{
	uint64_t s = kind;

	for (uint32_t i = 0; i < PAGE_BYTES; i += 8) {
		uint64_t word = test_random(&s);

		memcpy(page + i, &word, 8);
	}
}

/* As a vCPU's call is made again until it is through. */
static inline int64_t request(uint16_t op, uint64_t sector, uint32_t sectors, uint64_t gpa)
{
	struct aero_block_req r = { .sector = sector, .gpa = gpa, .sectors = sectors, .op = op };
	struct block_wait wait = { .bytes = 0 };
	int64_t result;

	for (uint32_t i = 0; i < 1000; i++) {
		result = block_request(&guest->vcpu[0], &r, &wait);
		if (!wait.bytes)
			return result;
		if (wait.status == ERR_IO)
			return -AERO_EIO;
		(void)platform_disk_poll();
	}
	fail_msg("a request never ends");
	return result;
}

static inline status_t copy(bool to, uint32_t page, uint32_t offset, uint32_t bytes, void *buf)
{
	gpa_t at = GPA((uint64_t)(FIRST + page) * PAGE_BYTES + offset);
	status_t s;

	for (uint32_t i = 0; i < 1000; i++) {
		s = to ? p2m_copy_to(&guest->p2m, at, buf, bytes) : p2m_copy_from(&guest->p2m, at, buf, bytes);
		if (s != ERR_BUSY)
			return s;
		(void)platform_disk_poll();
	}
	fail_msg("a copy never ends");
	return s;
}

/* Takes what there is of 16 neighbours. */
static inline void reclaim(uint32_t window)
{
	uint32_t freed;

	for (uint32_t i = 0; i < 8; i++) {
		struct reclaim_order o = { .pages = ladder.count ? ladder.count : EVICT_WINDOW, .now = i + 1,
			.drop = true, .swap = true, .clock = platform_tsc };

		ladder.hand = FIRST + window;
		ladder.vain = 1;
		(void)reclaim_step(&ladder, &guest->p2m, &o, &freed);
		(void)platform_disk_poll();
		if (!ladder.count)
			break;
	}
	if (dice(4) == 0)
		reclaim_let_go(&ladder, &guest->p2m);
}
