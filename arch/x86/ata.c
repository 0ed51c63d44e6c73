#include "arch/x86/ata.h"
#include "arch/x86/ata_identify.h"
#include "arch/x86/clock.h"
#include "arch/x86/cpu.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"
#include "vmm/platform.h"

/* Registers, from the channel's base (ATA/ATAPI-6, I/O registers). */
#define REG_DATA    0u
#define REG_ERROR   1u
#define REG_COUNT   2u
#define REG_LBA0    3u
#define REG_LBA1    4u
#define REG_LBA2    5u
#define REG_DEVICE  6u
#define REG_STATUS  7u /* read */
#define REG_COMMAND 7u /* write */
#define CONTROL_NIEN 0x02u /* no interrupts */

#define STATUS_ERR  0x01u
#define STATUS_DRQ  0x08u
#define STATUS_DF   0x20u
#define STATUS_BSY  0x80u

#define DEVICE_LBA   0xe0u /* with the bits that old disks want set */
#define DEVICE_SLAVE 0x10u

#define CMD_READ               0x20u
#define CMD_READ_EXT           0x24u
#define CMD_READ_MULTIPLE_EXT  0x29u
#define CMD_WRITE              0x30u
#define CMD_WRITE_EXT          0x34u
#define CMD_WRITE_MULTIPLE_EXT 0x39u
#define CMD_READ_MULTIPLE      0xc4u
#define CMD_WRITE_MULTIPLE     0xc5u
#define CMD_SET_MULTIPLE       0xc6u
#define CMD_FLUSH              0xe7u
#define CMD_FLUSH_EXT          0xeau
#define CMD_IDENTIFY           0xecu

#define SECTOR_BYTES      512u
#define SECTOR_DWORDS     (SECTOR_BYTES / 4)
#define SECTORS_MAX       PLATFORM_DISK_SECTORS_MAX
#define ATA_DISKS         PLATFORM_DISK_VIRTIO
#define LBA28_END         (1ull << 28)
#define TIMEOUT_MS        5000u  /* a disk that spins up again */
#define POLL_MAX_US      64u
#define FLUSH_TIMEOUT_MS  30000u /* what the standard allows */
#define IDENTIFY_MS       200u
#define LOG_PERIOD_NS     1000000000ull

/* The boot CPU's. Constant after ata_init(). */
struct ata_disk {
	struct platform_disk info;
	uint16_t base, control;
	uint8_t select;         /* DEVICE_SLAVE or 0 */
	bool lba48;
	uint32_t block_sectors; /* sectors a data request moves: 1, or as SET MULTIPLE set */
};

/* Constant after ata_init(). */
static struct ata_disk disks[ATA_DISKS] = {
	{ .base = 0x1f0, .control = 0x3f6 },
	{ .base = 0x1f0, .control = 0x3f6, .select = DEVICE_SLAVE },
	{ .base = 0x170, .control = 0x376 },
	{ .base = 0x170, .control = 0x376, .select = DEVICE_SLAVE },
};

/* Owner: who has claimed the disk (vmm/disk_turn.h); at boot, CPU 0. */
static uint64_t log_next_ns;
static uint32_t log_dropped;

static uint8_t reg_read(const struct ata_disk *d, uint32_t reg)
{
	return inb((uint16_t)(d->base + reg));
}

static void reg_write(const struct ata_disk *d, uint32_t reg, uint64_t v)
{
	outb((uint16_t)(d->base + reg), (uint8_t)v);
}

/*
 * The status once BSY is clear, or as it is after `ms`. Looked at more and more seldom: a port that is
 * read without a pause keeps other CPUs off the bus, and in QEMU the disk itself from its turn.
 */
static uint8_t wait_ready(const struct ata_disk *d, uint64_t ms)
{
	uint8_t status = reg_read(d, REG_STATUS);

	if (LIKELY(!(status & STATUS_BSY)))
		return status;
	uint64_t start = rdtsc(), ticks = platform_ms_to_tsc(ms);
	for (uint64_t us = 1; status & STATUS_BSY && rdtsc() - start < ticks;
		us = MIN(us * 2, POLL_MAX_US)) {
		clock_spin_us(us);
		status = reg_read(d, REG_STATUS);
	}
	return status;
}

/* The status register is true 400 ns after a command or a select: four reads of the other copy. */
static void settle(const struct ata_disk *d)
{
	for (uint32_t i = 0; i < 4; i++)
		(void)inb(d->control);
}

static void log_failure(const struct ata_disk *d, const char *what, uint64_t sector, uint8_t status)
{
	char text[ATA_ERROR_TEXT_BYTES];
	uint64_t now = platform_ns();

	if (now < log_next_ns) {
		log_dropped++;
		return;
	}
	ata_error_text(status, reg_read(d, REG_ERROR), text);
	log_warn("disk %u: %s at sector %lu: %s (status %02x; %u more were not logged)",
		(uint32_t)(d - disks), what, sector, text, status, log_dropped);
	log_next_ns = now + LOG_PERIOD_NS;
	log_dropped = 0;
}

/* Selects the disk and gives a command; the registers behind LBA48 take their high bytes first. */
static status_t command(const struct ata_disk *d, uint8_t cmd, uint64_t sector, uint32_t count,
	bool ext)
{
	uint8_t top = ext ? 0 : (uint8_t)(sector >> 24 & 0xf);

	if (wait_ready(d, TIMEOUT_MS) & (STATUS_BSY | STATUS_DRQ))
		return ERR_IO;
	reg_write(d, REG_DEVICE, DEVICE_LBA | d->select | top);
	settle(d);
	if (wait_ready(d, TIMEOUT_MS) & (STATUS_BSY | STATUS_DRQ))
		return ERR_IO;
	if (ext) {
		reg_write(d, REG_COUNT, count >> 8);
		reg_write(d, REG_LBA0, sector >> 24);
		reg_write(d, REG_LBA1, sector >> 32);
		reg_write(d, REG_LBA2, sector >> 40);
	}
	reg_write(d, REG_COUNT, count);
	reg_write(d, REG_LBA0, sector);
	reg_write(d, REG_LBA1, sector >> 8);
	reg_write(d, REG_LBA2, sector >> 16);
	reg_write(d, REG_COMMAND, cmd);
	settle(d);
	return OK;
}

/* A reset is the only way out of a command that stopped halfway with data offered. */
static void reset_channel(const struct ata_disk *d)
{
	outb(d->control, CONTROL_NIEN | 0x04);
	settle(d);
	outb(d->control, CONTROL_NIEN);
	settle(d);
	(void)wait_ready(d, TIMEOUT_MS);
}

static status_t set_multiple(struct ata_disk *d, uint32_t sectors)
{
	if (command(d, CMD_SET_MULTIPLE, 0, sectors, false))
		return ERR_IO;
	if (wait_ready(d, IDENTIFY_MS) & (STATUS_BSY | STATUS_ERR | STATUS_DF))
		return ERR_IO;
	d->block_sectors = sectors;
	return OK;
}

static uint8_t transfer_command(const struct ata_disk *d, bool write, bool ext)
{
	static const uint8_t table[2][2][2] = { /* [multiple][write][ext] */
		{ { CMD_READ, CMD_READ_EXT }, { CMD_WRITE, CMD_WRITE_EXT } },
		{ { CMD_READ_MULTIPLE, CMD_READ_MULTIPLE_EXT },
			{ CMD_WRITE_MULTIPLE, CMD_WRITE_MULTIPLE_EXT } },
	};

	return table[d->block_sectors > 1][write][ext];
}

static status_t check_request(uint32_t index, uint64_t sector, uint32_t sectors)
{
	if (index >= ATA_DISKS || !disks[index].info.present)
		return ERR_NOENT;
	uint64_t end = disks[index].info.sector_count;

	if (!sectors || sectors > SECTORS_MAX || sector >= end || end - sector < sectors)
		return ERR_RANGE;
	return OK;
}

static status_t fail(const struct ata_disk *d, bool write, uint64_t sector)
{
	uint8_t status = reg_read(d, REG_STATUS);

	log_failure(d, write ? "write failed" : "read failed", sector, status);
	if (status & (STATUS_BSY | STATUS_DRQ)) {
		reset_channel(d);
		/* A reset may undo SET MULTIPLE: single sectors always work. */
		for (uint32_t i = 0; i < ATA_DISKS; i++)
			if (disks[i].base == d->base)
				disks[i].block_sectors = 1;
	}
	return ERR_IO;
}

status_t ata_transfer(uint32_t index, uint64_t sector, uint32_t sectors, void *to, bool write)
{
	uint8_t *buf = to;
	status_t s = check_request(index, sector, sectors);

	if (s)
		return s;
	struct ata_disk *d = &disks[index];
	bool ext = d->lba48 && sector + sectors > LBA28_END;

	/* 28-bit commands count 256 as 0. */
	if (command(d, transfer_command(d, write, ext), sector, sectors, ext))
		return fail(d, write, sector);
	while (sectors) {
		uint32_t n = MIN(sectors, d->block_sectors);
		uint8_t status = wait_ready(d, TIMEOUT_MS);

		if ((status & (STATUS_BSY | STATUS_DF | STATUS_ERR | STATUS_DRQ)) != STATUS_DRQ)
			return fail(d, write, sector);
		if (write)
			outsl((uint16_t)(d->base + REG_DATA), buf, n * SECTOR_DWORDS);
		else
			insl((uint16_t)(d->base + REG_DATA), buf, n * SECTOR_DWORDS);
		buf += n * SECTOR_BYTES;
		sector += n;
		sectors -= n;
	}
	if (wait_ready(d, TIMEOUT_MS) & (STATUS_BSY | STATUS_DF | STATUS_ERR | STATUS_DRQ))
		return fail(d, write, sector - 1);
	return OK;
}

status_t platform_disk_read(uint32_t index, uint64_t sector, uint32_t sectors, void *buf)
{
	disk_hardware_claim();
	status_t s = ata_transfer(index, sector, sectors, buf, false);

	disk_hardware_release();
	return s;
}

status_t platform_disk_write(uint32_t index, uint64_t sector, uint32_t sectors, const void *buf)
{
	disk_hardware_claim();
	status_t s = ata_transfer(index, sector, sectors, (void *)(uintptr_t)buf, true);

	disk_hardware_release();
	return s;
}

static status_t flush(uint32_t index)
{
	if (index >= ATA_DISKS || !disks[index].info.present)
		return ERR_NOENT;
	struct ata_disk *d = &disks[index];
	status_t s = command(d, d->lba48 ? CMD_FLUSH_EXT : CMD_FLUSH, 0, 0, false);
	uint8_t status = wait_ready(d, FLUSH_TIMEOUT_MS);

	if (!s && !(status & (STATUS_BSY | STATUS_ERR | STATUS_DF)))
		return OK;
	log_failure(d, "flush failed", 0, status);
	return ERR_IO;
}

status_t platform_disk_flush(uint32_t index)
{
	disk_hardware_claim();
	status_t s = flush(index);

	disk_hardware_release();
	return s;
}

const struct platform_disk *platform_disk(uint32_t index)
{
	return index < ATA_DISKS ? &disks[index].info : NULL;
}

/* A disk that answers IDENTIFY DEVICE with data. Packet devices and empty cables do not. */
static bool identify(struct ata_disk *d, struct ata_geometry *g)
{
	uint16_t words[ATA_IDENTIFY_WORDS];

	outb(d->control, CONTROL_NIEN);
	reg_write(d, REG_DEVICE, DEVICE_LBA | d->select);
	settle(d);
	uint8_t status = reg_read(d, REG_STATUS);
	if (status == 0xff || !status)
		return false;
	if (wait_ready(d, IDENTIFY_MS) & (STATUS_BSY | STATUS_DRQ))
		return false;
	reg_write(d, REG_COUNT, 0);
	reg_write(d, REG_LBA0, 0);
	reg_write(d, REG_LBA1, 0);
	reg_write(d, REG_LBA2, 0);
	reg_write(d, REG_COMMAND, CMD_IDENTIFY);
	settle(d);
	status = wait_ready(d, IDENTIFY_MS);
	if ((status & (STATUS_BSY | STATUS_ERR | STATUS_DRQ)) != STATUS_DRQ)
		return false;
	insl((uint16_t)(d->base + REG_DATA), words, ATA_IDENTIFY_WORDS / 2);
	ata_identify_decode(words, g);
	return g->sector_count != 0;
}

void ata_init(void)
{
	for (uint32_t i = 0; i < ATA_DISKS; i++) {
		struct ata_disk *d = &disks[i];
		struct ata_geometry g;

		if (!identify(d, &g))
			continue;
		d->info.present = true;
		d->info.sector_count = g.sector_count;
		memcpy(d->info.model, g.model, sizeof(d->info.model));
		d->lba48 = g.lba48;
		d->block_sectors = 1;
		if (g.block_sectors > 1 && set_multiple(d, g.block_sectors))
			log_debug("disk %u: no blocks of %u sectors", i, g.block_sectors);
		log_info("disk %u: %s, %lu MiB", i, d->info.model, d->info.sector_count >> 11);
	}
}
