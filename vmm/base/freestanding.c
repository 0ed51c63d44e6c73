/*
 * The C library's functions that gcc and libfdt call, for the freestanding build only (hosted
 * builds have libc's). memcpy and memset use the string instructions: short, and one tick an element.
 */
#include "vmm/base/bug.h"
#include "vmm/base/string.h"

unsigned long strtoul(const char *s, char **end, int base);

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	void *d = dst;
	size_t words = n >> 3, rest = n & 7;

	__asm__ volatile("rep movsq\n\tmov %[rest], %%rcx\n\trep movsb"
			 : "+D"(d), "+S"(src), "+c"(words)
			 : [rest] "r"(rest)
			 : "memory");
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	char *d = dst;
	const char *s = src;

	if ((uintptr_t)d - (uintptr_t)s >= n)
		return memcpy(dst, src, n);
	while (n--)
		((volatile char *)d)[n] = s[n];
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;
	uint64_t pattern = (uint8_t)c * 0x0101010101010101ull;
	size_t words = n >> 3, rest = n & 7;

	__asm__ volatile("rep stosq\n\tmov %[rest], %%rcx\n\trep stosb"
			 : "+D"(d), "+c"(words)
			 : "a"(pattern), [rest] "r"(rest)
			 : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < n; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

void *memchr(const void *s, int c, size_t n)
{
	const uint8_t *p = s;

	for (size_t i = 0; i < n; i++)
		if (p[i] == (uint8_t)c)
			return (void *)(uintptr_t)(p + i);
	return NULL;
}

size_t strlen(const char *s)
{
	const char *p = s;

	while (*(const volatile char *)p)
		p++;
	return (size_t)(p - s);
}

size_t strnlen(const char *s, size_t max)
{
	size_t n = 0;

	while (n < max && s[n])
		n++;
	return n;
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (int)(uint8_t)*a - (int)(uint8_t)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n && *a && *a == *b; n--) {
		a++;
		b++;
	}
	return n ? (int)(uint8_t)*a - (int)(uint8_t)*b : 0;
}

char *strchr(const char *s, int c)
{
	for (;; s++) {
		if (*s == (char)c)
			return (char *)(uintptr_t)s;
		if (!*s)
			return NULL;
	}
}

char *strrchr(const char *s, int c)
{
	const char *found = NULL;

	for (;; s++) {
		if (*s == (char)c)
			found = s;
		if (!*s)
			return (char *)(uintptr_t)found;
	}
}

/* For libfdt's unit-address parsing: digits of `base`, no sign, no white space. */
unsigned long strtoul(const char *s, char **end, int base)
{
	unsigned long value = 0;

	for (;; s++) {
		int digit = *s >= '0' && *s <= '9' ? *s - '0'
			: *s >= 'a' && *s <= 'z'   ? *s - 'a' + 10
			: *s >= 'A' && *s <= 'Z'   ? *s - 'A' + 10
						   : 99;
		if (digit >= base)
			break;
		value = value * (unsigned long)base + (unsigned long)digit;
	}
	if (end)
		*end = (char *)(uintptr_t)s;
	return value;
}

/* liblz4's object file names them for functions that are never called: page_compress() brings its own state. */
void *malloc(size_t n);
void *calloc(size_t n, size_t m);
void free(void *p);

void *malloc(size_t n)
{
	HV_BUG("malloc(%zu)", n);
}

void *calloc(size_t n, size_t m)
{
	HV_BUG("calloc(%zu, %zu)", n, m);
}

void free(void *p)
{
	HV_BUG("free(%p)", p);
}
