/* What a bad guest might ask the hypervisor for: what is wrong with the numbers alone. */
#include "guest-drivers/kernel/evil.h"

#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/user.h"

#define FLOOD_SEED  0x9e3779b97f4a7c15ull
#define FLOOD_ORDER 2u /* the scratch page, and room for what a call may write past its start */

static unsigned int failed, passed; /* the shell's thread */

void evil_begin(void)
{
	failed = passed = 0;
}

void expect(const char *what, int64_t found, int64_t expected)
{
	bool good = found == expected;

	failed += !good;
	passed += good;
	if (good)
		print("PASS %s: %ld\n", what, found);
	else
		print("FAIL %s: %ld, not %ld\n", what, found, expected);
}

void verdict(const char *what)
{
	print("evil %s: %u passed, %u failed\n", what, passed, failed);
	print("%s evil %s\n", failed ? "FAIL" : "PASS", what);
}

void expect_range(const char *what, struct aero_range r, uint32_t done, int status)
{
	bool good = r.done == done && r.status == status;

	failed += !good;
	passed += good;
	print("%s %s: done %u status %d", good ? "PASS" : "FAIL", what, r.done, r.status);
	if (good)
		print("\n");
	else
		print(", not done %u status %d\n", done, status);
}

/* What the flood's arguments are made of, besides random numbers. */
static uint64_t extreme(uint64_t *state, uint64_t scratch)
{
	static const uint64_t edge[] = { 0, 1, 7, 31, 256, 511, 513, 4095, 4097, UINT32_MAX,
					 1ull << 47, 1ull << 52, INT64_MAX, UINT64_MAX - 4095, UINT64_MAX };
	uint64_t r = user_random(state), end = (uint64_t)memory_pages * PAGE_BYTES;

	switch (r & 7) {
	case 0:
		return edge[(r >> 3) % ARRAY_COUNT(edge)];
	case 1:
		return end - (r >> 3 & 63);
	case 2:
		return end + (r >> 3 & 4095);
	case 3:
	case 4:
		return scratch + (r >> 3 & 4095);
	case 5:
		return r >> 3 & 2047;
	default:
		return r;
	}
}

/* Ranges and block requests at random, that take none of the guest's memory and spare its disk. */
static void fill_scratch(uint64_t *state, uint64_t scratch)
{
	struct aero_range *range = (struct aero_range *)scratch;

	for (uint32_t i = 0; i < PAGE_BYTES / sizeof(*range); i++)
		range[i] = (struct aero_range){ .gfn = user_random(state) | memory_pages | 1ull << 40,
						.count = (uint32_t)user_random(state),
						.order = user_random(state) & 1 ? 9 : 0 };
}

/* Would the call do what it says, to this guest's own harm? Then the flood leaves it out. */
static bool would_work(uint64_t number, const uint64_t arg[3], uint64_t scratch)
{
	uint64_t end = (uint64_t)memory_pages * PAGE_BYTES;

	switch (number) {
	case AERO_HC_SHUTDOWN:
	case AERO_HC_BALLOON_SETUP:
	case AERO_HC_EVENT_TAKE:
	case AERO_HC_DEBUG:
		return true;
	case AERO_HC_EVENT_SETUP:
		return arg[0] == 0 || (arg[0] >= 32 && arg[0] <= 255);
	case AERO_HC_CONSOLE_WRITE: /* nobody wants to read it */
		return arg[1] != 0 && arg[1] <= 4096 && arg[0] < end;
	case AERO_HC_CONSOLE_READ:
	case AERO_HC_BLOCK_INFO:
	case AERO_HC_BLOCK_IO:
	case AERO_HC_BALLOON_INFLATE:
	case AERO_HC_BALLOON_DEFLATE: /* a buffer in memory, but not in the scratch pages */
		return arg[0] < end && (arg[0] < scratch || arg[0] > scratch + PAGE_BYTES);
	default:
		return false;
	}
}

/* Any number, any arguments, the same ones each time. */
void evil_flood(uint64_t calls)
{
	uint64_t state = FLOOD_SEED, refused = 0;
	uint32_t block = page_alloc(FLOOD_ORDER, PAGE_MAY_WAIT, NULL);
	uint64_t scratch = (uint64_t)page_address(block);

	if (block == NO_PAGE) {
		print("FAIL evil hypercalls: no memory\n");
		return;
	}
	memset((void *)scratch, 0, PAGE_BYTES << FLOOD_ORDER);
	for (uint64_t done = 0; done < calls;) {
		uint64_t arg[3], r = user_random(&state);
		uint64_t number = r & 7 ? (r >> 3) % (AERO_HC_COUNT + 2) : extreme(&state, scratch);

		for (unsigned int k = 0; k < 3; k++)
			arg[k] = extreme(&state, scratch);
		if (would_work(number, arg, scratch))
			continue;
		if (number == AERO_HC_BALLOON_INFLATE || number == AERO_HC_BALLOON_DEFLATE ||
		    number == AERO_HC_BLOCK_IO) {
			fill_scratch(&state, scratch);
			if (arg[0] >= scratch && arg[0] <= scratch + PAGE_BYTES)
				arg[0] -= (arg[0] - scratch) % sizeof(struct aero_range);
		}
		refused += hypercall(number, arg[0], arg[1], arg[2]) < 0;
		done++;
	}
	page_free(block, FLOOD_ORDER);
	hypercall(AERO_HC_PRESSURE, AERO_PRESSURE_NONE, 0, 0);
	hypercall(AERO_HC_BALLOON_REPORT, AERO_BALLOON_IDLE, AERO_REASON_NONE, 0);
	print("evil hypercalls: survived %lu\n", calls);
	print("PASS evil hypercalls: %lu were refused\n", refused);
}

static const struct {
	const char *what;
	uint64_t gpa_from_end; /* bytes before the end of memory; 0: at it */
	uint64_t absolute;     /* instead, if not 0 */
} bad[] = {
	{ "just past memory", 0, 0 },
	{ "across the end of memory", 8, 0 },
	{ "far away", 0, 1ull << 45 },
	{ "last address", 0, UINT64_MAX - 7 },
	{ "wrapping round", 0, UINT64_MAX - 63 },
};

void evil_addresses(void)
{
	uint64_t end = (uint64_t)memory_pages * PAGE_BYTES;

	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		uint64_t gpa = bad[i].absolute ? bad[i].absolute : end - bad[i].gpa_from_end;

		print("%s:\n", bad[i].what);
		expect("console write", hypercall(AERO_HC_CONSOLE_WRITE, gpa, 64, 0), -AERO_EFAULT);
		expect("console read", hypercall(AERO_HC_CONSOLE_READ, gpa, 64, 0), -AERO_EFAULT);
		expect("block info", hypercall(AERO_HC_BLOCK_INFO, gpa, 0, 0), -AERO_EFAULT);
		expect("block io", hypercall(AERO_HC_BLOCK_IO, gpa, 2, 0), -AERO_EFAULT);
		expect("inflate", hypercall(AERO_HC_BALLOON_INFLATE, gpa, 2, 0), -AERO_EFAULT);
		expect("deflate", hypercall(AERO_HC_BALLOON_DEFLATE, gpa, 2, 0), -AERO_EFAULT);
	}
	expect("console write too long", hypercall(AERO_HC_CONSOLE_WRITE, 0x10000, 4097, 0), -AERO_ERANGE);
	expect("block io too many", hypercall(AERO_HC_BLOCK_IO, 0x10000, 65, 0), -AERO_ERANGE);
	expect("inflate too many", hypercall(AERO_HC_BALLOON_INFLATE, 0x10000, 513, 0), -AERO_ERANGE);
	expect("deflate too many", hypercall(AERO_HC_BALLOON_DEFLATE, 0x10000, 513, 0), -AERO_ERANGE);
	expect("block info unaligned", hypercall(AERO_HC_BLOCK_INFO, 0x10004, 0, 0), -AERO_EINVAL);
	expect("block io unaligned", hypercall(AERO_HC_BLOCK_IO, 0x10004, 1, 0), -AERO_EINVAL);
	expect("inflate unaligned", hypercall(AERO_HC_BALLOON_INFLATE, 0x10004, 1, 0), -AERO_EINVAL);
	expect("deflate unaligned", hypercall(AERO_HC_BALLOON_DEFLATE, 0x10004, 1, 0), -AERO_EINVAL);
	expect("inflate with flags", hypercall(AERO_HC_BALLOON_INFLATE, 0x10000, 1, 1), -AERO_EINVAL);
	expect("setup unaligned", hypercall(AERO_HC_BALLOON_SETUP, 0x10008, 0, 0), -AERO_EINVAL);
	expect("setup with flags", hypercall(AERO_HC_BALLOON_SETUP, 0x10000, 1, 0), -AERO_EINVAL);
	expect("event vector 31", hypercall(AERO_HC_EVENT_SETUP, 31, 0, 0), -AERO_EINVAL);
	expect("event vector 256", hypercall(AERO_HC_EVENT_SETUP, 256, 0, 0), -AERO_EINVAL);
	expect("unknown number", hypercall(AERO_HC_COUNT, 0, 0, 0), -AERO_ENOSYS);
	verdict("addresses");
}

/* Requests for the disk that must not be done. */
void evil_block(void)
{
	struct aero_block_info info = { 0 };

	expect("block info", hypercall(AERO_HC_BLOCK_INFO, (uint64_t)&info, 0, 0), 0);
	uint64_t n = info.sector_count, end = (uint64_t)memory_pages * PAGE_BYTES;
	const struct {
		struct aero_block_req req;
		const char *what;
		int status;
	} cases[] = {
		{ { .sector = n, .sectors = 1 }, "past the disk", -AERO_ERANGE },
		{ { .sector = n - 1, .sectors = 2 }, "across its end", -AERO_ERANGE },
		{ { .sector = UINT64_MAX, .sectors = 2 }, "wrapping round", -AERO_ERANGE },
		{ { .sectors = 0 }, "no sectors", -AERO_EINVAL },
		{ { .sectors = 2049 }, "too many sectors", -AERO_EINVAL },
		{ { .sectors = 1, .op = 3 }, "unknown operation", -AERO_EINVAL },
		{ { .sectors = 1, .gpa = 0x10100 }, "unaligned buffer", -AERO_EINVAL },
		{ { .sectors = 1, .gpa = end }, "buffer past memory", -AERO_EFAULT },
		{ { .sectors = 2, .gpa = end - 512 }, "buffer across its end", -AERO_EFAULT },
		{ { .sectors = 1, .gpa = UINT64_MAX - 511 }, "buffer wrapping round", -AERO_EFAULT },
	};

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct aero_block_req req = cases[i].req;

		expect(cases[i].what, hypercall(AERO_HC_BLOCK_IO, (uint64_t)&req, 1, 0), 1);
		expect("its status", req.status, cases[i].status);
	}
	verdict("block");
}
