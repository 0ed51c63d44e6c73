#include "arch/x86/clock.h"
#include "arch/x86/clock_math.h"
#include "arch/x86/cpu.h"
#include "vmm/platform.h"

#define PIT_CHANNEL2   0x42u
#define PIT_COMMAND    0x43u
#define PIT_GATE       0x61u
#define PIT_LATCH2     0x80u
#define PIT_MODE0_CH2  0xb0u /* channel 2, low then high byte, interrupt on terminal count */
#define GATE_ON        0x01u
#define SPEAKER_ON     0x02u
#define MEASURE_PIT    5966u  /* counts: 5 ms */
#define PIT_TURNS      200000u /* for a dead PIT; a reading is about 3 us on hardware */
#define READ_TRIES     8u
#define TRUST_PERMILLE 10u
/* A last resort: the time of day is then wrong, the order of events is not. */
#define FALLBACK_KHZ   1000000u
#define RDRAND_TRIES   10u
#define JITTER_ROUNDS  64u
#define CPUID_1_ECX_RDRAND (1u << 30)

/* Set once at boot. */
uint64_t platform_tsc_khz;
static uint64_t base_tsc, ns_scale;
static const char *source = "none";

uint64_t platform_tsc(void)
{
	return rdtsc();
}

uint64_t platform_ns(void)
{
	return clock_scale(rdtsc() - base_tsc, ns_scale);
}

/* RDRAND may fail now and then, and says so: SDM vol. 1, "RDRAND". */
static bool rdrand(uint64_t *out)
{
	bool got = false;

	if (!(cpuid(1, 0).ecx & CPUID_1_ECX_RDRAND))
		return false;
	for (uint32_t i = 0; i < RDRAND_TRIES && !got; i++)
		__asm__ volatile("rdrand %0" : "=r"(*out), "=@ccc"(got));
	return got;
}

uint64_t platform_random(void)
{
	uint64_t number = 0, x = rdtsc();

	/* The low bits of when each of some slow and uneven steps ends. */
	for (uint32_t i = 0; i < JITTER_ROUNDS; i++) {
		(void)inb(PIT_GATE);
		x = (x ^ rdtsc()) * 0x9e3779b97f4a7c15ull;
		x ^= x >> 29;
	}
	return rdrand(&number) ? x ^ number : x;
}

const char *clock_source(void)
{
	return source;
}

void clock_spin_us(uint64_t us)
{
	uint64_t start = rdtsc(), ticks = us * platform_tsc_khz / 1000;

	while (rdtsc() - start < ticks)
		cpu_pause();
}

static uint32_t pit_count(void)
{
	outb(PIT_COMMAND, PIT_LATCH2);
	uint32_t low = inb(PIT_CHANNEL2);

	return low | (uint32_t)inb(PIT_CHANNEL2) << 8;
}

/* A count and the TSC around it, from the try that was least disturbed. */
static void pit_sample(uint32_t *count, uint64_t *tsc)
{
	uint64_t best = UINT64_MAX;

	for (uint32_t i = 0; i < READ_TRIES; i++) {
		uint64_t before = rdtsc();
		uint32_t c = pit_count();
		uint64_t took = rdtsc() - before;

		if (took < best) {
			best = took;
			*count = c;
			*tsc = before + took / 2;
		}
	}
}

/* 0: the PIT does not count. */
static uint64_t khz_by_pit(void)
{
	uint8_t gate = inb(PIT_GATE);
	uint32_t first = 0, last = 0, turns;
	uint64_t tsc0 = 0, tsc1 = 0;

	outb(PIT_GATE, (uint8_t)((gate & ~SPEAKER_ON) | GATE_ON));
	outb(PIT_COMMAND, PIT_MODE0_CH2);
	outb(PIT_CHANNEL2, 0xff);
	outb(PIT_CHANNEL2, 0xff);
	/* Its first count takes it up at the next clock of the PIT: wait until it moves. */
	for (turns = 0; turns < PIT_TURNS && pit_count() == 0xffff; turns++)
		cpu_pause();
	pit_sample(&first, &tsc0);
	for (; turns < PIT_TURNS && first - pit_count() < MEASURE_PIT; turns++)
		cpu_pause();
	if (turns < PIT_TURNS)
		pit_sample(&last, &tsc1);
	outb(PIT_GATE, gate);
	if (turns == PIT_TURNS || last >= first)
		return 0;
	return clock_khz_from_pit(tsc1 - tsc0, first - last);
}

/* The processor's own word. Emulators repeat the modelled chip's here, which is not their rate. */
static uint64_t khz_by_cpuid(void)
{
	uint32_t max = cpuid(0, 0).eax;
	uint32_t base_mhz = max >= 0x16 ? cpuid(0x16, 0).eax & 0xffff : 0;

	if (max < 0x15)
		return 0;
	struct cpuid_regs r = cpuid(0x15, 0);
	return clock_khz_from_cpuid15(r.eax, r.ebx, r.ecx, base_mhz);
}

/* VMware's and KVM's timing leaf: kHz in EAX. */
static uint64_t khz_by_hypervisor(void)
{
	if (!(cpuid(1, 0).ecx >> 31) || cpuid(0x40000000, 0).eax < 0x40000010)
		return 0;
	return cpuid(0x40000010, 0).eax;
}

void clock_init(uint64_t entry_tsc)
{
	uint64_t pit = khz_by_pit(), told = khz_by_hypervisor();
	const char *told_by = "hypervisor leaf";

	if (!told) {
		told = khz_by_cpuid();
		told_by = "CPUID 0x15";
	}
	/* What is told is exact, but believed only if the measurement says about the same. */
	if (told && (!pit || clock_close(told, pit, TRUST_PERMILLE))) {
		platform_tsc_khz = told;
		source = told_by;
	} else {
		platform_tsc_khz = pit ? pit : FALLBACK_KHZ;
		source = pit ? "PIT" : "a guess: no PIT, no CPUID leaf";
	}
	base_tsc = entry_tsc;
	ns_scale = clock_ns_scale(platform_tsc_khz);
}
