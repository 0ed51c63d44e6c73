/*
 * What cpu.h lacks of the processor's bits and numbers: those that only guests and virtualisation
 * need. Sources: SDM vol. 3A "Control Registers", vol. 4 "Model-Specific Registers".
 */
#pragma once

#include "arch/x86/cpu.h"

#define CR0_DEFINED                                                                                \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
		CR0_PG)
#define CR4_VME (1ull << 0)
#define CR4_PVI (1ull << 1)
#define CR4_PSE (1ull << 4)

#define XCR0_X87    (1ull << 0)
#define XCR0_SSE    (1ull << 1)
#define XCR0_AVX    (1ull << 2)
#define XCR0_AVX512 (7ull << 5)

enum x86_exception {
	X86_DB = 1, X86_NMI = 2, X86_UD = 6, X86_DF = 8, X86_GP = 13, X86_PF = 14, X86_AC = 17,
	X86_MC = 18
};

#define MSR_PLATFORM_ID     0x17u
#define MSR_FEATURE_CONTROL 0x3au
#define MSR_BIOS_SIGN_ID    0x8bu
#define MSR_SYSENTER_CS     0x174u
#define MSR_SYSENTER_ESP    0x175u
#define MSR_SYSENTER_EIP    0x176u
#define MSR_MISC_ENABLE     0x1a0u
#define MSR_DEBUGCTL        0x1d9u
#define MSR_X2APIC_LAST     0x8ffu
#define MSR_STAR            0xc0000081u
#define MSR_LSTAR           0xc0000082u
#define MSR_CSTAR           0xc0000083u
#define MSR_FMASK           0xc0000084u

#define APIC_BASE_BSP     (1ull << 8)
#define APIC_BASE_EXTD    (1ull << 10)
#define APIC_BASE_EN      (1ull << 11)
#define APIC_BASE_DEFAULT 0xfee00000ull
#define DR6_RESET         0xffff0ff0ull
#define DR7_RESET         0x400ull
#define DR7_ENABLE        0xffull /* L0 to G3 */

/* 48-bit linear addresses: bits 63..47 are equal. */
static inline bool x86_canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}
