/*
 * Pages on their guest's own disk with several CPUs at once: CPU 0 takes pages of a guest by the ladder's
 * steps, while three vCPUs write to pages and blocks of their own, read them back, and check every byte. One
 * has the disk at a time, as vmm/disk_turn.h sees to it. The ladder's clock, which is read between a page's
 * being taken and its being settled, yields.
 */
#include "mm/alias.h"
#include "mm/compress.h"
#include "mm/reclaim.h"
#include "tests/fake/cpu.h"
#include "tests/fake/hv.h"
#include "tests/unit/unit.h"
#include "vmm/block.h"
#include "vmm/ladder.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define CPUS    4u /* the first is the ladder's */
#define FIRST   1024u /* gfn */
#define PAGES   32u /* a vCPU's */
#define BLOCKS  24u /* of the guest's disk, a vCPU's */
#define STEPS   40000u

static uint8_t memory[CPUS][PAGES][PAGE_BYTES], disk[CPUS][BLOCKS][PAGE_BYTES];
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct guest *guest;
static bool stop;
static uint64_t more_seed; /* the environment's SEED: for a longer look */

static void wrong(const char *what, uint32_t cpu, uint32_t at)
{
	fprintf(stderr, "CPU %u: %s %u is not what was written\n", cpu, what, at);
	abort();
}

static uint64_t clock_that_yields(void)
{
	sched_yield();
	return 1;
}

static void *ladder_thread(void *arg)
{
	struct reclaim r = { .seed = 1 };
	uint64_t seed = 3 + more_seed;
	uint32_t freed;

	(void)arg;
	fake_cpu_index = 0;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct reclaim_order o = { .pages = 32, .now = 1, .drop = test_random(&seed) % 8 != 0,
			.compress = test_random(&seed) % 2, .swap = true, .clock = clock_that_yields };

		r.hand = FIRST + (test_random(&seed) % ((CPUS - 1) * PAGES) & ~(uint64_t)(EVICT_WINDOW - 1));
		r.vain = 1;
		(void)reclaim_step(&r, &guest->p2m, &o, &freed);
		for (uint32_t i = 0; i < 4; i++)
			(void)platform_disk_poll();
		if (test_random(&seed) % 16 == 0)
			reclaim_let_go(&r, &guest->p2m);
		if (test_random(&seed) % 8 == 0)
			swap_push();
		sched_yield();
	}
	reclaim_let_go(&r, &guest->p2m);
	return NULL;
}

static uint64_t gpa_of(uint32_t cpu, uint32_t page)
{
	return (uint64_t)(FIRST + (cpu - 1) * PAGES + page) * PAGE_BYTES;
}

static void copy(bool to, uint32_t cpu, uint32_t page, uint32_t offset, uint32_t bytes, void *buf)
{
	gpa_t at = GPA(gpa_of(cpu, page) + offset);
	status_t s;

	do {
		s = to ? p2m_copy_to(&guest->p2m, at, buf, bytes) : p2m_copy_from(&guest->p2m, at, buf, bytes);
		if (s == ERR_BUSY)
			sched_yield();
	} while (s == ERR_BUSY);
	if (s != OK)
		wrong("status of page", cpu, page);
}

static void request(uint32_t cpu, uint16_t op, uint32_t block, uint32_t skip, uint32_t sectors, uint64_t gpa)
{
	struct aero_block_req r = { .sector = (uint64_t)((cpu - 1) * BLOCKS + block) * 8 + skip, .gpa = gpa,
		.sectors = sectors, .op = op };
	struct block_wait wait;
	int64_t result;

	do {
		wait.bytes = 0;
		pthread_mutex_lock(&turn);
		result = block_request(&guest->vcpu[cpu - 1], &r, &wait);
		pthread_mutex_unlock(&turn);
		if (wait.bytes)
			sched_yield();
	} while (wait.bytes && wait.status != ERR_IO);
	if (result)
		wrong("status of block", cpu, block);
}

static void fill(uint8_t *page, uint64_t seed)
{
	uint64_t same = seed % 2; /* as well as nothing can be compressed; or some */

	for (uint32_t i = 0; i < PAGE_BYTES; i += 8) {
		uint64_t word = same && i % 64 ? seed : test_random(&seed);

		memcpy(page + i, &word, 8);
	}
}

static void step(uint32_t cpu, uint64_t *seed)
{
	uint32_t page = (uint32_t)(test_random(seed) % PAGES), block = (uint32_t)(test_random(seed) % BLOCKS);
	uint8_t have[PAGE_BYTES];
	uint32_t skip;

	switch (test_random(seed) % 8) {
	case 0: /* all of a page, or a byte */
		fill(memory[cpu][page], test_random(seed));
		copy(true, cpu, page, 0, PAGE_BYTES, memory[cpu][page]);
		break;
	case 1:
		memory[cpu][page][7] ^= 1;
		copy(true, cpu, page, 7, 1, &memory[cpu][page][7]);
		break;
	case 2:
		request(cpu, AERO_BLOCK_WRITE, block, 0, 8, gpa_of(cpu, page));
		memcpy(disk[cpu][block], memory[cpu][page], PAGE_BYTES);
		break;
	case 3: /* a sector of it */
		skip = (uint32_t)(test_random(seed) % 8);
		request(cpu, AERO_BLOCK_WRITE, block, skip, 1, gpa_of(cpu, page));
		memcpy(disk[cpu][block] + skip * 512, memory[cpu][page], 512);
		break;
	case 4:
	case 5:
		request(cpu, AERO_BLOCK_READ, block, 0, 8, gpa_of(cpu, page));
		memcpy(memory[cpu][page], disk[cpu][block], PAGE_BYTES);
		break;
	default:
		copy(false, cpu, page, 0, PAGE_BYTES, have);
		if (memcmp(have, memory[cpu][page], PAGE_BYTES))
			wrong("page", cpu, page);
		break;
	}
}

static void *vcpu_thread(void *index)
{
	uint64_t seed = 100 + more_seed + (uint64_t)(uintptr_t)index;

	fake_cpu_index = (uint32_t)(uintptr_t)index;
	for (uint32_t i = 0; i < STEPS; i++) {
		step(fake_cpu_index, &seed);
		sched_yield();
	}
	for (uint32_t p = 0; p < PAGES; p++) {
		uint8_t have[PAGE_BYTES];

		copy(false, fake_cpu_index, p, 0, PAGE_BYTES, have);
		if (memcmp(have, memory[fake_cpu_index][p], PAGE_BYTES))
			wrong("page in the end", fake_cpu_index, p);
	}
	return NULL;
}

static void written_and_taken_at_once(void **state)
{
	struct config_guest c;
	char error[CONFIG_ERROR_BYTES];
	struct alias_counts n;
	pthread_t thread[CPUS];

	(void)state;
	more_seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) * 1000 : 0;
	fake_cpu_count = CPUS;
	fake_hv_start(8192);
	hv_config.swap_bytes = MIB(1);
	hv_config.compressed_bytes = MIB(1);
	block_init(&hv_config);
	ladder_init(&hv_config);
	assert_int_equal(compress_init(1), OK);
	virt_caps.real_mode = true;
	c = fake_hv_config("a", 16);
	c.vcpus = CPUS - 1;
	if (guest_create(&c, &guest, error) != OK)
		fail_msg("%s", error);
	assert_int_equal(pthread_create(&thread[0], NULL, ladder_thread, NULL), 0);
	for (uintptr_t i = 1; i < CPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, vcpu_thread, (void *)i), 0);
	for (uint32_t i = 1; i < CPUS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread[0], NULL), 0);
	while (platform_disk_busy())
		(void)platform_disk_poll();
	assert_int_equal(fake_hv_audit(), 0);
	for (uint32_t i = 1; i < CPUS; i++)
		assert_memory_equal(fake_disk_data(1) + (guest->disk.first_sector + (i - 1) * BLOCKS * 8) * 512,
			disk[i],
			sizeof(disk[i]));
	alias_counts(&n);
	print_message("%llu dropped, %llu broken, %llu reads; %llu wanted back\n", (unsigned long long)n.taken,
		(unsigned long long)n.broken, (unsigned long long)n.reads,
		(unsigned long long)reclaim_total.wanted_back);
	assert_true(reclaim_total.pages[RECLAIM_COMPRESS] > 100);
	assert_int_equal(n.wrong, 0);
	assert_true(n.taken > 100);
	assert_true(n.broken > 10);
	fake_hv_destroy_all();
	assert_int_equal(fake_hv_audit(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(written_and_taken_at_once) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
