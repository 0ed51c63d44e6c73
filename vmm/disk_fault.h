/* Faults on request at a disk (platform_disk_inject()), as the operator writes them: "read 5",
 * "delay 20 100", "off". */
#pragma once

#include "vmm/platform.h"

#define DISK_FAULT_WORDS       3u /* at most */
#define DISK_FAULT_COUNT_MAX   1000000u
#define DISK_FAULT_DELAY_MAX   60000u /* ms */
#define DISK_FAULT_ERROR_BYTES 100u

struct disk_fault_wish {
	enum disk_fault fault; /* NONE: no more of any */
	uint32_t count;        /* requests that meet it */
	uint32_t delay_ms;
};

/* "read", "write", "corrupt", "delay", "off". */
const char *disk_fault_name(enum disk_fault fault);
/* ERR_INVAL: `error` says what is wrong. */
status_t disk_fault_parse(const char *const word[], uint32_t count, struct disk_fault_wish *out,
	char error[DISK_FAULT_ERROR_BYTES]) MUST_CHECK;
/* The same of one line. */
status_t disk_fault_parse_line(const char *line, struct disk_fault_wish *out,
	char error[DISK_FAULT_ERROR_BYTES]) MUST_CHECK;
