#include "arch/x86/ata.h"
#include "arch/x86/ata_identify.h"
#include "arch/x86/cpu.h"

#define CMD_READ               0x20u
#define CMD_READ_EXT           0x24u
#define CMD_READ_DMA_EXT       0x25u
#define CMD_READ_MULTIPLE_EXT  0x29u
#define CMD_WRITE              0x30u
#define CMD_WRITE_EXT          0x34u
#define CMD_WRITE_DMA_EXT      0x35u
#define CMD_WRITE_MULTIPLE_EXT 0x39u
#define CMD_READ_MULTIPLE      0xc4u
#define CMD_WRITE_MULTIPLE     0xc5u
#define CMD_READ_DMA           0xc8u
#define CMD_WRITE_DMA          0xcau
#define CMD_FLUSH              0xe7u
#define CMD_FLUSH_EXT          0xeau

#define SECTOR_BYTES  512u
#define SECTOR_DWORDS (SECTOR_BYTES / 4)
#define LBA28_END     (1ull << 28)
#define PIO_BUDGET    64u /* sectors a call of reap() moves, about */
#define ERROR_MEDIUM  0x50u /* uncorrectable data, no such sector: PIO would not help */

enum { BY_PIO, BY_MULTIPLE, BY_DMA };

static struct ata_channel *channel_of(struct disk_channel *c)
{
	return container_of(c, struct ata_channel, queue);
}

static uint8_t status_of(const struct ata_channel *c)
{
	return inb((uint16_t)(c->base + ATA_STATUS));
}

static void reg_write(const struct ata_channel *c, uint32_t reg, uint64_t v)
{
	outb((uint16_t)(c->base + reg), (uint8_t)v);
}

/* The status register is true 400 ns after a command or a select: four reads of the other copy. */
static void settle(const struct ata_channel *c)
{
	for (uint32_t i = 0; i < 4; i++)
		(void)inb(c->control);
}

/* The registers behind LBA48 take their high bytes first. */
status_t ata_command(struct ata_channel *c, uint8_t select, uint8_t cmd, uint64_t sector,
	uint32_t count, bool ext)
{
	uint8_t top = ext ? 0 : (uint8_t)(sector >> 24 & 0xf);

	if (status_of(c) & (ATA_STATUS_BSY | ATA_STATUS_DRQ))
		return ERR_BUSY;
	reg_write(c, ATA_DEVICE, ATA_DEVICE_LBA | select | top);
	settle(c);
	if (status_of(c) & (ATA_STATUS_BSY | ATA_STATUS_DRQ))
		return ERR_BUSY;
	if (ext) {
		reg_write(c, ATA_COUNT, count >> 8);
		reg_write(c, ATA_LBA0, sector >> 24);
		reg_write(c, ATA_LBA1, sector >> 32);
		reg_write(c, ATA_LBA2, sector >> 40);
	}
	reg_write(c, ATA_COUNT, count); /* 28-bit commands count 256 as 0 */
	reg_write(c, ATA_LBA0, sector);
	reg_write(c, ATA_LBA1, sector >> 8);
	reg_write(c, ATA_LBA2, sector >> 16);
	reg_write(c, ATA_COMMAND, cmd);
	settle(c);
	return OK;
}

void ata_reset(struct ata_channel *c)
{
	if (c->bus_master)
		ata_dma_stop(c);
	outb(c->control, ATA_CONTROL_NIEN | ATA_CONTROL_SRST);
	settle(c);
	outb(c->control, ATA_CONTROL_NIEN);
	settle(c);
	c->current = NULL;
	/* It may undo SET MULTIPLE: single sectors always work. */
	for (uint32_t i = 0; i < ARRAY_COUNT(c->disk); i++)
		c->disk[i].block_sectors = 1;
}

static void reset(struct disk_channel *q)
{
	ata_reset(channel_of(q));
}

static uint8_t transfer_command(uint32_t how, bool write, bool ext)
{
	static const uint8_t table[3][2][2] = { /* [how][write][ext] */
		{ { CMD_READ, CMD_READ_EXT }, { CMD_WRITE, CMD_WRITE_EXT } },
		{ { CMD_READ_MULTIPLE, CMD_READ_MULTIPLE_EXT },
			{ CMD_WRITE_MULTIPLE, CMD_WRITE_MULTIPLE_EXT } },
		{ { CMD_READ_DMA, CMD_READ_DMA_EXT }, { CMD_WRITE_DMA, CMD_WRITE_DMA_EXT } },
	};

	return table[how][write][ext];
}

/*
 * A synchronous request goes by PIO: its caller waits anyway, for what may be the quicker way. So do
 * reads, for which a guest waits, where the bus master takes longer (ata_probe.c); for writes nobody waits.
 */
static status_t start(struct disk_channel *q, struct disk_io *io)
{
	struct ata_channel *c = channel_of(q);
	struct ata_disk *d = ata_disk_of(c, io);
	bool ext = d->lba48 && (!io->sectors || io->sector + io->sectors > LBA28_END);
	bool dma = d->dma && io->done && (io->write || !d->slow_dma) &&
		ata_dma_prepare(c, io);
	uint32_t how = dma ? BY_DMA : d->block_sectors > 1 ? BY_MULTIPLE : BY_PIO;
	status_t s = io->sectors ? ata_command(c, d->select, transfer_command(how, io->write, ext),
					   io->sector, io->sectors, ext) :
		ata_command(c, d->select, ext ? CMD_FLUSH_EXT : CMD_FLUSH, 0, 0, false);

	if (s)
		return s;
	if (dma)
		ata_dma_begin(c, io->write);
	c->current = io;
	c->at = io->buf;
	c->left = io->sectors;
	c->by_dma = dma;
	return OK;
}

static const char *name(const struct disk_io *io)
{
	return !io->sectors ? "flush failed" : io->write ? "write failed" : "read failed";
}

static void fail(struct ata_channel *c, uint8_t status)
{
	struct disk_io *io = c->current;
	char text[ATA_ERROR_TEXT_BYTES];

	ata_error_text(status, inb((uint16_t)(c->base + ATA_ERROR)), text);
	disk_log_failure(io->disk, name(io), io->sector + (io->sectors - c->left), text);
	if (status & (ATA_STATUS_BSY | ATA_STATUS_DRQ))
		ata_reset(c);
	io->status = ERR_IO;
}

/* As much of the data as the disk offers or takes now. False: not at the end yet. */
static bool advance_pio(struct ata_channel *c)
{
	struct disk_io *io = c->current;
	uint32_t block = ata_disk_of(c, io)->block_sectors;

	for (uint32_t moved = 0; moved < PIO_BUDGET;) {
		uint8_t status = status_of(c);
		uint8_t want = c->left ? ATA_STATUS_DRQ : 0;

		if (status & ATA_STATUS_BSY)
			return false;
		if ((status & (ATA_STATUS_DF | ATA_STATUS_ERR | ATA_STATUS_DRQ)) != want) {
			fail(c, status);
			return true;
		}
		if (!c->left) {
			io->status = OK;
			return true;
		}
		uint32_t n = MIN(c->left, block);

		if (io->write)
			outsl((uint16_t)(c->base + ATA_DATA), c->at, n * SECTOR_DWORDS);
		else
			insl((uint16_t)(c->base + ATA_DATA), c->at, n * SECTOR_DWORDS);
		c->at += n * SECTOR_BYTES;
		c->left -= n;
		moved += n;
		(void)inb(c->control); /* the status is true a little later */
	}
	return false;
}

static bool advance_dma(struct ata_channel *c)
{
	struct disk_io *io = c->current;
	status_t s = ata_dma_state(c);
	uint8_t status = inb(c->control); /* the copy that acknowledges nothing */
	bool refused = !(status & ATA_STATUS_BSY) && status & (ATA_STATUS_ERR | ATA_STATUS_DF);

	if (!refused && (s == ERR_BUSY || (!s && status & (ATA_STATUS_BSY | ATA_STATUS_DRQ))))
		return false;
	ata_dma_stop(c);
	status = status_of(c);
	if (!s && !refused) {
		io->status = OK;
		return true;
	}
	if (refused && inb((uint16_t)(c->base + ATA_ERROR)) & ERROR_MEDIUM) {
		fail(c, status);
		return true;
	}
	ata_disk_of(c, io)->dma = false;
	disk_log_failure(io->disk, io->write ? "DMA write failed" : "DMA read failed", io->sector,
		"by PIO from now on");
	disk_set_driver(io->disk, "pio");
	ata_reset(c);
	io->status = ERR_BUSY; /* once more */
	return true;
}

static struct disk_io *reap(struct disk_channel *q)
{
	struct ata_channel *c = channel_of(q);
	struct disk_io *io = c->current;

	if (!io || !(c->by_dma ? advance_dma(c) : advance_pio(c)))
		return NULL;
	c->current = NULL;
	return io;
}

const struct disk_ops ata_ops = { .start = start, .reap = reap, .reset = reset };
