/* Pure. The table of MSRs. */
#include "arch/x86/guest_msr.h"
#include "arch/x86/regs.h"

#define MISC_ENABLE_VALUE ((1ull << 0) | (1ull << 11) | (1ull << 12)) /* fast strings; no BTS, PEBS */
#define FEATURE_LOCKED    1ull

const struct guest_msr guest_msr_table[] = {
	{ MSR_TSC, GUEST_MSR_TSC, GUEST_MSR_ANY, false, 0 },
	{ MSR_PLATFORM_ID, GUEST_MSR_CONST, GUEST_MSR_ANY, false, 0 },
	/* x2APIC on, for good: xAPIC is not offered. */
	{ MSR_APIC_BASE, GUEST_MSR_CONST, GUEST_MSR_ANY, false,
		APIC_BASE_DEFAULT | APIC_BASE_EN | APIC_BASE_EXTD | APIC_BASE_BSP },
	{ MSR_FEATURE_CONTROL, GUEST_MSR_CONST, GUEST_MSR_ANY, false, FEATURE_LOCKED },
	/* Written with 0 before CPUID is executed to read the microcode's number. */
	{ MSR_BIOS_SIGN_ID, GUEST_MSR_IGNORE, GUEST_MSR_ANY, false, 0 },
	{ MSR_SYSENTER_CS, GUEST_MSR_BACKEND, GUEST_MSR_32BIT, true, 0 },
	{ MSR_SYSENTER_ESP, GUEST_MSR_BACKEND, GUEST_MSR_CANONICAL, true, 0 },
	{ MSR_SYSENTER_EIP, GUEST_MSR_BACKEND, GUEST_MSR_CANONICAL, true, 0 },
	{ MSR_MCG_CAP, GUEST_MSR_CONST, GUEST_MSR_ANY, false, 0 }, /* no banks */
	{ MSR_MCG_STATUS, GUEST_MSR_CONST, GUEST_MSR_ANY, false, 0 },
	{ MSR_MISC_ENABLE, GUEST_MSR_CONST, GUEST_MSR_ANY, false, MISC_ENABLE_VALUE },
	{ MSR_DEBUGCTL, GUEST_MSR_CONST, GUEST_MSR_ANY, false, 0 },
	{ MSR_PAT, GUEST_MSR_BACKEND, GUEST_MSR_IS_PAT, true, 0 },
	{ MSR_TSC_DEADLINE, GUEST_MSR_DEADLINE, GUEST_MSR_ANY, false, 0 },
	{ MSR_EFER, GUEST_MSR_BACKEND, GUEST_MSR_IS_EFER, true, 0 },
	{ MSR_STAR, GUEST_MSR_BACKEND, GUEST_MSR_ANY, true, 0 },
	{ MSR_LSTAR, GUEST_MSR_BACKEND, GUEST_MSR_CANONICAL, true, 0 },
	{ MSR_CSTAR, GUEST_MSR_BACKEND, GUEST_MSR_CANONICAL, true, 0 },
	{ MSR_FMASK, GUEST_MSR_BACKEND, GUEST_MSR_32BIT, true, 0 },
	{ MSR_FS_BASE, GUEST_MSR_BACKEND, GUEST_MSR_CANONICAL, true, 0 },
	{ MSR_GS_BASE, GUEST_MSR_BACKEND, GUEST_MSR_CANONICAL, true, 0 },
	{ MSR_KERNEL_GS_BASE, GUEST_MSR_BACKEND, GUEST_MSR_CANONICAL, true, 0 },
	/* Not passed: the processor may lack it. */
	{ MSR_TSC_AUX, GUEST_MSR_TSC_AUX, GUEST_MSR_32BIT, false, 0 },
};
const uint32_t guest_msr_count = ARRAY_COUNT(guest_msr_table);

static const struct guest_msr lapic = { MSR_X2APIC_FIRST, GUEST_MSR_LAPIC, GUEST_MSR_ANY, false, 0 };

const struct guest_msr *guest_msr_find(uint32_t msr)
{
	if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST)
		return &lapic;
	for (uint32_t i = 0; i < guest_msr_count; i++)
		if (guest_msr_table[i].msr == msr)
			return &guest_msr_table[i];
	return NULL;
}

/* Each of the eight bytes is a memory type: 0, 1, 4, 5, 6, 7. */
static bool pat_ok(uint64_t v)
{
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t type = v >> (8 * i) & 0xffu;
		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

bool guest_msr_value_ok(const struct guest_msr *m, uint64_t value)
{
	if (m->kind == GUEST_MSR_CONST && value != m->value)
		return false;
	switch ((enum guest_msr_check)m->check) {
	case GUEST_MSR_CANONICAL:
		return x86_canonical(value);
	case GUEST_MSR_32BIT:
		return value >> 32 == 0;
	case GUEST_MSR_IS_PAT:
		return pat_ok(value);
	case GUEST_MSR_IS_EFER:
		/* When LME may change, and that LMA does not, is vcpu_exit.c's to see to. */
		return !(value & ~(EFER_SCE | EFER_NXE | EFER_LME | EFER_LMA));
	case GUEST_MSR_ANY:
		return true;
	}
	return false;
}
