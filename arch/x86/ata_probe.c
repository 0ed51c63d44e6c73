/* Finding the ATA disks, at boot: here waiting is allowed. */
#include "arch/x86/ata.h"
#include "arch/x86/ata_identify.h"
#include "arch/x86/clock.h"
#include "arch/x86/cpu.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"

#define CMD_SET_MULTIPLE 0xc6u
#define CMD_IDENTIFY     0xecu
#define IDENTIFY_MS      200u
#define DMA_TRIAL_MS     1000u
#define TRIAL_SECTORS    8u
#define SLOW             4u /* so many times slower than PIO */
#define POLL_US          20u

struct ata_channel ata_channels[ATA_CHANNELS] = {
	{ .base = 0x1f0, .control = 0x3f6, .first_disk = 0 },
	{ .base = 0x170, .control = 0x376, .first_disk = 2 },
};

/* The status once BSY is clear, or as it is after `ms`. */
static uint8_t wait_ready(const struct ata_channel *c, uint64_t ms)
{
	uint64_t start = platform_tsc(), ticks = platform_ms_to_tsc(ms);
	uint8_t status = inb((uint16_t)(c->base + ATA_STATUS));

	while (status & ATA_STATUS_BSY && platform_tsc() - start < ticks) {
		clock_spin_us(POLL_US);
		status = inb((uint16_t)(c->base + ATA_STATUS));
	}
	return status;
}

/* A disk that answers IDENTIFY DEVICE with data. Packet devices and empty cables do not. */
static bool identify(struct ata_channel *c, uint8_t select, struct ata_geometry *g)
{
	uint16_t words[ATA_IDENTIFY_WORDS];

	outb(c->control, ATA_CONTROL_NIEN);
	outb((uint16_t)(c->base + ATA_DEVICE), (uint8_t)(ATA_DEVICE_LBA | select));
	for (uint32_t i = 0; i < 4; i++)
		(void)inb(c->control);
	uint8_t status = inb((uint16_t)(c->base + ATA_STATUS));

	if (status == 0xff || !status)
		return false;
	if (wait_ready(c, IDENTIFY_MS) & (ATA_STATUS_BSY | ATA_STATUS_DRQ) ||
		ata_command(c, select, CMD_IDENTIFY, 0, 0, false))
		return false;
	status = wait_ready(c, IDENTIFY_MS);
	if ((status & (ATA_STATUS_BSY | ATA_STATUS_ERR | ATA_STATUS_DRQ)) != ATA_STATUS_DRQ)
		return false;
	insl((uint16_t)(c->base + ATA_DATA), words, ATA_IDENTIFY_WORDS / 2);
	ata_identify_decode(words, g);
	return g->sector_count != 0;
}

static uint32_t set_multiple(struct ata_channel *c, uint8_t select, uint32_t sectors)
{
	if (sectors < 2 || ata_command(c, select, CMD_SET_MULTIPLE, 0, sectors, false) ||
		wait_ready(c, IDENTIFY_MS) & (ATA_STATUS_BSY | ATA_STATUS_ERR | ATA_STATUS_DF))
		return 1;
	return sectors;
}

static void trial_done(struct disk_io *io)
{
	(void)io;
}

/* One request, not yet by the engine. */
static status_t try_one(struct ata_channel *c, struct disk_io *io, uint64_t *ticks)
{
	uint64_t start = platform_tsc();

	if (ata_ops.start(&c->queue, io))
		return ERR_IO;
	while (!ata_ops.reap(&c->queue)) {
		if (platform_tsc() - start > platform_ms_to_tsc(DMA_TRIAL_MS)) {
			ata_reset(c);
			(void)wait_ready(c, IDENTIFY_MS);
			return ERR_IO;
		}
		clock_spin_us(1);
	}
	*ticks = platform_tsc() - start;
	return io->status;
}

/*
 * The first page of the disk by PIO and by DMA: no difference, or no DMA. Bochs's bus master takes a
 * millisecond and as long as a disk of 16 MB/s: where it is so slow, what a guest waits for comes by PIO.
 */
static bool dma_works(struct ata_channel *c, struct ata_disk *d, uint32_t index)
{
	static uint8_t page[2][PAGE_BYTES] __attribute__((aligned(4096)));
	uint64_t ticks[2];

	memset(page[1], 0x5a, PAGE_BYTES);
	for (uint32_t by_dma = 0; by_dma < 2; by_dma++) {
		struct disk_io io = { .disk = index, .sectors = TRIAL_SECTORS, .buf = page[by_dma],
			.done = by_dma ? trial_done : NULL };

		if (try_one(c, &io, &ticks[by_dma]))
			return false;
	}
	if (ticks[1] > ticks[0] * SLOW)
		d->slow_dma = true;
	return !memcmp(page[0], page[1], PAGE_BYTES);
}

static void probe(struct ata_channel *c, uint32_t i)
{
	struct ata_disk *d = &c->disk[i];
	struct platform_disk info = { .present = true };
	struct ata_geometry g;

	d->select = i ? ATA_DEVICE_SLAVE : 0;
	if (!identify(c, d->select, &g))
		return;
	info.sector_count = g.sector_count;
	memcpy(info.model, g.model, sizeof(info.model));
	d->lba48 = g.lba48;
	d->block_sectors = set_multiple(c, d->select, g.block_sectors);
	d->dma = c->bus_master && g.dma && g.sector_count >= TRIAL_SECTORS;
	if (d->dma && !dma_works(c, d, c->first_disk + i)) {
		log_info("disk %u: no DMA: a trial failed", c->first_disk + i);
		d->dma = false;
	}
	disk_add(c->first_disk + i, &c->queue, &info, d->dma ? "dma" : "pio");
}

void ata_init(uint16_t bus_master)
{
	for (uint32_t n = 0; n < ATA_CHANNELS; n++) {
		struct ata_channel *c = &ata_channels[n];

		disk_channel_init(&c->queue, &ata_ops, 1);
		c->bus_master = bus_master ? (uint16_t)(bus_master + 8 * n) : 0;
		for (uint32_t i = 0; i < ARRAY_COUNT(c->disk); i++)
			probe(c, i);
	}
}
