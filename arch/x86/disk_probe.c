/* Finds the host's disks: what PCI shows, then the legacy ATA ports. */
#include "arch/x86/ata.h"
#include "arch/x86/cpu.h"
#include "arch/x86/image.h"
#include "arch/x86/paging.h"
#include "arch/x86/virtio_blk.h"
#include "vmm/base/directmap.h"
#include "vmm/base/log.h"

#define CONFIG_ADDRESS 0xcf8u
#define CONFIG_DATA    0xcfcu
#define CONFIG_ENABLE  0x80000000u
#define CLASS_IDE      0x0101u
#define BAR_BUS_MASTER 4u

static void *direct_map_end; /* set once at boot */

/* Configuration mechanism #1. At boot only: the pair of ports has no lock. */
static uint32_t config_read(uint16_t at, uint32_t offset)
{
	outl(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)at << 8 | offset);
	return inl(CONFIG_DATA);
}

static void config_write(uint16_t at, uint32_t offset, uint32_t value)
{
	outl(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)at << 8 | offset);
	outl(CONFIG_DATA, value);
}

static const struct pci_access access = { config_read, config_write };

bool disk_dma_address(const void *buf, uint64_t bytes, hpa_t *out)
{
	const char *p = buf;

	if (p >= image_data_start && p < image_end && bytes <= (uint64_t)(image_end - p)) {
		*out = paging_image_hpa(buf);
		return true;
	}
	if ((uintptr_t)p < directmap_offset || (void *)p >= direct_map_end)
		return false;
	*out = va_to_hpa(buf);
	return true;
}

/* The bus master's ports of the first IDE controller. */
static void take_ide(const struct pci_function *f, uint16_t *bus_master)
{
	struct pci_bar bar = pci_bar(&access, f->at, BAR_BUS_MASTER);

	if (*bus_master || !bar.is_io || !bar.base || bar.base >= 0xfff0)
		return;
	pci_enable(&access, f->at, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	*bus_master = (uint16_t)bar.base;
}

static void take_virtio(const struct pci_function *f)
{
	struct virtio_layout layout;
	status_t s = virtio_find(&access, f->at, &layout);

	if (s) {
		log_warn("a virtio disk without a modern interface in memory: left out");
		return;
	}
	pci_enable(&access, f->at, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
	(void)virtio_blk_init(&layout);
}

static bool take_function(void *ctx, const struct pci_function *f)
{
	if (f->class_code == CLASS_IDE)
		take_ide(f, ctx);
	if (f->vendor == VIRTIO_VENDOR &&
		(f->device == VIRTIO_BLK || f->device == VIRTIO_BLK_TRANSITIONAL))
		take_virtio(f);
	return true;
}

void disk_init(uint64_t ram_top)
{
	uint16_t bus_master = 0;

	direct_map_end = hpa_to_va(HPA(ram_top));
	pci_scan(&access, take_function, &bus_master);
	if (!bus_master)
		log_debug("no bus-master IDE controller: disks by PIO");
	ata_init(bus_master);
}
