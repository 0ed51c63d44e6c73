/* ATA disks by PIO, polled; platform.h has reading and writing. */
#pragma once

#include "vmm/base/status.h"

/* Looks for the four legacy disks; needs the clock. */
void ata_init(void);

/* By the claimant of the hardware. */
status_t ata_transfer(uint32_t index, uint64_t sector, uint32_t sectors, void *buf, bool write) MUST_CHECK;
void disk_hardware_claim(void); /* waits for another CPU's request */
void disk_hardware_release(void);
