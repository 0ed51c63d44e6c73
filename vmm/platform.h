/*
 * What vmm needs of the machine besides virtualisation. Implemented in arch/x86 (and faked in
 * tests). All calls from CPU 0, the boot CPU, but where it says "any CPU"; host interrupts off.
 */
#pragma once

#include "vmm/base/status.h"

uint64_t platform_tsc(void); /* any CPU; all agree */
extern uint64_t platform_tsc_khz; /* set once at boot */
uint64_t platform_ns(void);       /* since boot, monotonic; any CPU */
/* A number that no guest knows: the processor's generator if it has one, and the clock. Boot only. */
uint64_t platform_random(void);
static inline uint64_t platform_ms_to_tsc(uint64_t ms)
{
	return ms * platform_tsc_khz;
}

/* COM1, polled: 115200 8N1. getc returns -1 if nothing waits. putc waits for room (bounded; drops
 * the byte if the port is dead). try_putc returns false instead of waiting. */
int platform_getc(void);
/* Any CPU, now and then: takes what has come in before the port's own 16 bytes overflow (1.4 ms). */
void platform_listen(void);
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

/*
 * Disks. 0 to 3: the host's ATA (primary master, primary slave, secondary), by PIO or bus-master DMA.
 * From PLATFORM_DISK_VIRTIO on: virtio-blk devices, in the order of the PCI scan.
 */
struct platform_disk {
	bool present;
	uint64_t sector_count; /* of 512 bytes */
	char model[41];
};
#define PLATFORM_DISK_VIRTIO 4u
#define PLATFORM_DISK_MAX    8u
#define PLATFORM_DISK_SECTORS_MAX 256u /* of one request */
const struct platform_disk *platform_disk(uint32_t index); /* NULL: no such index */

/*
 * Synchronous: any CPU, no lock held, bounded time. Waits for what is in the hardware, then goes before
 * all that is queued. 1 <= sectors <= PLATFORM_DISK_SECTORS_MAX; any buffer. ERR_IO, ERR_RANGE,
 * ERR_NOENT.
 */
status_t platform_disk_read(uint32_t index, uint64_t sector, uint32_t sectors, void *buf) MUST_CHECK;
status_t platform_disk_write(uint32_t index, uint64_t sector, uint32_t sectors, const void *buf)
	MUST_CHECK;
status_t platform_disk_flush(uint32_t index) MUST_CHECK;

/*
 * Asynchronous. The caller owns the request and its buffer, and leaves both alone from submit() until
 * done() is called; done() may free or submit it again. Requests complete in any order. One that takes
 * longer than the engine's timeout ends with ERR_IO like one that the disk refused.
 */
struct disk_io {
	uint32_t disk;
	bool write;
	uint64_t sector;
	uint32_t sectors; /* 1 to PLATFORM_DISK_SECTORS_MAX */
	void *buf;        /* in the direct map, physically contiguous, page aligned */
	status_t status;  /* valid in done(): OK or ERR_IO */
	void (*done)(struct disk_io *io); /* from a platform_disk_poll(), any CPU, no lock held */
	void *ctx;        /* the caller's */
	/* the engine's */
	struct disk_io *next;
	uint64_t until_tsc, hold_tsc;
	bool spoil; /* what is read is to be wrong */
	enum { DISK_IO_WAITS, DISK_IO_IN_FLIGHT, DISK_IO_ENDED } phase;
};
/* OK: queued; done() will be called once. ERR_NOENT, ERR_RANGE, ERR_INVAL (buffer): it will not. Any CPU;
 * a lock of rank LOCK_RANK_DISK is taken, the hardware is not touched. */
status_t platform_disk_submit(struct disk_io *io) MUST_CHECK;
/* Drives the hardware and calls done() of what has completed. Never waits, bounded. No lock held. True:
 * requests are outstanding, come again. Any CPU. */
bool platform_disk_poll(void);
bool platform_disk_busy(void); /* requests are outstanding; a hint, without a lock */
/* True: a synchronous request would not wait for what is in the hardware. False: come again; meanwhile
 * nothing queued is begun, until one has been made (or for a while). Any CPU, no lock is taken. */
bool platform_disk_ready(uint32_t index);

/* Faults on request, for tests, whatever the driver: the next `count` reads or writes fail without the
 * hardware, or the next `count` reads succeed with a wrong bit in each page (CORRUPT), or the next `count` of reads and
 * writes end `delay_ms` late at least. Count 0, or NONE: no more. ERR_NOENT. */
enum disk_fault { DISK_FAULT_NONE, DISK_FAULT_READ, DISK_FAULT_WRITE, DISK_FAULT_CORRUPT, DISK_FAULT_DELAY };
status_t platform_disk_inject(uint32_t index, enum disk_fault fault, uint32_t count, uint32_t delay_ms)
	MUST_CHECK;

struct platform_disk_stats {
	const char *driver; /* "pio", "dma", "virtio" */
	uint64_t reads, writes, read_sectors, write_sectors; /* that succeeded; synchronous ones too */
	uint64_t errors, timeouts;  /* requests that failed; those of them for want of an answer */
	uint64_t service_tsc;       /* of all that succeeded, from the hardware's start to its end */
	uint32_t outstanding;       /* asynchronous, not done yet */
	enum disk_fault fault;      /* injected */
	uint32_t fault_left, fault_delay_ms;
};
status_t platform_disk_stats(uint32_t index, struct platform_disk_stats *out) MUST_CHECK; /* ERR_NOENT */

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
