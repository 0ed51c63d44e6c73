/*
 * Benchmarks from inside a guest: whole paths by RDTSC, the loop's own cost subtracted, medians.
 * Lines: bench NAME VALUE ticks.
 */
#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"

#define SAMPLES 101u
#define BALLOON_PAGES 256u /* less than a 2 MiB block, so that single pages are used */
#define BALLOON_ROUNDS 5u
#define SCRUB_ALL 1000000u

static uint64_t samples[BALLOON_PAGES];
static uint32_t run_pages[BLOCK_PAGES];

static uint64_t median(uint64_t *v, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		uint64_t x = v[i];
		uint32_t k = i;

		for (; k && v[k - 1] > x; k--)
			v[k] = v[k - 1];
		v[k] = x;
	}
	return v[n / 2];
}

static uint64_t overhead(void)
{
	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint64_t t = rdtsc();

		samples[i] = rdtsc() - t;
	}
	return median(samples, SAMPLES);
}

static void result(const char *name, uint64_t ticks)
{
	print("bench %s %lu ticks\n", name, ticks);
}

static void bench_cpuid(const char *name)
{
	uint64_t base = overhead();
	uint32_t r[4];

	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint64_t t = rdtsc();

		cpuid(0, r);
		samples[i] = rdtsc() - t - base;
	}
	result(name, median(samples, SAMPLES));
}

static void bench_null(const char *name)
{
	uint64_t base = overhead();

	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint64_t t = rdtsc();

		hypercall_inline(AERO_HC_NULL, 0, 0, 0);
		samples[i] = rdtsc() - t - base;
	}
	result(name, median(samples, SAMPLES));
}

/* `want` free pages of order 0 into run_pages; `fresh`: only never-touched ones count. */
static uint32_t take_pages(uint32_t want, bool fresh)
{
	uint32_t n = 0, aside = 0;
	static uint32_t other[BLOCK_PAGES];

	while (n < want && aside < BLOCK_PAGES) {
		bool zero;
		uint32_t p = page_alloc(0, PAGE_NO_WAIT, &zero);

		if (p == NO_PAGE)
			break;
		if (fresh && !zero)
			other[aside++] = p;
		else
			run_pages[n++] = p;
	}
	while (aside)
		page_free(other[--aside], 0);
	return n;
}

static void free_pages(uint32_t n)
{
	while (n)
		page_free(run_pages[--n], 0);
}

/* A 2 MiB block that nobody touched yet, or NO_PAGE. */
static uint32_t fresh_block(void)
{
	uint32_t aside[16], n = 0, p;
	bool zero = false;

	for (;;) {
		p = page_alloc(ORDER_MAX, PAGE_NO_WAIT, &zero);
		if (p == NO_PAGE || zero)
			break;
		if (n == ARRAY_COUNT(aside)) {
			page_free(p, ORDER_MAX);
			p = NO_PAGE;
			break;
		}
		aside[n++] = p;
	}
	while (n)
		page_free(aside[--n], ORDER_MAX);
	return p;
}

/* Touches the pages of a block one after the other, as a program that fills memory does. */
static void fault_run(const char *name, bool write)
{
	uint64_t base = overhead();
	uint32_t p = fresh_block();

	if (p == NO_PAGE) {
		print("bench %s: no never-touched 2 MiB block is left\n", name);
		return;
	}
	for (uint32_t i = 0; i < SAMPLES; i++) {
		volatile uint64_t *at = page_address(p + i);
		uint64_t t = rdtsc();

		if (write)
			*at = 1;
		else
			(void)*at;
		samples[i] = rdtsc() - t - base;
	}
	result(name, median(samples, SAMPLES));
	page_free(p, ORDER_MAX);
}

static void bench_fault(const char *name)
{
	fault_run(name, true);
}

static void bench_read_zero(const char *name)
{
	fault_run(name, false);
}

static void bench_fault_nozero(const char *name)
{
	int64_t r; /* a call does a bounded piece: all of them, or the next block may be one that is not clean */

	while ((r = hypercall(AERO_HC_DEBUG, AERO_DEBUG_SCRUB, SCRUB_ALL, 0)) > 0)
		;
	if (r < 0)
		print("bench %s: the hypervisor does not scrub on demand (%ld)\n", name, r);
	else
		fault_run(name, true);
}

/* Moves the driver's target, which it reads from its page, by hand, and works until it is there. */
static uint64_t work_to(struct balloon_driver *d, uint64_t target)
{
	uint64_t t = rdtsc();

	d->s.page->target_pages = target;
	for (uint32_t i = 0; i < 64 && d->actual_pages != target; i++)
		balloon_driver_work(d);
	return rdtsc() - t;
}

static void touch_pages(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		*(volatile uint64_t *)page_address(run_pages[i]) = i;
}

/* Frames that this guest holds; negative where the config does not let it ask. */
static int64_t frames_held(void)
{
	return hypercall(AERO_HC_DEBUG, AERO_DEBUG_GUEST_PAGES, 0, 0);
}

/* Ticks a page of each step of the balloon's. */
struct balloon_ticks {
	uint64_t inflate, deflate, cycle;
};

/* One round: pages that have frames, into the balloon by the real driver, out, touched again. */
static bool balloon_round(struct balloon_driver *d, uint32_t pages, struct balloon_ticks *out)
{
	uint32_t n = take_pages(pages, false);

	if (n < pages) {
		free_pages(n);
		return false;
	}
	touch_pages(n);
	free_pages(n);
	uint64_t before = d->actual_pages, wanted = d->s.page->target_pages;
	int64_t held = frames_held();

	out->inflate = work_to(d, before + pages) / pages;
	bool good = d->actual_pages == before + pages;

	/* Pages without a frame would be cheaper: what went in must have come back as frames. */
	if (held >= 0 && held - frames_held() < (int64_t)pages * 9 / 10) {
		print("bench: only %ld frames came back of %u pages\n", held - frames_held(), pages);
		good = false;
	}
	out->deflate = work_to(d, before) / pages;
	n = take_pages(pages, true);
	uint64_t t = rdtsc();

	touch_pages(n);
	out->cycle = out->inflate + out->deflate + (n ? (rdtsc() - t) / n : 0);
	free_pages(n);
	d->s.page->target_pages = wanted;
	return good && n == pages;
}

static bool balloon_medians(struct balloon_ticks *out)
{
	uint64_t inflate[BALLOON_ROUNDS], deflate[BALLOON_ROUNDS], cycle[BALLOON_ROUNDS];
	struct balloon_driver *d = ballooning_lock();
	bool good = d;

	for (uint32_t i = 0; good && i < BALLOON_ROUNDS; i++) {
		struct balloon_ticks t;

		good = balloon_round(d, BALLOON_PAGES, &t);
		inflate[i] = t.inflate;
		deflate[i] = t.deflate;
		cycle[i] = t.cycle;
	}
	if (d)
		ballooning_unlock();
	if (good)
		*out = (struct balloon_ticks){ .inflate = median(inflate, BALLOON_ROUNDS),
					       .deflate = median(deflate, BALLOON_ROUNDS),
					       .cycle = median(cycle, BALLOON_ROUNDS) };
	return good;
}

static void bench_balloon(const char *name, size_t which)
{
	struct balloon_ticks t;

	if (balloon_medians(&t))
		result(name, *(uint64_t *)((char *)&t + which));
	else
		print("bench %s: no balloon, too little free memory, or pages were refused\n", name);
}

static void bench_inflate(const char *name)
{
	bench_balloon(name, offsetof(struct balloon_ticks, inflate));
}

static void bench_deflate(const char *name)
{
	bench_balloon(name, offsetof(struct balloon_ticks, deflate));
}

static void bench_cycle(const char *name)
{
	bench_balloon(name, offsetof(struct balloon_ticks, cycle));
}

/* A block whose pages were all touched, in and out again: the ticks in, 0 if it did not work. */
static uint64_t block_round(struct balloon_driver *d)
{
	preempt_off();
	uint32_t p = memory.free_pages > watermarks.high + 2 * BLOCK_PAGES ?
		     buddy_alloc(&memory, ORDER_MAX, NULL) : NO_PAGE;

	preempt_on();
	if (p == NO_PAGE)
		return 0;
	for (uint32_t i = 0; i < BLOCK_PAGES; i++)
		*(volatile uint64_t *)page_address(p + i) = i;
	page_free(p, ORDER_MAX);
	uint64_t before = d->actual_pages, wanted = d->s.page->target_pages;
	uint64_t blocks = d->inflated_2m;
	int64_t held = frames_held();
	uint64_t ticks = work_to(d, before + BLOCK_PAGES);
	bool good = d->actual_pages == before + BLOCK_PAGES && d->inflated_2m == blocks + 1;

	if (held >= 0 && held - frames_held() < (int64_t)BLOCK_PAGES) {
		print("bench: only %ld frames came back of a block\n", held - frames_held());
		good = false;
	}
	work_to(d, before);
	d->s.page->target_pages = wanted;
	return good ? ticks : 0;
}

static void bench_inflate_2m(const char *name)
{
	uint64_t ticks[BALLOON_ROUNDS];
	struct balloon_driver *d = ballooning_lock();
	uint32_t done = 0;

	while (d && done < BALLOON_ROUNDS && (ticks[done] = block_round(d)))
		done++;
	if (d)
		ballooning_unlock();
	if (done == BALLOON_ROUNDS)
		result(name, median(ticks, done));
	else
		print("bench %s: no whole free 2 MiB block, or it was refused\n", name);
}

/*
 * The same faults, in one go, from a moment that all guests agree on: the TSC is the machine's, and the
 * next multiple of MEETING is far enough away for an operator to tell several guests. So what they do
 * together can be compared with what one does alone.
 */
#define MEETING       (1ull << 27)
#define MEETING_PAGES 448u

static void bench_together(const char *name)
{
	uint32_t p = fresh_block();

	if (p == NO_PAGE) {
		print("bench %s: no never-touched 2 MiB block is left\n", name);
		return;
	}
	*(volatile uint64_t *)page_address(p) = 1; /* the table is there */
	uint64_t flags = irq_save(), t = ALIGN_UP(rdtsc() + 1, MEETING);

	while (rdtsc() < t)
		;
	for (uint32_t i = 1; i <= MEETING_PAGES; i++)
		*(volatile uint64_t *)page_address(p + i) = 1;
	uint64_t ticks = rdtsc() - t;

	irq_restore(flags);
	page_free(p, ORDER_MAX);
	result(name, ticks / MEETING_PAGES);
}

/* Pages of one content, for the hypervisor to find; then each is written to. What it does meanwhile is the
 * operator's. */
static uint32_t equal_pages, equal_page[SAMPLES];

static void bench_equal(void)
{
	if (equal_pages == 0) {
		equal_pages = take_pages(SAMPLES, false);
		memcpy(equal_page, run_pages, sizeof(equal_page));
	}
	for (uint32_t i = 0; i < equal_pages; i++) {
		uint64_t *at = page_address(equal_page[i]);

		for (uint32_t k = 0; k < PAGE_BYTES / 8; k++)
			at[k] = 0x65717561 + k;
	}
	print("bench equal: %u pages\n", equal_pages);
}

static void bench_cow(const char *name)
{
	uint64_t base = overhead();

	if (equal_pages != SAMPLES) {
		print("bench %s: first `bench equal`\n", name);
		return;
	}
	for (uint32_t i = 0; i < SAMPLES; i++) {
		volatile uint64_t *at = page_address(equal_page[i]);
		uint64_t t = rdtsc();

		*at = i;
		samples[i] = rdtsc() - t - base;
	}
	result(name, median(samples, SAMPLES));
	while (equal_pages)
		page_free(equal_page[--equal_pages], 0);
}

static const struct {
	const char *name;
	void (*run)(const char *name);
} benches[] = {
	{ "cpuid_exit", bench_cpuid },
	{ "hypercall_null", bench_null },
	{ "fault_4k", bench_fault },
	{ "fault_4k_nozero", bench_fault_nozero },
	{ "fault_read_zero", bench_read_zero },
	{ "balloon_inflate_4k", bench_inflate },
	{ "balloon_deflate_4k", bench_deflate },
	{ "balloon_cycle_4k", bench_cycle },
	{ "balloon_inflate_2m", bench_inflate_2m },
};

static void bench(unsigned int count, char **words)
{
	bool any = false;

	for (size_t i = 0; count == 2 && i < ARRAY_COUNT(benches); i++)
		if (!strcmp(words[1], "all") || !strcmp(words[1], benches[i].name)) {
			benches[i].run(benches[i].name);
			any = true;
		}
	if (count == 2 && !strcmp(words[1], "together")) {
		bench_together("fault_together");
		any = true;
	}
	if (count == 2 && !strcmp(words[1], "equal")) {
		bench_equal();
		any = true;
	}
	if (count == 2 && !strcmp(words[1], "cow_break")) {
		bench_cow("cow_break");
		any = true;
	}
	if (any) {
		print("bench done\n");
		return;
	}
	print("bench all|together|equal|cow_break");
	for (size_t i = 0; i < ARRAY_COUNT(benches); i++)
		print("|%s", benches[i].name);
	print("\n");
}

const struct command commands_bench[] = {
	{ "bench", "NAME|all|together|equal|cow_break",
		"measures exits, faults and the balloon in ticks", bench, true },
	{ 0 },
};
