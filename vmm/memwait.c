#include "vmm/memwait.h"

#include "vmm/overcommit.h"
#include "vmm/sched.h"

/*
 * Grace is for a guest's kernel only, while its balloon has been told to grow and has not yet: with
 * these pages its reclaim path can finish and pay back far more. A process in the guest never gets
 * one: its vCPU can take the balloon's interrupt where it waits.
 */
static bool grace_allowed(struct vcpu *v)
{
	struct guest *g = v->guest;
	struct virt_state s;

	if (balloon_actual_pages(&g->balloon) >= g->balloon.target_pages || !g->balloon.page)
		return false;
	if (g->grace_pages >=
		memwait_grace_limit(hv_config.reserve_bytes / PAGE_BYTES, guest_count()))
		return false;
	virt_get_state(v->virt, &s);
	return s.cpl == 0;
}

enum exit_action memwait_fault(struct vcpu *v, gpa_t gpa, uint32_t access)
{
	struct guest *g = v->guest;

	overcommit_kick(g);
	if (grace_allowed(v) && p2m_fault(&g->p2m, gpa, access | P2M_GRACE) == P2M_FAULT_MAPPED) {
		g->grace_pages++;
		g->grace_total++;
		return EXIT_RESUME;
	}
	sched_wait_memory(v, gpa.v, access);
	return EXIT_YIELD;
}

enum exit_action memwait_hypercall(struct vcpu *v)
{
	virt_hypercall_again(v->virt);
	overcommit_kick(v->guest);
	sched_wait_memory(v, VCPU_WAIT_NO_PAGE, 0);
	return EXIT_YIELD;
}

void memwait_repay(struct guest *g, uint64_t pages)
{
	g->grace_pages -= (uint32_t)MIN(pages, (uint64_t)g->grace_pages);
}
