#include "arch/x86/disk.h"
#include "arch/x86/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"

#define SYNC_PAUSE_MAX_US 64u
#define RESERVED_MS       20u
#define LOG_PERIOD_NS     1000000000ull

struct disk_unit {
	/* constant after disk_add() */
	struct platform_disk info;
	struct disk_channel *channel;
	/* guarded by the channel's lock */
	struct platform_disk_stats stats;
};

static struct disk_unit units[PLATFORM_DISK_MAX];
static uint32_t outstanding; /* atomic: submitted, done() not yet back */
static uint64_t log_next_ns; /* atomic */
static uint32_t log_dropped; /* atomic */

void disk_channel_init(struct disk_channel *c, const struct disk_ops *ops, uint32_t depth)
{
	*c = (struct disk_channel){ .ops = ops, .depth = depth };
	spinlock_init(&c->lock, LOCK_RANK_DISK);
	c->end = &c->first;
}

void disk_add(uint32_t index, struct disk_channel *c, const struct platform_disk *info,
	const char *driver)
{
	units[index] = (struct disk_unit){ .info = *info, .channel = c, .stats.driver = driver };
	log_info("disk %u: %s, %lu MiB, by %s", index, info->model, info->sector_count >> 11, driver);
}

void disk_set_driver(uint32_t index, const char *driver)
{
	units[index].stats.driver = driver;
}

void disk_log_failure(uint32_t index, const char *what, uint64_t sector, const char *why)
{
	uint64_t now = platform_ns(), next = __atomic_load_n(&log_next_ns, __ATOMIC_RELAXED);

	if (now < next || !__atomic_compare_exchange_n(&log_next_ns, &next, now + LOG_PERIOD_NS, false,
				  __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&log_dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	log_warn("disk %u: %s at sector %lu: %s (%u more were not logged)", index, what, sector, why,
		__atomic_exchange_n(&log_dropped, 0, __ATOMIC_RELAXED));
}

static const char *operation(const struct disk_io *io)
{
	return !io->sectors ? "flush failed" : io->write ? "write failed" : "read failed";
}

static uint32_t timeout_ms(const struct disk_io *io)
{
	return io->sectors ? DISK_TIMEOUT_MS : DISK_FLUSH_TIMEOUT_MS;
}

/* ---- faults on request --------------------------------------------------------------------- */

/* Claimed. True: this request fails without the hardware. A delay is noted in it. */
static bool inject(struct disk_io *io)
{
	struct disk_unit *u = &units[io->disk];
	bool fail = false;

	io->hold_tsc = 0;
	io->spoil = false;
	if (LIKELY(__atomic_load_n(&u->stats.fault, __ATOMIC_RELAXED) == DISK_FAULT_NONE) || !io->sectors)
		return false;
	spin_lock(&u->channel->lock);
	enum disk_fault fault = u->stats.fault;
	bool hit = fault == DISK_FAULT_DELAY || fault == (io->write ? DISK_FAULT_WRITE : DISK_FAULT_READ) ||
		(fault == DISK_FAULT_CORRUPT && !io->write);

	if (hit) {
		fail = fault == DISK_FAULT_READ || fault == DISK_FAULT_WRITE;
		io->spoil = fault == DISK_FAULT_CORRUPT;
		if (fault == DISK_FAULT_DELAY)
			io->hold_tsc = platform_tsc() + platform_ms_to_tsc(u->stats.fault_delay_ms);
		if (!--u->stats.fault_left)
			__atomic_store_n(&u->stats.fault, DISK_FAULT_NONE, __ATOMIC_RELAXED);
	}
	spin_unlock(&u->channel->lock);
	return fail;
}

/* One bit of each page that was read. */
static void spoil(const struct disk_io *io)
{
	for (uint32_t at = 0; at < io->sectors * 512u; at += (uint32_t)PAGE_BYTES)
		((uint8_t *)io->buf)[at] ^= 0x10;
}

status_t platform_disk_inject(uint32_t index, enum disk_fault fault, uint32_t count, uint32_t delay_ms)
{
	if (index >= PLATFORM_DISK_MAX || !units[index].info.present)
		return ERR_NOENT;
	struct disk_unit *u = &units[index];

	spin_lock(&u->channel->lock);
	u->stats.fault_left = count;
	u->stats.fault_delay_ms = delay_ms;
	__atomic_store_n(&u->stats.fault, count ? fault : DISK_FAULT_NONE, __ATOMIC_RELAXED);
	spin_unlock(&u->channel->lock);
	return OK;
}

/* ---- requests in the hardware: all of this by the claimant ---------------------------------- */

static void unlink_io(struct disk_io **list, struct disk_io *io)
{
	while (*list && *list != io)
		list = &(*list)->next;
	if (*list)
		*list = io->next;
}

static void set_in_flight(struct disk_channel *c, uint32_t n)
{
	__atomic_store_n(&c->in_flight_count, n, __ATOMIC_RELAXED);
}

static void count(struct disk_unit *u, const struct disk_io *io)
{
	struct platform_disk_stats *s = &u->stats;

	if (io->status) {
		s->errors++;
		return;
	}
	if (io->write) {
		s->writes++;
		s->write_sectors += io->sectors;
	} else {
		s->reads++;
		s->read_sectors += io->sectors;
	}
	s->service_tsc += platform_tsc() - (io->until_tsc - platform_ms_to_tsc(timeout_ms(io)));
}

/* Its status is final. Synchronous ones are looked for by their caller. */
static void end_io(struct disk_channel *c, struct disk_io *io)
{
	if (UNLIKELY(io->spoil) && !io->status)
		spoil(io);
	spin_lock(&c->lock);
	if (io->sectors)
		count(&units[io->disk], io);
	io->phase = DISK_IO_ENDED;
	if (io->done) {
		io->next = c->ended;
		c->ended = io;
	}
	spin_unlock(&c->lock);
}

static void put_first(struct disk_channel *c, struct disk_io *io)
{
	spin_lock(&c->lock);
	io->next = c->first;
	if (!c->first)
		c->end = &io->next;
	c->first = io;
	spin_unlock(&c->lock);
}

static struct disk_io *take_first(struct disk_channel *c)
{
	spin_lock(&c->lock);
	struct disk_io *io = c->first;

	if (io) {
		c->first = io->next;
		if (!c->first)
			c->end = &c->first;
	}
	spin_unlock(&c->lock);
	return io;
}

/* What the hardware had and must begin again: synchronous ones are begun by their caller. */
static void again(struct disk_channel *c, struct disk_io *io)
{
	io->until_tsc = 0;
	io->phase = DISK_IO_WAITS;
	if (io->done)
		put_first(c, io);
}

static void end_timeout(struct disk_channel *c, struct disk_io *io)
{
	io->status = ERR_IO;
	disk_log_failure(io->disk, operation(io), io->sector, "no answer in time");
	spin_lock(&c->lock);
	units[io->disk].stats.timeouts++;
	spin_unlock(&c->lock);
	end_io(c, io);
}

static void reap(struct disk_channel *c)
{
	struct disk_io *io;

	while (c->in_flight && (io = c->ops->reap(c)) != NULL) {
		unlink_io(&c->in_flight, io);
		set_in_flight(c, c->in_flight_count - 1);
		if (io->status == ERR_BUSY) {
			again(c, io);
		} else if (UNLIKELY(io->hold_tsc)) {
			io->next = c->held;
			c->held = io;
		} else {
			end_io(c, io);
		}
	}
}

/* The hardware forgets all; what is late has failed, the rest begins again. */
static void reset(struct disk_channel *c, uint64_t now)
{
	struct disk_io *list = c->in_flight;

	c->in_flight = NULL;
	set_in_flight(c, 0);
	c->ops->reset(c);
	for (struct disk_io *io = list, *next; io; io = next) {
		next = io->next;
		if (now >= io->until_tsc)
			end_timeout(c, io);
		else
			again(c, io);
	}
}

/* Delayed requests whose time has come; those that took too long. */
static void expire(struct disk_channel *c)
{
	uint64_t now = platform_tsc();
	bool late = false;

	for (struct disk_io *io = c->held, *next; io; io = next) {
		next = io->next;
		if (now < MIN(io->hold_tsc, io->until_tsc))
			continue;
		unlink_io(&c->held, io);
		if (io->hold_tsc <= io->until_tsc)
			end_io(c, io);
		else
			end_timeout(c, io);
	}
	for (struct disk_io *io = c->in_flight; io; io = io->next)
		late |= now >= io->until_tsc;
	if (UNLIKELY(late))
		reset(c, now);
}

/* There is room in the hardware. ERR_BUSY: not now. Else it is in flight or has ended. */
static status_t start(struct disk_channel *c, struct disk_io *io)
{
	uint64_t now = platform_tsc();
	bool fail = false;

	if (!io->until_tsc) {
		io->until_tsc = now + platform_ms_to_tsc(timeout_ms(io));
		fail = inject(io);
	}
	status_t s = fail ? ERR_IO : c->ops->start(c, io);

	if (s == ERR_BUSY && now < io->until_tsc)
		return ERR_BUSY;
	if (s == ERR_BUSY) {
		reset(c, now);
		end_timeout(c, io);
	} else if (s) {
		io->status = s;
		end_io(c, io);
	} else {
		io->phase = DISK_IO_IN_FLIGHT;
		io->next = c->in_flight;
		c->in_flight = io;
		set_in_flight(c, c->in_flight_count + 1);
	}
	return OK;
}

static void start_queued(struct disk_channel *c)
{
	bool any = false;

	for (uint32_t i = 0; i < c->depth && c->in_flight_count < c->depth; i++) {
		struct disk_io *io = take_first(c);

		if (!io)
			break;
		if (start(c, io) == ERR_BUSY) {
			put_first(c, io);
			break;
		}
		any = true;
	}
	if (any && c->ops->kick)
		c->ops->kick(c);
}

/* ---- queued ---------------------------------------------------------------------------------- */

static status_t check(uint32_t index, uint64_t sector, uint32_t sectors)
{
	if (index >= PLATFORM_DISK_MAX || !units[index].info.present)
		return ERR_NOENT;
	uint64_t end = units[index].info.sector_count;

	if (!sectors || sectors > PLATFORM_DISK_SECTORS_MAX || sector >= end || end - sector < sectors)
		return ERR_RANGE;
	return OK;
}

status_t platform_disk_submit(struct disk_io *io)
{
	status_t s = check(io->disk, io->sector, io->sectors);

	if (s)
		return s;
	if ((uintptr_t)io->buf & PAGE_OFFSET_MASK)
		return ERR_INVAL;
	struct disk_unit *u = &units[io->disk];
	struct disk_channel *c = u->channel;

	io->next = NULL;
	io->until_tsc = 0;
	io->phase = DISK_IO_WAITS;
	__atomic_fetch_add(&outstanding, 1, __ATOMIC_RELAXED);
	spin_lock(&c->lock);
	u->stats.outstanding++;
	*c->end = io;
	c->end = &io->next;
	spin_unlock(&c->lock);
	return OK;
}

static bool try_claim(struct disk_channel *c)
{
	spin_lock(&c->lock);
	bool mine = !c->claimed && !c->sync_waiting;

	c->claimed |= mine;
	spin_unlock(&c->lock);
	return mine;
}

/* No claim is held: done() may do as it likes. */
static void call_done(struct disk_channel *c)
{
	spin_lock(&c->lock);
	struct disk_io *list = c->ended;

	c->ended = NULL;
	for (struct disk_io *io = list; io; io = io->next)
		units[io->disk].stats.outstanding--;
	spin_unlock(&c->lock);
	while (list) {
		struct disk_io *io = list;

		list = io->next;
		io->done(io);
		__atomic_fetch_sub(&outstanding, 1, __ATOMIC_RELAXED);
	}
}

static bool reserved(const struct disk_channel *c)
{
	uint64_t until = __atomic_load_n(&c->reserved_tsc, __ATOMIC_RELAXED);

	return until && platform_tsc() < until;
}

static void poll_channel(struct disk_channel *c)
{
	if (try_claim(c)) {
		reap(c);
		expire(c);
		if (LIKELY(!reserved(c)))
			start_queued(c);
		reap(c); /* what takes no time has ended already */
		spin_lock(&c->lock);
		c->claimed = false;
		spin_unlock(&c->lock);
	}
	if (c->ended)
		call_done(c);
}

bool platform_disk_poll(void)
{
	const struct disk_channel *before = NULL;

	if (!platform_disk_busy())
		return false;
	for (uint32_t i = 0; i < PLATFORM_DISK_MAX; i++) {
		struct disk_channel *c = units[i].channel;

		if (c && c != before && (c->first || c->in_flight || c->held || c->ended))
			poll_channel(c);
		before = c;
	}
	return platform_disk_busy();
}

bool platform_disk_busy(void)
{
	return __atomic_load_n(&outstanding, __ATOMIC_RELAXED) != 0;
}

/* ---- synchronous ------------------------------------------------------------------------------ */

/* Whoever has it lets go in bounded time: a poll never waits, a synchronous request has its timeout. */
static void claim(struct disk_channel *c)
{
	spin_lock(&c->lock);
	c->sync_waiting++;
	while (c->claimed) {
		spin_unlock(&c->lock);
		clock_spin_us(1);
		spin_lock(&c->lock);
	}
	c->sync_waiting--;
	c->claimed = true;
	spin_unlock(&c->lock);
}

/*
 * Before all that is queued, behind what is in the hardware. Looked at more and more seldom, so that it
 * ends an eighth late at most: a port that is read without a pause keeps other CPUs off the bus, and in
 * QEMU the disk from its turn.
 */
static status_t sync(struct disk_io *io)
{
	struct disk_channel *c = units[io->disk].channel;

	claim(c);
	for (uint64_t begun = platform_ns();;) {
		reap(c);
		if (io->phase == DISK_IO_WAITS && c->in_flight_count < c->depth &&
			start(c, io) == OK && c->ops->kick)
			c->ops->kick(c);
		reap(c);
		if (io->phase == DISK_IO_ENDED)
			break;
		expire(c);
		platform_listen(); /* a slow disk must not cost the operator's typing */
		clock_spin_us(MIN((platform_ns() - begun) / 8000 + 1, SYNC_PAUSE_MAX_US));
	}
	spin_lock(&c->lock);
	c->claimed = false;
	spin_unlock(&c->lock);
	__atomic_store_n(&c->reserved_tsc, 0, __ATOMIC_RELAXED);
	return io->status;
}

static status_t transfer(uint32_t index, uint64_t sector, uint32_t sectors, void *buf, bool write)
{
	status_t s = check(index, sector, sectors);
	struct disk_io io = { .disk = index, .write = write, .sector = sector, .sectors = sectors,
		.buf = buf, .phase = DISK_IO_WAITS };

	return s ? s : sync(&io);
}

status_t platform_disk_read(uint32_t index, uint64_t sector, uint32_t sectors, void *buf)
{
	return transfer(index, sector, sectors, buf, false);
}

status_t platform_disk_write(uint32_t index, uint64_t sector, uint32_t sectors, const void *buf)
{
	return transfer(index, sector, sectors, (void *)(uintptr_t)buf, true);
}

status_t platform_disk_flush(uint32_t index)
{
	struct disk_io io = { .disk = index, .write = true, .phase = DISK_IO_WAITS };

	return index < PLATFORM_DISK_MAX && units[index].info.present ? sync(&io) : ERR_NOENT;
}

bool platform_disk_ready(uint32_t index)
{
	struct disk_channel *c = index < PLATFORM_DISK_MAX ? units[index].channel : NULL;

	if (!c || __atomic_load_n(&c->in_flight_count, __ATOMIC_RELAXED) < c->depth)
		return true;
	/* Whoever asked may never come back: its guest may end. */
	__atomic_store_n(&c->reserved_tsc, platform_tsc() + platform_ms_to_tsc(RESERVED_MS),
		__ATOMIC_RELAXED);
	return false;
}

/* ---- what there is --------------------------------------------------------------------------- */

const struct platform_disk *platform_disk(uint32_t index)
{
	return index < PLATFORM_DISK_MAX ? &units[index].info : NULL;
}

status_t platform_disk_stats(uint32_t index, struct platform_disk_stats *out)
{
	if (index >= PLATFORM_DISK_MAX || !units[index].info.present)
		return ERR_NOENT;
	struct disk_unit *u = &units[index];

	spin_lock(&u->channel->lock);
	*out = u->stats;
	spin_unlock(&u->channel->lock);
	return OK;
}
