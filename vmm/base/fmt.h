/*
 * snprintf for the freestanding build: %d %i %u %x %X %o %c %s %p %% with flags "-0 +#", width and
 * precision (also *), length hh h l ll z j. Returns what would have been written, as C's does.
 */
#pragma once

#include <stdarg.h>
#include "vmm/base/types.h"

int fmt_vsnprintf(char *buf, size_t bytes, const char *fmt, va_list ap);
int fmt_snprintf(char *buf, size_t bytes, const char *fmt, ...) PRINTF(3, 4);
