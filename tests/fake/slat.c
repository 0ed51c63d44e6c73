/* See tests/fake/slat.h. Layouts: SDM vol. 3C "EPT Translation Mechanism"; APM vol. 2 "Nested
 * Paging". */
#include <stdlib.h>
#include <string.h>

#include "tests/fake/slat.h"
#include "vmm/base/directmap.h"

const struct slat_format fake_ept = {
	.name = "EPT (fake)",
	.present_mask = 7,
	.table = 7,
	.leaf_4k = 5 | 6 << 3 | 1 << 6,
	.leaf_big = 5 | 6 << 3 | 1 << 6 | 1 << 7,
	.big_mask = 1 << 7,
	.write = 2,
	.accessed = 1 << 8,
	.dirty = 1 << 9,
	.has_1g = true,
};
const struct slat_format fake_npt = {
	.name = "NPT (fake)",
	.present_mask = 1,
	.table = 1 | 2 | 4,
	.leaf_4k = 1 | 4,
	.leaf_big = 1 | 4 | 1 << 7,
	.big_mask = 1 << 7,
	.write = 2,
	.accessed = 1 << 5,
	.dirty = 1 << 6,
	.has_1g = true,
};
const struct slat_format fake_npt_no_exec = {
	.name = "NPT, large leaves not executable (fake)",
	.present_mask = 1,
	.table = 1 | 2 | 4,
	.leaf_4k = 1 | 4,
	.leaf_big = 1ull << 63 | 1 | 4 | 1 << 7,
	.big_mask = 1 << 7,
	.write = 2,
	.accessed = 1 << 5,
	.dirty = 1 << 6,
	.has_1g = true,
	.big_no_exec = true,
};
const struct slat_format *slat_format = &fake_ept;

uint64_t fake_flush_count;
void (*fake_flush_hook)(struct slat_space *s);

static void *ram;
static struct frame *metadata;

void slat_flush(struct slat_space *s)
{
	__atomic_fetch_add(&fake_flush_count, 1, __ATOMIC_RELAXED);
	s->flush_count++;
	s->generation++;
	if (fake_flush_hook)
		fake_flush_hook(s);
}

void fake_machine(uint64_t pages)
{
	free(ram);
	free(metadata);
	ram = aligned_alloc(PAGE_BYTES, pages * PAGE_BYTES);
	metadata = calloc(pages, sizeof(*metadata));
	memset(ram, 0xa5, pages * PAGE_BYTES);
	directmap_offset = (uintptr_t)ram - FAKE_MFN_BASE * PAGE_BYTES;
	frame_init(metadata, MFN(FAKE_MFN_BASE), pages);
	frame_add(MFN(FAKE_MFN_BASE), pages);
}

void *fake_guest_access(struct p2m *p, gpa_t gpa, uint32_t access)
{
	uint64_t table = p->slat.root.v << PAGE_SHIFT;

	for (uint32_t level = SLAT_LEVELS;; level--) {
		uint32_t shift = PAGE_SHIFT + 9 * (level - 1);
		uint64_t *entry = (uint64_t *)hpa_to_va(HPA(table)) + (gpa.v >> shift & 511);
		uint64_t e = *entry;

		if (gpa.v >> 48 || !(e & slat_format->present_mask))
			return NULL;
		if (level > 1 && !(e & slat_format->big_mask)) {
			table = e & SLAT_ADDR_MASK;
			continue;
		}
		if ((access & P2M_WRITE) && !(e & slat_format->write))
			return NULL;
		if ((access & P2M_EXEC) && level > 1 && slat_format->big_no_exec)
			return NULL;
		*entry |= slat_format->accessed | (access & P2M_WRITE ? slat_format->dirty : 0);
		return hpa_to_va(HPA((e & SLAT_ADDR_MASK) + (gpa.v & ((1ull << shift) - 1))));
	}
}
