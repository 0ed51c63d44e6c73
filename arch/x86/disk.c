/* The queue of asynchronous requests (platform.h). */
#include "arch/x86/ata.h"
#include "arch/x86/cpu.h"
#include "vmm/base/lock.h"
#include "vmm/platform.h"

static struct {
	struct spinlock lock;
	/* guarded by lock */
	struct disk_io *first, **end;
	bool claimed;          /* somebody drives the hardware */
	/* atomic */
	uint32_t outstanding;
} queue = { .lock = SPINLOCK_INIT(LOCK_RANK_DISK), .end = &queue.first };

static status_t check(const struct disk_io *io)
{
	const struct platform_disk *d = platform_disk(io->disk);

	if (!d || !d->present)
		return ERR_NOENT;
	if (!io->sectors || io->sectors > PLATFORM_DISK_SECTORS_MAX || io->sector >= d->sector_count ||
		d->sector_count - io->sector < io->sectors)
		return ERR_RANGE;
	return (uintptr_t)io->buf & PAGE_OFFSET_MASK ? ERR_INVAL : OK;
}

status_t platform_disk_submit(struct disk_io *io)
{
	status_t s = check(io);

	if (s)
		return s;
	io->next = NULL;
	__atomic_fetch_add(&queue.outstanding, 1, __ATOMIC_RELAXED);
	spin_lock(&queue.lock);
	*queue.end = io;
	queue.end = &io->next;
	spin_unlock(&queue.lock);
	return OK;
}

void disk_hardware_claim(void)
{
	for (;;) {
		spin_lock(&queue.lock);
		bool mine = !queue.claimed;

		queue.claimed = true;
		spin_unlock(&queue.lock);
		if (mine)
			return;
		cpu_pause();
	}
}

void disk_hardware_release(void)
{
	spin_lock(&queue.lock);
	queue.claimed = false;
	spin_unlock(&queue.lock);
}

/* The first in line, or NULL: none, or another CPU has the hardware. */
static struct disk_io *take(void)
{
	spin_lock(&queue.lock);
	struct disk_io *io = queue.claimed ? NULL : queue.first;

	if (io) {
		queue.claimed = true;
		queue.first = io->next;
		if (!queue.first)
			queue.end = &queue.first;
	}
	spin_unlock(&queue.lock);
	return io;
}

bool platform_disk_poll(void)
{
	struct disk_io *io = platform_disk_busy() ? take() : NULL;

	if (io) {
		io->status = ata_transfer(io->disk, io->sector, io->sectors, io->buf, io->write);
		disk_hardware_release();
		io->done(io);
		__atomic_fetch_sub(&queue.outstanding, 1, __ATOMIC_RELAXED);
	}
	return platform_disk_busy();
}

bool platform_disk_busy(void)
{
	return __atomic_load_n(&queue.outstanding, __ATOMIC_RELAXED) != 0;
}
