/*
 * What CPUID tells a guest: the host's answers through an allow-list, computed once a vCPU so that
 * an exit is a look-up. Three places depend on guest state and are patched when it changes:
 * OSXSAVE (CR4), and the size in leaf 0xd (XCR0).
 * Sources: SDM vol. 2A "CPUID"; APM vol. 3 appendix E; vmm/abi/aerostat.h for the leaves of ours.
 */
#pragma once

#include "arch/x86/cpu.h"

typedef void (*cpuid_read_fn)(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out);

#define GUEST_CPUID_BASIC    0xeu /* leaves 0 .. 0xd */
#define GUEST_CPUID_HV       3u
#define GUEST_CPUID_EXTENDED 9u /* 0x80000000 .. 0x80000008 */
#define GUEST_CPUID_INDEXED  16u

struct guest_cpuid {
	struct cpuid_regs basic[GUEST_CPUID_BASIC];
	struct cpuid_regs hv[GUEST_CPUID_HV];
	struct cpuid_regs extended[GUEST_CPUID_EXTENDED];
	struct {
		uint32_t leaf, subleaf;
		struct cpuid_regs regs;
	} indexed[GUEST_CPUID_INDEXED];
	uint32_t indexed_count;
	uint64_t xcr0_allowed; /* 0: no XSAVE for guests */
	uint64_t cr4_allowed;  /* CR4 bits whose features the guest is told of */
	bool rdtscp;
};

struct guest_cpuid_config {
	uint32_t apic_id;
	uint32_t vcpu_count; /* of the guest: ids 0 .. count - 1, one thread a core, one package */
	uint32_t guest_id;
	uint32_t tsc_khz;
	uint32_t call;     /* AERO_CALL_* */
	uint32_t features; /* AERO_FEAT_* */
	bool rdtscp, invpcid; /* the processor lets guests run them */
};

void guest_cpuid_init(struct guest_cpuid *t, const struct guest_cpuid_config *c,
	cpuid_read_fn host);
void guest_cpuid_set_cr4(struct guest_cpuid *t, uint64_t cr4);
void guest_cpuid_set_xcr0(struct guest_cpuid *t, uint64_t xcr0);
/* May the guest load this into XCR0? */
bool guest_cpuid_xcr0_ok(const struct guest_cpuid *t, uint64_t xcr0);
/* Bytes of an XSAVE area with all that the guest may enable; 512 without XSAVE. */
uint32_t guest_cpuid_xsave_bytes(const struct guest_cpuid *t);

/* Leaves with subleaves, and what does not exist (all zero). */
const struct cpuid_regs *guest_cpuid_find_slow(const struct guest_cpuid *t, uint32_t leaf,
	uint32_t subleaf);

#define GUEST_CPUID_INDEXED_LEAVES ((1u << 4) | (1u << 7) | (1u << 0xb) | (1u << 0xd))

static inline const struct cpuid_regs *guest_cpuid_find(const struct guest_cpuid *t, uint32_t leaf,
	uint32_t subleaf)
{
	if (LIKELY(leaf < GUEST_CPUID_BASIC && !(GUEST_CPUID_INDEXED_LEAVES >> leaf & 1u)))
		return &t->basic[leaf];
	return guest_cpuid_find_slow(t, leaf, subleaf);
}
