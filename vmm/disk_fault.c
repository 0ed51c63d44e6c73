/* Pure. See vmm/disk_fault.h. */
#include "vmm/disk_fault.h"

#include "vmm/base/fmt.h"
#include "vmm/base/parse.h"
#include "vmm/base/string.h"

static const char *const names[] = {
	[DISK_FAULT_NONE] = "off", [DISK_FAULT_READ] = "read", [DISK_FAULT_WRITE] = "write",
	[DISK_FAULT_CORRUPT] = "corrupt", [DISK_FAULT_DELAY] = "delay",
};

const char *disk_fault_name(enum disk_fault fault)
{
	return (unsigned int)fault < ARRAY_COUNT(names) ? names[fault] : "?";
}

static status_t number(const char *word, const char *what, uint32_t max, uint32_t *out, char *error)
{
	uint64_t v;

	if (parse_u64(word, max, &v) != OK) {
		fmt_snprintf(error, DISK_FAULT_ERROR_BYTES, "%s \"%.20s\": use a number up to %u", what, word, max);
		return ERR_INVAL;
	}
	*out = (uint32_t)v;
	return OK;
}

status_t disk_fault_parse(const char *const word[], uint32_t count, struct disk_fault_wish *out,
	char error[DISK_FAULT_ERROR_BYTES])
{
	uint32_t fault = 0;

	*out = (struct disk_fault_wish){ .fault = DISK_FAULT_NONE };
	while (count && fault < ARRAY_COUNT(names) && strcmp(word[0], names[fault]))
		fault++;
	if (fault == ARRAY_COUNT(names)) {
		fmt_snprintf(error, DISK_FAULT_ERROR_BYTES,
			"unknown \"%.20s\"; there are: read, write, corrupt, delay, off", word[0]);
		return ERR_INVAL;
	}
	if (count != (fault == DISK_FAULT_NONE ? 1u : fault == DISK_FAULT_DELAY ? 3u : 2u)) {
		fmt_snprintf(error, DISK_FAULT_ERROR_BYTES, "use: read N | write N | corrupt N | delay N MS | off");
		return ERR_INVAL;
	}
	if (fault == DISK_FAULT_NONE)
		return OK;
	out->fault = (enum disk_fault)fault;
	status_t s = number(word[1], "count", DISK_FAULT_COUNT_MAX, &out->count, error);

	if (s == OK && fault == DISK_FAULT_DELAY)
		s = number(word[2], "delay in ms", DISK_FAULT_DELAY_MAX, &out->delay_ms, error);
	return s;
}

status_t disk_fault_parse_line(const char *line, struct disk_fault_wish *out, char error[DISK_FAULT_ERROR_BYTES])
{
	char text[48];
	const char *word[DISK_FAULT_WORDS + 1];
	uint32_t n = 0;

	if (!str_copy(text, sizeof(text), line)) {
		fmt_snprintf(error, DISK_FAULT_ERROR_BYTES, "is longer than %u characters", (uint32_t)sizeof(text) - 1);
		return ERR_INVAL;
	}
	for (char *s = text; *s && n < ARRAY_COUNT(word);) {
		while (*s == ' ')
			*s++ = '\0';
		if (*s)
			word[n++] = s;
		while (*s && *s != ' ')
			s++;
	}
	return disk_fault_parse(word, n, out, error);
}
