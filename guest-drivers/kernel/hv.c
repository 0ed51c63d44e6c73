/* Hypercalls: docs/abi.md. */
#include "guest-drivers/kernel/hv.h"

#include "guest-drivers/kernel/cpu.h"

/* Set once at boot. */
bool hv_call_is_vmmcall;
static uint32_t features, tsc_khz;

int64_t hypercall(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	return hypercall_inline(number, a, b, c);
}

bool hv_init(void)
{
	uint32_t r[4];

	cpuid(AERO_CPUID_BASE, r);
	if (r[1] != AERO_CPUID_EBX || r[2] != AERO_CPUID_ECX || r[3] != AERO_CPUID_EDX ||
	    r[0] < AERO_CPUID_TIME)
		return false;
	cpuid(AERO_CPUID_FEATURES, r);
	features = r[1];
	hv_call_is_vmmcall = r[2] == AERO_CALL_VMMCALL;
	cpuid(AERO_CPUID_TIME, r);
	tsc_khz = r[0];
	return tsc_khz != 0;
}

uint32_t hv_features(void)
{
	return features;
}

uint32_t hv_tsc_khz(void)
{
	return tsc_khz;
}

_Noreturn void hv_shutdown(enum aero_shutdown how, uint64_t code)
{
	irq_off();
	hypercall(AERO_HC_SHUTDOWN, how, code, 0);
	for (;;)
		__asm__ volatile("hlt");
}
