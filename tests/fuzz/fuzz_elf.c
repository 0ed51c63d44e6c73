/* Any bytes as an ELF image: what is accepted lies inside them and does not overlap. */
#include <stdlib.h>

#include "vmm/base/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct elf_image e;
	const char *why = NULL;

	if (elf_parse(data, bytes, &e, &why) != OK) {
		if (!why)
			abort();
		return 0;
	}
	for (uint32_t i = 0; i < e.segment_count; i++) {
		const struct elf_segment *s = &e.segment[i];
		if (s->file_offset > bytes || s->file_bytes > bytes - s->file_offset ||
			s->file_bytes > s->mem_bytes || s->va + s->mem_bytes < s->va)
			abort();
		for (uint32_t k = 0; k < i; k++)
			if (s->va < e.segment[k].va + e.segment[k].mem_bytes &&
				e.segment[k].va < s->va + s->mem_bytes)
				abort();
	}
	return 0;
}
