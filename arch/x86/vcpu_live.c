/* See vcpu_live.h. */
#include "arch/x86/vcpu_live.h"
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

static bool leaks_x87; /* set at boot, to the same by each CPU */

void vcpu_live_init(void)
{
	struct cpuid_regs vendor = cpuid(0, 0);
	uint32_t extended = cpuid(0x80000000u, 0).eax;

	leaks_x87 = vcpu_live_leaks_x87(&vendor, extended >= 0x80000008u ? cpuid(0x80000008u, 0).ebx : 0);
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
	memset(v->dr, 0, sizeof(v->dr));
	v->tsc_aux = 0;
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
	v->dr[0] = read_dr0();
	v->dr[1] = read_dr1();
	v->dr[2] = read_dr2();
	v->dr[3] = read_dr3();
	if (v->cpuid.rdtscp)
		v->tsc_aux = rdmsr(MSR_TSC_AUX);
	if (x86_ops->live_save != NULL)
		x86_ops->live_save(v);
}

/* What is not restored is this instruction's, then: nobody's. Its room and its exceptions are made sure of. */
static void forget_x87_pointers(void)
{
	static const int32_t zero;
	__asm__ volatile("fnclex; emms; fildl %0" : : "m"(zero));
}

void vcpu_live_load(struct x86_vcpu *v)
{
	uint64_t all = v->cpuid.xcr0_allowed;
	if (UNLIKELY(leaks_x87))
		forget_x87_pointers();
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
	write_dr0(v->dr[0]);
	write_dr1(v->dr[1]);
	write_dr2(v->dr[2]);
	write_dr3(v->dr[3]);
	if (v->cpuid.rdtscp)
		wrmsr(MSR_TSC_AUX, v->tsc_aux);
	if (x86_ops->live_load != NULL)
		x86_ops->live_load(v);
}
