#include "vmm/platform.h"
#include "arch/x86/acpi.h"
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/platform_x86.h"
#include "arch/x86/traps.h"
#include "arch/x86/uart.h"
#include "vmm/base/directmap.h"
#include "vmm/base/fmt.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"

#define CPUID_1_ECX_HYPERVISOR (1u << 31)
#define CPUID_BRAND_FIRST      0x80000002u
#define CPUID_HYPERVISOR       0x40000000u
#define PCI_ADDRESS            0xcf8u
#define PCI_DATA               0xcfcu
#define PCI_ENABLE             0x80000000u
#define PCI_ID                 0x00u
#define PCI_SUBSYSTEM          0x2cu
#define PCI_VENDOR_QEMU        0x1af4u
/* Host bridges of the 1990s, seen with a 64-bit processor in Bochs only: 440FX, 430FX, 440BX. */
#define PCI_440FX              0x12378086u
#define PCI_430FX              0x122d8086u
#define PCI_440BX              0x71908086u
#define BOCHS_SHUTDOWN_PORT    0x8900u
/* isa-debug-exit: QEMU's exit status becomes 2 * value + 1: 1 for success, 3 for failure. */
#define QEMU_EXIT_PORT         0xf4u
#define SLEEP_ENABLE           (1u << 13)
#define IDLE_MAX_MS            1000u
#define RESET_PORT             0xcf9u
#define KEYBOARD_PORT          0x64u
#define KEYBOARD_RESET         0xfeu

enum machine { MACHINE_UNKNOWN, MACHINE_HARDWARE, MACHINE_BOCHS, MACHINE_QEMU, MACHINE_KVM };

/* Set once at boot. */
static enum machine machine;
static struct acpi_power power;
static uint32_t cpu_count = 1;
static uint64_t ram_bytes;

static uint32_t pci_host_bridge(uint32_t offset)
{
	outl(PCI_ADDRESS, PCI_ENABLE | offset);
	return inl(PCI_DATA);
}

static enum machine detect(void)
{
	if (cpuid(1, 0).ecx & CPUID_1_ECX_HYPERVISOR) {
		struct cpuid_regs r = cpuid(CPUID_HYPERVISOR, 0);
		uint32_t signature[3] = { r.ebx, r.ecx, r.edx };

		if (!memcmp(signature, "TCGTCGTCGTCG", 12))
			return MACHINE_QEMU;
		if (!memcmp(signature, "KVMKVMKVM\0\0\0", 12))
			return MACHINE_KVM;
	}
	uint32_t bridge = pci_host_bridge(PCI_ID);

	if ((pci_host_bridge(PCI_SUBSYSTEM) & 0xffff) == PCI_VENDOR_QEMU)
		return MACHINE_QEMU;
	if (bridge == PCI_440FX || bridge == PCI_430FX || bridge == PCI_440BX)
		return MACHINE_BOCHS;
	return MACHINE_HARDWARE;
}

const void *platform_acpi_map(const void *ctx, uint64_t address, uint64_t bytes)
{
	const struct handoff_mem *run = physmap_find(ctx, HPA(address));

	if (!run || !physmap_is_ram(run->type) || bytes > run->base + run->bytes - address)
		return NULL;
	return hpa_to_va(HPA(address));
}

void platform_x86_init(const struct handoff *h, const struct physmap *m)
{
	machine = detect();
	if (h->cpu_count)
		cpu_count = h->cpu_count;
	ram_bytes = physmap_ram_bytes(m);
	if (acpi_power_find(h->acpi_rsdp, platform_acpi_map, m, &power))
		log_debug("no ACPI tables that say how to power off");
}

void platform_info(struct platform_info *out)
{
	static const char *const name[] = {
		[MACHINE_UNKNOWN] = "unknown", [MACHINE_HARDWARE] = "hardware",
		[MACHINE_BOCHS] = "Bochs", [MACHINE_QEMU] = "QEMU", [MACHINE_KVM] = "KVM",
	};

	*out = (struct platform_info){
		.cpu_count = cpu_count, .ram_bytes = ram_bytes, .emulator = name[machine],
	};
	if (cpuid(0x80000000u, 0).eax < CPUID_BRAND_FIRST + 2) {
		(void)str_copy(out->cpu, sizeof(out->cpu), "x86-64");
		return;
	}
	for (uint32_t i = 0; i < 3; i++) {
		struct cpuid_regs r = cpuid(CPUID_BRAND_FIRST + i, 0);

		memcpy(out->cpu + i * sizeof(r), &r, sizeof(r));
	}
	/* Some brands are padded with blanks in front. */
	char *first = out->cpu;
	while (*first == ' ')
		first++;
	memmove(out->cpu, first, strlen(first) + 1);
}

void platform_idle(uint64_t until_tsc)
{
	uint64_t now = rdtsc();

	if (until_tsc <= now)
		return;
	lapic_timer_arm(now, MIN(until_tsc - now, platform_ms_to_tsc(IDLE_MAX_MS)));
	cpu_idle();
	lapic_timer_disarm();
}

static void acpi_power_off(void)
{
	if (!power.can_power_off)
		return;
	uint32_t a = (uint32_t)power.s5_type_a << 10 | SLEEP_ENABLE;
	uint32_t b = (uint32_t)power.s5_type_b << 10 | SLEEP_ENABLE;

	outw(power.pm1a_control, (uint16_t)a);
	if (power.pm1b_control)
		outw(power.pm1b_control, (uint16_t)b);
}

/* The console's last line. Bochs cannot return a code: boot/run and the tests go by this. */
static void print_exit_line(int code)
{
	char line[40];

	fmt_snprintf(line, sizeof(line), "\r\naerostat: exit %d\r\n", code);
	for (const char *p = line; *p; p++)
		platform_putc(*p);
	uart_drain();
}

/* An early failure comes here before platform_x86_init(): the machine is then still unknown. */
void platform_shutdown(int code)
{
	enum machine on = machine == MACHINE_UNKNOWN ? detect() : machine;

	print_exit_line(code);
	if (on == MACHINE_BOCHS)
		for (const char *p = "Shutdown"; *p; p++)
			outb(BOCHS_SHUTDOWN_PORT, (uint8_t)*p);
	if (on == MACHINE_QEMU || on == MACHINE_KVM)
		outl(QEMU_EXIT_PORT, code ? 1 : 0);
	acpi_power_off();
	cpu_halt_forever();
}

/* ACPI's reset register, the chipset's, the keyboard controller, a triple fault, in turn. */
void platform_reboot(void)
{
	struct desc_ptr no_idt = { 0, 0 };

	cli();
	uart_drain();
	if (power.reset_port)
		outb(power.reset_port, power.reset_value);
	outb(RESET_PORT, 0x02);
	outb(RESET_PORT, 0x06);
	outb(KEYBOARD_PORT, KEYBOARD_RESET);
	__asm__ volatile("lidt %0; int3" : : "m"(no_idt));
	cpu_halt_forever();
}
