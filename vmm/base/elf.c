/* Pure. Source: System V ABI, "ELF Header" and "Program Header"; AMD64 supplement. */
#include "vmm/base/elf.h"

#define EI_CLASS_64   2
#define EI_DATA_LSB   1
#define ET_EXEC       2
#define EM_X86_64     62
#define PT_LOAD       1
#define HEADER_BYTES  64
#define PHEADER_BYTES 56

/* Byte-wise little-endian loads: the image may lie at any alignment. */
static uint64_t load(const uint8_t *p, unsigned int n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static bool range_fits(uint64_t offset, uint64_t length, uint64_t bytes)
{
	return offset <= bytes && length <= bytes - offset;
}

static const char *check_header(const uint8_t *image, uint64_t bytes)
{
	if (bytes < HEADER_BYTES || load(image, 4) != 0x464c457f)
		return "not an ELF file";
	if (image[4] != EI_CLASS_64 || image[5] != EI_DATA_LSB)
		return "not a 64-bit little-endian ELF file";
	if (load(image + 18, 2) != EM_X86_64)
		return "not for x86-64";
	if (load(image + 16, 2) != ET_EXEC)
		return "not a statically linked, non-PIE executable (ET_EXEC)";
	if (load(image + 54, 2) != PHEADER_BYTES)
		return "program headers of an unknown size";
	if (!range_fits(load(image + 32, 8), load(image + 56, 2) * PHEADER_BYTES, bytes))
		return "program headers lie outside the file (truncated?)";
	return NULL;
}

static const char *check_segment(const struct elf_segment *s, uint64_t bytes)
{
	if (!range_fits(s->file_offset, s->file_bytes, bytes))
		return "a segment lies outside the file (truncated?)";
	if (s->file_bytes > s->mem_bytes)
		return "a segment is larger in the file than in memory";
	if (s->mem_bytes > UINT64_MAX - s->va || s->mem_bytes > UINT64_MAX - s->pa)
		return "a segment wraps around the address space";
	return NULL;
}

static bool overlaps(const struct elf_segment *a, const struct elf_segment *b)
{
	return (a->va < b->va + b->mem_bytes && b->va < a->va + a->mem_bytes) ||
		(a->pa < b->pa + b->mem_bytes && b->pa < a->pa + a->mem_bytes);
}

static const char *add_segment(struct elf_image *out, const struct elf_segment *s)
{
	for (uint32_t i = 0; i < out->segment_count; i++)
		if (overlaps(&out->segment[i], s))
			return "two segments overlap";
	if (out->segment_count == ELF_SEGMENT_MAX)
		return "more than 8 segments to load";
	out->segment[out->segment_count++] = *s;
	return NULL;
}

static const char *check_entry(const struct elf_image *e)
{
	for (uint32_t i = 0; i < e->segment_count; i++) {
		const struct elf_segment *s = &e->segment[i];
		if ((s->flags & 1) && e->entry - s->va < s->mem_bytes)
			return NULL;
	}
	return e->segment_count ? "the entry point is in no executable segment" : "nothing to load";
}

status_t elf_parse(const void *data, uint64_t bytes, struct elf_image *out, const char **why)
{
	const uint8_t *image = data;

	*why = check_header(image, bytes);
	if (*why)
		return ERR_FORMAT;
	*out = (struct elf_image){ .entry = load(image + 24, 8) };
	const uint8_t *ph = image + load(image + 32, 8);
	for (uint64_t n = load(image + 56, 2); n--; ph += PHEADER_BYTES) {
		struct elf_segment s = {
			.flags = (uint32_t)load(ph + 4, 4),
			.file_offset = load(ph + 8, 8),
			.va = load(ph + 16, 8),
			.pa = load(ph + 24, 8),
			.file_bytes = load(ph + 32, 8),
			.mem_bytes = load(ph + 40, 8),
		};
		if (load(ph, 4) != PT_LOAD || !s.mem_bytes)
			continue;
		*why = check_segment(&s, bytes);
		if (!*why)
			*why = add_segment(out, &s);
		if (*why)
			return ERR_FORMAT;
	}
	*why = check_entry(out);
	return *why ? ERR_FORMAT : OK;
}
