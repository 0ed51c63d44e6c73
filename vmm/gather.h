/*
 * 2 MiB leaves that were broken, or never were, are joined again in the background while memory is plenty: one
 * at a time, rarely. Owner: CPU 0, from the scheduler's loop.
 */
#pragma once

#include "vmm/base/types.h"

/* True: it joined one. */
bool gather_poll(uint64_t now_ns);
