/* The host's four legacy ATA disks, by PIO and, where there is a bus master, DMA. */
#pragma once

#include "arch/x86/disk.h"

/* Registers, from the channel's base (ATA/ATAPI-6, I/O registers). */
#define ATA_DATA    0u
#define ATA_ERROR   1u
#define ATA_COUNT   2u
#define ATA_LBA0    3u
#define ATA_LBA1    4u
#define ATA_LBA2    5u
#define ATA_DEVICE  6u
#define ATA_STATUS  7u /* read */
#define ATA_COMMAND 7u /* write */

#define ATA_STATUS_ERR 0x01u
#define ATA_STATUS_DRQ 0x08u
#define ATA_STATUS_DF  0x20u
#define ATA_STATUS_BSY 0x80u

#define ATA_DEVICE_LBA   0xe0u /* with the bits that old disks want set */
#define ATA_DEVICE_SLAVE 0x10u
#define ATA_CONTROL_NIEN 0x02u /* no interrupts */
#define ATA_CONTROL_SRST 0x04u
#define ATA_CHANNELS     2u

struct ata_disk {
	/* constant after ata_init() */
	uint8_t select;         /* ATA_DEVICE_SLAVE or 0 */
	bool lba48;
	uint32_t block_sectors; /* sectors a data request moves: 1, or as SET MULTIPLE set. The claimant's */
	bool dma;               /* as long as it has not failed. The claimant's */
	bool slow_dma;          /* reads go by PIO all the same: it is quicker */
};

struct ata_channel {
	struct disk_channel queue; /* first: the engine's half */
	/* constant after ata_init() */
	uint16_t base, control;
	uint16_t bus_master;       /* 0: none */
	uint32_t first_disk;       /* platform index */
	struct ata_disk disk[2];
	/* owner: the claimant */
	struct disk_io *current;   /* in the hardware */
	uint8_t *at;               /* PIO: where the next sector goes */
	uint32_t left;             /* PIO: sectors */
	bool by_dma;               /* how `current` moves */
};

extern struct ata_channel ata_channels[ATA_CHANNELS];

static inline struct ata_disk *ata_disk_of(struct ata_channel *c, const struct disk_io *io)
{
	return &c->disk[io->disk - c->first_disk];
}

/* Looks for the disks (ata_probe.c); `bus_master` is the ports' base, 0: none. Needs the clock. */
void ata_init(uint16_t bus_master);

/* Gives a command to the disk that `select` names: ERR_BUSY, it is not ready. Without waiting. */
status_t ata_command(struct ata_channel *c, uint8_t select, uint8_t cmd, uint64_t sector,
	uint32_t count, bool ext) MUST_CHECK;
/* A soft reset, the only way out of a command that stopped halfway with data offered. Not waited for. */
void ata_reset(struct ata_channel *c);
extern const struct disk_ops ata_ops;

/* Bus master (ata_dma.c). prepare: false, not for this buffer. state: ERR_BUSY, still at it; OK: the bus
 * master is done, the disk's status says the rest; ERR_IO: the bus master failed. */
bool ata_dma_prepare(struct ata_channel *c, const struct disk_io *io);
void ata_dma_begin(struct ata_channel *c, bool write);
status_t ata_dma_state(struct ata_channel *c);
void ata_dma_stop(struct ata_channel *c);

