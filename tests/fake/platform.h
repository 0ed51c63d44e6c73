/* The hosted machine: a clock that tests move, a serial port of two buffers, disks in memory. */
#pragma once

#include "vmm/platform.h"

extern uint64_t fake_tsc;      /* 100 MHz: 10 ns a tick */
extern uint64_t fake_tsc_step; /* added at each platform_tsc() */

#define FAKE_SERIAL_BYTES 131072u
extern char fake_serial_out[FAKE_SERIAL_BYTES]; /* NUL-terminated; newest dropped when full */
extern size_t fake_serial_out_bytes;
void fake_serial_type(const char *text); /* bytes that platform_getc() will give */
void fake_serial_clear(void);
extern uint32_t fake_serial_room; /* platform_try_putc() refuses after so many; UINT32_MAX: never */

extern uint32_t fake_idle_count;

#define FAKE_CPU_MAX 8u
extern uint32_t fake_cpu_count;             /* of platform_cpu_count(); 1 */
extern uint32_t fake_kicks[FAKE_CPU_MAX];   /* platform_kick() a CPU; atomic */
/* For threads that play CPUs: the clock is the host's, a kick stays pending until it is taken, and
 * platform_idle() sleeps until one comes. */
extern bool fake_threads;
bool fake_take_kick(void); /* of this thread's CPU: what ends guest mode */

/* A disk of `sectors` zeroed sectors; the one before it at that index is dropped. 0: none. */
void fake_disk(uint32_t index, uint64_t sectors);
uint8_t *fake_disk_data(uint32_t index);
extern status_t fake_disk_error;       /* what each request returns if not OK */
extern bool fake_disk_unready; /* what platform_disk_ready() denies */
extern uint32_t fake_disk_hold; /* so many polls complete nothing */
extern uint64_t fake_disk_read_count, fake_disk_write_count, fake_disk_flush_count;

extern int fake_shutdown_code; /* of platform_shutdown(), which then jumps to fake_shutdown_return */
extern void *fake_shutdown_return; /* jmp_buf *; NULL: abort */
