/*
 * Overcommit: gathers what balloon/policy.h needs of every guest, takes a step, applies the targets.
 * Runs from the scheduler's loop, between vCPUs.
 */
#pragma once

#include "vmm/guest.h"

void overcommit_poll(uint64_t now_ns);     /* each turn of the loop: looks at its period first */
void overcommit_kick(struct guest *guest); /* a vCPU of it waits for memory: do not wait the period */
