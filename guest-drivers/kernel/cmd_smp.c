/*
 * smp-start: each other vCPU of the guest is started from real mode, takes interrupts out of HLT, and is
 * put back to where it waited. The kernel itself runs on vCPU 0.
 */
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/format.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/shell.h"
#include "guest-drivers/kernel/smp.h"
#include "guest-drivers/kernel/smp_start.h"
#include "guest-drivers/kernel/timer.h"
#include "guest-drivers/kernel/vm.h"

#define ICR_INIT       0x4500u
#define ICR_STARTUP    0x4600u
#define TEST_VECTOR    0x40u
#define INTERRUPTS     100u
#define START_NS       (5000 * NS_PER_MS)
#define QUIET_NS       (20 * NS_PER_MS)

extern const char smp_code[], smp_code_end[], smp_interrupt[];
void smp_kernel_entry(void);

static volatile uint64_t *word(uint64_t at)
{
	return (volatile uint64_t *)at;
}

static void send(uint32_t id, uint32_t command)
{
	wrmsr(MSR_X2APIC_ICR, (uint64_t)id << 32 | command);
}

static bool wait_until(uint64_t at, uint64_t value)
{
	uint64_t end = now_ns() + START_NS;

	while (*word(at) < value)
		if (now_ns() > end)
			return false;
	return true;
}

static void descriptor_pointer(uint64_t at, uint64_t base, uint64_t limit)
{
	*word(at) = base << 16 | limit;
	*word(at + 8) = base >> 48;
}

void smp_lay_out(void)
{
	uint64_t handler = SMP_PAGE + (uint64_t)(smp_interrupt - smp_code);

	for (uint64_t at = SMP_PAGE; at < SMP_IDT + PAGE_BYTES; at += 8)
		*word(at) = 0;
	memcpy((void *)SMP_PAGE, smp_code, (size_t)(smp_code_end - smp_code));
	*word(SMP_GDT + 8) = 0x00af9a000000ffffull;
	*word(SMP_GDT + 16) = 0x00cf92000000ffffull;
	descriptor_pointer(SMP_GDTR, SMP_GDT, 23);
	descriptor_pointer(SMP_IDTR, SMP_IDT, PAGE_BYTES - 1);
	*word(SMP_IDT + TEST_VECTOR * 16) = handler | 0x08ull << 16 | 0x8eull << 40;
}

void smp_prepare(uint32_t id, uint64_t rsp)
{
	smp_lay_out();
	*word(SMP_ENTRY) = (uint64_t)smp_kernel_entry;
	*word(SMP_RSP) = rsp;
	*word(SMP_ARG) = id;
	*word(SMP_CR3) = vm_kernel_cr3();
	*word(SMP_CR0) = read_cr0();
}

static const char *one(uint32_t id)
{
	smp_lay_out();
	send(id, ICR_INIT);
	send(id, ICR_STARTUP | SMP_PAGE / PAGE_BYTES);
	send(id, ICR_STARTUP | SMP_PAGE / PAGE_BYTES);
	if (!wait_until(SMP_STAGE, 3))
		return "did not start";
	if (*word(SMP_ID) != id)
		return "has another's APIC";
	for (uint64_t n = 1; n <= INTERRUPTS; n++) {
		send(id, TEST_VECTOR);
		if (!wait_until(SMP_COUNT, n))
			return "lost an interrupt";
	}
	send(id, ICR_INIT);
	sched_sleep_ns(QUIET_NS);
	uint64_t taken = *word(SMP_COUNT);

	send(id, TEST_VECTOR);
	sched_sleep_ns(QUIET_NS);
	return *word(SMP_COUNT) == taken ? NULL : "took an interrupt after INIT";
}

static uint32_t vcpu_count(void)
{
	uint32_t r[4];

	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(0xb), "c"(1));
	return r[1] & 0xffff;
}

static void smp_start(unsigned int count, char **words)
{
	uint32_t vcpus = vcpu_count(), good = 0;

	(void)count, (void)words;
	if (smp_count > 1) {
		print("smp-start: the kernel runs on %u vCPUs; start it with 'up' in the boot arguments\n",
		      smp_count);
		return;
	}
	for (uint32_t id = 1; id < vcpus; id++) {
		const char *wrong = one(id);

		good += !wrong;
		if (wrong)
			print("vcpu %u: %s (stage %lu, %lu interrupts)\n", id, wrong, *word(SMP_STAGE),
			      *word(SMP_COUNT));
		else
			print("vcpu %u: started, %u interrupts sent, %lu taken, stopped\n", id, INTERRUPTS,
			      *word(SMP_COUNT));
	}
	print("smp-start: %u of %u others %s\n", good, vcpus - 1, good == vcpus - 1 ? "ok" : "FAILED");
}

/*
 * naps COUNT US: sleeps of 0 to US microseconds one after the other, so that timers fire all around the idle
 * thread's halt; a wake-up that is lost is one that comes late, with the next interrupt or never.
 */
static void naps(unsigned int count, char **words)
{
	uint64_t n = 0, us = 0, longest = 0, random = rdtsc() | 1;

	if (count < 3 || !text_number(words[1], &n) || !text_number(words[2], &us) || !n || !us) {
		print("naps COUNT US\n");
		return;
	}
	for (uint64_t i = 0; i < n; i++) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t ns = (random >> 33) % (us * 1000), start = now_ns();

		sched_sleep_ns(ns);
		longest = MAX(longest, now_ns() - start - ns);
	}
	print("naps: %lu taken, the latest woke %lu us late\n", n, longest / 1000);
}

const struct command commands_smp[] = {
	{ "naps", "COUNT US", "sleeps of up to US microseconds: how late is the latest", naps, true },
	{ "smp-start", "", "starts each other vCPU, interrupts it, stops it", smp_start, true },
	{ 0 },
};
