/* Any bytes as the configuration: an answer with a sentence, never a read outside them. */
#include <stdlib.h>
#include <string.h>

#include "vmm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct config c;
	char error[CONFIG_ERROR_BYTES];

	if (config_parse(data, bytes, &c, error) != OK) {
		if (!error[0] || !memchr(error, 0, sizeof(error)))
			abort();
		return 0;
	}
	for (uint32_t i = 0; i < c.guest_count; i++) {
		const struct config_guest *g = &c.guest[i];
		if (g->min_bytes > g->max_bytes || g->max_bytes > g->memory_bytes || !g->shares ||
			!g->name[0] || !g->kernel[0])
			abort();
	}
	return 0;
}
