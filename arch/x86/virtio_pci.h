/*
 * Pure. A virtio device behind PCI: where its registers lie (Virtual I/O Device 1.1, Virtio Over PCI Bus,
 * Virtio Structure PCI Capabilities), and their form. Only the modern interface, in memory.
 */
#pragma once

#include "arch/x86/pci.h"

#define VIRTIO_VENDOR           0x1af4u
#define VIRTIO_BLK_TRANSITIONAL 0x1001u
#define VIRTIO_BLK              0x1042u

struct virtio_window {
	hpa_t at;
	uint32_t bytes;
};

struct virtio_layout {
	struct virtio_window common, notify, device;
	uint32_t notify_multiplier;
};

/* ERR_NOENT: no modern interface. ERR_FORMAT: one that makes no sense, or in I/O ports. */
status_t virtio_find(const struct pci_access *a, uint16_t at, struct virtio_layout *out) MUST_CHECK;

/* Common configuration structure layout. */
struct virtio_common {
	uint32_t device_feature_select, device_feature;
	uint32_t driver_feature_select, driver_feature;
	uint16_t msix_config, num_queues;
	uint8_t device_status, config_generation;
	uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
	uint32_t queue_desc[2], queue_driver[2], queue_device[2]; /* low, high */
};
_Static_assert(sizeof(struct virtio_common) == 56, "virtio common configuration");
_Static_assert(offsetof(struct virtio_common, queue_desc) == 32, "virtio common configuration");

#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER      2u
#define VIRTIO_STATUS_DRIVER_OK   4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_NO_VECTOR          0xffffu

/* Split virtqueues. */
struct virtq_desc {
	uint64_t address;
	uint32_t bytes;
	uint16_t flags, next;
};
_Static_assert(sizeof(struct virtq_desc) == 16, "virtqueue descriptor");
#define VIRTQ_DESC_NEXT        1u
#define VIRTQ_DESC_WRITE       2u /* by the device */
#define VIRTQ_NO_INTERRUPT     1u /* in the driver area's flags */

struct virtq_used {
	uint32_t id, bytes;
};
_Static_assert(sizeof(struct virtq_used) == 8, "virtqueue used element");
