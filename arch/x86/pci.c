/* Pure. */
#include "arch/x86/pci.h"

#define HEADER_TYPE(dword)  ((dword) >> 16 & 0x7fu)
#define HEADER_MULTI        0x00800000u
#define HEADER_BRIDGE       1u
#define BUSES_SUBORDINATE(dword) ((dword) >> 16 & 0xffu)
#define BUS_DEVICES         32u
#define FUNCTIONS           8u
#define BAR_IO              1u
#define BAR_TYPE_64         4u
#define BAR_TYPE_MASK       6u
#define CAPABILITY_MIN      0x40u
#define CAPABILITIES_MAX    48u /* that fit */

static bool read_function(const struct pci_access *a, uint16_t at, struct pci_function *f)
{
	uint32_t id = a->read(at, PCI_VENDOR);

	if ((id & 0xffff) == 0xffff || !id)
		return false;
	*f = (struct pci_function){ .at = at, .vendor = (uint16_t)id, .device = (uint16_t)(id >> 16),
		.class_code = (uint16_t)(a->read(at, PCI_CLASS) >> 16) };
	return true;
}

void pci_scan(const struct pci_access *a, bool (*found)(void *ctx, const struct pci_function *f),
	void *ctx)
{
	uint32_t last_bus = 0;

	for (uint32_t bus = 0; bus <= last_bus; bus++) {
		for (uint32_t n = 0; n < BUS_DEVICES * FUNCTIONS; n++) {
			uint16_t at = (uint16_t)(bus << 8 | n);
			struct pci_function f;

			if (!read_function(a, at, &f)) {
				if (n % FUNCTIONS == 0)
					n += FUNCTIONS - 1; /* no function 0, no device */
				continue;
			}
			uint32_t header = a->read(at, PCI_HEADER);

			if (HEADER_TYPE(header) == HEADER_BRIDGE)
				last_bus = MAX(last_bus, BUSES_SUBORDINATE(a->read(at, PCI_BUSES)));
			if (!found(ctx, &f))
				return;
			if (n % FUNCTIONS == 0 && !(header & HEADER_MULTI))
				n += FUNCTIONS - 1;
		}
	}
}

struct pci_bar pci_bar(const struct pci_access *a, uint16_t at, uint32_t index)
{
	uint32_t low = a->read(at, PCI_BAR + 4 * index);
	struct pci_bar bar = { .is_io = low & BAR_IO };

	if (bar.is_io) {
		bar.base = low & ~3u;
		return bar;
	}
	bar.base = low & ~15u;
	bar.is_64 = (low & BAR_TYPE_MASK) == BAR_TYPE_64 && index < 5;
	if (bar.is_64)
		bar.base |= (uint64_t)a->read(at, PCI_BAR + 4 * index + 4) << 32;
	return bar;
}

void pci_enable(const struct pci_access *a, uint16_t at, uint16_t bits)
{
	/* Ones written to status bits would clear them. */
	a->write(at, PCI_COMMAND, (a->read(at, PCI_COMMAND) & 0xffff) | bits);
}

uint8_t pci_capability(const struct pci_access *a, uint16_t at, uint8_t id, uint8_t after)
{
	uint32_t next;

	if (!(a->read(at, PCI_COMMAND) & PCI_STATUS_CAPS))
		return 0;
	next = after ? a->read(at, after & 0xfcu) >> 8 : a->read(at, PCI_CAPABILITIES);
	for (uint32_t i = 0; i < CAPABILITIES_MAX; i++) {
		next &= 0xfc;
		if (next < CAPABILITY_MIN)
			return 0;
		uint32_t head = a->read(at, next);

		if ((head & 0xff) == id)
			return (uint8_t)next;
		next = head >> 8;
	}
	return 0;
}
