/* Pure. What IDENTIFY DEVICE says (ATA/ATAPI-6, IDENTIFY DEVICE data). */
#pragma once

#include "vmm/base/types.h"

#define ATA_IDENTIFY_WORDS 256u

struct ata_geometry {
	uint64_t sector_count; /* 0: no disk that can be addressed by LBA */
	uint32_t block_sectors; /* READ/WRITE MULTIPLE's largest block; 0 or 1: not offered */
	bool lba48, dma;
	char model[41];
};

void ata_identify_decode(const uint16_t words[ATA_IDENTIFY_WORDS], struct ata_geometry *out);

#define ATA_ERROR_TEXT_BYTES 96
/* Words for the status and error registers: "uncorrectable data, aborted". */
void ata_error_text(uint8_t status, uint8_t error, char out[ATA_ERROR_TEXT_BYTES]);
