/*
 * The hypervisor's log: a ring that `dmesg` shows, echoed to the console while booting.
 * One line a call, no trailing newline. Rate: whoever logs on a guest's behalf uses
 * log_guest(), which drops (and counts) lines beyond a budget per guest and second, so no guest
 * can flood the log.
 */
#pragma once

#include "vmm/base/types.h"

/* LOG_NOTE: what the operator asked to see. */
enum log_level { LOG_ERR, LOG_NOTE, LOG_WARN, LOG_INFO, LOG_DEBUG };

#define LOG_RING_BYTES 32768u
#define LOG_LINE_BYTES 256u /* a longer line is cut */

void log_printf(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_err(...)   log_printf(LOG_ERR, __VA_ARGS__)
#define log_note(...)  log_printf(LOG_NOTE, __VA_ARGS__)
#define log_warn(...)  log_printf(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_printf(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_printf(LOG_DEBUG, __VA_ARGS__)

/* Where lines go besides the ring; NULL for nowhere. Set once at boot. `line` ends in "\n". Called on CPU 0
 * only: the other CPUs' lines wait for log_poll(). */
typedef void (*log_sink_fn)(const char *line, size_t bytes);
void log_set_sink(log_sink_fn sink, enum log_level max_level);

/* CPU 0: hands on what other CPUs have logged since. Lines that did not fit the wait are in the ring. */
void log_poll(void);

/* Stamp source in ns for new lines; NULL stamps 0. Set once at boot. */
void log_set_clock(uint64_t (*now_ns)(void));

/*
 * Calls `emit` for each stored line, oldest first. Lines look like "[    1.234567] text\n";
 * a first line says how many were overwritten, if any.
 */
void log_replay(void (*emit)(void *ctx, const char *line, size_t bytes), void *ctx);
