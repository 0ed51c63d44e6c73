#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/fake/bug.h"
#include "vmm/base/bug.h"

jmp_buf *fake_bug_return;
char fake_bug_message[256];

void hv_bug(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(fake_bug_message, sizeof(fake_bug_message), fmt, ap);
	va_end(ap);
	if (fake_bug_return)
		longjmp(*fake_bug_return, 1);
	fprintf(stderr, "HV_BUG at %s:%d: %s\n", file, line, fake_bug_message);
	abort();
}
