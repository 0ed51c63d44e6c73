/* What the workloads share. Ring 3. */
#include "guest-drivers/kernel/user.h"

#define ERRORS_MAX 10u

_Noreturn void user_exit(int code)
{
	for (;;)
		user_call(SYS_EXIT, (uint64_t)code, 0, 0);
}

void user_print(const char *text)
{
	user_call(SYS_PRINT, (uint64_t)text, strlen(text), 0);
}

void *user_grow(uint64_t bytes)
{
	uint64_t at = user_call(SYS_GROW, ALIGN_UP(bytes, PAGE_BYTES) / PAGE_BYTES, 0, 0);

	if (at == UINT64_MAX) {
		user_print("does not fit into 1 GiB");
		user_exit(2);
	}
	return (void *)at;
}

char *user_put_text(char *at, const char *text)
{
	while (*text)
		*at++ = *text++;
	*at = '\0';
	return at;
}

char *user_put_hex(char *at, uint64_t v)
{
	for (int shift = 60; shift >= 0; shift -= 4) {
		unsigned int d = v >> shift & 15;

		*at++ = (char)(d < 10 ? '0' + d : 'a' + d - 10);
	}
	*at = '\0';
	return at;
}

char *user_put_decimal(char *at, uint64_t v)
{
	char digits[20];
	unsigned int n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*at++ = digits[--n];
	*at = '\0';
	return at;
}

void user_corrupt(uint64_t *errors, const void *at, uint64_t expected, uint64_t found)
{
	char line[128];
	char *s = user_put_text(line, "CORRUPT address 0x");

	s = user_put_text(user_put_hex(s, (uint64_t)at), " expected 0x");
	s = user_put_text(user_put_hex(s, expected), " found 0x");
	user_put_hex(s, found);
	user_print(line);
	user_call(SYS_PROGRESS, 0, ++*errors, 0);
	if (*errors >= ERRORS_MAX)
		user_exit(1);
}
