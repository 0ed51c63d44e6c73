/* What start.c gives platform.c; vmm/platform.h has the rest. */
#pragma once

#include "arch/x86/physmap.h"

/* Both stay valid. Finds out what this machine is and how it is turned off. */
void platform_x86_init(const struct handoff *h, const struct physmap *m);
/* acpi_map_fn (acpi.h); `ctx` is the struct physmap. */
const void *platform_acpi_map(const void *ctx, uint64_t address, uint64_t bytes);
