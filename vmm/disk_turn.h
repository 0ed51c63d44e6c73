/*
 * Whose turn at the disk it is. The disk serves one vCPU's request at a time (vmm/block.h is synchronous);
 * nobody spins for it: a vCPU that finds it taken goes back to before its hypercall and waits in line,
 * while its CPU runs others. Who was woken is let through first for a while, so that one that asks
 * again at once does not keep the others out.
 */
#pragma once

#include "vmm/guest.h"

void disk_turn_init(void);
/* From the exit path of `v`, no lock held. False: not now; EXIT_DISK is what to return. */
bool disk_claim(struct vcpu *v) MUST_CHECK;
void disk_release(void); /* wakes the next in line */

/* The scheduler's. add: it has left its CPU; it waits, or is placed at once if the disk is free again. */
void disk_wait_add(struct vcpu *v);
bool disk_wait_remove(struct vcpu *v); /* false: it was not there. Any CPU */
/* Control plane: who was let through and never came loses its turn. */
void disk_turn_poll(uint64_t now_tsc);
