/*
 * Pure. What of PCI is needed to find disks: functions, base addresses, capabilities (PCI Local Bus
 * Specification 3.0, chapter 6). The configuration space is reached by the caller's two functions.
 */
#pragma once

#include "vmm/base/status.h"

#define PCI_VENDOR        0x00u /* device above it */
#define PCI_COMMAND       0x04u /* status above it */
#define PCI_CLASS         0x08u /* class, subclass, interface, revision from the top */
#define PCI_HEADER        0x0cu
#define PCI_BAR           0x10u
#define PCI_BUSES         0x18u /* a bridge's */
#define PCI_CAPABILITIES  0x34u

#define PCI_COMMAND_IO      0x001u
#define PCI_COMMAND_MEMORY  0x002u
#define PCI_COMMAND_MASTER  0x004u
#define PCI_COMMAND_NO_INTX 0x400u
#define PCI_STATUS_CAPS     (1u << 20) /* in the dword at PCI_COMMAND */

struct pci_access {
	/* `at`: bus << 8 | device << 3 | function; `offset` a multiple of 4 below 256 */
	uint32_t (*read)(uint16_t at, uint32_t offset);
	void (*write)(uint16_t at, uint32_t offset, uint32_t value);
};

struct pci_function {
	uint16_t at;
	uint16_t vendor, device;
	uint16_t class_code; /* class << 8 | subclass */
};

/*
 * Calls `found` for each function of the buses that bridges lead to, in ascending order, until it
 * returns false.
 */
void pci_scan(const struct pci_access *a, bool (*found)(void *ctx, const struct pci_function *f),
	void *ctx);

struct pci_bar {
	uint64_t base; /* 0: none */
	bool is_io, is_64;
};
/* `index` below 6. */
struct pci_bar pci_bar(const struct pci_access *a, uint16_t at, uint32_t index);
/* Sets bits of the command register; status bits are left as they are. */
void pci_enable(const struct pci_access *a, uint16_t at, uint16_t bits);
/* The offset of the capability with `id` behind `after` (0: the first), or 0. Bounded. */
uint8_t pci_capability(const struct pci_access *a, uint16_t at, uint8_t id, uint8_t after);
