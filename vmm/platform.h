/*
 * What vmm needs of the machine besides virtualisation. Implemented in arch/x86 (and faked in
 * tests). All calls from CPU 0, the boot CPU, but where it says "any CPU"; host interrupts off.
 */
#pragma once

#include "vmm/base/status.h"

uint64_t platform_tsc(void); /* any CPU; all agree */
extern uint64_t platform_tsc_khz; /* set once at boot */
uint64_t platform_ns(void);       /* since boot, monotonic; any CPU */
static inline uint64_t platform_ms_to_tsc(uint64_t ms)
{
	return ms * platform_tsc_khz;
}

/* COM1, polled: 115200 8N1. getc returns -1 if nothing waits. putc waits for room (bounded; drops
 * the byte if the port is dead). try_putc returns false instead of waiting. */
int platform_getc(void);
void platform_putc(char c);
bool platform_try_putc(char c);

/* Halts this CPU with interrupts on until an interrupt or about `until_tsc`, at most about 1 s. An
 * interrupt that came since they went off ends it at once. Returns with interrupts off. Any CPU. */
void platform_idle(uint64_t until_tsc);

/*
 * Starts the other CPUs: each gets its tables and stacks, turns virtualisation on (virt_cpu_init()), and
 * waits. One that does not start, or cannot run guests, is reported and left out. Once at boot, after
 * virt_init(); memory comes from the heap. platform_cpus_release() lets them go on to `main`, which
 * does not return.
 */
void platform_cpus_start(void (*main)(void));
void platform_cpus_release(void);
uint32_t platform_cpu_count(void); /* that run: indices 0 .. count - 1. Constant after the start */
uint32_t platform_cpu_apic_id(uint32_t index);
/* Interrupts a CPU: it leaves the guest, or wakes. All that was stored before is seen. Any CPU. */
void platform_kick(uint32_t index);

/* Disks behind the host's ATA. Index 0 = primary master, 1 = primary slave, 2, 3 = secondary. */
struct platform_disk {
	bool present;
	uint64_t sector_count; /* of 512 bytes */
	char model[41];
};
#define PLATFORM_DISK_MAX 4u
const struct platform_disk *platform_disk(uint32_t index); /* NULL: no such index */
/* Synchronous, bounded time; any CPU, one at a time (vmm/disk_turn.h). 1 <= sectors <= 256. ERR_IO, ERR_RANGE, ERR_NOENT. */
status_t platform_disk_read(uint32_t index, uint64_t sector, uint32_t sectors, void *buf) MUST_CHECK;
status_t platform_disk_write(uint32_t index, uint64_t sector, uint32_t sectors, const void *buf)
	MUST_CHECK;
status_t platform_disk_flush(uint32_t index) MUST_CHECK;

/* Ends the emulator (Bochs port 0x8900, QEMU isa-debug-exit) or powers off; halts if neither. */
_Noreturn void platform_shutdown(int code);
/* Resets the machine. */
_Noreturn void platform_reboot(void);

struct platform_info {
	char cpu[49];        /* brand string */
	uint32_t cpu_count;
	uint64_t ram_bytes;  /* usable */
	const char *emulator; /* "Bochs", "QEMU", "KVM", "hardware" as well as can be told */
};
void platform_info(struct platform_info *out);
