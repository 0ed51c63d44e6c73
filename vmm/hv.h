/* The hypervisor itself: what it took of the machine. Set once at boot, by main.c. */
#pragma once

#include "vmm/base/types.h"

struct hv_memory {
	uint64_t image_bytes;    /* its segments, host page tables and stacks */
	uint64_t module_bytes;   /* config and guest images, kept for `create` */
	uint64_t metadata_bytes; /* struct frame, one a host frame */
};
extern struct hv_memory hv_memory;
