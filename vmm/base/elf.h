/*
 * Pure. Reads a 64-bit little-endian x86-64 ELF executable. Shared by the loader (the hypervisor's
 * image) and the guest builder. Nothing outside [image, image + bytes) is ever read.
 */
#pragma once

#include "vmm/base/status.h"

#define ELF_SEGMENT_MAX 8

struct elf_segment {
	uint64_t va, pa;
	uint64_t file_offset, file_bytes;
	uint64_t mem_bytes; /* >= file_bytes; the rest is zero */
	uint32_t flags;     /* 1 X, 2 W, 4 R */
};

struct elf_image {
	uint64_t entry;
	uint32_t segment_count; /* PT_LOAD with mem_bytes > 0, in file order */
	struct elf_segment segment[ELF_SEGMENT_MAX];
};

/*
 * ERR_FORMAT with *why = one phrase ("not an ELF file", "segment 2 lies outside the file", ...).
 * Checks: magic, class, machine, ET_EXEC or static ET_DYN refused, bounds without overflow, segments
 * not overlapping by va, entry inside an executable segment.
 */
status_t elf_parse(const void *image, uint64_t bytes, struct elf_image *out, const char **why)
	MUST_CHECK;
