/*
 * Builds a guest's memory before its first instruction: kernel image, boot page tables, device tree
 * (docs/abi.md). The first 64 KiB of the guest belong to the builder.
 */
#pragma once

#include "vmm/guest.h"

#define GUEST_BUILD_PML4  0x1000u  /* then one page directory pointer table, one page directory */
#define GUEST_BUILD_DTB   0x8000u
#define GUEST_BUILD_BYTES 0x10000u /* an image may start here */
#define GUEST_DTB_MAX     0x2000u

/* Once at boot, for each module. `image` stays in place. Ignored beyond HANDOFF_MODULE_MAX. */
void guest_image_add(const char *name, const void *image, uint64_t bytes);

/* Loads everything and says how to start. ERR_NOENT (no such image), ERR_FORMAT (what is wrong with
 * it), ERR_NOMEM; `error` gets a sentence. */
status_t guest_build(struct guest *g, struct virt_boot *boot, char error[CONFIG_ERROR_BYTES])
	MUST_CHECK;
/* The guest's device tree into `buf`: its length, or a negative libfdt error. */
int guest_dtb(const struct guest *g, void *buf, int bytes);
