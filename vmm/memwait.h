/*
 * Waiting for memory (docs/adr/0003-waiting-for-memory.md): a vCPU whose page cannot be given waits,
 * the policy is told, and a kernel that is on its way to giving pages back gets a few emergency
 * pages to be able to.
 */
#pragma once

#include "vmm/exit.h"

/* Emergency pages a guest may owe at a time; fewer if many guests share the reserve. */
#define MEMWAIT_GRACE_MAX 16u
#define MEMWAIT_GRACE_MIN 2u

/* Pages a guest may owe, with `guests` sharing `emergency_pages`. Half of them stay for tables. */
static inline uint32_t memwait_grace_limit(uint64_t emergency_pages, uint32_t guests)
{
	uint64_t each = emergency_pages / 2 / MAX(guests, 1u);

	return (uint32_t)MIN(MAX(each, MEMWAIT_GRACE_MIN), MEMWAIT_GRACE_MAX);
}

/* p2m_fault() said WAIT. Grace, or the vCPU waits. */
enum exit_action memwait_fault(struct vcpu *v, gpa_t gpa, uint32_t access);
/*
 * The page at `gpa` is being read from swap: the vCPU waits until it can be had. It is then mapped for `access` before
 * the buffer that it lies in is another's; 0: the vCPU will read it where it lies, and only if it
 * finds it gone is it mapped.
 */
enum exit_action memwait_disk(struct vcpu *v, gpa_t gpa, uint32_t access);
/*
 * A hypercall could not get at [gpa, gpa + bytes), which lies in memory: it is put back to its start,
 * and the vCPU waits for the first page that is not to be had.
 */
enum exit_action memwait_hypercall(struct vcpu *v, gpa_t gpa, uint64_t bytes, uint32_t access);
/* One that waits, on CPU 0: true if it has what it waited for. O(1); tries only if something has changed. */
bool memwait_poll(struct vcpu *v, uint64_t now_tsc);
/* The guest gave `pages` frames back: pays what it owes. */
void memwait_repay(struct guest *g, uint64_t pages);
