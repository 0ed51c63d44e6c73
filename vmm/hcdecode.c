/* Pure. */
#include "vmm/hcdecode.h"

#define ANY UINT64_MAX

/* A buffer at argument 0 of `unit` bytes an element, argument 1 elements; or plain numbers. */
struct hc_rule {
	const char *name;
	uint16_t unit;       /* 0: no buffer */
	uint16_t align;      /* of the buffer */
	uint32_t count_max;  /* 0: one element, argument 1 is not a count */
	uint64_t max[HC_ARGS]; /* highest value of each; a buffer's address and count are ANY */
};

static const struct hc_rule rules[AERO_HC_COUNT] = {
	[AERO_HC_NULL] = { "null", 0, 0, 0, { ANY, ANY, ANY } },
	[AERO_HC_CONSOLE_WRITE] = { "console-write", 1, 1, 4096, { ANY, ANY, ANY } },
	[AERO_HC_CONSOLE_READ] = { "console-read", 1, 1, 4096, { ANY, ANY, ANY } },
	[AERO_HC_BLOCK_INFO] = { "block-info", sizeof(struct aero_block_info), 8, 0,
		{ ANY, ANY, ANY } },
	[AERO_HC_BLOCK_IO] = { "block-io", sizeof(struct aero_block_req), 8, 64,
		{ ANY, ANY, ANY } },
	[AERO_HC_EVENT_SETUP] = { "event-setup", 0, 0, 0, { 255, ANY, ANY } },
	[AERO_HC_EVENT_TAKE] = { "event-take", 0, 0, 0, { ANY, ANY, ANY } },
	[AERO_HC_BALLOON_SETUP] = { "balloon-setup", 0, 0, 0, { ANY, 0, ANY } },
	[AERO_HC_BALLOON_INFLATE] = { "balloon-inflate", sizeof(struct aero_range), 8,
		AERO_RANGE_MAX, { ANY, ANY, 0 } },
	[AERO_HC_BALLOON_DEFLATE] = { "balloon-deflate", sizeof(struct aero_range), 8,
		AERO_RANGE_MAX, { ANY, ANY, AERO_DEFLATE_URGENT } },
	[AERO_HC_BALLOON_REPORT] = { "balloon-report", 0, 0, 0,
		{ AERO_BALLOON_BACKOFF, AERO_REASON_COUNT - 1, ANY } },
	[AERO_HC_STATS_REPORT] = { "stats-report", 0, 0, 0, { ANY, ANY, ANY } },
	[AERO_HC_PRESSURE] = { "pressure", 0, 0, 0, { AERO_PRESSURE_FULL, ANY, ANY } },
	[AERO_HC_SHUTDOWN] = { "shutdown", 0, 0, 0, { AERO_SHUTDOWN_CRASH, ANY, ANY } },
	[AERO_HC_YIELD] = { "yield", 0, 0, 0, { ANY, ANY, ANY } },
	[AERO_HC_DEBUG] = { "debug", 0, 0, 0, { AERO_DEBUG_GUEST_PAGES, ANY, ANY } },
};

bool hc_in_memory(uint64_t gpa, uint64_t bytes, uint64_t memory_bytes)
{
	return bytes <= memory_bytes && gpa <= memory_bytes - bytes;
}

int64_t hc_check(uint64_t number, const uint64_t arg[HC_ARGS], uint64_t memory_bytes)
{
	if (number >= AERO_HC_COUNT)
		return -AERO_ENOSYS;
	const struct hc_rule *r = &rules[number];

	for (uint32_t i = 0; i < HC_ARGS; i++) {
		if (arg[i] > r->max[i])
			return -AERO_EINVAL;
	}
	if (r->unit == 0)
		return 0;
	if (arg[0] % r->align)
		return -AERO_EINVAL;
	uint64_t count = r->count_max ? arg[1] : 1;

	if (r->count_max && count > r->count_max)
		return -AERO_ERANGE;
	return hc_in_memory(arg[0], count * r->unit, memory_bytes) ? 0 : -AERO_EFAULT;
}

const char *hc_name(uint64_t number)
{
	return number < AERO_HC_COUNT ? rules[number].name : NULL;
}

int64_t hc_check_block(const struct aero_block_req *r, uint64_t sector_count,
	uint64_t memory_bytes)
{
	if (r->op == AERO_BLOCK_FLUSH)
		return 0;
	if (r->op != AERO_BLOCK_READ && r->op != AERO_BLOCK_WRITE)
		return -AERO_EINVAL;
	if (r->sectors == 0 || r->sectors > HC_BLOCK_SECTORS_MAX || r->gpa % AERO_SECTOR_BYTES)
		return -AERO_EINVAL;
	if (r->sector > sector_count || r->sectors > sector_count - r->sector)
		return -AERO_ERANGE;
	uint64_t bytes = (uint64_t)r->sectors * AERO_SECTOR_BYTES;

	return hc_in_memory(r->gpa, bytes, memory_bytes) ? 0 : -AERO_EFAULT;
}
