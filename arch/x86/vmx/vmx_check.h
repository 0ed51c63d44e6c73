/*
 * Which rule of the processor's a guest state breaks: asked only after an entry failed, since the
 * processor says no more than "invalid guest state". Source: SDM vol. 3C "Checking and Loading
 * Guest State".
 */
#pragma once

#include "arch/x86/vmx/vmx_caps.h"

/* Pure. `get` reads a VMCS field. NULL: no rule known here is broken. */
const char *vmx_check_guest(uint64_t (*get)(uint32_t field), const struct vmx_caps *caps,
	uint32_t physical_bits);
