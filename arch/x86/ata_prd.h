/* Pure. Physical region descriptors: what a bus master's request moves (SFF-8038i, PRD table). */
#pragma once

#include "vmm/base/types.h"

struct ata_prd {
	uint32_t address;
	uint16_t bytes; /* 0: 64 KiB */
	uint16_t flags;
};
_Static_assert(sizeof(struct ata_prd) == 8, "physical region descriptor");

#define ATA_PRD_LAST 0x8000u
#define ATA_PRDS_MAX 4u

/* False: above 4 GiB, at an odd address, or more than the table holds. No region crosses 64 KiB. */
bool ata_prd_build(struct ata_prd table[ATA_PRDS_MAX], hpa_t at, uint64_t bytes);
