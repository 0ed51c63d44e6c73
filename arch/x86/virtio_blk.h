/* virtio-blk (Virtual I/O Device 1.1, Block Device): one queue, polled, no interrupts. */
#pragma once

#include "arch/x86/virtio_pci.h"

/* Takes the device on as the next disk from PLATFORM_DISK_VIRTIO on. At boot. False: no place left, or the
 * device does not do what it should; that is said. */
bool virtio_blk_init(const struct virtio_layout *layout);
