/* Console by hypercall: one write a line, input by event. */
#include "guest-drivers/kernel/console.h"

#include <stdarg.h>

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/format.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/sched.h"

#define PRINT_BYTES 256u
#define WRITE_TRIES 64u

static volatile bool input_waits; /* interrupts off */

/* May be called from anywhere, so it never sleeps: what the console does not take is lost. */
static void write_all(const char *text, size_t bytes)
{
	for (unsigned int i = 0; bytes && i < WRITE_TRIES; i++) {
		int64_t n = hypercall(AERO_HC_CONSOLE_WRITE, (uint64_t)text, bytes, 0);

		if (n < 0 || (uint64_t)n > bytes)
			return;
		text += n;
		bytes -= (size_t)n;
	}
}

void print(const char *fmt, ...)
{
	char buf[PRINT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	size_t n = format_text(buf, sizeof(buf), fmt, ap);

	va_end(ap);
	write_all(buf, n);
}

_Noreturn void panic(const char *fmt, ...)
{
	char buf[PRINT_BYTES];
	va_list ap;

	irq_off();
	va_start(ap, fmt);
	size_t n = format_text(buf, sizeof(buf), fmt, ap);

	va_end(ap);
	print("panic: ");
	write_all(buf, n);
	print("\n");
	hv_shutdown(AERO_SHUTDOWN_CRASH, 255);
}

void console_event(void)
{
	input_waits = true;
	sched_wake((const void *)&input_waits);
}

static size_t read_some(char *buf, size_t bytes)
{
	for (;;) {
		irq_off();
		input_waits = false;
		irq_on();
		int64_t n = hypercall(AERO_HC_CONSOLE_READ, (uint64_t)buf, bytes, 0);

		if (n > 0 && (uint64_t)n <= bytes)
			return (size_t)n;
		irq_off();
		while (!input_waits)
			sched_block((const void *)&input_waits, NEVER);
		irq_on();
	}
}

size_t console_read_line(char *line, size_t bytes, const char *prompt)
{
	/* Input beyond one line waits here for the next call; the shell's thread only. */
	static char ahead[64];
	static size_t have, at;
	size_t n = 0;

	print("%s", prompt);
	for (;;) {
		if (at == have) {
			have = read_some(ahead, sizeof(ahead));
			at = 0;
		}
		char c = ahead[at++];

		if (c == '\r' || c == '\n') {
			print("\n");
			line[n] = '\0';
			return n;
		}
		if (c == 0x03 || c == 0x15) { /* ^C, ^U */
			n = 0;
			print("%s\n%s", c == 3 ? "^C" : "", prompt);
		} else if ((c == 0x08 || c == 0x7f) && n) {
			n--;
			print("\b \b");
		} else if (c >= ' ' && c < 0x7f && n + 1 < bytes) {
			line[n++] = c;
			print("%c", c);
		}
	}
}
