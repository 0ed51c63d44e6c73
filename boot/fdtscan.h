/*
 * Pure. The little that the loader must know of the config: that it is a flattened device tree, and
 * which guest images it names (string properties "kernel" below /guests). The hypervisor reads the
 * rest with libfdt. Nothing outside [dtb, dtb + bytes) is ever read.
 * Source: Devicetree Specification, "Flattened Devicetree (DTB) Format".
 */
#pragma once

#include "boot/handoff.h"
#include "vmm/base/status.h"

#define FDTSCAN_NODE_BYTES 48

struct fdtscan {
	uint32_t kernel_count; /* distinct names, in the order they appear */
	char kernel[HANDOFF_MODULE_MAX][HANDOFF_NAME_BYTES];
	char node[HANDOFF_MODULE_MAX][FDTSCAN_NODE_BYTES]; /* the first guest that names it */
	uint32_t total_bytes; /* the tree's own length */
};

/*
 * ERR_FORMAT or ERR_LIMIT with *why = one phrase, and out->node[0] = the node it is about, or "".
 * A name may use letters, digits, '.', '-' and '_', and is shorter than HANDOFF_NAME_BYTES: it
 * becomes a file name on a FAT file system.
 */
status_t fdtscan(const void *dtb, uint64_t bytes, struct fdtscan *out, const char **why) MUST_CHECK;
