/* Pure. */
#include "arch/x86/clock_math.h"

uint64_t clock_khz_from_pit(uint64_t tsc, uint32_t pit)
{
	if (!pit || tsc > UINT64_MAX / CLOCK_PIT_HZ)
		return 0;
	uint64_t divisor = (uint64_t)pit * 1000;

	return (tsc * CLOCK_PIT_HZ + divisor / 2) / divisor;
}

uint64_t clock_khz_from_cpuid15(uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t base_mhz)
{
	if (!eax || !ebx)
		return 0;
	if (ecx)
		return (uint64_t)ecx * ebx / eax / 1000;
	/* The crystal is not told: the TSC then runs at the base clock. */
	return (uint64_t)base_mhz * 1000;
}

bool clock_close(uint64_t a, uint64_t b, uint32_t permille)
{
	uint64_t difference = a > b ? a - b : b - a;

	return difference <= b / 1000 * permille;
}

uint64_t clock_ns_scale(uint64_t khz)
{
	return (1000000ull << 32) / khz;
}
