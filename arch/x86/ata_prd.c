/* Pure. */
#include "arch/x86/ata_prd.h"

#define REGION_BYTES KIB(64)

bool ata_prd_build(struct ata_prd table[ATA_PRDS_MAX], hpa_t at, uint64_t bytes)
{
	if (!bytes || (at.v | bytes) & 1 || at.v >= GIB(4) || bytes > GIB(4) - at.v)
		return false;
	for (uint32_t i = 0; i < ATA_PRDS_MAX; i++) {
		uint64_t n = MIN(bytes, REGION_BYTES - at.v % REGION_BYTES);

		bytes -= n;
		table[i] = (struct ata_prd){ .address = (uint32_t)at.v, .bytes = (uint16_t)n,
			.flags = bytes ? 0 : ATA_PRD_LAST };
		if (!bytes)
			return true;
		at.v += n;
	}
	return false;
}
