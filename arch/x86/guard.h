/*
 * Mitigations in effect: mitigate.h's plan for this machine, and what of it is done at entries and exits. The run loop
 * that does it is another instantiation than the ordinary one, chosen at boot (run_loop.h, "guarded"); the
 * instructions next to the entry are in guest_gprs.h.
 *
 * A guest is not offered IA32_SPEC_CTRL: while it runs the register is what guard_cpu_on() wrote, or 0.
 */
#pragma once

#include "arch/x86/mitigate.h"
#include "arch/x86/vcpu.h"

#define MSR_SPEC_CTRL 0x48u
#define MSR_PRED_CMD  0x49u
#define MSR_FLUSH_CMD 0x10bu
#define PRED_CMD_IBPB 1u
#define FLUSH_CMD_L1D 1u

extern struct mitigate_plan guard_plan; /* constant after guard_init() */
extern char guard_text[MITIGATE_TEXT_BYTES];

/* Once at boot, before a back end is probed: the plan depends on it. */
void guard_init(enum virt_mitigations mode);
/* On each CPU: what is set once. */
void guard_cpu_on(void);

/*
 * A turn of `v` begins. What the CPU ran last may have been another guest, whose training of the predictors must not
 * steer this one. (A guest's number comes again after 65000 guests.)
 */
static inline __attribute__((always_inline)) void guard_turn(struct x86_vcpu *v)
{
	struct virt_cpu *cpu = virt_this_cpu();

	if (LIKELY(cpu->guest == v->virt.guest_id))
		return;
	cpu->guest = v->virt.guest_id;
	if (guard_plan.done & MITIGATE_IBPB)
		wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
}

/*
 * The first entry of a turn: since the last one, anything may have come into the cache, other guests' pages
 * too. Exits that the loop answers itself touch nothing but the vCPU's own, and no flush follows them.
 */
static inline __attribute__((always_inline)) void guard_first_entry(void)
{
	if (guard_plan.done & MITIGATE_L1D)
		wrmsr(MSR_FLUSH_CMD, FLUSH_CMD_L1D);
}
