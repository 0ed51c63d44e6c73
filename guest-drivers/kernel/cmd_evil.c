/* What a bad guest might do to the hypervisor, for its system tests. */
#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/evil.h"
#include "guest-drivers/kernel/format.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"
#include "guest-drivers/kernel/vm.h"

#define FLOOD_CALLS 20000u
#define SHADOWS     3u

static void evil_cli(void)
{
	print("interrupts off, looping\n");
	irq_off();
	for (;;)
		__asm__ volatile("pause");
}

/* A turn is over before it has begun, again and again: what switching costs is not to be the others'. */
static void evil_yield(void)
{
	print("giving way for ever\n");
	irq_off();
	for (;;)
		hypercall(AERO_HC_YIELD, UINT64_MAX, 0, 0);
}

static void evil_doze(void)
{
	print("dozing for ever\n");
	irq_off();
	for (;;) {
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1);
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	}
}

static void evil_triple(void)
{
	char *words[] = { (char *)"crash", (char *)"triple" };

	for (const struct command *c = commands_proc; c->name; c++)
		if (!strcmp(c->name, "crash"))
			c->run(2, words);
}

static struct aero_range balloon_call(uint64_t number, uint64_t gfn, uint32_t count, uint16_t order)
{
	struct aero_range r = { .gfn = gfn, .count = count, .order = order };
	int64_t n = hypercall(number, (uint64_t)&r, 1, 0);

	if (n < 0)
		r.status = (int16_t)n;
	return r;
}

/* Ranges that no page of this guest's can be lost by. */
static void refused_ranges(uint64_t pinned, uint32_t p)
{
	const uint64_t inflate = AERO_HC_BALLOON_INFLATE, deflate = AERO_HC_BALLOON_DEFLATE;
	struct aero_range r = { .gfn = p, .count = 1, .reserved = 1 };

	expect_range("inflate past memory", balloon_call(inflate, memory_pages, 1, 0), 0, -AERO_ERANGE);
	expect_range("inflate at the end of numbers", balloon_call(inflate, UINT64_MAX, 1, 0), 0,
		     -AERO_ERANGE);
	expect_range("inflate across the end", balloon_call(inflate, UINT64_MAX - 1, UINT32_MAX, 0), 0,
		     -AERO_ERANGE);
	expect_range("inflate a block past memory",
		     balloon_call(inflate, ALIGN_UP(memory_pages, BLOCK_PAGES), UINT32_MAX, 9), 0,
		     -AERO_ERANGE);
	expect_range("inflate unaligned 2 MiB", balloon_call(inflate, 513, 1, 9), 0, -AERO_ERANGE);
	expect_range("inflate order 3", balloon_call(inflate, 512, 1, 3), 0, -AERO_EINVAL);
	expect_range("inflate nothing", balloon_call(inflate, p, 0, 0), 0, -AERO_EINVAL);
	expect("inflate with reserved set", hypercall(inflate, (uint64_t)&r, 1, 0), 1);
	expect_range("it says", r, 0, -AERO_EINVAL);
	expect_range("inflate the balloon's own page", balloon_call(inflate, pinned, 1, 0), 0,
		     -AERO_EBUSY);
	expect_range("inflate the block around it",
		     balloon_call(inflate, ALIGN_DOWN(pinned, BLOCK_PAGES), 1, 9), 0, -AERO_EBUSY);
	expect_range("deflate what is not in it", balloon_call(deflate, p, 1, 0), 0, -AERO_EALREADY);
	expect_range("deflate past memory", balloon_call(deflate, memory_pages, 1, 0), 0, -AERO_ERANGE);
}

/* The same page twice: in two calls, and in one. */
static void twice(uint32_t p)
{
	const uint64_t inflate = AERO_HC_BALLOON_INFLATE, deflate = AERO_HC_BALLOON_DEFLATE;
	struct aero_range r[2] = { { .gfn = p, .count = 1 }, { .gfn = p, .count = 1 } };

	*page_address(p) = 0x5a5a5a5a;
	expect_range("inflate a page", balloon_call(inflate, p, 1, 0), 1, 0);
	expect_range("inflate it again", balloon_call(inflate, p, 1, 0), 0, -AERO_EEXIST);
	expect_range("deflate it", balloon_call(deflate, p, 1, 0), 1, 0);
	expect_range("deflate it again", balloon_call(deflate, p, 1, 0), 0, -AERO_EALREADY);
	expect("it reads as zero", (int64_t)*(volatile uint64_t *)page_address(p), 0);
	expect("inflate it twice in one call", hypercall(inflate, (uint64_t)r, 2, 0), 2);
	expect_range("the first", r[0], 1, 0);
	expect_range("the second", r[1], 0, -AERO_EEXIST);
	expect("deflate it twice in one call", hypercall(deflate, (uint64_t)r, 2, 0), 2);
	expect_range("the first", r[0], 1, 0);
	expect_range("the second", r[1], 0, -AERO_EALREADY);
}

static void evil_balloon(void)
{
	uint32_t p = page_alloc(0, PAGE_MAY_WAIT, NULL);
	struct balloon_driver *d = ballooning_lock();

	if (!d || p == NO_PAGE) {
		print("FAIL evil balloon: no balloon, or no page\n");
		return;
	}
	refused_ranges(d->s.page_gpa / PAGE_BYTES, p);
	twice(p);
	ballooning_unlock();
	page_free(p, 0);
	verdict("balloon");
}

/* Uses a page that is in the balloon without taking it out: it comes back by itself, empty. */
static void evil_touch(void)
{
	uint32_t p = page_alloc(0, PAGE_MAY_WAIT, NULL);

	if (p == NO_PAGE)
		return;
	volatile uint64_t *at = page_address(p);

	*at = 0x5a5a5a5a;
	expect_range("inflate", balloon_call(AERO_HC_BALLOON_INFLATE, p, 1, 0), 1, 0);
	expect("read without deflating", (int64_t)*at, 0);
	*at = 1;
	expect("write without deflating", (int64_t)*at, 1);
	expect_range("deflate what came back", balloon_call(AERO_HC_BALLOON_DEFLATE, p, 1, 0), 0,
		     -AERO_EALREADY);
	page_free(p, 0);
	verdict("touch");
}

static bool kick_waits(void)
{
	return rdmsr(MSR_X2APIC_IRR + VECTOR_KICK / 32) >> VECTOR_KICK % 32 & 1;
}

/*
 * STI's shadow lasts for one instruction, also where the hypervisor executes that: an interrupt that waits comes behind
 * it, though CLI follows. Not evil, but nobody else does so.
 */
static void evil_shadow(void)
{
	preempt_off();
	for (uint32_t i = 0; i < SHADOWS; i++) {
		irq_off();
		wrmsr(MSR_X2APIC_SELF_IPI, VECTOR_KICK);
		expect("waits with interrupts off", kick_waits(), 1);
		__asm__ volatile("sti; cpuid; cli" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
		expect("has come behind STI, CPUID", kick_waits(), 0);
		irq_on();
	}
	preempt_on();
	verdict("shadow");
}

/* A mapping to where no memory lies, and through it: this guest must end by a fault of its own. */
static void evil_outside(void)
{
	const unsigned int slot = 5; /* of the PML4: the kernel uses 0, processes 1 */
	const uint64_t link = PTE_PRESENT | PTE_WRITE, at = (uint64_t)slot << 39;
	uint64_t *table[3];

	for (unsigned int i = 0; i < ARRAY_COUNT(table); i++) {
		uint32_t p = page_alloc(0, PAGE_MAY_WAIT, NULL);

		if (p == NO_PAGE)
			return;
		table[i] = page_address(p);
		memset(table[i], 0, PAGE_BYTES);
	}
	preempt_off();
	((uint64_t *)(read_cr3() & PTE_ADDRESS))[slot] = (uint64_t)table[0] | link;
	table[0][0] = (uint64_t)table[1] | link;
	table[1][0] = (uint64_t)table[2] | link;
	table[2][0] = (uint64_t)memory_pages * PAGE_BYTES | link | PTE_NX;
	print("reading past the end of memory\n");
	print("FAIL evil outside: it reads %lu\n", *(volatile uint64_t *)at);
	preempt_on();
}

/* Gives back what `zeroes` took: a chain through the descriptors. */
static void free_chain(uint32_t p)
{
	while (p != NO_PAGE) {
		uint32_t next = memory.pages[p].next;

		page_free(p, 0);
		p = next;
	}
}

/*
 * A page that is only read has no frame of its own. So each gets a word written, after which the
 * other 511 must still be zero: no byte of whoever had the frame before.
 */
static void zeroes(unsigned int count, char **words)
{
	uint32_t chain = NO_PAGE, p;
	uint64_t checked = 0;
	bool zero, good = true;

	(void)count, (void)words;
	while (good && (p = page_alloc(0, PAGE_NO_WAIT, &zero)) != NO_PAGE) {
		volatile uint64_t *w = page_address(p);
		uint32_t mine = p & 511;

		memory.pages[p].next = chain;
		chain = p;
		if (!zero)
			continue;
		w[mine] = UINT64_MAX;
		for (uint32_t i = 0; i < 512 && good; i++)
			if (w[i] != (i == mine ? UINT64_MAX : 0)) {
				print("zeroes: FAIL at page %u word %u: 0x%lx\n", p, i, w[i]);
				good = false;
			}
		checked++;
	}
	free_chain(chain);
	if (good)
		print("zeroes: PASS %lu pages\n", checked);
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{ "cli", evil_cli },
	{ "triple", evil_triple },
	{ "yield", evil_yield },
	{ "doze", evil_doze },
	{ "addresses", evil_addresses },
	{ "balloon", evil_balloon },
	{ "touch", evil_touch },
	{ "block", evil_block },
	{ "outside", evil_outside },
	{ "shadow", evil_shadow },
};

static void evil(unsigned int count, char **words)
{
	uint64_t calls = FLOOD_CALLS;

	evil_begin();
	if (count >= 2 && !strcmp(words[1], "hypercalls") &&
	    (count == 2 || (count == 3 && text_number(words[2], &calls)))) {
		evil_flood(calls);
		return;
	}
	for (size_t i = 0; count == 2 && i < ARRAY_COUNT(kinds); i++)
		if (!strcmp(words[1], kinds[i].name)) {
			kinds[i].run();
			return;
		}
	print("evil cli|triple|yield|doze|hypercalls [N]|addresses|balloon|touch|block|outside|shadow\n");
}

const struct command commands_evil[] = {
	{ "evil", "KIND [N]", "misbehaves in one way", evil, true },
	{ "zeroes", "", "verifies that never-written memory holds no byte of another's", zeroes, true },
	{ 0 },
};
