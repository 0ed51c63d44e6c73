/* The loader's view of the config: any bytes give an answer, and names that are file names. */
#include <stdlib.h>
#include <string.h>

#include "boot/fdtscan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fdtscan got;
	const char *why = NULL;

	if (fdtscan(data, size, &got, &why) != OK) {
		if (!why || !*why)
			abort();
		return 0;
	}
	for (uint32_t i = 0; i < got.kernel_count; i++) {
		if (strnlen(got.kernel[i], HANDOFF_NAME_BYTES) >= HANDOFF_NAME_BYTES ||
			strpbrk(got.kernel[i], "/\\:"))
			abort();
	}
	return 0;
}
