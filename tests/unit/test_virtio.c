/* The virtio-blk driver against a device in memory that is driven by hand. */
#include "tests/unit/unit.h"

#include "tests/fake/platform.h"

#include "arch/x86/virtio_blk.c"

static uint8_t disk_data[1024 * 512], memory[32 * 4096] __attribute__((aligned(4096)));
static struct platform_disk added;

void disk_log_failure(uint32_t index, const char *what, uint64_t sector, const char *why)
{
	(void)index, (void)what, (void)sector, (void)why;
}

void disk_add(uint32_t index, struct disk_channel *c, const struct platform_disk *info,
	const char *driver)
{
	(void)index, (void)c, (void)driver;
	added = *info;
}

void disk_channel_init(struct disk_channel *c, const struct disk_ops *o, uint32_t depth)
{
	c->ops = o;
	c->depth = depth;
}

static void on_done(struct disk_io *io)
{
	(void)io;
}

/* Host physical addresses are the host's own. */
bool disk_dma_address(const void *buf, uint64_t bytes, hpa_t *out)
{
	(void)bytes;
	*out = HPA((uintptr_t)buf);
	return true;
}

hpa_t paging_image_hpa(const void *object)
{
	return HPA((uintptr_t)object);
}

static struct {
	struct virtio_common common;
	uint16_t bell[8];
	uint32_t config[4];
} device __attribute__((aligned(4096)));

volatile void *paging_map_device(hpa_t pa, uint64_t bytes)
{
	(void)bytes;
	return (void *)pa.v;
}

static uint16_t device_seen;

/* Serves the next chain, or that at descriptor `forge`. False: nothing is there. */
static bool device_serve(uint8_t status, uint32_t forge)
{
	struct shared *s = &shared[0];

	if (s->avail.index == device_seen)
		return false;
	uint32_t at = s->avail.ring[device_seen++ % device.common.queue_size];
	const struct virtq_desc *d = &s->desc[at];
	const struct header *h = (void *)d[0].address;
	uint8_t *data = (void *)d[1].address;

	assert_int_equal(d[0].bytes, 16);
	assert_int_equal(d[0].flags, VIRTQ_DESC_NEXT);
	assert_int_equal(s->desc[d[0].next].flags & VIRTQ_DESC_NEXT, h->type == TYPE_FLUSH ? 0 : 1);
	assert_int_equal(d[2].flags, VIRTQ_DESC_WRITE);
	assert_int_equal(d[2].bytes, 1);
	if (status == STATUS_OK && h->type == TYPE_READ)
		memcpy(data, disk_data + h->sector * 512, d[1].bytes);
	if (status == STATUS_OK && h->type == TYPE_WRITE)
		memcpy(disk_data + h->sector * 512, data, d[1].bytes);
	if (h->type == TYPE_GET_ID)
		memcpy(data, "serial-1", 9);
	*(uint8_t *)d[2].address = status;
	s->used.ring[s->used.index++ % device.common.queue_size].id = forge ? forge : at;
	return true;
}

static struct virtio_blk *bring_device_up(uint32_t features, uint16_t queue_size)
{
	struct virtio_layout l = { .common = { HPA((uintptr_t)&device.common), 56 },
		.notify = { HPA((uintptr_t)device.bell), sizeof(device.bell) },
		.device = { HPA((uintptr_t)device.config), sizeof(device.config) },
		.notify_multiplier = 4 };

	memset(&device, 0, sizeof(device));
	device_count = 0;
	device_seen = 0;
	device.common.device_feature = features; /* of both words */
	device.common.queue_size = queue_size;
	device.common.queue_notify_off = 1;
	device.config[0] = 1024;
	fake_tsc_step = 1000; /* so that what waits ends */
	bool ok = virtio_blk_init(&l);

	fake_tsc_step = 0;
	device_seen = shared[0].avail.index; /* its id was not told in time */
	shared[0].used.index = devices[0].used_seen;
	return ok ? &devices[0] : NULL;
}

static void virtio_moves(void **state)
{
	struct virtio_blk *b = bring_device_up(FEATURE_FLUSH | FEATURE_VERSION_1, 256);
	struct disk_io io[DEPTH_MAX + 1];

	(void)state;
	assert_non_null(b);
	assert_int_equal(device.common.device_status, 15);
	assert_int_equal(device.common.queue_enable, 1);
	assert_int_equal(device.common.queue_size, QUEUE_MAX);
	assert_int_equal(added.sector_count, 1024);
	assert_string_equal(added.model, "virtio-blk");
	assert_ptr_equal(b->doorbell, &device.bell[2]);
	assert_int_equal(b->queue.depth, DEPTH_MAX);
	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t i = 0; i <= DEPTH_MAX; i++) {
			io[i] = (struct disk_io){ .disk = 4, .write = round & 1, .sector = i * 8,
				.sectors = i == 5 ? 0 : 8, .buf = memory + i * 4096, .done = on_done };
			assert_int_equal(start(&b->queue, &io[i]), i < DEPTH_MAX ? OK : ERR_BUSY);
		}
		assert_null(reap(&b->queue));
		for (uint32_t i = 0; i < DEPTH_MAX; i++)
			assert_true(device_serve(i == 7 ? 1 : STATUS_OK, 0));
		assert_false(device_serve(0, 0));
		for (uint32_t i = 0; i < DEPTH_MAX; i++) {
			assert_ptr_equal(reap(&b->queue), &io[i]);
			assert_int_equal(io[i].status, i == 7 ? ERR_IO : OK);
			if (i != 5 && i != 7)
				assert_memory_equal(disk_data + i * 4096, memory + i * 4096, 4096);
		}
		assert_null(reap(&b->queue));
	}
	/* A slot that is not in use is not believed to be done. */
	assert_int_equal(start(&b->queue, &io[0]), OK);
	assert_true(device_serve(STATUS_OK, CHAIN));
	assert_null(reap(&b->queue));
}

/* What it says is not believed: ids that were never given out end nothing and reach nothing. */
static void virtio_lies(void **state)
{
	static const uint32_t ids[] = { 1, 3, 64, 99, UINT32_MAX, 0xfffffffd };
	struct virtio_blk *b = bring_device_up(FEATURE_VERSION_1, 4);
	struct disk_io io = { .disk = 4, .sectors = 8, .buf = memory, .done = on_done };
	struct disk_io flush = { .disk = 4, .write = true, .done = on_done };

	(void)state;
	assert_non_null(b);
	assert_int_equal(b->queue.depth, 1);
	for (uint32_t i = 0; i < ARRAY_COUNT(ids); i++) {
		assert_int_equal(start(&b->queue, &io), OK);
		assert_true(device_serve(STATUS_OK, ids[i]));
		assert_null(reap(&b->queue));
		reset(&b->queue); /* the engine's timeout */
		device_seen = 0;
		assert_false(b->dead);
	}
	assert_int_equal(start(&b->queue, &io), OK);
	assert_true(device_serve(STATUS_OK, 0));
	assert_ptr_equal(reap(&b->queue), &io);
	/* No cache to flush: the device is not asked. */
	assert_int_equal(start(&b->queue, &flush), OK);
	assert_false(device_serve(STATUS_OK, 0));
	assert_ptr_equal(reap(&b->queue), &flush);
	assert_int_equal(flush.status, OK);
	/* A reset that does not succeed. */
	device.common.device_feature = 0;
	reset(&b->queue);
	assert_true(b->dead);
	assert_int_equal(start(&b->queue, &io), ERR_IO);
	assert_null(bring_device_up(FEATURE_FLUSH, 4)); /* not a modern one */
	assert_null(bring_device_up(FEATURE_VERSION_1, 2));
	assert_null(bring_device_up(FEATURE_VERSION_1, 12));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(virtio_moves), cmocka_unit_test(virtio_lies) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
