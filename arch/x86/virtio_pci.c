/* Pure. */
#include "arch/x86/virtio_pci.h"

#define CAPABILITY_VENDOR 0x09u
#define CAP_TYPE(head)    ((head) >> 24)
#define CAP_LENGTH(head)  ((head) >> 16 & 0xffu)
#define TYPE_COMMON       1u
#define TYPE_NOTIFY       2u
#define TYPE_DEVICE       4u
#define CAP_BYTES         16u /* and four more for notify's multiplier */
#define BARS              6u

/* The dword offsets within a capability. */
#define CAP_BAR    4u
#define CAP_OFFSET 8u
#define CAP_SIZE   12u
#define CAP_MULTIPLIER 16u

static struct virtio_window *window_for(struct virtio_layout *out, uint32_t type)
{
	switch (type) {
	case TYPE_COMMON:
		return &out->common;
	case TYPE_NOTIFY:
		return &out->notify;
	case TYPE_DEVICE:
		return &out->device;
	default:
		return NULL;
	}
}

static status_t take(const struct pci_access *a, uint16_t at, uint32_t cap, struct virtio_layout *out)
{
	uint32_t head = a->read(at, cap);
	struct virtio_window *w = window_for(out, CAP_TYPE(head));
	uint32_t index = a->read(at, cap + CAP_BAR) & 0xff;
	uint32_t offset = a->read(at, cap + CAP_OFFSET), bytes = a->read(at, cap + CAP_SIZE);

	/* "The driver SHOULD use the first instance of each virtio structure type they can support." */
	if (!w || w->bytes || index >= BARS || CAP_LENGTH(head) < CAP_BYTES)
		return OK;
	struct pci_bar bar = pci_bar(a, at, index);

	if (bar.is_io || !bar.base)
		return OK;
	if (!bytes || offset + bytes < offset || bar.base > UINT64_MAX - GIB(4) ||
		(bar.base + offset) & 3)
		return ERR_FORMAT;
	*w = (struct virtio_window){ HPA(bar.base + offset), bytes };
	if (CAP_TYPE(head) == TYPE_NOTIFY)
		out->notify_multiplier = CAP_LENGTH(head) < CAP_BYTES + 4 ? 0 :
								a->read(at, cap + CAP_MULTIPLIER);
	return OK;
}

status_t virtio_find(const struct pci_access *a, uint16_t at, struct virtio_layout *out)
{
	uint8_t cap = 0;

	*out = (struct virtio_layout){ 0 };
	/* A list that goes in a circle is left after as many as fit. */
	for (uint32_t i = 0; i < 48; i++) {
		cap = pci_capability(a, at, CAPABILITY_VENDOR, cap);
		if (!cap || cap > 256 - CAP_BYTES - 4)
			break;
		if (take(a, at, cap, out) != OK)
			return ERR_FORMAT;
	}
	if (!out->common.bytes || !out->notify.bytes || !out->device.bytes)
		return ERR_NOENT;
	return out->common.bytes < sizeof(struct virtio_common) || out->notify.bytes < 2 ||
			out->device.bytes < 8 ? ERR_FORMAT : OK;
}
