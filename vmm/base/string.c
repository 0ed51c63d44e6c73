#include "vmm/base/string.h"

bool str_copy(char *dst, size_t bytes, const char *src)
{
	size_t n = strnlen(src, bytes);
	bool fits = n < bytes;

	if (!fits)
		n = bytes - 1;
	memcpy(dst, src, n);
	dst[n] = '\0';
	return fits;
}
