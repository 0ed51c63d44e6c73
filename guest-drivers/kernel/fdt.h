/*
 * Pure. Reads the few facts that a guest needs from its flattened device tree (Devicetree
 * Specification, "Flattened Devicetree (DTB) Format"). Nothing outside [blob, blob + room) is read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fdt_facts {
	uint64_t memory_base, memory_bytes; /* first region of the first memory node */
	char bootargs[256];
	char name[32];  /* hypervisor/guest-name */
	uint32_t blob_bytes;
};

/* NULL, or one phrase that says what is wrong. */
const char *fdt_read(const void *blob, uint64_t room, struct fdt_facts *out);
