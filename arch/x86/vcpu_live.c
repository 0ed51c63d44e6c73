/* See vcpu_live.h. */
#include "arch/x86/vcpu_live.h"
#include "arch/x86/guest_msr.h"
#include "arch/x86/regs.h"
#include "vmm/base/string.h"

#define FCW_RESET    0x37fu
#define MXCSR_RESET  0x1f80u
#define MXCSR_OFFSET 24u

#define DR_ACCESSORS(n)                                                                            \
	static uint64_t read_dr##n(void)                                                           \
	{                                                                                          \
		uint64_t v;                                                                        \
		__asm__ volatile("mov %%dr" #n ", %0" : "=r"(v));                                  \
		return v;                                                                          \
	}                                                                                          \
	static void write_dr##n(uint64_t v)                                                        \
	{                                                                                          \
		__asm__ volatile("mov %0, %%dr" #n : : "r"(v));                                    \
	}
DR_ACCESSORS(0)
DR_ACCESSORS(1)
DR_ACCESSORS(2)
DR_ACCESSORS(3)

void vcpu_live_init(void)
{
	write_cr0((read_cr0() | CR0_NE | CR0_MP) & ~(CR0_TS | CR0_EM));
	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
	if (cpuid(1, 0).ecx & 1u << 26)
		write_cr4(read_cr4() | CR4_OSXSAVE);
}

void vcpu_live_reset(struct x86_vcpu *v)
{
	uint8_t *area = v->xsave;
	memset(area, 0, v->xsave_bytes); /* XSTATE_BV 0: every component in its initial state */
	uint16_t fcw = FCW_RESET;
	uint32_t mxcsr = MXCSR_RESET;
	memcpy(area, &fcw, sizeof(fcw));
	memcpy(area + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	v->xcr0 = XCR0_X87;
	v->cr2 = 0;
	v->dr6 = DR6_RESET;
	memset(v->dr, 0, sizeof(v->dr));
	memset(v->live_msr, 0, sizeof(v->live_msr));
}

static uint32_t msr_count(const struct x86_vcpu *v)
{
	return v->cpuid.rdtscp ? GUEST_MSR_LIVE_COUNT : GUEST_MSR_LIVE_COUNT - 1;
}

void vcpu_live_save(struct x86_vcpu *v)
{
	uint64_t all = v->cpuid.xcr0_allowed;
	if (all != 0) {
		xsetbv(0, all);
		__asm__ volatile("xsave64 (%0)"
				 :
				 : "r"(v->xsave), "a"((uint32_t)all), "d"((uint32_t)(all >> 32))
				 : "memory");
	} else {
		__asm__ volatile("fxsave64 (%0)" : : "r"(v->xsave) : "memory");
	}
	v->cr2 = read_cr2();
	v->dr[0] = read_dr0();
	v->dr[1] = read_dr1();
	v->dr[2] = read_dr2();
	v->dr[3] = read_dr3();
	v->dr6 = read_dr6();
	for (uint32_t i = 0; i < msr_count(v); i++)
		v->live_msr[i] = rdmsr(guest_msr_live[i]);
}

void vcpu_live_load(struct x86_vcpu *v)
{
	uint64_t all = v->cpuid.xcr0_allowed;
	if (all != 0) {
		xsetbv(0, all);
		__asm__ volatile("xrstor64 (%0)"
				 :
				 : "r"(v->xsave), "a"((uint32_t)all), "d"((uint32_t)(all >> 32))
				 : "memory");
		xsetbv(0, v->xcr0);
	} else {
		__asm__ volatile("fxrstor64 (%0)" : : "r"(v->xsave) : "memory");
	}
	write_cr2(v->cr2);
	write_dr0(v->dr[0]);
	write_dr1(v->dr[1]);
	write_dr2(v->dr[2]);
	write_dr3(v->dr[3]);
	write_dr6(v->dr6);
	for (uint32_t i = 0; i < msr_count(v); i++)
		wrmsr(guest_msr_live[i], v->live_msr[i]);
}
