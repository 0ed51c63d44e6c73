/* `debug latency`: how long a target takes, to the turn of CPU 0's loop. CPU 0's. */
#pragma once

#include "vmm/base/types.h"

extern bool latency_watching;
void latency_look(void);

/* Each turn of CPU 0's loop. */
static inline void latency_poll(void)
{
	if (UNLIKELY(latency_watching))
		latency_look();
}
