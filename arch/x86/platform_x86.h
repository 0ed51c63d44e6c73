/* What start.c gives platform.c; vmm/platform.h has the rest. */
#pragma once

#include "arch/x86/physmap.h"

/* Both stay valid. Finds out what this machine is and how it is turned off. */
void platform_x86_init(const struct handoff *h, const struct physmap *m);
