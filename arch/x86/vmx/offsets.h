/* Where entry.S finds things in struct x86_vcpu; vmx_run.c asserts each. */
#pragma once

#define VMX_OFF_GPR      0
#define VMX_OFF_HOST_RSP 320

/* Instead of an exit reason: the entry did not happen (VMfail). */
#define VMX_FAIL_VALID   0xff01 /* the VMCS has an error number */
#define VMX_FAIL_INVALID 0xff02 /* no current VMCS */
