/* Leaves boot services with a memory map that is current, and enters the hypervisor. */
#include "boot/efi/loader.h"
#include "boot/efi/port.h"
#include "boot/memmap.h"

#define MSR_EFER    0xc0000080
#define EFER_NXE    (1ull << 11)
#define CR0_WP      (1ull << 16)
#define EXIT_TRIES  8
#define SPARE       64u /* descriptors that allocations may add between two looks at the map */

struct raw_map {
	uint8_t *data;
	UINTN bytes, room, key, step;
	UINT32 version;
};

/* All buffers for the map: nothing may be allocated once ExitBootServices has been tried. */
struct map_buffers {
	struct raw_map raw;
	struct handoff_mem *in, *out;
	uint64_t *edges;
	uint32_t in_max;
};

static EFI_STATUS get_map(struct raw_map *m)
{
	m->bytes = m->room;
	return BS->GetMemoryMap(&m->bytes, (EFI_MEMORY_DESCRIPTOR *)m->data, &m->key, &m->step,
		&m->version);
}

static UINTN descriptors_now(struct raw_map *m)
{
	*m = (struct raw_map){ 0 };
	if (get_map(m) != EFI_BUFFER_TOO_SMALL || m->step < sizeof(EFI_MEMORY_DESCRIPTOR))
		out_fatal("the firmware gives no memory map");
	return m->bytes / m->step + SPARE;
}

static uint32_t convert(const struct raw_map *m, struct handoff_mem *in, uint32_t max)
{
	uint32_t count = 0;

	for (UINTN at = 0; at + m->step <= m->bytes && count < max; at += m->step) {
		const EFI_MEMORY_DESCRIPTOR *d = (const EFI_MEMORY_DESCRIPTOR *)(m->data + at);

		in[count++] = (struct handoff_mem){ .base = d->PhysicalStart,
			.bytes = d->NumberOfPages * PAGE_BYTES,
			.type = (uint32_t)memmap_from_efi(d->Type) };
	}
	return count;
}

uint64_t leave_memory_top(void)
{
	struct raw_map m;
	UINTN count = descriptors_now(&m);
	UINTN room = count * m.step;

	m.data = AllocatePool(room);
	m.room = room;
	struct handoff_mem *in = AllocatePool(count * sizeof(*in));

	if (!m.data || !in || EFI_ERROR(get_map(&m)))
		out_fatal("too little memory: the memory map cannot be read; give the machine more "
			  "memory (boot/run --memory)");
	uint32_t n = convert(&m, in, (uint32_t)count);
	uint64_t top = memmap_top(in, n);

	FreePool(in);
	FreePool(m.data);
	return top;
}

static void prepare(struct loader *l, struct map_buffers *b)
{
	UINTN count = descriptors_now(&b->raw);
	UINTN room = count * b->raw.step;

	b->in_max = (uint32_t)count + LOADER_PLACED_MAX;
	b->raw.data = place_pages(l, room, HANDOFF_MEM_LOADER, "memory map");
	b->raw.room = room;
	b->in = place_pages(l, b->in_max * sizeof(*b->in), HANDOFF_MEM_LOADER, "memory map");
	b->edges = place_pages(l, 2 * b->in_max * sizeof(*b->edges), HANDOFF_MEM_LOADER, "memory map");
	b->out = place_pages(l, MEMMAP_OUT_MAX(b->in_max) * sizeof(*b->out), HANDOFF_MEM_LOADER,
		"memory map");
}

/* UEFI specification, "ExitBootServices()": a stale key means to get the map and try again. */
static void exit_boot_services(struct loader *l, struct raw_map *m)
{
	EFI_STATUS s = EFI_INVALID_PARAMETER;

	for (int i = 0; i < EXIT_TRIES && EFI_ERROR(s); i++) {
		if (EFI_ERROR(get_map(m)))
			out_fatal("the firmware's memory map grows too fast to be read");
		s = BS->ExitBootServices(l->image, m->key);
	}
	if (EFI_ERROR(s))
		out_fatal("the firmware does not let go of the machine (ExitBootServices: %r)", s);
	out_firmware_gone();
	__asm__ volatile("cli");
}

/* rdi: hand-over (its direct-map address); rsi: CR3; rdx: entry; rcx: top of the stack. The
 * firmware's global pages leave the TLB with CR4.PGE. Mapped at the same address before and after;
 * 64 bytes, aligned, so it lies on one page. */
__asm__(".pushsection .text\n"
	".balign 64\n"
	".globl loader_switch\n"
	".hidden loader_switch\n"
	"loader_switch:\n"
	"	mov %cr4, %rax\n"
	"	and $~0x80, %rax\n"
	"	mov %rax, %cr4\n"
	"	mov %rsi, %cr3\n"
	"	mov %rcx, %rsp\n"
	"	xor %ebp, %ebp\n"
	"	push $0\n" /* as if called: rsp + 8 is 16-byte aligned */
	"	jmp *%rdx\n"
	".balign 64\n"
	".popsection\n");

_Noreturn void leave(struct loader *l)
{
	typedef void switch_fn(uint64_t handoff, uint64_t cr3, uint64_t entry, uint64_t stack);
	struct map_buffers b;
	uint32_t out_count = 0;

	prepare(l, &b);
	exit_boot_services(l, &b.raw);
	uint32_t count = convert(&b.raw, b.in, b.in_max - LOADER_PLACED_MAX);

	for (uint32_t i = 0; i < l->placed_count; i++)
		b.in[count++] = l->placed[i];
	if (memmap_normalise(b.in, count, b.edges, b.out, MEMMAP_OUT_MAX(b.in_max), &out_count) != OK)
		out_fatal("the firmware's memory map makes no sense (an address beyond 2^52)");
	l->h->mem_map = (uintptr_t)b.out;
	l->h->mem_count = out_count;

	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	write_cr0(read_cr0() | CR0_WP);
	((switch_fn *)(uintptr_t)loader_switch)(HANDOFF_DIRECTMAP + (uintptr_t)l->h, l->tables.pa,
		l->elf.entry, HANDOFF_DIRECTMAP + (uintptr_t)l->stack + LOADER_STACK_BYTES);
	__builtin_unreachable();
}
