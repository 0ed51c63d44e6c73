/* VMX's copy of the run loop: the hot half of its struct virt_ops. */
#include "arch/x86/regs.h"
#include "arch/x86/run_loop.h"
#include "arch/x86/vmx/offsets.h"
#include "arch/x86/vmx/vmx.h"
#include "mm/p2m.h"

_Static_assert(offsetof(struct x86_vcpu, virt.gpr) == VMX_OFF_GPR, "entry.S");
_Static_assert(offsetof(struct x86_vcpu, entry[0]) == VMX_OFF_HOST_RSP, "entry.S");
_Static_assert(offsetof(struct vmx_vcpu, x) == 0, "entry.S");

/* entry.S keeps RSP and (but for VMfail) RBX, nothing else: the compiler saves what it still needs. */
#define ENTER(symbol, v, reason)                                                                   \
	__asm__ volatile("call " #symbol                                                           \
			 : "=a"(reason), "+b"(v)                                                   \
			 :                                                                         \
			 : "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12",     \
			 "r13", "r14", "r15", "memory", "cc")

uint32_t vmx_launch(struct x86_vcpu *v)
{
	uint32_t reason;
	if (guard_plan.guarded)
		ENTER(vmx_entry_launch_guarded, v, reason);
	else
		ENTER(vmx_entry_launch, v, reason);
	return reason;
}

/* EPT violations' qualification: bit 0 read, 1 write, 2 fetch. A/D updates of the guest's own tables
 * are reported as read and write. */
#define EPT_ACCESS 7u
_Static_assert(P2M_READ == 1 && P2M_WRITE == 2 && P2M_EXEC == 4, "access bits are EPT's");

static inline __attribute__((always_inline)) enum x86_exit_kind slat_fault(struct x86_vcpu *v)
{
	uint32_t info = vmread32(VMCS_VECTORING_INFO);
	if (UNLIKELY(info & INFO_VALID))
		vmx_keep_event(v, info);
	v->virt.exit.slat.gpa = GPA(vmread(VMCS_GPA));
	v->virt.exit.slat.access = vmread32(VMCS_QUALIFICATION) & EPT_ACCESS;
	return X86_EXIT_SLAT_FAULT;
}

static inline __attribute__((always_inline)) enum x86_exit_kind understand(struct x86_vcpu **vp,
	uint32_t reason)
{
	if (LIKELY(reason == REASON_VMCALL))
		return X86_EXIT_HYPERCALL;
	if (LIKELY(reason == REASON_CPUID))
		return X86_EXIT_CPUID;
	if (LIKELY(reason == REASON_EPT_VIOLATION))
		return slat_fault(*vp);
	if (UNLIKELY(reason == VMX_FAIL_VALID || reason == VMX_FAIL_INVALID))
		*vp = virt_this_cpu()->loaded;
	return vmx_translate(*vp, reason);
}

enum x86_exit_kind vmx_understand(struct x86_vcpu *v, uint32_t reason)
{
	return understand(&v, reason);
}

static inline __attribute__((always_inline)) enum x86_exit_kind enter(struct x86_vcpu **vp)
{
	uint32_t reason;
	ENTER(vmx_entry_resume, *vp, reason);
	return understand(vp, reason);
}

static inline __attribute__((always_inline)) enum x86_exit_kind enter_guarded(struct x86_vcpu **vp)
{
	uint32_t reason;
	ENTER(vmx_entry_resume_guarded, *vp, reason);
	return understand(vp, reason);
}

static inline __attribute__((always_inline)) void skip(struct x86_vcpu *v)
{
	(void)v;
	vmwrite(VMCS_GUEST_RIP, vmread(VMCS_GUEST_RIP) + vmread(VMCS_EXIT_LENGTH));
	/* Being stepped: the trap after an instruction that was done for the guest. */
	if (UNLIKELY(vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF))
		vmwrite(VMCS_PENDING_DEBUG, vmread(VMCS_PENDING_DEBUG) | PENDING_DEBUG_BS);
}

static inline __attribute__((always_inline)) bool in_kernel(struct x86_vcpu *v)
{
	(void)v;
	return (vmread(VMCS_GUEST_SS_AR) & 0x60u) == 0; /* DPL of SS is CPL */
}

static const struct virt_ops hot = { .enter = enter, .skip = skip, .in_kernel = in_kernel };
static const struct virt_ops hot_guarded = { .enter = enter_guarded, .skip = skip,
	.in_kernel = in_kernel };

enum virt_exit_kind vmx_run(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot, false, false);
}

enum virt_exit_kind vmx_run_smp(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot, true, false);
}

enum virt_exit_kind vmx_run_guarded(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot_guarded, false, true);
}

enum virt_exit_kind vmx_run_smp_guarded(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot_guarded, true, true);
}

void vmx_skip(struct x86_vcpu *v)
{
	skip(v);
}
