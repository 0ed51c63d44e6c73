/* ATA disks by PIO, polled; platform.h has reading and writing. */
#pragma once

/* Looks for the four legacy disks; needs the clock. */
void ata_init(void);
