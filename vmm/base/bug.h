/*
 * HV_BUG: the hypervisor's own invariant is broken; on in release. Nothing that a guest does may
 * reach it. Prints file, line, and message, then stops the machine (hosted tests: abort()).
 */
#pragma once

#include "vmm/base/types.h"

_Noreturn void hv_bug(const char *file, int line, const char *fmt, ...) PRINTF(3, 4);

#define HV_BUG(...) hv_bug(__FILE__, __LINE__, __VA_ARGS__)
#define HV_BUG_ON(cond)                                                                            \
	do {                                                                                       \
		if (UNLIKELY(cond))                                                                \
			HV_BUG("%s", #cond);                                                       \
	} while (0)
