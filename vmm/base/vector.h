/*
 * Vector registers for a while. The hypervisor itself uses none, so that those of the vCPU that ran last
 * stay where they are (arch/x86/vcpu_live.h); a library that was built with SSE runs between these two.
 * Implemented in arch/x86/vector.c; hosted tests fake them (tests/fake/vector.c).
 *
 * vector_begin() saves what such code may change: x87, MMX and XMM registers, MXCSR (FXSAVE, whatever the guest
 * has in XCR0). Code with the encodings before AVX leaves the upper halves of wider registers alone, and
 * tests/check/image.py sees to it that the image has no other. Nothing may be written that the guest left:
 * vector_end() puts all of it back. They do not nest, and nothing between them sleeps, takes a lock or
 * turns interrupts on. (Red zone: interrupts are off, and NMI and machine check have stacks of their own.
 * Stack protector: FS base points to a page with a canary whenever the hypervisor runs.)
 */
#pragma once

#include "vmm/base/types.h"

void vector_begin(void);
void vector_end(void);

/* For a self-test: a pattern in all XMM registers before `work`, and true if it is there after it. What was in
 * them comes back in either case. */
bool vector_survives(void (*work)(void *ctx), void *ctx);
