/* Pure. Text: formatting, numbers and sizes. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* %d %u %x %s %c %%, with l, a width and the flags 0 and -. Returns the bytes written, cut to fit. */
size_t format_text(char *buf, size_t bytes, const char *fmt, va_list ap);

/* Decimal or 0x hex, the whole text. */
bool text_number(const char *text, uint64_t *out);
/* "8M", "64k", "2g", "4096": bytes unless a letter says more; at most 2^40. */
bool text_size(const char *text, uint64_t *bytes);
