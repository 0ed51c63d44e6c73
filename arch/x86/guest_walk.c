/* Pure. See guest_walk.h. */
#include "arch/x86/guest_walk.h"
#include "arch/x86/regs.h"

#define PTE_PRESENT 1ull
#define PTE_BIG     (1ull << 7)
#define PTE_ADDR    0x000ffffffffff000ull

bool guest_walk(uint64_t cr3, uint64_t gva, guest_read_fn read, void *ctx, uint64_t *gpa)
{
	uint64_t table = cr3 & PTE_ADDR;
	if (!x86_canonical(gva))
		return false;
	for (uint32_t shift = 39;; shift -= 9) {
		uint64_t entry, offset = (1ull << shift) - 1;
		if (!read(ctx, table + (gva >> shift & 511u) * 8, &entry, sizeof(entry)) ||
			!(entry & PTE_PRESENT))
			return false;
		if (shift == 12 || (shift <= 30 && (entry & PTE_BIG))) {
			*gpa = (entry & PTE_ADDR & ~offset) | (gva & offset);
			return true;
		}
		table = entry & PTE_ADDR;
	}
}

uint32_t guest_fetch(uint64_t cr3, uint64_t gva, guest_read_fn read, void *ctx, uint8_t *buf,
	uint32_t max)
{
	uint32_t done = 0;
	while (done < max) {
		uint64_t gpa, at = gva + done;
		uint32_t n = (uint32_t)MIN(PAGE_BYTES - (at & (PAGE_BYTES - 1)), (uint64_t)(max - done));
		if (!guest_walk(cr3, at, read, ctx, &gpa) || !read(ctx, gpa, buf + done, n))
			break;
		done += n;
	}
	return done;
}
