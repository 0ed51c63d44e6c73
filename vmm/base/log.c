#include "vmm/base/log.h"
#include "vmm/base/cpu.h"
#include "vmm/base/fmt.h"
#include "vmm/base/lock.h"
#include "vmm/base/string.h"


/* Guarded by log_lock: bytes [total - held, total) of all that was ever logged, modulo the size. */
static struct spinlock log_lock = SPINLOCK_INIT(LOCK_RANK_LOG);
static char ring[LOG_RING_BYTES];
static uint64_t total, held, overwritten_lines;

/* Guarded by log_lock: whole lines of other CPUs for the sink, oldest first. */
#define AWAY_BYTES 2048u
static char away[AWAY_BYTES];
static uint32_t away_bytes; /* read without the lock as a hint */

/* Set once at boot. */
static log_sink_fn sink;
static enum log_level sink_level = LOG_INFO;
static uint64_t (*clock_ns)(void);

void log_set_sink(log_sink_fn fn, enum log_level max_level)
{
	sink = fn;
	sink_level = max_level;
}

void log_set_clock(uint64_t (*now_ns)(void))
{
	clock_ns = now_ns;
}

static char ring_at(uint64_t position)
{
	return ring[position % LOG_RING_BYTES];
}

/* Drops the oldest line. */
static void drop_line(void)
{
	while (held && ring_at(total - held) != '\n')
		held--;
	if (held)
		held--;
	overwritten_lines++;
}

static void store(const char *line, size_t n)
{
	while (held + n > LOG_RING_BYTES)
		drop_line();
	for (size_t i = 0; i < n; i++)
		ring[(total + i) % LOG_RING_BYTES] = line[i];
	total += n;
	held += n;
}

void log_printf(enum log_level level, const char *fmt, ...)
{
	static const char *const mark[] = { "error: ", "", "warning: ", "", "debug: " };
	char line[LOG_LINE_BYTES];
	uint64_t us = clock_ns ? clock_ns() / 1000 : 0;
	va_list ap;

	int n = fmt_snprintf(line, sizeof(line), "[%5lu.%06lu] %s", us / 1000000, us % 1000000,
		mark[level]);
	size_t head = (size_t)n;
	va_start(ap, fmt);
	n += fmt_vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	size_t bytes = MIN((size_t)n, sizeof(line) - 2);
	/* One line a call: what a guest or a file put in must not start another. */
	for (size_t i = head; i < bytes; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[bytes++] = '\n';

	bool show = sink && level <= sink_level, here = cpu_index() == 0;

	spin_lock(&log_lock);
	store(line, bytes);
	if (show && !here && bytes <= AWAY_BYTES - away_bytes) {
		memcpy(away + away_bytes, line, bytes);
		away_bytes += (uint32_t)bytes;
	}
	spin_unlock(&log_lock);
	if (!show || !here)
		return;
	log_poll();
	sink(line, bytes);
}

/* The first line that waits; its length, 0: none. */
static size_t take_away(char line[LOG_LINE_BYTES])
{
	size_t n = 0;

	spin_lock(&log_lock);
	while (n < away_bytes && n < LOG_LINE_BYTES && (n == 0 || away[n - 1] != '\n'))
		n++;
	memcpy(line, away, n);
	away_bytes -= (uint32_t)n;
	memmove(away, away + n, away_bytes);
	spin_unlock(&log_lock);
	return n;
}

void log_poll(void)
{
	char line[LOG_LINE_BYTES];
	size_t n;

	while (__atomic_load_n(&away_bytes, __ATOMIC_RELAXED) && (n = take_away(line)))
		if (sink)
			sink(line, n);
}

/* The stored line at *at or the oldest behind it, which others may have overwritten meanwhile; *at is
 * then behind it. 0: none. */
static size_t line_at(uint64_t *at, char line[LOG_LINE_BYTES])
{
	size_t n = 0;

	spin_lock(&log_lock);
	*at = MAX(*at, total - held);
	while (*at < total && n < LOG_LINE_BYTES) {
		line[n] = ring_at((*at)++);
		if (line[n++] == '\n')
			break;
	}
	spin_unlock(&log_lock);
	return n;
}

void log_replay(void (*emit)(void *ctx, const char *line, size_t bytes), void *ctx)
{
	char line[LOG_LINE_BYTES];
	uint64_t at = 0;
	size_t n;

	spin_lock(&log_lock);
	uint64_t lost = overwritten_lines;
	spin_unlock(&log_lock);
	if (lost) {
		n = (size_t)fmt_snprintf(line, sizeof(line), "(%lu older lines were overwritten)\n", lost);
		emit(ctx, line, n);
	}
	while ((n = line_at(&at, line)))
		emit(ctx, line, n);
}
