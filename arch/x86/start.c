/*
 * From the loader's hand-over to hv_main(): tables that catch exceptions and COM1 first, so that all
 * that follows can say what is wrong; then the hand-over, own page tables, clock, APIC, disks.
 */
#include "arch/x86/acpi.h"
#include "arch/x86/arch.h"
#include "arch/x86/clock.h"
#include "arch/x86/cpu.h"
#include "arch/x86/disk.h"
#include "arch/x86/handoff_check.h"
#include "arch/x86/lapic.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/platform_x86.h"
#include "arch/x86/smp.h"
#include "arch/x86/traps.h"
#include "arch/x86/uart.h"
#include "vmm/base/directmap.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"
#include "vmm/platform.h"

#define HANDOFF_CPU_MAX 256u

_Noreturn void x86_start(const struct handoff *loader);

/* Set once at boot: the copies that outlive the loader's memory. */
static struct handoff handoff;
static struct physmap map;
static uint32_t apic_ids[HANDOFF_CPU_MAX];

static void early_sink(const char *line, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (line[i] == '\n')
			platform_putc('\r');
		platform_putc(line[i]);
	}
}

static _Noreturn void refuse(const char *what, const char *why)
{
	log_err("cannot start: %s %s", what, why);
	platform_shutdown(1);
}

/* A table of the loader's: inside memory that its direct map covers. */
static bool reachable(uint64_t pa, uint64_t bytes)
{
	return pa && !(pa & 7) && pa < GIB(4) && bytes < GIB(4) - pa;
}

/* The loader's list, without those that the firmware turned off. */
static void copy_cpus(void)
{
	const struct handoff_cpu *cpu = hpa_to_va(HPA(handoff.cpus));
	uint32_t count = handoff.cpu_count;

	handoff.cpu_count = 0;
	for (uint32_t i = 0; i < count && handoff.cpu_count < HANDOFF_CPU_MAX; i++)
		if (cpu[i].flags & HANDOFF_CPU_ENABLED)
			apic_ids[handoff.cpu_count++] = cpu[i].apic_id;
}

static void copy_handoff(const struct handoff *loader)
{
	char text[HANDOFF_CHECK_BYTES];
	const char *why;

	if (handoff_check(loader, text))
		refuse("the hand-over is unusable:", text);
	memcpy(&handoff, loader, sizeof(handoff));
	if (!reachable(handoff.mem_map, handoff.mem_count * sizeof(struct handoff_mem)))
		refuse("the memory map", "lies outside the first 4 GiB");
	if (physmap_load(&map, hpa_to_va(HPA(handoff.mem_map)), handoff.mem_count, &why))
		refuse("the memory map", why);
	if (!reachable(handoff.cpus, handoff.cpu_count * sizeof(struct handoff_cpu)))
		handoff.cpu_count = 0;
	copy_cpus();
}

static void own_address_space(void)
{
	const char *why;

	if (paging_init(&handoff, &map, &why))
		refuse("own page tables:", why);
	/* Nothing of the loader's is used from here on. */
	physmap_retype(&map, HANDOFF_MEM_LOADER, HANDOFF_MEM_USABLE);
	handoff.mem_map = paging_image_hpa(map.run).v;
	handoff.mem_count = map.count;
	handoff.cpus = 0;
}

static void local_apic_init(void)
{
	hpa_t base = lapic_mmio_base();
	volatile void *registers = NULL;

	if (base.v) {
		registers = paging_map_device(base, LAPIC_MMIO_BYTES);
		if (!registers)
			refuse("the local APIC", "cannot be mapped: no table page left");
	}
	lapic_init(registers);
	this_cpu()->apic_id = lapic_id();
}

/* ACPI's word before the loader's. */
static void find_cpus(void)
{
	const char *source = "the loader's list";
	uint32_t told[HANDOFF_CPU_MAX], n = 0;

	if (acpi_cpus_find(handoff.acpi_rsdp, platform_acpi_map, &map, told, HANDOFF_CPU_MAX, &n) == OK) {
		memcpy(apic_ids, told, sizeof(told));
		handoff.cpu_count = n;
		source = "ACPI's MADT";
	}
	smp_init(&map, apic_ids, handoff.cpu_count, source);
}

void x86_start(const struct handoff *loader)
{
	uint64_t entry_tsc = rdtsc();

	directmap_offset = HANDOFF_DIRECTMAP;
	desc_init();
	(void)uart_init();
	log_set_sink(early_sink, LOG_INFO);
	copy_handoff(loader);
	own_address_space();
	clock_init(entry_tsc);
	log_set_clock(platform_ns);
	local_apic_init();
	find_cpus();
	platform_x86_init(&handoff, &map);
	disk_init(physmap_ram_top(&map));
	log_info("TSC %lu.%03lu MHz by %s", platform_tsc_khz / 1000, platform_tsc_khz % 1000,
		clock_source());
	hv_main(&handoff, map.run);
}
