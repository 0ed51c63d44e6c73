/* What every file of the guest kernel uses. Sizes, rounding, printing, the end of the world. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_BYTES 4096ul
#define BLOCK_PAGES 512u /* of a 2 MiB block */
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull
#define NEVER UINT64_MAX

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(x, a) (((x) + (a)-1) & ~((uint64_t)(a)-1))
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a)-1))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);

/* One call is one write to the console: at most 256 bytes, the rest is cut. */
void print(const char *fmt, ...) PRINTF(1, 2);

/* The kernel's own invariant is broken: says so and tells the hypervisor that this guest crashed. */
_Noreturn void panic(const char *fmt, ...) PRINTF(1, 2);

#define PANIC_ON(cond)                                                                             \
	do {                                                                                       \
		if (__builtin_expect(!!(cond), 0))                                                 \
			panic("%s:%d: %s", __FILE__, __LINE__, #cond);                             \
	} while (0)
