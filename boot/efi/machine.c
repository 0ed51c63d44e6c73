/* What the processor must have, and what only the firmware knows about the machine. */
#include "boot/efi/loader.h"
#include "boot/efi/port.h"

#define CR4_LA57 (1ull << 12)

void machine_check(void)
{
	uint32_t r[4];

	cpuid(0x80000001, r);
	if (!(r[3] >> 20 & 1))
		out_fatal("this processor has no execute-disable (NX), or the firmware's setup has it "
			  "off: turn it on there");
	if (read_cr4() & CR4_LA57)
		out_fatal("the firmware runs with five-level paging: turn it off in the firmware's "
			  "setup");
}

bool machine_has_1g_pages(void)
{
	uint32_t r[4];

	cpuid(0x80000001, r);
	return r[3] >> 26 & 1;
}

void machine_framebuffer(struct handoff *h)
{
	EFI_GRAPHICS_OUTPUT_PROTOCOL *gop;

	if (EFI_ERROR(BS->LocateProtocol(&GraphicsOutputProtocol, NULL, (void **)&gop)))
		return;
	if (!gop->Mode || !gop->Mode->Info || gop->Mode->Info->PixelFormat >= PixelBltOnly)
		return;
	h->framebuffer = (struct handoff_framebuffer){
		.base = gop->Mode->FrameBufferBase,
		.bytes = gop->Mode->FrameBufferSize,
		.width = gop->Mode->Info->HorizontalResolution,
		.height = gop->Mode->Info->VerticalResolution,
		.pixels_per_line = gop->Mode->Info->PixelsPerScanLine,
		.format = (uint32_t)gop->Mode->Info->PixelFormat,
	};
}

void machine_acpi(struct handoff *h)
{
	EFI_GUID acpi_2 = ACPI_20_TABLE_GUID;

	for (UINTN i = 0; i < ST->NumberOfTableEntries; i++) {
		EFI_CONFIGURATION_TABLE *t = &ST->ConfigurationTable[i];

		if (CompareGuid(&t->VendorGuid, &acpi_2) == 0) {
			h->acpi_rsdp = (uintptr_t)t->VendorTable;
			return;
		}
		if (CompareGuid(&t->VendorGuid, &AcpiTableGuid) == 0)
			h->acpi_rsdp = (uintptr_t)t->VendorTable;
	}
}

/* PI specification, vol. 2, "MP Services Protocol". GNU-EFI has no header for it. */
#define MP_IS_BSP  1u
#define MP_ENABLED 2u

struct mp_info {
	UINT64 id; /* local APIC id */
	UINT32 flags;
	UINT32 location[3];
	UINT32 extended[6]; /* filled only when asked for */
};

struct mp_services {
	EFI_STATUS(EFIAPI *count)(struct mp_services *, UINTN *all, UINTN *enabled);
	EFI_STATUS(EFIAPI *info)(struct mp_services *, UINTN index, struct mp_info *);
};

static EFI_GUID mp_services_guid = { 0x3fdda605, 0xa76e, 0x4f46,
	{ 0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08 } };

void machine_cpus(struct loader *l)
{
	struct mp_services *mp;
	UINTN all, enabled;

	if (EFI_ERROR(BS->LocateProtocol(&mp_services_guid, NULL, (void **)&mp)) ||
		EFI_ERROR(mp->count(mp, &all, &enabled)) || all == 0 || all > 4096)
		return; /* cpu_count 0: unknown */
	struct handoff_cpu *cpu = place_pages(l, all * sizeof(*cpu), HANDOFF_MEM_LOADER, "CPU list");
	uint32_t count = 0;

	for (UINTN i = 0; i < all; i++) {
		struct mp_info info = { 0 };

		if (EFI_ERROR(mp->info(mp, i, &info)))
			continue;
		cpu[count++] = (struct handoff_cpu){ .apic_id = (uint32_t)info.id,
			.flags = (info.flags & MP_ENABLED ? HANDOFF_CPU_ENABLED : 0) |
				(info.flags & MP_IS_BSP ? HANDOFF_CPU_BOOT : 0) };
	}
	l->h->cpus = (uintptr_t)cpu;
	l->h->cpu_count = count;
}
