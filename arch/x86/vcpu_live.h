/*
 * State of a vCPU that stays in the processor while the hypervisor runs, because the hypervisor
 * uses none of it: FPU and vector registers, XCR0, DR0-3, TSC_AUX, and what the back end adds
 * (virt_ops' live_save). Moved only when another vCPU comes.
 */
#pragma once

#include "arch/x86/vcpu.h"

/* Prepares this CPU's control registers for it. Once a CPU. */
void vcpu_live_init(void);
void vcpu_live_reset(struct x86_vcpu *v); /* to the values after reset, in memory */
void vcpu_live_save(struct x86_vcpu *v);
void vcpu_live_load(struct x86_vcpu *v);
