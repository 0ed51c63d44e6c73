#include "vmm/base/bug.h"
#include "arch/x86/cpu.h"
#include "arch/x86/dump.h"
#include "arch/x86/image.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "arch/x86/trap_text.h"
#include "vmm/base/fmt.h"
#include "vmm/platform.h"

#define BACKTRACE_MAX   24
#define STACK_SCAN_MAX  1024 /* words */

/* How many failures have begun; one CPU prints, a failure while printing stops it. */
static uint32_t dump_depth;

void __stack_chk_fail(void);

void dump_line(const char *fmt, ...)
{
	char line[200];
	va_list ap;

	va_start(ap, fmt);
	fmt_vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (const char *p = line; *p; p++)
		platform_putc(*p);
	platform_putc('\r');
	platform_putc('\n');
}

static bool in_text(uint64_t a)
{
	return a > (uintptr_t)image_text_start && a < (uintptr_t)image_text_end;
}

/* The stack that `sp` lies in ends where its page-aligned array does. */
static uint64_t stack_end(uint64_t sp)
{
	const struct boot_stacks *s = this_cpu()->stacks;
	const struct {
		const char *base;
		uint64_t bytes;
	} stack[] = {
		{ s->main, sizeof(s->main) },
		{ s->nmi, sizeof(s->nmi) },
		{ s->double_fault, sizeof(s->double_fault) },
		{ s->machine_check, sizeof(s->machine_check) },
	};

	for (size_t i = 0; i < ARRAY_COUNT(stack); i++)
		if (sp - (uintptr_t)stack[i].base < stack[i].bytes)
			return (uintptr_t)stack[i].base + stack[i].bytes;
	return 0;
}

void dump_backtrace(uint64_t sp)
{
	sp = ALIGN_UP(sp, 8);
	uint64_t end = MIN(stack_end(sp), sp + STACK_SCAN_MAX * 8);

	dump_line("possible callers (addr2line -fe aerostat.elf ADDRESS):");
	for (uint32_t n = 0; sp < end && n < BACKTRACE_MAX; sp += 8) {
		uint64_t a = *(const uint64_t *)sp;

		if (!in_text(a) ||
			!trap_follows_call((const uint8_t *)image_text_start,
				a - (uintptr_t)image_text_start))
			continue;
		dump_line("  %016lx", a);
		n++;
	}
}

bool dump_begin(void)
{
	cli();
	if (__atomic_fetch_add(&dump_depth, 1, __ATOMIC_SEQ_CST))
		return false;
	smp_stop_others();
	platform_putc('\r');
	platform_putc('\n');
	return true;
}

bool dump_has_begun(void)
{
	return __atomic_load_n(&dump_depth, __ATOMIC_SEQ_CST) != 0;
}

void dump_stop(void)
{
	platform_shutdown(1);
}

void hv_bug(const char *file, int line, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	if (!dump_begin())
		cpu_halt_forever();
	va_start(ap, fmt);
	fmt_vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dump_line("aerostat: BUG at %s:%d: %s", file, line, text);
	dump_backtrace((uintptr_t)__builtin_frame_address(0));
	dump_stop();
}

/* gcc's stack protector, in libfdt's objects. */
void __stack_chk_fail(void)
{
	HV_BUG("a function's stack canary was overwritten");
}
