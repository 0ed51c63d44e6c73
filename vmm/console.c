#include "vmm/console.h"

#include "vmm/base/fmt.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"
#include "vmm/command.h"
#include "vmm/console_attach.h"
#include "vmm/lineedit.h"
#include "vmm/platform.h"

#define OUT_BYTES   16384u
#define IN_BYTES    1024u
#define POLL_KEYS   64u  /* bytes taken a poll: a pasted line does not hold up guests */
#define ATTACH_BYTES 512u
#define ROW_BYTES   (LINEEDIT_COLUMNS + 1)
#define KEY_DETACH  0x1d /* Ctrl-] */

/* Owner: CPU 0, from the scheduler's loop. */
static struct {
	struct lineedit edit;
	char out[OUT_BYTES]; /* what the port has not taken yet */
	uint32_t head, tail; /* free-running */
	char in[IN_BYTES];   /* keys that came while the port was busy with output */
	uint32_t in_head, in_tail;
	uint16_t attached;   /* guest id whose console is shown; 0: none */
	char row[ROW_BYTES]; /* what it has said of a line that has not ended */
	uint32_t row_bytes;
	bool ready;          /* prompt and line may be on the screen */
	bool running;        /* a command runs: they are not */
} con;

static void drain(void)
{
	while (con.tail != con.head && platform_try_putc(con.out[con.tail % OUT_BYTES]))
		con.tail++;
}

/* The port holds 16 bytes of input; what is pasted while a long listing goes out waits here. */
static void collect(void)
{
	int c;

	while (con.in_head - con.in_tail < IN_BYTES && (c = platform_getc()) >= 0)
		con.in[con.in_head++ % IN_BYTES] = (char)c;
}

static int next_key(void)
{
	if (con.in_head != con.in_tail)
		return (unsigned char)con.in[con.in_tail++ % IN_BYTES];
	return platform_getc();
}

/* Nothing is lost: with the ring full, the port sets the pace. */
static void put(char c)
{
	if (con.head - con.tail == OUT_BYTES) {
		collect();
		platform_putc(con.out[con.tail++ % OUT_BYTES]);
	}
	con.out[con.head++ % OUT_BYTES] = c;
}

void console_write(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\n')
			put('\r');
		put(s[i]);
	}
}

void console_printf(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	int n = fmt_vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	console_write(text, MIN((size_t)n, sizeof(text) - 1));
}

static void edit_out(void *ctx, const char *s, size_t n)
{
	(void)ctx;
	console_write(s, n);
}

/* A guest's line that has not ended gives way to a log line, too, if it can be drawn again. */
static void log_amid_guest(const char *line, size_t n)
{
	bool fits = con.row_bytes < ROW_BYTES;

	if (con.row_bytes)
		console_printf("%s", fits ? "\r\x1b[K" : "\n");
	console_write(line, n);
	if (fits)
		console_write(con.row, con.row_bytes);
	else
		con.row_bytes = 0;
}

/* A log line comes above the line being typed, which is drawn again below it. */
static void log_line(const char *line, size_t n)
{
	bool typing = con.ready && !con.running && !con.attached;

	if (con.attached && !con.running) {
		log_amid_guest(line, n);
		return;
	}
	if (typing)
		lineedit_hide(&con.edit);
	console_write(line, n);
	if (typing)
		lineedit_show(&con.edit);
}

void console_flush(void)
{
	while (con.tail != con.head)
		platform_putc(con.out[con.tail++ % OUT_BYTES]);
}

void console_init(void)
{
	lineedit_init(&con.edit, "aerostat> ", edit_out, command_complete, NULL);
	log_set_sink(log_line, LOG_WARN);
	console_printf("\nAerostat: %u guests. `help` lists the commands, Tab completes.\n",
		guest_count());
	con.ready = true;
	lineedit_start(&con.edit);
}

/* ---- a guest's console ------------------------------------------------------------------------- */

void console_attach(struct guest *g)
{
	console_printf("-- %s: Ctrl-] returns --\n", g->config.name);
	con.attached = g->id;
	con.row_bytes = 0;
}

static struct guest *attached_guest(void)
{
	for (struct guest *g = guest_next(NULL); g; g = guest_next(g))
		if (g->id == con.attached)
			return g;
	return NULL;
}

static void detach(const char *why)
{
	con.attached = 0;
	console_printf("\n-- %s --\n", why);
	lineedit_start(&con.edit);
}

/* Full: longer than a row. */
static void note_row(char c)
{
	if (c == '\n')
		con.row_bytes = 0;
	else if (con.row_bytes < ROW_BYTES)
		con.row[con.row_bytes++] = c;
}

/* Its output goes to the screen as fast as the port takes it, no faster: the ring holds the rest. */
static bool show_guest(struct guest *g)
{
	char text[ATTACH_BYTES];
	uint32_t room = OUT_BYTES - (con.head - con.tail);

	if (room < OUT_BYTES / 2)
		return true;
	spin_lock(&g->lock);
	size_t n = gconsole_take(&g->console, text, sizeof(text));
	spin_unlock(&g->lock);
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\n')
			put('\r');
		put(text[i]);
		note_row(text[i]);
	}
	return n != 0;
}

static bool poll_attached(void)
{
	struct guest *g = attached_guest();

	if (!g) {
		detach("the guest is gone");
		return true;
	}
	bool did = show_guest(g);
	for (uint32_t i = 0; i < POLL_KEYS; i++) {
		int c = next_key();
		if (c < 0)
			break;
		did = true;
		if (c == KEY_DETACH) {
			detach("back at the hypervisor");
			return true;
		}
		char key = (char)c;
		if (!guest_console_input(g, &key, 1))
			console_write("\a", 1);
	}
	return did;
}

/* ---- the prompt ------------------------------------------------------------------------------------ */

static void run_line(void)
{
	char line[LINEEDIT_BYTES];

	str_copy(line, sizeof(line), con.edit.line);
	con.running = true;
	command_run(line);
	con.running = false;
	if (!con.attached)
		lineedit_start(&con.edit);
}

static bool poll_prompt(void)
{
	uint32_t taken = 0;

	for (; taken < POLL_KEYS && !con.attached; taken++) {
		int c = next_key();
		if (c < 0)
			break;
		if (lineedit_key(&con.edit, (char)c))
			run_line();
	}
	return taken != 0;
}

bool console_poll(void)
{
	bool did = con.attached ? poll_attached() : poll_prompt();

	log_poll();
	drain();
	return did || con.tail != con.head;
}
