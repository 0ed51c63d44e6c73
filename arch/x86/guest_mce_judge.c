/* Pure. Who pays for a machine check. */
#include "arch/x86/guest_mce.h"

#define MCG_RIPV   (1ull << 0) /* execution can go on at the saved RIP */
#define BANK_VALID (1ull << 63)
#define BANK_OVER  (1ull << 62)
#define BANK_UC    (1ull << 61)
#define BANK_EN    (1ull << 60)
#define BANK_PCC   (1ull << 57) /* processor context corrupt */

enum guest_mce_verdict guest_mce_judge(uint64_t mcg_status, uint64_t bank_status)
{
	if (!(bank_status & BANK_VALID) || !(bank_status & BANK_UC))
		return GUEST_MCE_GO_ON;
	if ((bank_status & BANK_PCC) || (bank_status & BANK_OVER))
		return GUEST_MCE_HOST;
	if (!(bank_status & BANK_EN) && (mcg_status & MCG_RIPV))
		return GUEST_MCE_GO_ON; /* logged, not signalled */
	return GUEST_MCE_GUEST;
}
