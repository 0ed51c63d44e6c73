/*
 * A machine check while a guest ran: what the banks say, and who pays. Source: SDM vol. 3B
 * "Machine-Check Architecture", "Interpreting the MCA Error Codes".
 */
#pragma once

#include "vmm/base/types.h"

enum guest_mce_verdict {
	GUEST_MCE_GO_ON, /* corrected, or nothing */
	GUEST_MCE_GUEST, /* what the guest was at is lost, the rest is sound */
	GUEST_MCE_HOST,  /* the processor's context is corrupt, or it cannot be told */
};

/* One bank's IA32_MCi_STATUS, with IA32_MCG_STATUS. Pure. */
enum guest_mce_verdict guest_mce_judge(uint64_t mcg_status, uint64_t bank_status);

/* Reads, logs and clears all banks. true: go on; false: the guest must go. Else HV_BUG. */
bool guest_mce_handle(void);
