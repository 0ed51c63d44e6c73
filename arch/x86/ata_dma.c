/* Bus-master IDE (Intel 82371SB PIIX3, Bus Master IDE Function; SFF-8038i). */
#include "arch/x86/ata.h"
#include "arch/x86/ata_prd.h"
#include "arch/x86/cpu.h"

#define BM_COMMAND 0u
#define BM_STATUS  2u
#define BM_TABLE   4u
#define COMMAND_START 0x01u
#define COMMAND_READ  0x08u /* the disk is read: memory is written */
#define STATUS_ACTIVE 0x01u
#define STATUS_ERROR  0x02u
#define STATUS_IRQ    0x04u

/* Owner: the channel's claimant. A table lies within 64 KiB. */
static struct ata_prd tables[ATA_CHANNELS][ATA_PRDS_MAX] __attribute__((aligned(256)));
_Static_assert(sizeof(tables) <= 256, "no table crosses a boundary");

static uint16_t port(const struct ata_channel *c, uint32_t reg)
{
	return (uint16_t)(c->bus_master + reg);
}

bool ata_dma_prepare(struct ata_channel *c, const struct disk_io *io)
{
	struct ata_prd *table = tables[c - ata_channels];
	uint64_t bytes = (uint64_t)io->sectors * 512;
	hpa_t data, at;

	if (!io->sectors || !disk_dma_address(io->buf, bytes, &data) ||
		!ata_prd_build(table, data, bytes) || !disk_dma_address(table, sizeof(tables[0]), &at) ||
		at.v + sizeof(tables[0]) > GIB(4))
		return false;
	outb(port(c, BM_COMMAND), io->write ? 0 : COMMAND_READ);
	outb(port(c, BM_STATUS), (uint8_t)(inb(port(c, BM_STATUS)) | STATUS_ERROR | STATUS_IRQ));
	outl(port(c, BM_TABLE), (uint32_t)at.v);
	return true;
}

void ata_dma_begin(struct ata_channel *c, bool write)
{
	outb(port(c, BM_COMMAND), (uint8_t)((write ? 0 : COMMAND_READ) | COMMAND_START));
}

status_t ata_dma_state(struct ata_channel *c)
{
	uint8_t status = inb(port(c, BM_STATUS));

	return status & STATUS_ERROR ? ERR_IO : status & STATUS_ACTIVE ? ERR_BUSY : OK;
}

void ata_dma_stop(struct ata_channel *c)
{
	outb(port(c, BM_COMMAND), 0);
}
