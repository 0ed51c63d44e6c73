/* SDM vol. 3A, "TSC-Deadline Mode", "Extended XAPIC (x2APIC)". */
#include "guest-drivers/kernel/timer.h"

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/hv.h"

#define SVR_ENABLE (1u << 8)
#define TIMER_TSC_DEADLINE (2u << 17)

/* Set once at boot: ns = ticks * ns_mult >> 32, and back. */
static uint64_t boot_tsc, ns_mult, tick_mult;
static uint64_t armed_ns = NEVER; /* interrupts off */

static uint64_t scale(uint64_t v, uint64_t mult)
{
	return (uint64_t)((unsigned __int128)v * mult >> 32);
}

void timer_init(void)
{
	ns_mult = (1000000ull << 32) / hv_tsc_khz();
	tick_mult = ((uint64_t)hv_tsc_khz() << 32) / 1000000;
	boot_tsc = rdtsc();
	timer_vcpu_init();
}

void timer_vcpu_init(void)
{
	wrmsr(MSR_X2APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
	wrmsr(MSR_X2APIC_TIMER, TIMER_TSC_DEADLINE | VECTOR_TIMER);
}

uint64_t timer_save(void)
{
	return armed_ns;
}

void timer_load(uint64_t armed)
{
	armed_ns = armed;
}

uint64_t now_ns(void)
{
	return scale(rdtsc() - boot_tsc, ns_mult);
}

uint64_t shared_ns(void)
{
	return scale(rdtsc(), ns_mult);
}

void timer_alarm(uint64_t at_ns)
{
	if (at_ns >= armed_ns)
		return; /* an earlier alarm will come and set this one */
	armed_ns = at_ns;
	wrmsr(MSR_TSC_DEADLINE, boot_tsc + scale(at_ns, tick_mult) + 1);
}

void timer_fired(void)
{
	armed_ns = NEVER;
}

void interrupt_done(void)
{
	wrmsr(MSR_X2APIC_EOI, 0);
}
