/*
 * The processor for code of arch/x86 that runs on the build host: arch/x86/cpu.h and percpu.h with the
 * privileged functions replaced. Included first, before any other header of arch/x86.
 */
#pragma once

#define rdmsr    cpu_rdmsr
#define wrmsr    cpu_wrmsr
#define cpuid    cpu_cpuid
#define xsetbv   cpu_xsetbv
#define this_cpu cpu_this_cpu
#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#undef rdmsr
#undef wrmsr
#undef cpuid
#undef xsetbv
#undef this_cpu

static struct pcpu fake_pcpu;
static uint64_t fake_tsc_aux, fake_xcr0;
/* Writes to the MSRs of speculation, in order: the MSR in the upper half. */
static uint64_t fake_barriers[16];
static uint32_t fake_barrier_count;
static bool fake_speculates; /* CPUID is a Skylake's with its microcode */

static inline struct pcpu *this_cpu(void)
{
	return &fake_pcpu;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	return msr == MSR_TSC_AUX ? fake_tsc_aux : 0;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	if (msr == MSR_TSC_AUX)
		fake_tsc_aux = value;
	if (msr == 0x48 || msr == 0x49 || msr == 0x10b)
		fake_barriers[fake_barrier_count++ % 16] = (uint64_t)msr << 32 | value;
}

static inline void xsetbv(uint32_t index, uint64_t value)
{
	(void)index;
	fake_xcr0 = value;
}

/* A small processor: XSAVE with x87, SSE and AVX, RDTSCP, NX, long mode, 48 and 40 bits. */
/* Of no known vendor. */
static inline struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	switch (leaf) {
	case 7:
		return (struct cpuid_regs){ 0, 0, 0, fake_speculates && subleaf == 0 ? 0x14000400 : 0 };
	case 0:
		return (struct cpuid_regs){ 0xd, 0x656b6146, 0x20555043, 0x74736574 };
	case 1:
		return (struct cpuid_regs){ 0x600f10, 0, 1u << 26 | 1u << 28 | 1, 0x078bfbff };
	case 0xd:
		return subleaf == 0 ? (struct cpuid_regs){ 7, 832, 832, 0 } :
			subleaf == 2 ? (struct cpuid_regs){ 256, 576, 0, 0 } :
				       (struct cpuid_regs){ 0 };
	case 0x80000000u:
		return (struct cpuid_regs){ 0x80000008u, 0, 0, 0 };
	case 0x80000001u:
		return (struct cpuid_regs){ 0, 0, 1, 1u << 11 | 1u << 20 | 1u << 27 | 1u << 29 };
	case 0x80000008u:
		return (struct cpuid_regs){ 40 | 48 << 8, 0, 0, 0 };
	default:
		return (struct cpuid_regs){ 0 };
	}
}

static inline uint64_t fake_read_cr4(void)
{
	return CR4_PAE | CR4_MCE;
}
#define read_cr4 fake_read_cr4
