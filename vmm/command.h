/*
 * The operator's commands: one const table, a pure splitter of words, and the handlers in cmd_*.c.
 * A handler prints with console_printf(); what is wrong is one line by command_error(). Tab: complete.c.
 */
#pragma once

#include "vmm/base/types.h"
#include "vmm/guest.h"
#include "vmm/json.h"

#define COMMAND_WORDS 16u

struct command_args {
	uint32_t count;       /* words after the command's name, -j taken out */
	const char *word[COMMAND_WORDS];
	bool json;            /* -j was among them */
};

enum command_group { GROUP_GUESTS, GROUP_MEMORY, GROUP_CPUS, GROUP_MACHINE, GROUP_DEBUG, GROUP_COUNT };

struct command {
	const char *name;
	const char *arguments; /* Tab reads them, too: vmm/complete.h */
	const char *help;
	void (*run)(const struct command_args *a);
	uint8_t min, max; /* words */
	uint8_t group;    /* enum command_group; GROUP_DEBUG: only if the configuration says debug; */
	bool json;        /* takes -j */
};

extern const struct command command_table[];
extern const uint32_t command_count;

/*
 * Pure. Splits `line` in place at blanks; "double quotes" keep blanks and are taken off. Returns the
 * number of words, or -1 with *why: too many words, a quote without an end.
 */
int command_split(char *line, const char *words[], uint32_t max, const char **why);

/* Runs one line (changed in place). An empty line does nothing. */
void command_run(char *line);
/* NULL: none has this name. */
const struct command *command_find(const char *name, size_t bytes);

/* For lineedit: see there. */
size_t command_complete(void *ctx, const char *line, size_t cursor, char *insert, size_t room,
	bool *shown);

/* "error: ..." and a newline; of a line with -j {"error":"..."}. One a command, and nothing else with it. */
void command_error(const char *fmt, ...) PRINTF(1, 2);
/* The guest that a word names, or NULL, having said which there are. */
struct guest *command_guest(const char *word);
/* Columns for names in a listing: 16, or what the longest one needs. */
int command_name_columns(void);
/* So many pages as "16M", for the arguments of one printf: `slot` is 0 .. 7, another for each. */
const char *command_pages(uint32_t slot, uint64_t pages);
/* A size, or false, having said what was wrong. Bare numbers are KiB, as xl has it. */
bool command_size(const char *word, uint64_t *bytes);

/* One JSON object on one line: begin, fill, end. */
void command_json_begin(struct json *j);
void command_json_end(struct json *j);

/* cmd_list.c, cmd_memory.c, cmd_reclaim.c, cmd_why.c, cmd_guest.c, cmd_cpu.c, cmd_disk.c, cmd_machine.c,
 * cmd_policy.c, cmd_fault.c */
void cmd_list(const struct command_args *a);
void cmd_info(const struct command_args *a);
void cmd_stats(const struct command_args *a);
void cmd_balloon(const struct command_args *a);
void cmd_mem_set(const struct command_args *a);
void cmd_mem_max(const struct command_args *a);
void cmd_mem_audit(const struct command_args *a);
void cmd_policy_trace(const struct command_args *a);
void cmd_mem_why(const struct command_args *a);
void cmd_mem_state(const struct command_args *a);
void cmd_swap(const struct command_args *a);
void cmd_pause(const struct command_args *a);
void cmd_unpause(const struct command_args *a);
void cmd_create(const struct command_args *a);
void cmd_destroy(const struct command_args *a);
void cmd_console(const struct command_args *a);
void cmd_dmesg(const struct command_args *a);
void cmd_uptime(const struct command_args *a);
void cmd_shutdown(const struct command_args *a);
void cmd_cpus(const struct command_args *a);
void cmd_vcpu_list(const struct command_args *a);
void cmd_vcpu_pin(const struct command_args *a);
void cmd_sched(const struct command_args *a);
void cmd_reboot(const struct command_args *a);
void cmd_debug(const struct command_args *a);
void cmd_disks(const struct command_args *a);
void cmd_alloc_fault(const struct command_args *a);
void cmd_driver_fault(const struct command_args *a);
void cmd_disk_fault(const struct command_args *a);
/* debug's, cmd_bench.c */
void debug_reclaim(const struct command_args *a);
void debug_latency(const struct command_args *a);
void debug_paging(const struct command_args *a);
void debug_disk(const char *word); /* debug's second word: a disk */
