/* Memory for the hypervisor: its segments, and the page tables it starts with. */
#include "boot/efi/loader.h"

void *place_pages(struct loader *l, uint64_t bytes, enum handoff_mem_type type, const char *what)
{
	EFI_PHYSICAL_ADDRESS base;
	uint64_t size = ALIGN_UP(bytes, PAGE_BYTES);

	if (l->placed_count == LOADER_PLACED_MAX)
		out_fatal("too many pieces to place in memory (%a)", what);
	if (EFI_ERROR(BS->AllocatePages(AllocateAnyPages, EfiLoaderData, size / PAGE_BYTES, &base)))
		out_fatal("too little memory: %a needs %ld KiB in one piece; give the machine more "
			  "memory (boot/run --memory)", what, size / 1024);
	BS->SetMem((void *)base, size, 0);
	l->placed[l->placed_count++] =
		(struct handoff_mem){ .base = base, .bytes = size, .type = (uint32_t)type };
	return (void *)base;
}

/* Page-aligned, inside the hypervisor's range, on pages of their own, never both W and X. */
static void check_segments(const struct elf_image *e)
{
	for (uint32_t i = 0; i < e->segment_count; i++) {
		const struct elf_segment *s = &e->segment[i];

		if (s->va % PAGE_BYTES || s->va < HANDOFF_HV_BASE ||
			s->mem_bytes > GIB(1) || s->va - HANDOFF_HV_BASE > GIB(1))
			out_fatal("\\aerostat\\aerostat.elf: segment %d at 0x%lx is not page-aligned in "
				  "the hypervisor's range; link it with linker.ld", i, s->va);
		if ((s->flags & 3) == 3)
			out_fatal("\\aerostat\\aerostat.elf: segment %d at 0x%lx is both writable and "
				  "executable; link it with linker.ld", i, s->va);
		for (uint32_t j = 0; j < i; j++) {
			const struct elf_segment *o = &e->segment[j];

			if (s->va < ALIGN_UP(o->va + o->mem_bytes, PAGE_BYTES) &&
				o->va < ALIGN_UP(s->va + s->mem_bytes, PAGE_BYTES))
				out_fatal("\\aerostat\\aerostat.elf: segments %d and %d share a page; "
					  "link it with linker.ld", j, i);
		}
	}
}

void place_segments(struct loader *l, void *file)
{
	_Static_assert(ELF_SEGMENT_MAX <= HANDOFF_SEGMENT_MAX, "each segment is handed over");
	check_segments(&l->elf);
	for (uint32_t i = 0; i < l->elf.segment_count; i++) {
		const struct elf_segment *s = &l->elf.segment[i];
		uint64_t bytes = ALIGN_UP(s->mem_bytes, PAGE_BYTES);
		void *at = place_pages(l, bytes, HANDOFF_MEM_HV_IMAGE, "aerostat.elf");

		BS->CopyMem(at, (uint8_t *)file + s->file_offset, s->file_bytes);
		l->h->segments[i] = (struct handoff_segment){
			.va = s->va, .pa = (uintptr_t)at, .bytes = bytes, .flags = s->flags };
		l->image_bytes += bytes;
	}
	l->h->segment_count = l->elf.segment_count;
}

static void map(struct loader *l, uint64_t va, uint64_t pa, uint64_t bytes, uint64_t rights,
	uint64_t largest)
{
	if (pagetable_map(&l->tables, va, pa, bytes, rights, largest) != OK)
		out_fatal("the page tables cannot be built (0x%lx, 0x%lx bytes)", va, bytes);
}

void place_tables(struct loader *l, uint64_t top)
{
	uint64_t largest = machine_has_1g_pages() ? GIB(1) : MIB(2);
	uint64_t reach = ALIGN_UP(MAX(top, GIB(4)), largest);
	/* Root, direct map, two paths of three tables for the switch-over, the segments. */
	uint32_t max = 1 + pagetable_pages_for(reach, largest) + 6 + 2 +
		(uint32_t)(l->image_bytes / MIB(2)) + 2 * ELF_SEGMENT_MAX;
	uint64_t *pages = place_pages(l, max * PAGE_BYTES, HANDOFF_MEM_LOADER, "page tables");

	pagetable_init(&l->tables, pages, (uintptr_t)pages, max);
	map(l, HANDOFF_DIRECTMAP, 0, reach, PT_WRITE | PT_NX, largest);
	for (uint32_t i = 0; i < l->h->segment_count; i++) {
		const struct handoff_segment *s = &l->h->segments[i];
		uint64_t rights = (s->flags & 2 ? PT_WRITE : 0) | (s->flags & 1 ? 0 : PT_NX);

		map(l, s->va, s->pa, s->bytes, rights, PAGE_BYTES);
	}
	uint64_t code = ALIGN_DOWN((uintptr_t)loader_switch, PAGE_BYTES);

	map(l, code, code, PAGE_BYTES, 0, PAGE_BYTES); /* loader_switch does not cross a page */
}
