/* Reading the machine-check banks. See guest_mce.h. */
#include "arch/x86/guest_mce.h"
#include "arch/x86/regs.h"
#include "vmm/base/bug.h"
#include "vmm/base/log.h"

#define BANK_STEP   4u
#define BANK_VALID  (1ull << 63)
#define CPUID_MCA   (1u << 14)

bool guest_mce_handle(void)
{
	if (!(cpuid(1, 0).edx & CPUID_MCA))
		HV_BUG("machine check, and no banks that would tell what happened");
	uint64_t mcg = rdmsr(MSR_MCG_STATUS);
	uint32_t banks = rdmsr(MSR_MCG_CAP) & 0xffu;
	enum guest_mce_verdict worst = GUEST_MCE_GO_ON;
	for (uint32_t i = 0; i < banks; i++) {
		uint64_t status = rdmsr(MSR_MC0_STATUS + i * BANK_STEP);
		if (!(status & BANK_VALID))
			continue;
		log_err("machine check: bank %u status %#llx, mcg status %#llx", i,
			(unsigned long long)status, (unsigned long long)mcg);
		enum guest_mce_verdict v = guest_mce_judge(mcg, status);
		worst = MAX(worst, v);
		wrmsr(MSR_MC0_STATUS + i * BANK_STEP, 0);
	}
	if (worst == GUEST_MCE_HOST)
		HV_BUG("machine check: the processor's context is corrupt");
	wrmsr(MSR_MCG_STATUS, 0);
	return worst == GUEST_MCE_GO_ON;
}
