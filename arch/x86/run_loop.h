/*
 * The loop that runs a guest: the hottest code there is. Each back end makes its own copy with its
 * const ops, which the compiler then inlines. Budgets (instructions, the guest's included): CPUID
 * exit and back 120, hypercall up to vmm and back 110. So there are four copies a back end: for one
 * CPU or several, and ordinary or guarded (guard.h); the two not chosen at boot cost nothing.
 */
#pragma once

#include "arch/x86/guard.h"
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

/* docs/shootdown.md, "Entry on c", 1 to 3. */
static inline __attribute__((always_inline)) void x86_space_enter(struct x86_vcpu *v)
{
	struct slat_space *s = v->virt.slat;
	struct pcpu *cpu = this_cpu();
	(void)__atomic_exchange_n(&cpu->running, s, __ATOMIC_SEQ_CST);
	uint64_t generation = __atomic_load_n(&s->generation, __ATOMIC_ACQUIRE);
	if (UNLIKELY(generation != s->seen[cpu->index]))
		x86_space_flush(v, generation);
}

/* "Exit on c": no fence is needed. */
static inline __attribute__((always_inline)) void x86_space_leave(void)
{
	__atomic_store_n(&this_cpu()->running, NULL, __ATOMIC_RELEASE);
}

static inline __attribute__((always_inline)) enum virt_exit_kind x86_run_loop(struct x86_vcpu *v,
	uint64_t deadline, const struct virt_ops *ops, const bool smp, const bool guarded)
{
	bool first = true; /* entry of this turn */
	if (guarded)
		guard_turn(v);
	if (UNLIKELY(deadline != v->deadline)) {
		v->deadline = deadline;
		x86_attend(v, X86_ATTENTION_TIME);
	}
	for (;;) {
		enum virt_exit_kind up;
		if (UNLIKELY(__atomic_load_n(&v->attention, __ATOMIC_RELAXED) != 0 ||
			    x86_time_is_up(v))) {
			enum x86_go go = x86_prepare(v);
			if (UNLIKELY(go != X86_GO_ENTER)) {
				up = go == X86_GO_PARKED ? VIRT_EXIT_HALT : VIRT_EXIT_DEADLINE;
				v->virt.exit.kind = up;
				return up;
			}
		}
		if (guarded && first) {
			guard_first_entry();
			first = false;
		}
		if (smp)
			x86_space_enter(v);
		enum x86_exit_kind kind = ops->enter(&v);
		if (smp)
			x86_space_leave();
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
