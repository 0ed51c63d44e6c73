/* Pure. Parsers that the config and the console share. */
#pragma once

#include "vmm/base/status.h"

/*
 * "16M", "16m", "64k", "2g", "512b", "8 MiB" is not: digits, then at most one of b k m g t
 * (either case). A bare number counts in `bare_unit` bytes (xl: 1024). ERR_FORMAT: not of that
 * form; ERR_RANGE: does not fit 2^52.
 */
status_t parse_size(const char *text, uint64_t bare_unit, uint64_t *bytes) MUST_CHECK;
/* Decimal, or hex with 0x. ERR_FORMAT, ERR_RANGE (above max). */
status_t parse_u64(const char *text, uint64_t max, uint64_t *out) MUST_CHECK;

/* "0-3,5": a mask of CPU numbers. ERR_FORMAT; ERR_RANGE (above 63, or a range backwards). */
status_t parse_cpus(const char *text, uint64_t *mask) MUST_CHECK;

/* "16M", "1.5M", "4K", "120M": at most one decimal, for people. Returns buf. */
char *format_size(char *buf, size_t n, uint64_t bytes);
/* The other way: "all" if it has all of 0 .. count - 1, else "0-1,3"; cut with ".." if it is too long. */
char *format_cpus(char *buf, size_t n, uint64_t mask, uint32_t count);
