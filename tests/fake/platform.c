#include "tests/fake/platform.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/base/cpu.h"

uint64_t platform_tsc_khz = 100000;
uint64_t fake_tsc = 1, fake_tsc_step;

static uint64_t host_tsc(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return ((uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec) / 10;
}

uint64_t platform_tsc(void)
{
	if (fake_threads)
		return host_tsc();
	fake_tsc += fake_tsc_step;
	return fake_tsc;
}

uint64_t platform_ns(void)
{
	return fake_threads ? host_tsc() * 10 : fake_tsc * 10;
}

uint64_t platform_random(void)
{
	return 0x5eed;
}

/* ---- serial port ----------------------------------------------------------------------------- */

char fake_serial_out[FAKE_SERIAL_BYTES];
size_t fake_serial_out_bytes;
uint32_t fake_serial_room = UINT32_MAX;
static char serial_in[FAKE_SERIAL_BYTES];
static size_t serial_in_head, serial_in_tail;

void fake_serial_type(const char *text)
{
	for (; *text && serial_in_head < FAKE_SERIAL_BYTES; text++)
		serial_in[serial_in_head++] = *text;
}

void fake_serial_clear(void)
{
	serial_in_head = serial_in_tail = fake_serial_out_bytes = 0;
	fake_serial_out[0] = 0;
	fake_serial_room = UINT32_MAX;
}

void platform_listen(void)
{
}

int platform_getc(void)
{
	return serial_in_tail == serial_in_head ? -1 : (unsigned char)serial_in[serial_in_tail++];
}

void platform_putc(char c)
{
	if (fake_serial_out_bytes + 1 >= FAKE_SERIAL_BYTES)
		return;
	fake_serial_out[fake_serial_out_bytes++] = c;
	fake_serial_out[fake_serial_out_bytes] = 0;
}

bool platform_try_putc(char c)
{
	if (fake_serial_room == 0)
		return false;
	if (fake_serial_room != UINT32_MAX)
		fake_serial_room--;
	platform_putc(c);
	return true;
}

/* ---- CPUs: threads play them (tests/fake/cpu.h) ------------------------------------------------ */

uint32_t fake_cpu_count = 1;
uint32_t fake_kicks[FAKE_CPU_MAX];
bool fake_threads;
static struct {
	pthread_mutex_t lock;
	pthread_cond_t kick;
	bool pending; /* atomic */
} interrupt[FAKE_CPU_MAX] = { [0 ... FAKE_CPU_MAX - 1] = { PTHREAD_MUTEX_INITIALIZER,
				      PTHREAD_COND_INITIALIZER, false } };

void platform_cpus_start(void (*main)(void))
{
	(void)main;
}

void platform_cpus_release(void)
{
}

uint32_t platform_cpu_count(void)
{
	return fake_cpu_count;
}

uint32_t platform_cpu_apic_id(uint32_t index)
{
	return index;
}

void platform_kick(uint32_t index)
{
	index %= FAKE_CPU_MAX;
	__atomic_fetch_add(&fake_kicks[index], 1, __ATOMIC_SEQ_CST);
	if (!fake_threads)
		return;
	pthread_mutex_lock(&interrupt[index].lock);
	__atomic_store_n(&interrupt[index].pending, true, __ATOMIC_SEQ_CST);
	pthread_cond_signal(&interrupt[index].kick);
	pthread_mutex_unlock(&interrupt[index].lock);
}

/* ---- idle and the end ------------------------------------------------------------------------ */

uint32_t fake_idle_count;
int fake_shutdown_code = -1;
void *fake_shutdown_return;

/* At most a second, as the real one. */
static void idle_thread(uint64_t until_tsc)
{
	uint32_t me = cpu_index() % FAKE_CPU_MAX;
	uint64_t until = MIN(until_tsc, host_tsc() + 1000 * platform_tsc_khz);
	struct timespec t = { .tv_sec = (time_t)(until / 100000000),
		.tv_nsec = (long)(until % 100000000 * 10) };

	pthread_mutex_lock(&interrupt[me].lock);
	while (!interrupt[me].pending &&
		!pthread_cond_timedwait(&interrupt[me].kick, &interrupt[me].lock, &t))
		;
	__atomic_store_n(&interrupt[me].pending, false, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&interrupt[me].lock);
}

bool fake_take_kick(void)
{
	return __atomic_exchange_n(&interrupt[cpu_index() % FAKE_CPU_MAX].pending, false,
		__ATOMIC_SEQ_CST);
}

void platform_idle(uint64_t until_tsc)
{
	uint64_t latest = fake_tsc + platform_tsc_khz;

	if (fake_threads) {
		idle_thread(until_tsc);
		return;
	}
	fake_idle_count++;
	if (until_tsc > fake_tsc)
		fake_tsc = MIN(until_tsc, latest);
}

static _Noreturn void ended(int code)
{
	fake_shutdown_code = code;
	if (fake_shutdown_return)
		longjmp(*(jmp_buf *)fake_shutdown_return, 1);
	abort();
}

_Noreturn void platform_shutdown(int code)
{
	ended(code);
}

_Noreturn void platform_reboot(void)
{
	ended(1000);
}

void platform_info(struct platform_info *out)
{
	*out = (struct platform_info){
		.cpu = "fake", .cpu_count = 1, .ram_bytes = MIB(128), .emulator = "host"
	};
}

/* ---- disks ----------------------------------------------------------------------------------- */

static struct platform_disk disks[PLATFORM_DISK_MAX];
static uint8_t *disk_data[PLATFORM_DISK_MAX];
/* Guarded by queue_lock. Requests are executed by platform_disk_poll(), one a call. */
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static struct disk_io *queue, **queue_end = &queue;
uint32_t fake_disk_hold;
status_t fake_disk_error;
uint64_t fake_disk_read_count, fake_disk_write_count, fake_disk_flush_count;

void fake_disk(uint32_t index, uint64_t sectors)
{
	free(disk_data[index]);
	disk_data[index] = sectors ? calloc(sectors, 512) : NULL;
	disks[index] = (struct platform_disk){
		.present = sectors != 0, .sector_count = sectors, .model = "fake disk"
	};
	queue = NULL;
	queue_end = &queue;
	fake_disk_hold = 0;
	fake_disk_error = OK;
	fake_disk_read_count = fake_disk_write_count = fake_disk_flush_count = 0;
}

uint8_t *fake_disk_data(uint32_t index)
{
	return disk_data[index];
}

const struct platform_disk *platform_disk(uint32_t index)
{
	return index < PLATFORM_DISK_MAX ? &disks[index] : NULL;
}

static status_t check(uint32_t index, uint64_t sector, uint32_t sectors)
{
	if (index >= PLATFORM_DISK_MAX || !disks[index].present)
		return ERR_NOENT;
	if (sectors == 0 || sectors > 256 || sector + sectors > disks[index].sector_count)
		return ERR_RANGE;
	return fake_disk_error;
}

status_t platform_disk_read(uint32_t index, uint64_t sector, uint32_t sectors, void *buf)
{
	status_t s = check(index, sector, sectors);

	fake_disk_read_count++;
	if (s == OK)
		memcpy(buf, disk_data[index] + sector * 512, (size_t)sectors * 512);
	return s;
}

status_t platform_disk_write(uint32_t index, uint64_t sector, uint32_t sectors, const void *buf)
{
	status_t s = check(index, sector, sectors);

	fake_disk_write_count++;
	if (s == OK)
		memcpy(disk_data[index] + sector * 512, buf, (size_t)sectors * 512);
	return s;
}

status_t platform_disk_flush(uint32_t index)
{
	fake_disk_flush_count++;
	return index < PLATFORM_DISK_MAX && disks[index].present ? fake_disk_error : ERR_NOENT;
}

status_t platform_disk_submit(struct disk_io *io)
{
	if (io->disk >= PLATFORM_DISK_MAX || !disks[io->disk].present)
		return ERR_NOENT;
	if (!io->sectors || io->sectors > PLATFORM_DISK_SECTORS_MAX ||
		io->sector + io->sectors > disks[io->disk].sector_count)
		return ERR_RANGE;
	if ((uintptr_t)io->buf & PAGE_OFFSET_MASK)
		return ERR_INVAL;
	pthread_mutex_lock(&queue_lock);
	io->next = NULL;
	*queue_end = io;
	queue_end = &io->next;
	pthread_mutex_unlock(&queue_lock);
	return OK;
}

static struct disk_io *take_io(void)
{
	pthread_mutex_lock(&queue_lock);
	struct disk_io *io = fake_disk_hold ? NULL : queue;

	if (fake_disk_hold)
		fake_disk_hold--;
	if (io) {
		queue = io->next;
		if (!queue)
			queue_end = &queue;
	}
	pthread_mutex_unlock(&queue_lock);
	return io;
}

bool platform_disk_poll(void)
{
	struct disk_io *io = take_io();

	if (io) {
		io->status = io->write ?
			platform_disk_write(io->disk, io->sector, io->sectors, io->buf) :
			platform_disk_read(io->disk, io->sector, io->sectors, io->buf);
		io->done(io);
	}
	return platform_disk_busy();
}

bool fake_disk_unready;

bool platform_disk_ready(uint32_t index)
{
	(void)index;
	return !fake_disk_unready;
}

bool platform_disk_busy(void)
{
	return __atomic_load_n(&queue, __ATOMIC_RELAXED) != NULL;
}

static struct platform_disk_stats disk_stats[PLATFORM_DISK_MAX];

status_t platform_disk_inject(uint32_t index, enum disk_fault fault, uint32_t count, uint32_t delay_ms)
{
	if (index >= PLATFORM_DISK_MAX || !disks[index].present)
		return ERR_NOENT;
	disk_stats[index].fault = count ? fault : DISK_FAULT_NONE;
	disk_stats[index].fault_left = count;
	disk_stats[index].fault_delay_ms = delay_ms;
	return OK;
}

status_t platform_disk_stats(uint32_t index, struct platform_disk_stats *out)
{
	if (index >= PLATFORM_DISK_MAX || !disks[index].present)
		return ERR_NOENT;
	*out = disk_stats[index];
	out->driver = "fake";
	out->reads = fake_disk_read_count;
	out->writes = fake_disk_write_count;
	return OK;
}
