/* The host's disks: disks, disk-fault, debug disk. */
#include "mm/heap.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/disk_fault.h"
#include "vmm/hv.h"
#include "vmm/platform.h"

#define PAGE_SECTORS    8u
#define TRIAL_PAGES     64u

/* Mean time in the hardware, microseconds. */
static uint64_t mean_us(const struct platform_disk_stats *s)
{
	uint64_t n = MAX(s->reads + s->writes, 1ull);

	return s->service_tsc / n * 1000 / MAX(platform_tsc_khz, 1ull);
}

/* ---- disks ----------------------------------------------------------------------------------- */

static const char *fault_text(enum disk_fault fault)
{
	switch (fault) {
	case DISK_FAULT_READ:
		return "reads fail";
	case DISK_FAULT_WRITE:
		return "writes fail";
	case DISK_FAULT_CORRUPT:
		return "reads are wrong";
	default:
		return "are late";
	}
}

static void disks_row(uint32_t i, const struct platform_disk *d, const struct platform_disk_stats *s)
{
	char size[16];

	console_printf("%4u  %-6s %8s %9lu %9lu %8lu %7lu %8lu %9u  %s\n", i, s->driver,
		format_size(size, sizeof(size), d->sector_count * 512), s->reads, s->writes, mean_us(s),
		s->errors, s->timeouts, s->outstanding, d->model);
	if (s->fault != DISK_FAULT_NONE)
		console_printf("      injected: the next %u %s\n", s->fault_left, fault_text(s->fault));
}

static void disks_json(struct json *j, uint32_t i, const struct platform_disk *d,
	const struct platform_disk_stats *s)
{
	json_object(j, NULL);
	json_u64(j, "disk", i);
	json_string(j, "driver", s->driver);
	json_string(j, "model", d->model);
	json_u64(j, "sectors", d->sector_count);
	json_u64(j, "reads", s->reads);
	json_u64(j, "writes", s->writes);
	json_u64(j, "read_sectors", s->read_sectors);
	json_u64(j, "write_sectors", s->write_sectors);
	json_u64(j, "mean_us", mean_us(s));
	json_u64(j, "errors", s->errors);
	json_u64(j, "timeouts", s->timeouts);
	json_u64(j, "in_flight", s->outstanding);
	json_string(j, "fault", disk_fault_name(s->fault));
	json_u64(j, "fault_left", s->fault_left);
	json_object_end(j);
}

void cmd_disks(const struct command_args *a)
{
	struct json j;

	if (a->json) {
		command_json_begin(&j);
		json_array(&j, "disks");
	} else {
		console_printf("%4s  %-6s %8s %9s %9s %8s %7s %8s %9s  %s\n", "Disk", "Driver", "Size",
			"Reads", "Writes", "Mean(us)", "Errors", "Timeouts", "In-flight", "Model");
	}
	for (uint32_t i = 0; i < PLATFORM_DISK_MAX; i++) {
		const struct platform_disk *d = platform_disk(i);
		struct platform_disk_stats s;

		if (platform_disk_stats(i, &s) != OK)
			continue;
		if (a->json)
			disks_json(&j, i, d, &s);
		else
			disks_row(i, d, &s);
	}
	if (a->json) {
		json_array_end(&j);
		command_json_end(&j);
	}
}

/* ---- disk-fault ------------------------------------------------------------------------------ */

static bool disk_of(const char *command, const char *word, uint32_t *index)
{
	const struct platform_disk *d;
	uint64_t v;

	if (parse_u64(word, PLATFORM_DISK_MAX - 1, &v) == OK) {
		*index = (uint32_t)v;
		d = platform_disk(*index);
		if (d && d->present)
			return true;
	}
	command_error("%s: no disk \"%.20s\"; `disks` lists them", command, word);
	return false;
}

void cmd_disk_fault(const struct command_args *a)
{
	char error[DISK_FAULT_ERROR_BYTES];
	struct disk_fault_wish w;
	uint32_t index;

	if (!disk_of("disk-fault", a->word[0], &index))
		return;
	if (disk_fault_parse(a->word + 1, a->count - 1, &w, error) != OK)
		command_error("disk-fault: %s", error);
	else if (platform_disk_inject(index, w.fault, w.count, w.delay_ms) != OK)
		command_error("disk-fault: disk %u is not there", index);
}

/* ---- debug disk: many requests at a time, against the same by synchronous reads --------------- */

struct trial {
	struct disk_io io[TRIAL_PAGES];
	uint32_t disk, count, sectors; /* requests, and of each; together TRIAL_PAGES pages */
	uint8_t *pages;
	uint32_t done, failed; /* atomic: any CPU may call trial_done() */
};

static void trial_done(struct disk_io *io)
{
	struct trial *t = io->ctx;

	if (io->status)
		__atomic_fetch_add(&t->failed, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&t->done, 1, __ATOMIC_RELEASE);
}

static void trial_submit(struct trial *t)
{
	for (uint32_t i = 0; i < t->count; i++) {
		uint64_t sector = (uint64_t)i * t->sectors;

		t->io[i] = (struct disk_io){ .disk = t->disk, .sector = sector, .sectors = t->sectors,
			.buf = t->pages + sector * 512, .status = ERR_IO, .done = trial_done, .ctx = t };
		if (platform_disk_submit(&t->io[i]) != OK)
			trial_done(&t->io[i]);
	}
}

/* How many pages differ; the ticks that the reading took. */
static uint32_t trial_compare(const struct trial *t, uint64_t *ticks)
{
	static uint8_t again[PAGE_BYTES] __attribute__((aligned(4096)));
	uint32_t differ = 0;

	for (uint32_t i = 0; i < TRIAL_PAGES; i++) {
		uint64_t start = platform_tsc();
		status_t s = platform_disk_read(t->disk, i * PAGE_SECTORS, PAGE_SECTORS, again);

		*ticks += platform_tsc() - start;
		if (s != OK || memcmp(again, t->pages + i * PAGE_BYTES, PAGE_BYTES))
			differ++;
	}
	return differ;
}

/* The requests own their memory until they are done; the engine's timeout bounds that. */
static void trial(struct trial *t)
{
	uint64_t start = platform_tsc(), work = 0, polls = 0, vain = 0, sync = 0;

	t->done = t->failed = 0;
	memset(t->pages, 0x5a, TRIAL_PAGES * PAGE_BYTES);
	trial_submit(t);
	while (__atomic_load_n(&t->done, __ATOMIC_ACQUIRE) != t->count) {
		uint64_t before = platform_tsc();
		uint32_t had = t->done;

		(void)platform_disk_poll();
		if (t->done == had)
			vain++;
		else
			work += platform_tsc() - before;
		polls++;
	}
	uint64_t all = platform_tsc() - start;
	uint32_t differ = trial_compare(t, &sync);

	console_printf("%u reads of %u sectors: %lu ticks a page, %lu of them work, %lu polls, %lu in vain; "
		       "synchronous %lu ticks a page; %u failed, %u pages differ\n", t->count, t->sectors,
		all / TRIAL_PAGES, work / TRIAL_PAGES, polls, vain, sync / TRIAL_PAGES, t->failed, differ);
}

void debug_disk(const char *word)
{
	uint32_t index, largest = PLATFORM_DISK_SECTORS_MAX;
	struct trial *t;

	if (!disk_of("debug disk", word, &index))
		return;
	if (platform_disk(index)->sector_count < TRIAL_PAGES * PAGE_SECTORS) {
		command_error("debug disk: disk %u is too small", index);
		return;
	}
	t = heap_alloc(sizeof(*t));
	if (t)
		t->pages = heap_alloc(TRIAL_PAGES * PAGE_BYTES);
	if (!t || !t->pages) {
		heap_free(t, sizeof(*t));
		command_error("debug disk: no memory for it now");
		return;
	}
	t->disk = index;
	for (t->sectors = PAGE_SECTORS; t->sectors <= largest; t->sectors *= largest / PAGE_SECTORS) {
		t->count = TRIAL_PAGES * PAGE_SECTORS / t->sectors;
		trial(t);
	}
	heap_free(t->pages, TRIAL_PAGES * PAGE_BYTES);
	heap_free(t, sizeof(*t));
}
