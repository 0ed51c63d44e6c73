/* Guests' regions of the data disk: where they lie, who is refused, and what requests may do. */
#include "tests/unit/unit.h"

#include "tests/fake/hv.h"
#include "vmm/block.h"

static char error[CONFIG_ERROR_BYTES];

static int setup(void **state)
{
	(void)state;
	fake_hv_start(8192);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_hv_destroy_all();
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

static struct config three_guests(void)
{
	struct config c = { .disk_index = 1, .guest_count = 3 };

	for (uint32_t i = 0; i < 3; i++)
		c.guest[i] = fake_hv_config((const char *[]){ "a", "b", "c" }[i], 16);
	c.guest[1].disk_bytes = 0;
	return c;
}

static void regions(void **state)
{
	struct config c = three_guests();
	struct config_guest later = fake_hv_config("later", 16);
	struct block_region a, b, d;

	(void)state;
	block_init(&c);
	assert_int_equal(block_open(&c.guest[2], &d, error), OK);
	assert_int_equal(block_open(&c.guest[0], &a, error), OK);
	assert_int_equal(block_open(&c.guest[1], &b, error), OK);
	assert_int_equal(a.first_sector, BLOCK_FIRST_SECTOR); /* by the config's order, not ours */
	assert_int_equal(a.sector_count, 2048);
	assert_int_equal(d.first_sector, BLOCK_FIRST_SECTOR + 2048);
	assert_int_equal(b.sector_count, 0);
	assert_int_equal(block_open(&later, &b, error), OK);
	assert_int_equal(b.first_sector, BLOCK_FIRST_SECTOR + 4096);
	assert_int_equal(block_open(&later, &d, error), OK); /* its own again */
	assert_int_equal(d.first_sector, b.first_sector);
}

static void refuse(const struct config_guest *g, status_t want, const char *text)
{
	struct block_region r;

	assert_int_equal(block_open(g, &r, error), want);
	if (!strstr(error, text))
		fail_msg("\"%s\" lacks \"%s\"", error, text);
	assert_int_equal(r.sector_count, 0);
}

static void refused(void **state)
{
	struct config c = three_guests();
	struct config_guest g = fake_hv_config("x", 16);

	(void)state;
	fake_disk_data(1)[12] = 1;
	block_init(&c);
	refuse(&g, ERR_FORMAT, "not marked as Aerostat's");
	fake_disk(1, 1000);
	memcpy(fake_disk_data(1), BLOCK_MAGIC, BLOCK_MAGIC_BYTES);
	block_init(&c);
	refuse(&c.guest[0], ERR_LIMIT, "wants a disk of 1M, but disk 1 has");
	fake_disk(1, 4);
	block_init(&c);
	refuse(&g, ERR_FORMAT, "not marked");
	fake_disk_error = ERR_IO;
	block_init(&c);
	refuse(&g, ERR_IO, "cannot be read");
	fake_disk(1, 0);
	block_init(&c);
	refuse(&g, ERR_NOENT, "there is no such disk");
	c.disk_index = UINT32_MAX;
	block_init(&c);
	refuse(&g, ERR_NOENT, "the config names none");
}

/* A region that asked for more than is left keeps its place from then on: none moves up. */
static void grown(void **state)
{
	struct config_guest g = fake_hv_config("g", 16);
	struct block_region r;

	(void)state;
	assert_int_equal(block_open(&g, &r, error), OK);
	g.disk_bytes = MIB(2);
	refuse(&g, ERR_LIMIT, "has 1M left for it");
}

/* What the guests of the configuration keep on the disk is theirs: swap takes what is left, or nothing. */
static void swap_lies_behind_the_guests(void **state)
{
	struct config c = three_guests();
	struct block_region a;
	uint64_t first, pages;
	uint32_t disk;

	(void)state;
	c.guest[0].disk_bytes = MIB(20);
	c.swap_bytes = MIB(16);
	block_init(&c); /* a disk of 32 MiB */
	assert_int_equal(block_open(&c.guest[0], &a, error), OK);
	assert_int_equal(a.first_sector, BLOCK_FIRST_SECTOR);
	assert_int_equal(block_swap(&disk, &first, &pages, error), ERR_LIMIT);
	assert_non_null(strstr(error, "no swap: 16M are wanted, but disk 1 has"));
	c.swap_bytes = MIB(8);
	block_init(&c);
	assert_int_equal(block_swap(&disk, &first, &pages, error), OK);
	assert_int_equal(pages, 2048);
	assert_int_equal(block_open(&c.guest[2], &a, error), OK);
	assert_true(first >= a.first_sector + a.sector_count && first + pages * 8 <= 65536);
	/* A guest that comes later does not get it either. */
	struct config_guest later = fake_hv_config("later", 16);

	later.disk_bytes = MIB(4);
	refuse(&later, ERR_LIMIT, "disk 1 has");
}

static int64_t request(struct guest *g, uint16_t op, uint64_t sector, uint32_t sectors, uint64_t gpa)
{
	struct aero_block_req r = { .sector = sector, .gpa = gpa, .sectors = sectors, .op = op };
	struct block_wait wait;
	int64_t result = block_request(&g->vcpu[0], &r, &wait);

	assert_int_equal(wait.bytes, 0);
	return result;
}

static void transfers(void **state)
{
	struct guest *a = fake_hv_guest("a", 16), *b = fake_hv_guest("b", 16);
	uint64_t gpa = MIB(4) + 1024; /* crosses pages at an odd place */

	(void)state;
	for (uint64_t i = 0; i < 40 * 512; i++)
		*(uint8_t *)fake_hv_touch(a, gpa + i, P2M_WRITE) = (uint8_t)(i * 13);
	assert_int_equal(request(a, AERO_BLOCK_WRITE, 3, 40, gpa), 0);
	assert_int_equal(request(b, AERO_BLOCK_READ, 3, 40, gpa), 0);
	assert_int_equal(*(uint8_t *)fake_hv_touch(b, gpa + 1, P2M_READ), 0); /* its own, empty */
	assert_int_equal(request(a, AERO_BLOCK_READ, 3, 40, MIB(8)), 0);
	for (uint64_t i = 0; i < 40 * 512; i++)
		assert_int_equal(*(uint8_t *)fake_hv_touch(a, MIB(8) + i, P2M_READ), (uint8_t)(i * 13));
	assert_int_equal(fake_disk_data(1)[0], 'A');
	assert_int_equal(a->disk.write_sectors, 40);
	assert_int_equal(a->disk.reads, 1);
	assert_int_equal(request(a, AERO_BLOCK_FLUSH, 0, 0, 0), 0);
	assert_int_equal(fake_disk_flush_count, 1);
	assert_int_equal(a->p2m.pinned, 0);
}

static void bounds(void **state)
{
	struct guest *g = fake_hv_guest("a", 16);

	(void)state;
	assert_int_equal(request(g, AERO_BLOCK_READ, 2047, 1, 0x10000), 0);
	assert_int_equal(request(g, AERO_BLOCK_READ, 2048, 1, 0x10000), -AERO_ERANGE);
	assert_int_equal(request(g, AERO_BLOCK_WRITE, 2047, 2, 0x10000), -AERO_ERANGE);
	assert_int_equal(request(g, AERO_BLOCK_WRITE, UINT64_MAX, 1, 0x10000), -AERO_ERANGE);
	assert_int_equal(request(g, AERO_BLOCK_READ, 0, 1, MIB(16)), -AERO_EFAULT);
	assert_int_equal(request(g, AERO_BLOCK_READ, 0, 2, MIB(16) - 512), -AERO_EFAULT);
	fake_disk_error = ERR_IO;
	assert_int_equal(request(g, AERO_BLOCK_READ, 0, 1, 0x10000), -AERO_EIO);
	assert_int_equal(g->disk.errors, 1);
	fake_disk_error = OK;
	assert_int_equal(g->p2m.pinned, 0);
	g->disk.sector_count = 0;
	assert_int_equal(request(g, AERO_BLOCK_READ, 0, 1, 0x10000), -AERO_ENOENT);
}

/* Requests larger than the hypervisor's buffer, and that 2 MiB mappings survive them. */
static void large(void **state)
{
	struct guest *g = fake_hv_guest("a", 16);
	uint64_t seed = 5;

	(void)state;
	for (uint64_t gpa = MIB(4); gpa < MIB(8); gpa += 8)
		*(uint64_t *)fake_hv_touch(g, gpa, P2M_WRITE) = test_random(&seed);
	uint64_t large_pages = g->p2m.pages_in_2m;

	assert_int_equal(request(g, AERO_BLOCK_WRITE, 0, 2048, MIB(5) - 512), 0);
	assert_int_equal(request(g, AERO_BLOCK_READ, 0, 2048, MIB(10)), 0);
	for (uint64_t at = 0; at < MIB(1); at += 512)
		assert_memory_equal(fake_hv_touch(g, MIB(5) - 512 + at, P2M_READ),
			fake_hv_touch(g, MIB(10) + at, P2M_READ), 512);
	assert_true(g->p2m.pages_in_2m >= large_pages);
	assert_int_equal(request(g, AERO_BLOCK_WRITE, 0, 2049, MIB(5)), -AERO_EINVAL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(regions), TEST(refused), TEST(grown), TEST(transfers),
		TEST(bounds), TEST(large), TEST(swap_lies_behind_the_guests) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
