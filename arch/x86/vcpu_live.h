/*
 * State of a vCPU that stays in the processor while the hypervisor runs, because the hypervisor
 * uses none of it: FPU and vector registers, XCR0, DR0-3, TSC_AUX, and what the back end adds
 * (virt_ops' live_save). Moved only when another vCPU comes.
 */
#pragma once

#include "arch/x86/vcpu.h"

/*
 * AMD's processors without RstrFpErrPtrs (`ebx` of leaf 0x80000008) save and restore where the last x87
 * instruction was, and its operand and opcode, only with an x87 exception pending (APM vol. 3, CPUID
 * Fn8000_0008; CVE-2006-1056): another guest would read them.
 */
static inline bool vcpu_live_leaks_x87(const struct cpuid_regs *vendor, uint32_t ebx)
{
	return (vendor->ebx == 0x68747541u /* Auth */ || vendor->ebx == 0x6f677948u /* Hygo */) && !(ebx & 1u << 2);
}

/* Prepares this CPU's control registers for it. Once a CPU. */
void vcpu_live_init(void);
void vcpu_live_reset(struct x86_vcpu *v); /* to the values after reset, in memory */
void vcpu_live_save(struct x86_vcpu *v);
void vcpu_live_load(struct x86_vcpu *v);
