/* What a bad guest might do to the hypervisor, for its system tests. */
#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"

#define FLOOD_CALLS 20000u

static unsigned int failed;

static void expect(const char *what, int64_t found, int64_t expected)
{
	bool good = found == expected;

	failed += !good;
	if (good)
		print("PASS %s: %ld\n", what, found);
	else
		print("FAIL %s: %ld, not %ld\n", what, found, expected);
}

static void verdict(const char *what)
{
	print("%s evil %s: %u failed\n", failed ? "FAIL" : "PASS", what, failed);
}

static void evil_cli(void)
{
	print("interrupts off, looping\n");
	irq_off();
	for (;;)
		__asm__ volatile("pause");
}

static void evil_triple(void)
{
	char *words[] = { (char *)"crash", (char *)"triple" };

	for (const struct command *c = commands_proc; c->name; c++)
		if (!strcmp(c->name, "crash"))
			c->run(2, words);
}

/* Any number, any arguments, but nothing that ends the guest or takes its own memory away. */
static void evil_hypercalls(void)
{
	uint64_t state = rdtsc() | 1, done = 0, errors = 0;

	for (uint32_t i = 0; i < FLOOD_CALLS; i++) {
		uint64_t r[4];

		for (unsigned int k = 0; k < 4; k++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			r[k] = state;
		}
		uint64_t number = r[3] & 1 ? r[0] : r[0] % (AERO_HC_COUNT + 2);

		/* in the guest's memory such a call would do what it says: keep the address out of it */
		uint64_t a = r[1] | 1ull << 45;

		if (number == AERO_HC_SHUTDOWN || number == AERO_HC_BALLOON_SETUP ||
		    number == AERO_HC_EVENT_SETUP || number == AERO_HC_EVENT_TAKE ||
		    number == AERO_HC_DEBUG)
			continue;
		done++;
		errors += hypercall(number, a, r[2], r[3]) < 0;
	}
	print("PASS evil hypercalls: survived %lu calls, %lu were refused\n", done, errors);
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
};

static void evil_addresses(void)
{
	uint64_t end = (uint64_t)memory_pages * PAGE_BYTES;

	failed = 0;
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
	expect("unknown number", hypercall(AERO_HC_COUNT, 0, 0, 0), -AERO_ENOSYS);
	verdict("addresses");
}

static struct aero_range balloon_call(uint64_t number, uint64_t gfn, uint32_t count, uint16_t order)
{
	struct aero_range r = { .gfn = gfn, .count = count, .order = order };
	int64_t n = hypercall(number, (uint64_t)&r, 1, 0);

	if (n < 0)
		r.status = (int16_t)n;
	return r;
}

static void expect_range(const char *what, struct aero_range r, uint32_t done, int status)
{
	bool good = r.done == done && r.status == status;

	failed += !good;
	print("%s %s: done %u status %d", good ? "PASS" : "FAIL", what, r.done, r.status);
	if (good)
		print("\n");
	else
		print(", not done %u status %d\n", done, status);
}

static void evil_balloon(void)
{
	uint32_t p = page_alloc(0, PAGE_MAY_WAIT, NULL);
	struct balloon_driver *d = ballooning_lock();

	failed = 0;
	if (!d || p == NO_PAGE) {
		print("FAIL evil balloon: no balloon, or no page\n");
		return;
	}
	expect_range("inflate past memory", balloon_call(AERO_HC_BALLOON_INFLATE, memory_pages, 1, 0), 0,
		     -AERO_ERANGE);
	expect_range("inflate at the end of numbers",
		     balloon_call(AERO_HC_BALLOON_INFLATE, UINT64_MAX, 1, 0), 0, -AERO_ERANGE);
	expect_range("inflate across the end",
		     balloon_call(AERO_HC_BALLOON_INFLATE, UINT64_MAX - 1, UINT32_MAX, 0), 0, -AERO_ERANGE);
	expect_range("inflate unaligned 2 MiB", balloon_call(AERO_HC_BALLOON_INFLATE, 513, 1, 9), 0,
		     -AERO_ERANGE);
	expect_range("inflate order 3", balloon_call(AERO_HC_BALLOON_INFLATE, 512, 1, 3), 0, -AERO_EINVAL);
	expect_range("deflate what is not in it", balloon_call(AERO_HC_BALLOON_DEFLATE, p, 1, 0), 0,
		     -AERO_EALREADY);
	expect_range("deflate past memory", balloon_call(AERO_HC_BALLOON_DEFLATE, memory_pages, 1, 0), 0,
		     -AERO_ERANGE);
	expect_range("inflate a page", balloon_call(AERO_HC_BALLOON_INFLATE, p, 1, 0), 1, 0);
	expect_range("inflate it again", balloon_call(AERO_HC_BALLOON_INFLATE, p, 1, 0), 0, -AERO_EEXIST);
	expect_range("deflate it", balloon_call(AERO_HC_BALLOON_DEFLATE, p, 1, 0), 1, 0);
	expect("it reads as zero", (int64_t)*page_address(p), 0);
	ballooning_unlock();
	page_free(p, 0);
	verdict("balloon");
}

/* Touches a page that is in the balloon: the hypervisor decides what happens to this guest. */
static void evil_touch(void)
{
	uint32_t p = page_alloc(0, PAGE_MAY_WAIT, NULL);

	if (p == NO_PAGE)
		return;
	struct aero_range r = balloon_call(AERO_HC_BALLOON_INFLATE, p, 1, 0);

	print("page %u: inflated, status %d; touching it\n", p, r.status);
	*(volatile uint64_t *)page_address(p) = 1;
	print("evil touch: went on, reads %lu\n", *(volatile uint64_t *)page_address(p));
	balloon_call(AERO_HC_BALLOON_DEFLATE, p, 1, 0);
	page_free(p, 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{ "cli", evil_cli },
	{ "triple", evil_triple },
	{ "hypercalls", evil_hypercalls },
	{ "addresses", evil_addresses },
	{ "balloon", evil_balloon },
	{ "touch", evil_touch },
};

static void evil(unsigned int count, char **words)
{
	for (size_t i = 0; count == 2 && i < ARRAY_COUNT(kinds); i++)
		if (!strcmp(words[1], kinds[i].name)) {
			kinds[i].run();
			return;
		}
	print("evil cli|triple|hypercalls|addresses|balloon|touch\n");
}

const struct command commands_evil[] = {
	{ "evil", "KIND", "misbehaves in one way", evil, true },
	{ 0 },
};
