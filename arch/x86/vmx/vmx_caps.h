/*
 * What this processor's VMX offers, and the control fields that follow from it. The reading is
 * vmx.c's; the computing is here and pure. Source: SDM vol. 3D appendix A "VMX Capability Reporting
 * Facility".
 */
#pragma once

#include "arch/x86/vmx/vmcs.h"
#include "mm/slat.h"
#include "vmm/base/status.h"

#define VMX_MSR_BASIC      0x480u
#define VMX_MSR_PIN        0x481u
#define VMX_MSR_PROC       0x482u
#define VMX_MSR_EXIT       0x483u
#define VMX_MSR_ENTRY      0x484u
#define VMX_MSR_MISC       0x485u
#define VMX_MSR_CR0_FIXED0 0x486u
#define VMX_MSR_CR0_FIXED1 0x487u
#define VMX_MSR_CR4_FIXED0 0x488u
#define VMX_MSR_CR4_FIXED1 0x489u
#define VMX_MSR_PROC2      0x48bu
#define VMX_MSR_EPT_VPID   0x48cu
#define VMX_MSR_TRUE_PIN   0x48du
#define VMX_MSR_TRUE_PROC  0x48eu
#define VMX_MSR_TRUE_EXIT  0x48fu
#define VMX_MSR_TRUE_ENTRY 0x490u

/* As read. A control capability: bits that must be 1 in the low half, bits that may be 1 above. */
struct vmx_msrs {
	uint64_t basic, pin, proc, proc2, exit, entry, misc, ept_vpid;
	uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
};

#define VMX_BASIC_TRUE (1ull << 55)

struct vmx_caps {
	uint32_t revision;
	uint32_t pin, proc, proc2, exit, entry; /* the control fields to use */
	uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	uint64_t eptp_bits; /* memory type, walk length, A/D: or-ed to the root's address */
	bool true_controls, msr_bitmaps, io_bitmaps, preemption_timer, preemption_saved, vpid;
	bool unrestricted, ack_interrupt, virtual_nmi, efer_controls, pat_controls;
	bool ept_ad, ept_1g, invept_single, invvpid_single, rdtscp, invpcid, encls_exiting;
	bool pause_loop;
	bool apicv, pml, xsaves;
	uint8_t timer_shift; /* preemption timer counts at TSC >> this */
};

/*
 * One field: all of `required`, what can be had of `optional`, what the processor insists on.
 * ERR_NOSYS: a required bit cannot be had; *missing tells which.
 */
status_t vmx_control(uint64_t capability, uint32_t required, uint32_t optional, uint32_t *out,
	uint32_t *missing) MUST_CHECK;

/* ERR_NOSYS: *why is one sentence. */
status_t vmx_caps_compute(const struct vmx_msrs *m, struct vmx_caps *out, const char **why)
	MUST_CHECK;

/* big_no_exec: see struct slat_format. */
void vmx_ept_format(const struct vmx_caps *c, bool big_no_exec, struct slat_format *out);

/* What to do about IA32_FEATURE_CONTROL. */
enum vmx_feature { VMX_FEATURE_READY, VMX_FEATURE_WRITE, VMX_FEATURE_REFUSED };
#define VMX_FEATURE_LOCK    (1ull << 0)
#define VMX_FEATURE_ENABLE  (1ull << 2) /* VMX outside SMX */
enum vmx_feature vmx_feature_control(uint64_t value, uint64_t *to_write);
