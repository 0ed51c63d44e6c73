/* SVM's copy of the run loop: the hot half of its struct virt_ops. */
#include "arch/x86/regs.h"
#include "arch/x86/run_loop.h"
#include "arch/x86/svm/offsets.h"
#include "arch/x86/svm/svm.h"
#include "mm/p2m.h"

_Static_assert(offsetof(struct x86_vcpu, virt.gpr) == SVM_OFF_GPR, "entry.S");
_Static_assert(offsetof(struct x86_vcpu, entry[0]) == SVM_OFF_VMCB, "entry.S");
_Static_assert(offsetof(struct x86_vcpu, entry[1]) == SVM_OFF_VMCB_HPA, "entry.S");
_Static_assert(offsetof(struct x86_vcpu, entry[2]) == SVM_OFF_HOST_HPA, "entry.S");
_Static_assert(offsetof(struct svm_vmcb, rax) == SVM_VMCB_RAX, "entry.S");
_Static_assert(offsetof(struct svm_vmcb, exit_code) == SVM_VMCB_EXITCODE, "entry.S");
_Static_assert(offsetof(struct svm_vcpu, x) == 0, "entry.S");

/* entry.S keeps RSP and RBX, nothing else: the compiler saves what it still needs. */
#define ENTER(symbol, v, code)                                                                     \
	__asm__ volatile("call " #symbol                                                           \
			 : "=a"(code), "+b"(v)                                                     \
			 :                                                                         \
			 : "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12",     \
			 "r13", "r14", "r15", "memory", "cc")

/* A guest's walk of its own tables is reported as a write, and as one it is answered: the page gets a
 * frame where a read of it would have been given the zero frame. */
static inline __attribute__((always_inline)) enum x86_exit_kind slat_fault(struct svm_vcpu *v)
{
	const struct svm_vmcb *c = v->vmcb;
	if (UNLIKELY(c->exit_int_info & X86_EVENT_VALID))
		svm_keep_event(v, c->exit_int_info);
	v->x.virt.exit.slat.gpa = GPA(c->exit_info_2);
	v->x.virt.exit.slat.access = c->exit_info_1 & SVM_NPF_WRITE ? P2M_WRITE :
		c->exit_info_1 & SVM_NPF_FETCH			    ? P2M_EXEC :
								      P2M_READ;
	return X86_EXIT_SLAT_FAULT;
}

static inline __attribute__((always_inline)) enum x86_exit_kind enter_as(struct x86_vcpu **vp,
	const bool guarded)
{
	struct svm_vcpu *v = svm_vcpu(*vp);
	uint64_t code, generation = __atomic_load_n(&v->x.virt.slat->generation, __ATOMIC_ACQUIRE);
	if (UNLIKELY(v->seen != generation)) {
		v->seen = generation;
		svm_flush_guest(*vp);
	}
	if (guarded)
		ENTER(svm_entry_guarded, v, code);
	else
		ENTER(svm_entry, v, code);
	*vp = &v->x;
	struct svm_vmcb *c = v->vmcb;
	c->clean = svm_clean;
	c->tlb_control = SVM_TLB_KEEP;
	if (LIKELY(code == SVM_EXIT_NPF))
		return slat_fault(v);
	if (LIKELY(svm_caps.nrips)) {
		if (LIKELY(code == SVM_EXIT_VMMCALL))
			return X86_EXIT_HYPERCALL;
		if (LIKELY(code == SVM_EXIT_CPUID))
			return X86_EXIT_CPUID;
	}
	return svm_translate(v, code);
}

static inline __attribute__((always_inline)) enum x86_exit_kind enter(struct x86_vcpu **vp)
{
	return enter_as(vp, false);
}

static inline __attribute__((always_inline)) enum x86_exit_kind enter_guarded(struct x86_vcpu **vp)
{
	return enter_as(vp, true);
}

static inline __attribute__((always_inline)) void skip(struct x86_vcpu *x)
{
	struct svm_vcpu *v = svm_vcpu(x);
	struct svm_vmcb *c = v->vmcb;
	if (UNLIKELY(c->rflags & RFLAGS_TF)) {
		svm_skip(x);
		return;
	}
	v->exit_rip = c->rip;
	c->rip = c->next_rip;
	c->interrupt_shadow = 0;
}

static inline __attribute__((always_inline)) bool in_kernel(struct x86_vcpu *v)
{
	return svm_vcpu(v)->vmcb->cpl == 0;
}

static const struct virt_ops hot = { .enter = enter, .skip = skip, .in_kernel = in_kernel };
static const struct virt_ops hot_guarded = { .enter = enter_guarded, .skip = skip,
	.in_kernel = in_kernel };

enum virt_exit_kind svm_run(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot, false, false);
}

enum virt_exit_kind svm_run_smp(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot, true, false);
}

enum virt_exit_kind svm_run_guarded(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot_guarded, false, true);
}

enum virt_exit_kind svm_run_smp_guarded(struct x86_vcpu *v, uint64_t deadline)
{
	return x86_run_loop(v, deadline, &hot_guarded, true, true);
}
