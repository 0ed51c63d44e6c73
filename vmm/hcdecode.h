/*
 * Pure. The shape of each hypercall's arguments (vmm/abi/aerostat.h), checked before its handler
 * sees them. Numbers from the guest are never shifted, added or used as an index unchecked.
 */
#pragma once

#include "vmm/abi/aerostat.h"
#include "vmm/base/types.h"

#define HC_ARGS 3u /* no call takes more yet */

/*
 * 0, or: -AERO_ENOSYS (no such number), -AERO_EINVAL (a value or an alignment), -AERO_ERANGE (a
 * count above the call's limit), -AERO_EFAULT (the buffer is not wholly in memory).
 */
int64_t hc_check(uint64_t number, const uint64_t arg[HC_ARGS], uint64_t memory_bytes);
/* True if [gpa, gpa + bytes) lies in [0, memory_bytes). No overflow. */
bool hc_in_memory(uint64_t gpa, uint64_t bytes, uint64_t memory_bytes);
/* The call's name without its prefix, lower case: "balloon-inflate"; NULL above the last. */
const char *hc_name(uint64_t number);

/* One request of AERO_HC_BLOCK_IO against a region: 0, -AERO_EINVAL, -AERO_ERANGE, -AERO_EFAULT. */
int64_t hc_check_block(const struct aero_block_req *r, uint64_t sector_count,
	uint64_t memory_bytes);
#define HC_BLOCK_SECTORS_MAX 2048u
