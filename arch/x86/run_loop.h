/*
 * The loop that runs a guest: the hottest code there is. Each back end makes its own copy with its
 * const ops, which the compiler then inlines. Budgets (instructions, the guest's included): CPUID
 * exit and back 120, hypercall up to vmm and back 110.
 */
#pragma once

#include "arch/x86/vcpu.h"

static inline __attribute__((always_inline)) void x86_do_cpuid(struct x86_vcpu *v)
{
	uint64_t *gpr = v->virt.gpr;
	const struct cpuid_regs *r = guest_cpuid_find(&v->cpuid, (uint32_t)gpr[VIRT_RAX],
		(uint32_t)gpr[VIRT_RCX]);
	gpr[VIRT_RAX] = r->eax;
	gpr[VIRT_RBX] = r->ebx;
	gpr[VIRT_RCX] = r->ecx;
	gpr[VIRT_RDX] = r->edx;
	v->virt.count[VIRT_COUNT_CPUID]++;
}

/* Three instructions where a comparison of the whole TSC takes seven. */
static inline __attribute__((always_inline)) bool x86_time_is_up(const struct x86_vcpu *v)
{
	uint32_t low;
	__asm__ volatile("rdtsc" : "=a"(low) : : "rdx");
	return (int32_t)(low - v->stop_low) >= 0;
}

static inline __attribute__((always_inline)) enum virt_exit_kind x86_run_loop(struct x86_vcpu *v,
	uint64_t deadline, const struct virt_ops *ops)
{
	if (UNLIKELY(deadline != v->deadline)) {
		v->deadline = deadline;
		x86_attend(v, X86_ATTENTION_TIME);
	}
	for (;;) {
		enum virt_exit_kind up;
		if (UNLIKELY(__atomic_load_n(&v->attention, __ATOMIC_RELAXED) != 0 ||
			    x86_time_is_up(v))) {
			if (!x86_prepare(v)) {
				up = VIRT_EXIT_DEADLINE;
				v->virt.exit.kind = up;
				return up;
			}
		}
		enum x86_exit_kind kind = ops->enter(&v);
		if (LIKELY(kind == X86_EXIT_HYPERCALL && ops->in_kernel(v))) {
			ops->skip(v);
			v->virt.count[VIRT_COUNT_HYPERCALL]++;
			v->virt.exit.kind = VIRT_EXIT_HYPERCALL;
			return VIRT_EXIT_HYPERCALL;
		}
		if (LIKELY(kind == X86_EXIT_CPUID)) {
			x86_do_cpuid(v);
			ops->skip(v);
			continue;
		}
		if (LIKELY(kind == X86_EXIT_SLAT_FAULT)) {
			v->virt.count[VIRT_COUNT_SLAT_FAULT]++;
			v->virt.exit.kind = VIRT_EXIT_SLAT_FAULT;
			return VIRT_EXIT_SLAT_FAULT;
		}
		up = x86_handlers[kind](v);
		if (up != X86_RESUME) {
			v->virt.exit.kind = up;
			return up;
		}
	}
}
