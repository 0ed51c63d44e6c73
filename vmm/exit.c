#include "vmm/exit.h"

#include "vmm/hypercall.h"
#include "vmm/memwait.h"
#include "vmm/sched.h"

static enum exit_action exit_yield(struct vcpu *v)
{
	(void)v;
	return EXIT_YIELD;
}

/* Its turn goes on unless the interrupt meant something else. */
static enum exit_action exit_look(struct vcpu *v)
{
	return sched_must_leave(v) ? EXIT_YIELD : EXIT_RESUME;
}

static enum exit_action exit_halt(struct vcpu *v)
{
	(void)v;
	return EXIT_HALT;
}

/*
 * Apart, so that the common fault has no registers to save. Where nothing lies the guest gets a
 * general protection fault, as for any bad address.
 */
static __attribute__((noinline)) enum exit_action fault_rest(
	struct vcpu *v, enum p2m_fault_result result)
{
	gpa_t gpa = v->virt->exit.slat.gpa;

	if (result == P2M_FAULT_WAIT)
		return memwait_fault(v, gpa, v->virt->exit.slat.access);
	if (result == P2M_FAULT_DISK)
		return memwait_disk(v, gpa, v->virt->exit.slat.access);
	if (result == P2M_FAULT_LOST) {
		guest_page_lost(v->guest);
		return EXIT_YIELD;
	}
	v->access_outside++;
	guest_log(v->guest, LOG_DEBUG, "access outside its memory at 0x%llx",
		(unsigned long long)gpa.v);
	virt_inject_gp(v->virt);
	return EXIT_RESUME;
}

static enum exit_action exit_slat_fault(struct vcpu *v)
{
	enum p2m_fault_result result = p2m_fault(&v->guest->p2m, v->virt->exit.slat.gpa,
		v->virt->exit.slat.access);

	return LIKELY(result == P2M_FAULT_MAPPED) ? EXIT_RESUME : fault_rest(v, result);
}

static enum exit_action exit_spin(struct vcpu *v)
{
	return sched_spins(v, SCHED_ANY_PEER);
}

static enum exit_action exit_shutdown(struct vcpu *v)
{
	struct virt_state s;

	virt_get_state(v->virt, &s);
	guest_crash(v->guest, "triple fault at rip 0x%llx", (unsigned long long)s.rip);
	return EXIT_YIELD;
}

static enum exit_action exit_failed(struct vcpu *v)
{
	guest_crash(v->guest, "%s", v->virt->exit.text ? v->virt->exit.text : "its CPU failed");
	return EXIT_YIELD;
}

const exit_fn exit_table[VIRT_EXIT_COUNT] = {
	[VIRT_EXIT_DEADLINE] = exit_yield,
	[VIRT_EXIT_HOST_EVENT] = exit_look,
	[VIRT_EXIT_HYPERCALL] = hypercall_exit,
	[VIRT_EXIT_SLAT_FAULT] = exit_slat_fault,
	[VIRT_EXIT_HALT] = exit_halt,
	[VIRT_EXIT_SPIN] = exit_spin,
	[VIRT_EXIT_SHUTDOWN] = exit_shutdown,
	[VIRT_EXIT_FAILED] = exit_failed,
};
