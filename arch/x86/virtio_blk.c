#include "arch/x86/virtio_blk.h"
#include "arch/x86/clock.h"
#include "arch/x86/disk.h"
#include "arch/x86/paging.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"

#define DEVICES_MAX (PLATFORM_DISK_MAX - PLATFORM_DISK_VIRTIO)
#define DEPTH_MAX   16u
#define CHAIN       3u /* descriptors of a request: header, data, status */
#define QUEUE_MAX   64u /* a power of two, at least CHAIN * DEPTH_MAX */
_Static_assert(QUEUE_MAX >= CHAIN * DEPTH_MAX, "each slot has its descriptors");

#define TYPE_READ   0u
#define TYPE_WRITE  1u
#define TYPE_FLUSH  4u
#define TYPE_GET_ID 8u
#define STATUS_OK   0u
#define STATUS_UNSET 0xffu
#define ID_BYTES    20u

#define FEATURE_FLUSH     (1u << 9)
#define FEATURE_VERSION_1 (1u << 0) /* bit 32: in the second word */

#define RESET_MS 100u
#define SECTOR_BYTES 512u

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};
_Static_assert(sizeof(struct header) == 16, "virtio-blk request header");

/* What the device reads and writes; within one page, so physically contiguous. */
struct shared {
	struct virtq_desc desc[QUEUE_MAX];
	struct {
		uint16_t flags, index, ring[QUEUE_MAX], used_event;
	} avail;
	struct {
		uint16_t flags, index;
		struct virtq_used ring[QUEUE_MAX];
		uint16_t avail_event;
	} used __attribute__((aligned(4)));
	struct header header[DEPTH_MAX];
	char id[ID_BYTES];
	uint8_t status[DEPTH_MAX];
} __attribute__((aligned(4096)));
_Static_assert(sizeof(struct shared) == PAGE_BYTES, "the shared area is one page");

struct virtio_blk {
	struct disk_channel queue;
	/* constant after virtio_blk_init() */
	volatile struct virtio_common *common;
	volatile uint32_t *config;
	volatile uint16_t *notify;
	uint32_t notify_multiplier, notify_bytes;
	bool flush; /* the device has a cache that can be flushed */
	/* owner: the claimant */
	volatile uint16_t *doorbell;
	bool dead;  /* it did not come back from a reset */
	uint16_t queue_size, used_seen;
	struct disk_io *slot[DEPTH_MAX];
};

/* Owner: see struct virtio_blk; shared with the devices. */
static struct shared shared[DEVICES_MAX];
static struct virtio_blk devices[DEVICES_MAX];
static uint32_t device_count; /* set once at boot */

static struct virtio_blk *device_of(struct disk_channel *c)
{
	return container_of(c, struct virtio_blk, queue);
}

static struct shared *shared_of(const struct virtio_blk *b)
{
	return &shared[b - devices];
}

/* ---- bringing it up (General Initialization And Device Operation, Device Initialization) ---- */

/* "The driver SHOULD consider a driver-initiated reset complete when it reads device status as 0." */
static bool reset_device(struct virtio_blk *b)
{
	uint64_t end = platform_tsc() + platform_ms_to_tsc(RESET_MS);

	b->common->device_status = 0;
	while (b->common->device_status)
		if (platform_tsc() > end)
			return false;
	return true;
}

static bool agree_features(struct virtio_blk *b)
{
	volatile struct virtio_common *c = b->common;

	c->device_feature_select = 0;
	b->flush = c->device_feature & FEATURE_FLUSH;
	c->device_feature_select = 1;
	if (!(c->device_feature & FEATURE_VERSION_1))
		return false;
	c->driver_feature_select = 0;
	c->driver_feature = b->flush ? FEATURE_FLUSH : 0;
	c->driver_feature_select = 1;
	c->driver_feature = FEATURE_VERSION_1;
	c->device_status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK;
	return c->device_status & VIRTIO_STATUS_FEATURES_OK;
}

static void set_address(volatile uint32_t *to, const void *p)
{
	hpa_t at = paging_image_hpa(p);

	to[0] = (uint32_t)at.v;
	to[1] = (uint32_t)(at.v >> 32);
}

static bool set_queue(struct virtio_blk *b)
{
	volatile struct virtio_common *c = b->common;
	struct shared *s = shared_of(b);

	memset(s, 0, sizeof(*s));
	s->avail.flags = VIRTQ_NO_INTERRUPT;
	b->used_seen = 0;
	memset(b->slot, 0, sizeof(b->slot));
	c->msix_config = VIRTIO_NO_VECTOR;
	c->queue_select = 0;
	b->queue_size = MIN(c->queue_size, QUEUE_MAX);
	if (b->queue_size < 4 || b->queue_size & (b->queue_size - 1))
		return false;
	uint64_t bell = (uint64_t)c->queue_notify_off * b->notify_multiplier;

	if (bell + 2 > b->notify_bytes || bell & 1)
		return false;
	b->doorbell = b->notify + bell / 2;
	c->queue_size = b->queue_size;
	c->queue_msix_vector = VIRTIO_NO_VECTOR;
	set_address(c->queue_desc, s->desc);
	set_address(c->queue_driver, &s->avail);
	set_address(c->queue_device, &s->used);
	c->queue_enable = 1;
	return true;
}

static bool bring_up(struct virtio_blk *b)
{
	volatile struct virtio_common *c = b->common;

	if (!reset_device(b))
		return false;
	c->device_status = VIRTIO_STATUS_ACKNOWLEDGE;
	c->device_status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;
	if (!agree_features(b) || !set_queue(b))
		return false;
	c->device_status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
		VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK;
	return true;
}

/* ---- requests -------------------------------------------------------------------------------- */

static uint32_t depth_of(const struct virtio_blk *b)
{
	return MIN(b->queue_size / CHAIN, DEPTH_MAX);
}

static struct virtq_desc desc(hpa_t at, uint64_t bytes, uint32_t flags, uint32_t next)
{
	return (struct virtq_desc){ at.v, (uint32_t)bytes, (uint16_t)flags, (uint16_t)next };
}

/* Slot n has the descriptors from CHAIN * n on, always. `data_bytes` may be 0. */
static void post(struct virtio_blk *b, uint32_t n, const struct header *h, hpa_t data,
	uint64_t data_bytes, bool to_memory)
{
	struct shared *s = shared_of(b);
	uint32_t at = CHAIN * n;
	uint16_t index = s->avail.index;

	s->header[n] = *h;
	s->status[n] = STATUS_UNSET;
	s->desc[at] = desc(paging_image_hpa(&s->header[n]), sizeof(*h), VIRTQ_DESC_NEXT,
		data_bytes ? at + 1 : at + 2);
	s->desc[at + 1] = desc(data, data_bytes, VIRTQ_DESC_NEXT | (to_memory ? VIRTQ_DESC_WRITE : 0),
		at + 2);
	s->desc[at + 2] = desc(paging_image_hpa(&s->status[n]), 1, VIRTQ_DESC_WRITE, 0);
	s->avail.ring[index % b->queue_size] = (uint16_t)at;
	__atomic_store_n(&s->avail.index, (uint16_t)(index + 1), __ATOMIC_RELEASE);
}

static status_t start(struct disk_channel *q, struct disk_io *io)
{
	struct virtio_blk *b = device_of(q);
	uint64_t bytes = (uint64_t)io->sectors * SECTOR_BYTES;
	struct header h = { .type = !io->sectors ? TYPE_FLUSH : io->write ? TYPE_WRITE : TYPE_READ,
		.sector = io->sector };
	hpa_t data = HPA(0);
	uint32_t n = 0;

	if (b->dead)
		return ERR_IO;
	if (bytes && !disk_dma_address(io->buf, bytes, &data))
		return ERR_INVAL;
	while (n < depth_of(b) && b->slot[n])
		n++;
	if (n == depth_of(b))
		return ERR_BUSY;
	/* Nothing to flush: it ends as a read of nothing that the device is not bothered with. */
	b->slot[n] = io;
	if (!io->sectors && !b->flush)
		shared_of(b)->status[n] = STATUS_OK;
	else
		post(b, n, &h, data, bytes, !io->write);
	return OK;
}

static void kick(struct disk_channel *q)
{
	struct virtio_blk *b = device_of(q);

	/* What was stored is seen before the bell is heard: stores are in order, and the bell is uncached. */
	__asm__ volatile("" : : : "memory");
	if (!b->dead)
		*b->doorbell = 0;
}

/* The next slot that the device says is done; DEPTH_MAX: none, or one that it may not name. */
static uint32_t next_used(struct virtio_blk *b)
{
	struct shared *s = shared_of(b);

	while (b->used_seen != __atomic_load_n(&s->used.index, __ATOMIC_ACQUIRE)) {
		uint32_t id = s->used.ring[b->used_seen++ % b->queue_size].id;

		if (id % CHAIN == 0 && id / CHAIN < depth_of(b) && b->slot[id / CHAIN])
			return id / CHAIN;
	}
	return DEPTH_MAX;
}

static struct disk_io *reap(struct disk_channel *q)
{
	struct virtio_blk *b = device_of(q);
	struct shared *s = shared_of(b);
	uint32_t n = next_used(b);

	if (n == DEPTH_MAX && !b->flush) {
		for (n = 0; n < depth_of(b) && !(b->slot[n] && !b->slot[n]->sectors); n++)
			;
		n = n == depth_of(b) ? DEPTH_MAX : n;
	}
	if (n == DEPTH_MAX)
		return NULL;
	struct disk_io *io = b->slot[n];

	b->slot[n] = NULL;
	io->status = s->status[n] == STATUS_OK ? OK : ERR_IO;
	if (io->status)
		disk_log_failure(io->disk, !io->sectors ? "flush failed" : io->write ? "write failed" :
				"read failed", io->sector, "the virtio device said so");
	return io;
}

static void reset(struct disk_channel *q)
{
	struct virtio_blk *b = device_of(q);

	b->dead = !bring_up(b);
	if (b->dead)
		log_err("disk %u: a virtio device that does not come back from a reset is given up",
			(uint32_t)(PLATFORM_DISK_VIRTIO + (b - devices)));
}

static const struct disk_ops ops = { .start = start, .kick = kick, .reap = reap, .reset = reset };

/* ---- at boot --------------------------------------------------------------------------------- */

/* The device's own name for itself, if it tells in time; it may not have one. */
static void ask_id(struct virtio_blk *b, char model[41])
{
	struct shared *s = shared_of(b);
	struct header h = { .type = TYPE_GET_ID };
	uint64_t end = platform_tsc() + platform_ms_to_tsc(RESET_MS);

	(void)str_copy(model, 41, "virtio-blk");
	post(b, 0, &h, paging_image_hpa(s->id), ID_BYTES, true);
	kick(&b->queue);
	while (__atomic_load_n(&s->used.index, __ATOMIC_ACQUIRE) == b->used_seen)
		if (platform_tsc() > end)
			return;
	b->used_seen++;
	if (s->status[0] != STATUS_OK || s->id[0] <= ' ' || s->id[0] > '~')
		return;
	for (size_t at = strlen(model), i = 0; i < ID_BYTES && s->id[i] >= ' ' && s->id[i] <= '~'; i++) {
		model[at + i + 1] = s->id[i];
		model[at] = ' ';
		model[at + i + 2] = 0;
	}
}

static volatile void *map(const struct virtio_window *w)
{
	hpa_t page = HPA(ALIGN_DOWN(w->at.v, PAGE_BYTES));
	uint64_t bytes = ALIGN_UP(w->at.v + w->bytes, PAGE_BYTES) - page.v;
	volatile char *p = paging_map_device(page, MIN(bytes, MIB(1)));

	return p ? p + (w->at.v - page.v) : NULL;
}

bool virtio_blk_init(const struct virtio_layout *layout)
{
	struct virtio_blk *b = &devices[device_count];
	struct platform_disk info = { .present = true };
	uint32_t index = PLATFORM_DISK_VIRTIO + device_count;

	if (device_count == DEVICES_MAX) {
		log_warn("a virtio disk too many: left out");
		return false;
	}
	b->common = map(&layout->common);
	b->notify = map(&layout->notify);
	b->config = map(&layout->device);
	b->notify_multiplier = layout->notify_multiplier;
	b->notify_bytes = MIN(layout->notify.bytes, MIB(1) - PAGE_BYTES);
	if (!b->common || !b->notify || !b->config || !bring_up(b)) {
		log_warn("disk %u: a virtio device that cannot be used", index);
		return false;
	}
	info.sector_count = b->config[0] | (uint64_t)b->config[1] << 32;
	ask_id(b, info.model);
	disk_channel_init(&b->queue, &ops, depth_of(b));
	disk_add(index, &b->queue, &info, "virtio");
	device_count++;
	return true;
}
