/* The guest kernel's device tree reader: any bytes, no access outside them. */
#include <stddef.h>
#include <stdint.h>

#include "guest-drivers/kernel/fdt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fdt_facts facts;

	fdt_read(data, bytes, &facts);
	return 0;
}
