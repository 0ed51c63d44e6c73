/* The hypervisor: hypercalls, console, events, the end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/abi/aerostat.h"

/* Finds the hypervisor by CPUID; says which instruction calls it. False: there is none. */
bool hv_init(void);
int64_t hypercall(uint64_t number, uint64_t a, uint64_t b, uint64_t c);

extern bool hv_call_is_vmmcall; /* set once at boot */

/* The same in place, for what is measured. */
static inline int64_t hypercall_inline(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	int64_t r;

	if (__builtin_expect(hv_call_is_vmmcall, 0))
		__asm__ volatile("vmmcall" : "=a"(r) : "a"(number), "D"(a), "S"(b), "d"(c) : "memory");
	else
		__asm__ volatile("vmcall" : "=a"(r) : "a"(number), "D"(a), "S"(b), "d"(c) : "memory");
	return r;
}
uint32_t hv_features(void);
uint32_t hv_tsc_khz(void);
_Noreturn void hv_shutdown(enum aero_shutdown how, uint64_t code);
