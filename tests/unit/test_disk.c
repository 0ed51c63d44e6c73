/* The disk engine: queues, timeouts, faults on request, synchronous requests among asynchronous ones. */
#include "tests/unit/unit.h"

#include "tests/fake/platform.h"

/* With arguments: the structs keep their names. */
#define platform_disk(i)          engine_disk(i)
#define platform_disk_read   engine_read
#define platform_disk_write  engine_write
#define platform_disk_flush  engine_flush
#define platform_disk_submit engine_submit
#define platform_disk_poll   engine_poll
#define platform_disk_busy   engine_busy
#define platform_disk_inject engine_inject
#define platform_disk_ready  engine_ready
#define platform_disk_stats(i, o) engine_stats(i, o)
/* The names that platform.h declared are the fake's; the engine's own are these. */
const struct platform_disk *engine_disk(uint32_t index);
status_t engine_read(uint32_t index, uint64_t sector, uint32_t sectors, void *buf);
status_t engine_write(uint32_t index, uint64_t sector, uint32_t sectors, const void *buf);
status_t engine_flush(uint32_t index);
status_t engine_submit(struct disk_io *io);
bool engine_poll(void);
bool engine_busy(void);
bool engine_ready(uint32_t index);
status_t engine_inject(uint32_t index, enum disk_fault fault, uint32_t count, uint32_t delay_ms);
status_t engine_stats(uint32_t index, struct platform_disk_stats *out);
#include "arch/x86/disk.c"

#define SECTORS 64u
#define SLOTS   4u
#define MS      100000u /* ticks */

/* Hardware that takes requests, and ends each after its time, or never. */
static struct hardware {
	struct disk_channel channel;
	struct {
		struct disk_io *io;
		uint64_t due;
		status_t status;
	} slot[SLOTS];
	uint32_t kicks, resets, begun;
	/* what the next requests meet; permille */
	uint32_t fail, lose, busy, retry;
	uint64_t ticks;
	bool stuck; /* ERR_BUSY until it is reset */
} hw[2];
static uint8_t data[2][SECTORS * 512];
static uint64_t seed;

static struct hardware *hardware(struct disk_channel *c)
{
	return container_of(c, struct hardware, channel);
}

static bool happens(uint32_t permille)
{
	return test_random(&seed) % 1000 < permille;
}

static status_t hw_start(struct disk_channel *c, struct disk_io *io)
{
	struct hardware *h = hardware(c);
	uint32_t n = 0;

	assert_true(c->claimed);
	assert_int_equal(c->lock.owner_plus_1, 0);
	if (h->stuck || happens(h->busy))
		return ERR_BUSY;
	while (h->slot[n].io)
		n++;
	assert_true(n < c->depth);
	h->begun++;
	h->slot[n].io = io;
	h->slot[n].due = happens(h->lose) ? UINT64_MAX : fake_tsc + (h->ticks ? test_random(&seed) % h->ticks : 0);
	h->slot[n].status = happens(h->retry) ? ERR_BUSY : happens(h->fail) ? ERR_IO : OK;
	return OK;
}

static void hw_kick(struct disk_channel *c)
{
	hardware(c)->kicks++;
}

static struct disk_io *hw_reap(struct disk_channel *c)
{
	struct hardware *h = hardware(c);
	uint32_t first = (uint32_t)test_random(&seed); /* in any order */

	for (uint32_t i = 0; i < SLOTS; i++) {
		uint32_t n = (first + i) % SLOTS;
		struct disk_io *io = h->slot[n].io;

		if (!io || h->slot[n].due > fake_tsc)
			continue;
		uint8_t *at = data[h - hw] + io->sector * 512;

		io->status = h->slot[n].status;
		if (!io->status && io->sectors && io->write)
			memcpy(at, io->buf, io->sectors * 512);
		else if (!io->status && io->sectors)
			memcpy(io->buf, at, io->sectors * 512);
		h->slot[n].io = NULL;
		return io;
	}
	return NULL;
}

static void hw_reset(struct disk_channel *c)
{
	struct hardware *h = hardware(c);

	h->resets++;
	h->stuck = false;
	for (uint32_t n = 0; n < SLOTS; n++)
		h->slot[n].io = NULL;
}

static const struct disk_ops hw_ops = { hw_start, hw_kick, hw_reap, hw_reset };

void clock_spin_us(uint64_t us)
{
	fake_tsc += us * MS / 1000;
}

static int setup(void **state)
{
	struct platform_disk info = { .present = true, .sector_count = SECTORS, .model = "fake" };

	(void)state;
	memset(hw, 0, sizeof(hw));
	memset(units, 0, sizeof(units));
	memset(data, 0, sizeof(data));
	seed = 11;
	disk_channel_init(&hw[0].channel, &hw_ops, 1);
	disk_channel_init(&hw[1].channel, &hw_ops, SLOTS);
	disk_add(0, &hw[0].channel, &info, "one");
	disk_add(1, &hw[0].channel, &info, "one");
	disk_add(4, &hw[1].channel, &info, "many");
	return 0;
}

static uint8_t page[16][4096] __attribute__((aligned(4096)));
static uint32_t done_count;

static void on_done(struct disk_io *io)
{
	assert_int_equal(io->phase, DISK_IO_ENDED);
	done_count++;
	io->ctx = io;
}

static struct disk_io request(uint32_t disk, bool write, uint64_t sector, uint32_t sectors, void *buf)
{
	return (struct disk_io){ .disk = disk, .write = write, .sector = sector, .sectors = sectors,
		.buf = buf, .status = ERR_CORRUPT, .done = on_done };
}

static void refused(void **state)
{
	struct disk_io io = request(7, false, 0, 1, page[0]);

	(void)state;
	assert_int_equal(engine_submit(&io), ERR_NOENT);
	io.disk = 9;
	assert_int_equal(engine_submit(&io), ERR_NOENT);
	io = request(0, false, SECTORS, 1, page[0]);
	assert_int_equal(engine_submit(&io), ERR_RANGE);
	io = request(0, false, UINT64_MAX, 2, page[0]);
	assert_int_equal(engine_submit(&io), ERR_RANGE);
	io = request(0, false, 0, 0, page[0]);
	assert_int_equal(engine_submit(&io), ERR_RANGE);
	io = request(0, false, 0, PLATFORM_DISK_SECTORS_MAX + 1, page[0]);
	assert_int_equal(engine_submit(&io), ERR_RANGE);
	io = request(0, false, 0, 1, page[0] + 512);
	assert_int_equal(engine_submit(&io), ERR_INVAL);
	assert_false(engine_busy() || engine_poll());
	assert_int_equal(engine_read(7, 0, 1, page[0]), ERR_NOENT);
	assert_int_equal(engine_write(4, SECTORS - 1, 2, page[0]), ERR_RANGE);
	assert_int_equal(engine_flush(9), ERR_NOENT);
	assert_int_equal(engine_inject(7, DISK_FAULT_READ, 1, 0), ERR_NOENT);
}

/* Written, read back; one at a time on disk 0, several in the hardware of disk 4. */
static void writes_and_reads(void **state)
{
	struct disk_io io[8];
	struct platform_disk_stats s;

	(void)state;
	for (uint32_t disk = 0; disk <= 4; disk += 4) {
		done_count = 0;
		hw[disk / 4].ticks = 5 * MS;
		for (uint32_t i = 0; i < 8; i++) {
			memset(page[i], (int)(i + 1), 4096);
			io[i] = request(disk, true, i * 8, 8, page[i]);
			assert_int_equal(engine_submit(&io[i]), OK);
		}
		assert_true(engine_poll());
		assert_int_equal(hw[disk / 4].begun, disk ? SLOTS : 1);
		while (engine_poll())
			fake_tsc += MS;
		assert_int_equal(done_count, 8);
		for (uint32_t i = 0; i < 8; i++)
			assert_int_equal(data[disk / 4][i * 4096 + 4095], i + 1);
		assert_int_equal(engine_read(disk, 7, 2, page[0]), OK);
		assert_int_equal(page[0][0], 1);
		assert_int_equal(page[0][512], 2);
		assert_int_equal(engine_flush(disk), OK);
		assert_int_equal(engine_stats(disk, &s), OK);
		assert_int_equal(s.writes, 8);
		assert_int_equal(s.write_sectors, 64);
		assert_int_equal(s.reads, 1);
		assert_int_equal(s.errors + s.timeouts + s.outstanding, 0);
		assert_true(s.service_tsc > 0);
	}
}

/* A poll while another CPU drives the hardware completes nothing and waits for nothing. */
static void one_drives(void **state)
{
	struct disk_io io = request(4, false, 0, 8, page[0]);

	(void)state;
	done_count = 0;
	assert_int_equal(engine_submit(&io), OK);
	hw[1].channel.claimed = true;
	assert_true(engine_poll());
	assert_int_equal(hw[1].begun, 0);
	hw[1].channel.claimed = false;
	hw[1].channel.sync_waiting = 1;
	assert_true(engine_poll());
	assert_int_equal(hw[1].begun, 0);
	hw[1].channel.sync_waiting = 0;
	assert_false(engine_poll());
	assert_int_equal(done_count, 1);
}

static void sync_goes_first(void **state)
{
	struct disk_io io[3];

	(void)state;
	done_count = 0;
	hw[0].ticks = 1000 * MS;
	for (uint32_t i = 0; i < 3; i++) {
		io[i] = request(i & 1, false, 0, 8, page[i]);
		assert_int_equal(engine_submit(&io[i]), OK);
	}
	assert_true(engine_poll());
	assert_int_equal(hw[0].begun, 1);
	data[0][5 * 512] = 77;
	assert_int_equal(engine_read(1, 5, 1, page[9]), OK);
	assert_int_equal(page[9][0], 77);
	assert_int_equal(hw[0].begun, 2); /* the two that wait still do */
	assert_int_equal(done_count, 0);  /* done() is a poll's to call */
	while (engine_poll())
		fake_tsc += MS;
	assert_int_equal(done_count, 3);
}

/* Who asks first does not wait, and what is queued lets it through; but not for ever. */
static void ready(void **state)
{
	struct disk_io io[3];

	(void)state;
	done_count = 0;
	hw[0].ticks = 1;
	assert_true(engine_ready(0) && engine_ready(4) && engine_ready(7) && engine_ready(99));
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 3; i++) {
			io[i] = request(0, false, 0, 8, page[i]);
			assert_int_equal(engine_submit(&io[i]), OK);
		}
		hw[0].lose = 1000;
		engine_poll();
		hw[0].lose = 0;
		assert_false(engine_ready(1));
		hw[0].slot[0].due = fake_tsc; /* now it ends */
		uint32_t begun = hw[0].begun;

		assert_true(engine_poll());
		assert_true(engine_ready(1));
		assert_true(engine_poll());
		assert_int_equal(hw[0].begun, begun);
		if (round == 0)
			assert_int_equal(engine_read(1, 0, 1, page[9]), OK);
		else
			fake_tsc += (RESERVED_MS + 1) * MS;
		while (engine_poll())
			fake_tsc += MS / 100;
		assert_int_equal(hw[0].begun, begun + 3 - round);
	}
	assert_int_equal(done_count, 6);
}

static void late(void **state)
{
	struct disk_io io[3];
	struct platform_disk_stats s;
	uint64_t start;

	(void)state;
	done_count = 0;
	for (uint32_t i = 0; i < 3; i++) {
		io[i] = request(4, false, 0, 8, page[i]);
		assert_int_equal(engine_submit(&io[i]), OK);
	}
	hw[1].lose = 1000;
	start = fake_tsc;
	engine_poll();
	hw[1].lose = 0;
	fake_tsc += (DISK_TIMEOUT_MS - 1) * MS;
	assert_int_equal(engine_read(4, 0, 1, page[9]), OK); /* not held up */
	assert_true(engine_poll());
	assert_int_equal(done_count, 0);
	while (engine_poll())
		fake_tsc += MS;
	assert_int_equal(done_count, 3);
	assert_int_equal(hw[1].resets, 1);
	assert_true(fake_tsc - start < (DISK_TIMEOUT_MS + 10) * MS);
	assert_int_equal(engine_stats(4, &s), OK);
	assert_int_equal(s.timeouts, 3);
	assert_int_equal(s.errors, 3);
	/* Of two in the hardware one is late: the other begins again. */
	hw[1].lose = 1000;
	io[0] = request(4, false, 0, 8, page[0]);
	assert_int_equal(engine_submit(&io[0]), OK);
	engine_poll();
	fake_tsc += MS;
	io[1] = request(4, false, 0, 8, page[1]);
	assert_int_equal(engine_submit(&io[1]), OK);
	engine_poll();
	hw[1].lose = 0;
	fake_tsc = start = fake_tsc + (DISK_TIMEOUT_MS - 1) * MS;
	while (engine_poll())
		assert_true(fake_tsc - start < MS);
	assert_int_equal(io[0].status, ERR_IO);
	assert_int_equal(io[1].status, OK);
}

/* A disk that is never ready: reset after its time, and the queue goes on. Also for who waits. */
static void never_ready(void **state)
{
	struct disk_io io[2] = { request(0, true, 0, 8, page[0]), request(1, true, 8, 8, page[1]) };

	(void)state;
	hw[0].stuck = true;
	assert_int_equal(engine_submit(&io[0]), OK);
	assert_int_equal(engine_submit(&io[1]), OK);
	while (engine_poll())
		fake_tsc += 100 * MS;
	assert_int_equal(io[0].status, ERR_IO);
	assert_int_equal(io[1].status, OK);
	assert_int_equal(hw[0].resets, 1);
	hw[0].stuck = true;
	uint64_t start = fake_tsc;

	assert_int_equal(engine_read(0, 0, 1, page[0]), ERR_IO);
	assert_true(fake_tsc - start < (DISK_TIMEOUT_MS + 10) * MS);
	assert_int_equal(engine_read(0, 0, 1, page[0]), OK);
	hw[0].lose = 1000;
	assert_int_equal(engine_read(0, 0, 1, page[0]), ERR_IO);
	hw[0].lose = 0;
	assert_int_equal(engine_read(0, 0, 1, page[0]), OK);
	hw[0].retry = 1000; /* fails by one way, goes by another */
	io[0] = request(0, true, 0, 8, page[0]);
	assert_int_equal(engine_submit(&io[0]), OK);
	assert_true(engine_poll());
	hw[0].retry = 0;
	while (engine_poll())
		;
	assert_int_equal(io[0].status, OK);
}

static void faults(void **state)
{
	struct disk_io io[4];
	struct platform_disk_stats s;

	(void)state;
	assert_int_equal(engine_inject(4, DISK_FAULT_WRITE, 2, 0), OK);
	for (uint32_t i = 0; i < 4; i++) {
		io[i] = request(4, i != 1, 0, 8, page[i]);
		assert_int_equal(engine_submit(&io[i]), OK);
	}
	while (engine_poll())
		;
	assert_int_equal(io[0].status, ERR_IO);
	assert_int_equal(io[1].status, OK);
	assert_int_equal(io[2].status, ERR_IO);
	assert_int_equal(io[3].status, OK);
	assert_int_equal(hw[1].begun, 2);
	assert_int_equal(engine_stats(4, &s), OK);
	assert_int_equal(s.fault, DISK_FAULT_NONE);
	assert_int_equal(s.errors, 2);
	assert_int_equal(engine_inject(0, DISK_FAULT_READ, 1, 0), OK);
	assert_int_equal(engine_read(1, 0, 1, page[0]), OK); /* the other disk of the channel */
	assert_int_equal(engine_write(0, 0, 1, page[0]), OK);
	assert_int_equal(engine_read(0, 0, 1, page[0]), ERR_IO);
	assert_int_equal(engine_read(0, 0, 1, page[0]), OK);
	/* Wrong: a bit of each page, of reads only, and of as many as were asked for. */
	for (uint32_t i = 0; i < 2; i++)
		memset(page[i], 7, 4096);
	assert_int_equal(engine_write(4, 0, 8, page[0]), OK);
	assert_int_equal(engine_write(4, 8, 8, page[1]), OK);
	assert_int_equal(engine_inject(4, DISK_FAULT_CORRUPT, 2, 0), OK);
	assert_int_equal(engine_write(4, 16, 8, page[1]), OK);
	io[0] = request(4, false, 0, 16, page[4]); /* two pages */
	assert_int_equal(engine_submit(&io[0]), OK);
	while (engine_poll())
		;
	assert_int_equal(io[0].status, OK);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_not_equal(page[4 + i][0], 7);
		page[4 + i][0] = 7;
		assert_memory_equal(page[4 + i], page[i], 4096);
	}
	assert_int_equal(engine_read(4, 16, 1, page[0]), OK);
	assert_int_not_equal(page[0][0], 7);
	assert_int_equal(engine_read(4, 16, 1, page[0]), OK);
	assert_int_equal(page[0][0], 7);
	/* Late, but not too late; both kinds of request; and too late. */
	uint64_t start = fake_tsc;

	assert_int_equal(engine_inject(0, DISK_FAULT_DELAY, 2, 300), OK);
	assert_int_equal(engine_read(0, 0, 1, page[0]), OK);
	assert_true(fake_tsc - start >= 300 * MS && fake_tsc - start < 310 * MS);
	assert_int_equal(engine_inject(0, DISK_FAULT_NONE, 0, 0), OK);
	assert_int_equal(engine_inject(0, DISK_FAULT_DELAY, 1, DISK_TIMEOUT_MS + 1), OK);
	assert_int_equal(engine_write(0, 0, 1, page[0]), ERR_IO);
	assert_int_equal(engine_inject(0, DISK_FAULT_READ, 5, 0), OK);
	assert_int_equal(engine_inject(0, DISK_FAULT_NONE, 0, 0), OK);
	assert_int_equal(engine_read(0, 0, 1, page[0]), OK);
	while (engine_poll())
		fake_tsc += MS;
}

/* ---- at random -------------------------------------------------------------------------------- */

#define ASYNC 24u

/* Each request has a sector of its own, so what is there is known whenever nothing is underway. */
static struct tracked {
	struct disk_io io;
	uint32_t submitted, done;
	bool again; /* done() submits it once more */
	uint8_t stored; /* in the sector; UINT8_MAX: not known, a write failed */
	uint8_t written;
	uint8_t page[4096] __attribute__((aligned(4096)));
} tracked[2][ASYNC];
static uint64_t ended_ok, ended_badly;

static void submit_tracked(struct tracked *t)
{
	t->io.write = test_random(&seed) & 1;
	t->written = (uint8_t)(test_random(&seed) % 255);
	memset(t->page, t->io.write ? t->written : 255, 512);
	t->submitted++;
	assert_int_equal(engine_submit(&t->io), OK);
}

static void tracked_done(struct disk_io *io)
{
	struct tracked *t = io->ctx;

	t->done++;
	assert_int_equal(t->done, t->submitted);
	if (io->status == OK && io->write)
		t->stored = t->written;
	else if (io->write)
		t->stored = UINT8_MAX;
	else if (io->status == OK && t->stored != UINT8_MAX)
		assert_int_equal(t->page[100], t->stored);
	*(io->status ? &ended_badly : &ended_ok) += 1;
	if (t->again) {
		t->again = false;
		submit_tracked(t);
	}
}

static void sync_at_random(uint32_t disk)
{
	uint8_t out[512], in[512];
	uint64_t sector = ASYNC + test_random(&seed) % 8;

	memset(out, (int)(test_random(&seed) & 255), sizeof(out));
	if (engine_write(disk, sector, 1, out) == OK && engine_read(disk, sector, 1, in) == OK)
		assert_memory_equal(in, out, 512);
	if (happens(100))
		(void)engine_flush(disk);
}

static void random_step(void)
{
	/* None that makes content wrong: it is compared. */
	static const enum disk_fault faults[] = { DISK_FAULT_NONE, DISK_FAULT_READ, DISK_FAULT_WRITE,
		DISK_FAULT_DELAY };
	uint32_t h = test_random(&seed) & 1, disk = h ? 4 : 0;
	struct tracked *t = &tracked[h][test_random(&seed) % ASYNC];

	switch (test_random(&seed) % 16) {
	case 0:
		(void)engine_ready(disk);
		sync_at_random(disk);
		break;
	case 1:
		assert_int_equal(engine_inject(disk, faults[test_random(&seed) % 4],
			(uint32_t)(test_random(&seed) % 4), (uint32_t)(test_random(&seed) % 8000)), OK);
		break;
	case 2:
		hw[h].fail = happens(500) ? 0 : 100;
		hw[h].lose = happens(700) ? 0 : 5;
		hw[h].busy = happens(500) ? 0 : 300;
		hw[h].retry = happens(500) ? 0 : 100;
		hw[h].ticks = test_random(&seed) % (50 * MS);
		hw[h].stuck = happens(10);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		t->again = happens(200);
		if (t->done == t->submitted)
			submit_tracked(t);
		break;
	default:
		fake_tsc += test_random(&seed) % (5 * MS);
		engine_poll();
	}
}

static void at_random(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 2; h++)
		for (uint32_t i = 0; i < ASYNC; i++) {
			struct tracked *t = &tracked[h][i];

			*t = (struct tracked){ .io = request(h ? 4 : i & 1, false, i, 1, t->page) };
			t->io.done = tracked_done;
			t->io.ctx = t;
		}
	for (uint32_t step = 0; step < 400000; step++)
		random_step();
	for (uint32_t i = 0; engine_poll(); i++) {
		fake_tsc += MS;
		assert_true(i < 2000000);
	}
	for (uint32_t h = 0; h < 2; h++)
		for (uint32_t i = 0; i < ASYNC; i++)
			assert_int_equal(tracked[h][i].done, tracked[h][i].submitted);
	for (uint32_t disk = 0; disk <= 4; disk += 4) {
		struct platform_disk_stats s;

		assert_int_equal(engine_stats(disk, &s), OK);
		assert_int_equal(s.outstanding, 0);
		assert_true(s.timeouts > 10 && s.errors > s.timeouts);
	}
	assert_true(ended_ok > 50000 && ended_badly > 1000);
	assert_true(hw[0].resets > 10 && hw[1].resets > 10);
	assert_null(hw[0].channel.in_flight);
	assert_null(hw[1].channel.in_flight);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(refused), TEST(writes_and_reads), TEST(one_drives),
		TEST(sync_goes_first), TEST(ready), TEST(late), TEST(never_ready), TEST(faults), TEST(at_random) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
