#include "arch/x86/paging.h"
#include "arch/x86/cpu.h"
#include "arch/x86/image.h"
#include "arch/x86/hostpt.h"
#include "mm/frame.h"
#include "vmm/base/cpu.h"

#define CPUID_EXT_FEATURES  0x80000001u
#define CPUID_EXT_EDX_NX    (1u << 20)
#define CPUID_EXT_EDX_1G    (1u << 26)
#define CPUID_1_ECX_XSAVE   (1u << 26)
#define CPUID_1_EDX_MCE     (1u << 7)
#define CPUID_7_EBX_SMEP    (1u << 7)
#define PF_EXEC             1u
#define PF_WRITE            2u
/* Devices are mapped from here up: 1 GiB above the image. */
#define DEVICE_BASE         (HANDOFF_HV_BASE + (1ull << 30))
/* Stacks of other CPUs, above that. */
#define STACK_BASE          (DEVICE_BASE + (512ull << 20))
#define STACK_TABLES        (CPU_MAX * sizeof(struct boot_stacks) / (2u << 20) + 2)
#define LATER_TABLES        (4u + STACK_TABLES)
#define TAKE_LOW            (1ull << 20) /* below 1 MiB stays for starting other CPUs */
#define TAKE_HIGH           (4ull << 30) /* the loader's direct map reaches at least this far */

/* Set once at boot. */
static struct hostpt tables;
static uint64_t device_next = DEVICE_BASE, stack_next = STACK_BASE;
static struct handoff_segment image[HANDOFF_SEGMENT_MAX];
static uint32_t image_count;

/* Of what lies `offset` bytes into stacks. */
static bool is_guard_page(uint64_t offset)
{
	return offset == offsetof(struct boot_stacks, guard_main) ||
		offset == offsetof(struct boot_stacks, guard_nmi) ||
		offset == offsetof(struct boot_stacks, guard_double_fault) ||
		offset == offsetof(struct boot_stacks, guard_machine_check);
}

/* Page by page, so that rights end exactly where a segment does. */
static status_t map_segment(const struct handoff_segment *s)
{
	uint64_t flags = (s->flags & PF_EXEC ? 0 : PT_NX) | (s->flags & PF_WRITE ? PT_WRITE : 0);

	for (uint64_t at = 0; at < s->bytes; at += PAGE_BYTES) {
		if (is_guard_page(s->va + at - (uintptr_t)&boot_stacks))
			continue;
		hpa_t pa = HPA(s->pa + at);
		status_t status = hostpt_map(&tables, s->va + at, pa, PAGE_BYTES, flags);

		if (status)
			return status;
	}
	return OK;
}

static status_t map_direct(uint64_t pa, uint64_t end, uint64_t flags)
{
	return hostpt_map(&tables, HANDOFF_DIRECTMAP + pa, HPA(pa), end - pa, PT_NX | flags);
}

/* The read-only segment that starts first at or after `pa`, or holds it; NULL: none. */
static const struct handoff_segment *next_read_only(uint64_t pa)
{
	const struct handoff_segment *best = NULL;

	for (uint32_t i = 0; i < image_count; i++) {
		const struct handoff_segment *s = &image[i];

		if (s->flags & PF_WRITE || s->pa + s->bytes <= pa)
			continue;
		if (!best || s->pa < best->pa)
			best = s;
	}
	return best;
}

/* [pa, end) writable, but the image's text and rodata read-only: no writable alias of code. */
static status_t map_ram(uint64_t pa, uint64_t end)
{
	status_t status = OK;

	while (pa < end && !status) {
		const struct handoff_segment *s = next_read_only(pa);
		uint64_t stop = s && s->pa < end ? MAX(s->pa, pa) : end;

		if (stop > pa) {
			status = map_direct(pa, stop, PT_WRITE);
		} else {
			stop = MIN(s->pa + s->bytes, end);
			status = map_direct(pa, stop, 0);
		}
		pa = stop;
	}
	return status;
}

/* Neighbouring runs of RAM are mapped as one, whatever their types, for large pages. */
static status_t map_all_ram(const struct physmap *m)
{
	for (uint32_t i = 0; i < m->count; i++) {
		if (!physmap_is_ram(m->run[i].type))
			continue;
		uint64_t base = m->run[i].base, end = base + m->run[i].bytes;

		while (i + 1 < m->count && m->run[i + 1].base == end &&
			physmap_is_ram(m->run[i + 1].type))
			end += m->run[++i].bytes;
		status_t status = map_ram(base, end);
		if (status)
			return status;
	}
	return OK;
}

static void cpu_registers_init(void)
{
	uint64_t cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	if (cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE)
		cr4 |= CR4_OSXSAVE;
	if (cpuid(1, 0).edx & CPUID_1_EDX_MCE)
		cr4 |= CR4_MCE;
	if (cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx & CPUID_7_EBX_SMEP)
		cr4 |= CR4_SMEP;
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	wrmsr(MSR_PAT, PAT_DEFAULT);
	write_cr0(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG);
	/* Global pages of the firmware must not survive the switch: PGE goes off with this. */
	write_cr4(cr4);
}

static status_t take_tables(const struct handoff *h, struct physmap *m)
{
	bool page_1g = cpuid(CPUID_EXT_FEATURES, 0).edx & CPUID_EXT_EDX_1G;
	uint64_t runs = m->count + h->segment_count + 1;
	uint64_t pages = hostpt_pages_needed(physmap_ram_top(m), runs, page_1g) + LATER_TABLES;
	status_t status;

	for (uint32_t i = 0; i < h->segment_count; i++)
		pages += (h->segments[i].bytes >> 21) + 2;
	status = physmap_take(m, pages * PAGE_BYTES, TAKE_LOW, TAKE_HIGH, &tables.next);
	if (status)
		return status;
	tables.end = HPA(tables.next.v + pages * PAGE_BYTES);
	tables.page_1g = page_1g;
	return hostpt_init(&tables);
}

/* The estimate is for the raggedest map there could be; what is left stays but for some devices and
 * the stacks of other CPUs. */
static void give_back(struct physmap *m)
{
	uint64_t keep = tables.next.v + LATER_TABLES * PAGE_BYTES;

	if (keep >= tables.end.v)
		return;
	physmap_give(m, HPA(keep), tables.end.v - keep);
	tables.end = HPA(keep);
}

void paging_cpu_init(void)
{
	cpu_registers_init();
	write_cr3(tables.root.v);
}

status_t paging_init(const struct handoff *h, struct physmap *m, const char **why)
{
	*why = "this processor has no NX bit: it cannot keep data from being executed";
	if (!(cpuid(CPUID_EXT_FEATURES, 0).edx & CPUID_EXT_EDX_NX))
		return ERR_NOSYS;
	*why = "the loader left 5-level paging on, which is not supported";
	if (read_cr4() & CR4_LA57)
		return ERR_NOSYS;
	*why = "no memory between 1 MiB and 4 GiB for page tables";
	status_t status = take_tables(h, m);

	*why = "page tables for the image and the memory map do not fit";
	image_count = h->segment_count;
	for (uint32_t i = 0; i < image_count && !status; i++) {
		image[i] = h->segments[i];
		status = map_segment(&image[i]);
	}
	if (!status)
		status = map_all_ram(m);
	if (status)
		return status;
	give_back(m);
	paging_cpu_init();
	return OK;
}

struct boot_stacks *paging_map_stacks(void)
{
	uint64_t va = stack_next;

	for (uint64_t at = 0; at < sizeof(struct boot_stacks); at += PAGE_BYTES) {
		mfn_t frame;

		if (is_guard_page(at))
			continue;
		if (frame_alloc(NULL, FRAME_HV, ORDER_4K, GFN(0), MFN_NONE, FRAME_ALLOC_ZEROED, &frame) ||
			hostpt_map(&tables, va + at, mfn_to_hpa(frame), PAGE_BYTES, PT_WRITE | PT_NX))
			return NULL; /* what it got stays with it: the machine is at its end */
	}
	stack_next += sizeof(struct boot_stacks);
	return (struct boot_stacks *)va;
}

volatile void *paging_map_device(hpa_t pa, uint64_t bytes)
{
	uint64_t va = device_next;

	if (hostpt_map(&tables, va, pa, bytes, PT_WRITE | PT_NX | PT_UNCACHED))
		return NULL;
	device_next += bytes;
	return (volatile void *)va;
}

hpa_t paging_image_hpa(const void *object)
{
	uint64_t va = (uintptr_t)object;

	for (uint32_t i = 0; i < image_count; i++)
		if (va - image[i].va < image[i].bytes)
			return HPA(image[i].pa + va - image[i].va);
	return HPA(UINT64_MAX);
}
