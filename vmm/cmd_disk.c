/* The host's disks: disks, disk-fault, debug disk. */
#include "mm/heap.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console.h"
#include "vmm/hv.h"
#include "vmm/platform.h"

#define FAULT_COUNT_MAX 1000000u
#define FAULT_DELAY_MAX 60000u /* ms */
#define TRIAL_SECTORS   8u
#define TRIAL_REQUESTS  64u

static const char *const fault_name[] = {
	[DISK_FAULT_NONE] = "off", [DISK_FAULT_READ] = "read", [DISK_FAULT_WRITE] = "write",
	[DISK_FAULT_DELAY] = "delay",
};

/* Mean time in the hardware, microseconds. */
static uint64_t mean_us(const struct platform_disk_stats *s)
{
	uint64_t n = MAX(s->reads + s->writes, 1ull);

	return s->service_tsc / n * 1000 / MAX(platform_tsc_khz, 1ull);
}

/* ---- disks ----------------------------------------------------------------------------------- */

static void disks_row(uint32_t i, const struct platform_disk *d, const struct platform_disk_stats *s)
{
	char size[16];

	console_printf("%4u  %-6s %8s %9lu %9lu %8lu %7lu %8lu %9u  %s\n", i, s->driver,
		format_size(size, sizeof(size), d->sector_count * 512), s->reads, s->writes, mean_us(s),
		s->errors, s->timeouts, s->outstanding, d->model);
	if (s->fault != DISK_FAULT_NONE)
		console_printf("      injected: the next %u %s%s\n", s->fault_left,
			s->fault == DISK_FAULT_DELAY ? "are late" : fault_name[s->fault],
			s->fault == DISK_FAULT_DELAY ? "" : "s fail");
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
	json_string(j, "fault", fault_name[s->fault]);
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

static bool number(const char *word, const char *what, uint32_t max, uint32_t *out)
{
	uint64_t v;

	if (parse_u64(word, max, &v) != OK) {
		command_error("disk-fault: %s \"%.20s\": use a number up to %u", what, word, max);
		return false;
	}
	*out = (uint32_t)v;
	return true;
}

void cmd_disk_fault(const struct command_args *a)
{
	uint32_t index, fault = DISK_FAULT_NONE, n = 0, ms = 0;

	if (!hv_config.debug_commands) {
		command_error("disk-fault: not in this configuration; write debug; at its top level");
		return;
	}
	if (!disk_of("disk-fault", a->word[0], &index))
		return;
	while (fault <= DISK_FAULT_DELAY && strcmp(a->word[1], fault_name[fault]))
		fault++;
	if (fault > DISK_FAULT_DELAY) {
		command_error("disk-fault: unknown \"%.20s\"; there are: read, write, delay, off",
			a->word[1]);
		return;
	}
	if (a->count != (fault == DISK_FAULT_NONE ? 2u : fault == DISK_FAULT_DELAY ? 4u : 3u)) {
		command_error("disk-fault: use: disk-fault DISK read N | write N | delay N MS | off");
		return;
	}
	if (fault != DISK_FAULT_NONE && !number(a->word[2], "count", FAULT_COUNT_MAX, &n))
		return;
	if (fault == DISK_FAULT_DELAY && !number(a->word[3], "delay in ms", FAULT_DELAY_MAX, &ms))
		return;
	if (platform_disk_inject(index, fault, n, ms) != OK)
		command_error("disk-fault: disk %u is not there", index);
}

/* ---- debug disk: many reads at a time, against the same by synchronous reads ------------------- */

struct trial {
	struct disk_io io[TRIAL_REQUESTS];
	uint32_t done; /* atomic: any CPU may call trial_done() */
	uint32_t failed;
};

static void trial_done(struct disk_io *io)
{
	struct trial *t = io->ctx;

	if (io->status)
		__atomic_fetch_add(&t->failed, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&t->done, 1, __ATOMIC_RELEASE);
}

static bool trial_submit(struct trial *t, uint32_t index, uint8_t *pages)
{
	for (uint32_t i = 0; i < TRIAL_REQUESTS; i++) {
		t->io[i] = (struct disk_io){ .disk = index, .sector = i * TRIAL_SECTORS,
			.sectors = TRIAL_SECTORS, .buf = pages + i * PAGE_BYTES, .done = trial_done, .ctx = t };
		if (platform_disk_submit(&t->io[i]) != OK) {
			t->failed++;
			t->done++;
		}
	}
	return t->failed == 0;
}

/* How many differ; the ticks that the reading took. */
static uint32_t trial_compare(uint32_t index, const uint8_t *pages, uint64_t *ticks)
{
	static uint8_t again[PAGE_BYTES] __attribute__((aligned(4096)));
	uint32_t differ = 0;

	for (uint32_t i = 0; i < TRIAL_REQUESTS; i++) {
		uint64_t start = platform_tsc();
		status_t s = platform_disk_read(index, i * TRIAL_SECTORS, TRIAL_SECTORS, again);

		*ticks += platform_tsc() - start;
		if (s != OK || memcmp(again, pages + i * PAGE_BYTES, PAGE_BYTES))
			differ++;
	}
	return differ;
}

/* The requests own their memory until they are done; the engine's timeout bounds that. */
static void trial(uint32_t index, struct trial *t, uint8_t *pages)
{
	uint64_t start = platform_tsc(), work = 0, polls = 0, vain = 0;

	(void)trial_submit(t, index, pages);
	while (__atomic_load_n(&t->done, __ATOMIC_ACQUIRE) != TRIAL_REQUESTS) {
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
	uint64_t sync = 0;
	uint32_t differ = trial_compare(index, pages, &sync);

	console_printf("%u reads of %u sectors: %lu ticks each, %lu of them work, %lu polls, %lu in vain; "
		       "synchronous %lu ticks each; %u failed, %u differ\n", TRIAL_REQUESTS, TRIAL_SECTORS,
		all / TRIAL_REQUESTS, work / TRIAL_REQUESTS, polls, vain, sync / TRIAL_REQUESTS, t->failed,
		differ);
}

void debug_disk(const char *word)
{
	struct trial *t;
	uint8_t *pages;
	uint32_t index;

	if (!disk_of("debug disk", word, &index))
		return;
	t = heap_alloc(sizeof(*t));
	pages = heap_alloc(TRIAL_REQUESTS * PAGE_BYTES);
	if (t && pages)
		trial(index, t, pages);
	else
		command_error("debug disk: no memory for it now");
	heap_free(pages, pages ? TRIAL_REQUESTS * PAGE_BYTES : 0);
	heap_free(t, t ? sizeof(*t) : 0);
}
