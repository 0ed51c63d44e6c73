#include "arch/x86/lapic.h"
#include "arch/x86/clock_math.h"
#include "arch/x86/cpu.h"
#include "vmm/platform.h"

#define APIC_BASE_ENABLE (1ull << 11)
#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ADDR   0x000ffffffffff000ull

/* Offsets of the memory-mapped registers; an x2APIC register's MSR is 0x800 + offset / 16. */
#define LAPIC_ID        0x020u
#define LAPIC_VERSION   0x030u
#define LAPIC_TPR       0x080u
#define LAPIC_EOI       0x0b0u
#define LAPIC_SVR       0x0f0u
#define LAPIC_ISR       0x100u
#define LAPIC_ESR       0x280u
#define LAPIC_ICR       0x300u
#define LAPIC_ICR_HIGH  0x310u
#define LAPIC_LVT_TIMER 0x320u
#define LAPIC_LVT_LINT0 0x350u
#define LAPIC_LVT_ERROR 0x370u
#define LAPIC_INITIAL   0x380u
#define LAPIC_CURRENT   0x390u
#define LAPIC_DIVIDE    0x3e0u

#define SVR_ENABLE         (1u << 8)
#define LVT_MASKED         (1u << 16)
#define LVT_TSC_DEADLINE   (2u << 17)
#define DIVIDE_BY_16       0x3u
#define CPUID_1_ECX_TSCDL  (1u << 24)
#define ISR_WORDS          8u
#define CALIBRATE_MS       2u
#define ICR_PENDING        (1u << 12)
#define ICR_OTHERS         (3u << 18)
#define ICR_WAIT_TURNS     100000u /* for a dead bus; a message takes about a microsecond */

#define PIC1_COMMAND 0x20u
#define PIC1_DATA    0x21u
#define PIC2_COMMAND 0xa0u
#define PIC2_DATA    0xa1u

/* Set once at boot. */
static volatile uint32_t *mmio; /* NULL: x2APIC */
static bool tsc_deadline;
static uint64_t timer_scale; /* timer counts a TSC tick, times 2^32 */

static uint32_t lapic_read(uint32_t reg)
{
	if (mmio)
		return mmio[reg / 4];
	return (uint32_t)rdmsr(MSR_X2APIC_FIRST + reg / 16);
}

static void lapic_write(uint32_t reg, uint32_t v)
{
	if (mmio)
		mmio[reg / 4] = v;
	else
		wrmsr(MSR_X2APIC_FIRST + reg / 16, v);
}

hpa_t lapic_mmio_base(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	return HPA(base & APIC_BASE_X2APIC ? 0 : base & APIC_BASE_ADDR);
}

uint32_t lapic_id(void)
{
	uint32_t id = lapic_read(LAPIC_ID);

	return mmio ? id >> 24 : id;
}

uint32_t lapic_id_max(void)
{
	return mmio ? 254 : UINT32_MAX - 1;
}

void lapic_eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}

/* Both 8259s: vectors moved off the exceptions (for spurious ones), every line masked. */
static void pic_disable(void)
{
	outb(PIC1_COMMAND, 0x11);
	outb(PIC2_COMMAND, 0x11);
	outb(PIC1_DATA, VECTOR_FIRST_EXTERNAL);
	outb(PIC2_DATA, VECTOR_FIRST_EXTERNAL + 8);
	outb(PIC1_DATA, 4);
	outb(PIC2_DATA, 2);
	outb(PIC1_DATA, 1);
	outb(PIC2_DATA, 1);
	outb(PIC1_DATA, 0xff);
	outb(PIC2_DATA, 0xff);
}

/* Ends what the firmware left in service, or lower vectors would never be delivered. */
static void end_in_service(void)
{
	for (uint32_t word = 0; word < ISR_WORDS; word++)
		for (uint32_t n = 0; n < 32 && lapic_read(LAPIC_ISR + word * 16); n++)
			lapic_eoi();
}

/* The timer's rate against the TSC's. */
static void calibrate(void)
{
	lapic_write(LAPIC_DIVIDE, DIVIDE_BY_16);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
	lapic_write(LAPIC_INITIAL, UINT32_MAX);
	uint64_t start = rdtsc(), ticks = platform_ms_to_tsc(CALIBRATE_MS);
	while (rdtsc() - start < ticks)
		cpu_pause();
	uint64_t counted = UINT32_MAX - lapic_read(LAPIC_CURRENT);

	ticks = rdtsc() - start;
	lapic_write(LAPIC_INITIAL, 0);
	timer_scale = (counted << 32) / ticks;
}

/* On, and in the mode that the boot CPU's is in: x2APIC is only reached through xAPIC. */
static void enable(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;

	wrmsr(MSR_APIC_BASE, base);
	if (!mmio && !(base & APIC_BASE_X2APIC))
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
}

static void set_up(void)
{
	enable();
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED | VECTOR_SPURIOUS);
	lapic_write(LAPIC_LVT_ERROR, LVT_MASKED | VECTOR_SPURIOUS);
	lapic_write(LAPIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
	lapic_write(LAPIC_TPR, 0);
	end_in_service();
}

static void timer_mode(void)
{
	if (tsc_deadline) {
		lapic_write(LAPIC_LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
		/* xAPIC: the mode must arrive before the MSR is written (SDM, TSC-Deadline). */
		__asm__ volatile("mfence" : : : "memory");
	} else {
		lapic_write(LAPIC_DIVIDE, DIVIDE_BY_16);
		lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
	}
}

void lapic_init(volatile void *registers)
{
	mmio = registers;
	pic_disable();
	set_up();
	tsc_deadline = cpuid(1, 0).ecx & CPUID_1_ECX_TSCDL;
	if (!tsc_deadline)
		calibrate();
	timer_mode();
}

void lapic_cpu_init(void)
{
	set_up();
	timer_mode();
}

/* xAPIC: the last message must be on its way before the next is written. */
static void wait_until_sent(void)
{
	for (uint32_t i = 0; i < ICR_WAIT_TURNS && lapic_read(LAPIC_ICR) & ICR_PENDING; i++)
		cpu_pause();
}

static void send(uint32_t apic_id, uint32_t command)
{
	if (!mmio) {
		/* The write is not serialising (SDM, MSR Access in x2APIC Mode). */
		__asm__ volatile("mfence; lfence" : : : "memory");
		wrmsr(MSR_X2APIC_FIRST + LAPIC_ICR / 16, (uint64_t)apic_id << 32 | command);
		return;
	}
	wait_until_sent();
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR, command);
}

void lapic_ipi(uint32_t apic_id, uint32_t command)
{
	send(apic_id, command);
}

void lapic_ipi_others(uint32_t command)
{
	send(0, command | ICR_OTHERS);
}

void lapic_timer_arm(uint64_t now_tsc, uint64_t ticks)
{
	if (tsc_deadline) {
		wrmsr(MSR_TSC_DEADLINE, now_tsc + ticks);
		return;
	}
	uint64_t count = clock_scale(ticks, timer_scale);

	lapic_write(LAPIC_INITIAL, count > UINT32_MAX ? UINT32_MAX : count ? (uint32_t)count : 1);
}

void lapic_timer_disarm(void)
{
	if (tsc_deadline)
		wrmsr(MSR_TSC_DEADLINE, 0);
	else
		lapic_write(LAPIC_INITIAL, 0);
}
