/*
 * Disks behind one engine (platform.h has what the rest of the hypervisor sees). A channel is hardware
 * that works on its own: an ATA cable with two disks, or a virtio device. Requests wait in the channel's
 * queue; whoever has claimed the channel drives its hardware, with no lock held, by the driver's ops.
 */
#pragma once

#include "vmm/base/lock.h"
#include "vmm/platform.h"

#define DISK_TIMEOUT_MS       5000u  /* a disk that spins up again */
#define DISK_FLUSH_TIMEOUT_MS 30000u /* what ATA allows */

struct disk_channel;

/*
 * All by the claimant; none waits for the disk. A request with `sectors` 0 is a flush. Who has no `done`
 * is synchronous: its buffer may lie anywhere disk_dma_address() may not know.
 */
struct disk_ops {
	/* OK: reap() will give it back. ERR_BUSY: not yet, nothing was begun. Else it has failed. */
	status_t (*start)(struct disk_channel *c, struct disk_io *io);
	/* After one or more start(); may be NULL. */
	void (*kick)(struct disk_channel *c);
	/* One request that has ended, its status set; ERR_BUSY: to be started again. NULL: none yet. */
	struct disk_io *(*reap)(struct disk_channel *c);
	/* The hardware forgets all that was started: none of it touches memory from now on. */
	void (*reset)(struct disk_channel *c);
};

struct disk_channel {
	const struct disk_ops *ops; /* constant after disk_channel_init() */
	uint32_t depth;             /* requests that the hardware takes at a time; the same */
	struct spinlock lock;       /* LOCK_RANK_DISK */
	/* guarded by lock */
	bool claimed;
	uint32_t sync_waiting;      /* synchronous requests that want the claim: poll() leaves it to them */
	struct disk_io *first, **end; /* submitted, in order */
	struct disk_io *ended;      /* done() is to be called */
	uint64_t reserved_tsc;      /* atomic: nothing queued is begun before; 0: it may */
	/* owner: the claimant */
	struct disk_io *in_flight;  /* the hardware's */
	struct disk_io *held;       /* the hardware is done; kept back by an injected delay */
	uint32_t in_flight_count;   /* atomic for those that look */
};

void disk_channel_init(struct disk_channel *c, const struct disk_ops *ops, uint32_t depth);
/* A disk behind a channel, once at boot. `driver` is one word and may be changed by its driver. */
void disk_add(uint32_t index, struct disk_channel *c, const struct platform_disk *info,
	const char *driver);
void disk_set_driver(uint32_t index, const char *driver);

/* One line a second at most, counting the others. Any CPU. */
void disk_log_failure(uint32_t index, const char *what, uint64_t sector, const char *why);

/* Where a device finds [buf, buf + bytes). False: not known to be contiguous there. */
bool disk_dma_address(const void *buf, uint64_t bytes, hpa_t *out) MUST_CHECK;

/* Finds all disks. Needs the clock and the final address space; `ram_top` is the direct map's end. */
void disk_init(uint64_t ram_top);
