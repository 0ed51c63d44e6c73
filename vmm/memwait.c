#include "vmm/memwait.h"

#include "vmm/overcommit.h"
#include "vmm/platform.h"

/* While a page is read from the disk, which is polled. */
#define DISK_US 50u
/* A waiter looks again after this time even if nothing changed that it can see (a max was raised). */
#define RETRY_MS 5u
/* And is entered for an interrupt no sooner than this, or one whose delivery waits too would spin. */
#define ENTER_MS 1u

static bool in_kernel(struct vcpu *v)
{
	struct virt_state s;

	virt_get_state(v->virt, &s);
	return s.cpl == 0;
}

/*
 * Grace is for a guest's kernel only, while its balloon has been told to grow and has not yet: with
 * these pages its reclaim path can finish and pay back far more. A process in the guest never gets
 * one: its vCPU can take the balloon's interrupt where it waits. The balloon's numbers are read
 * without its lock: an old one costs a page or a millisecond.
 */
static bool grace_allowed(const struct vcpu *v)
{
	const struct guest *g = v->guest;

	return v->wait_kernel && g->balloon.page &&
		balloon_actual_pages(&g->balloon) < g->balloon.target_pages &&
		g->grace_pages <
			memwait_grace_limit(hv_config.reserve_bytes / PAGE_BYTES, guest_count());
}

static bool grace(struct vcpu *v)
{
	struct guest *g = v->guest;

	if (!grace_allowed(v) ||
		p2m_fault(&g->p2m, v->wait_gpa, v->wait_access | P2M_GRACE) != P2M_FAULT_MAPPED)
		return false;
	__atomic_fetch_add(&g->grace_pages, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&g->grace_total, 1, __ATOMIC_RELAXED);
	return true;
}

static void begin_wait(struct vcpu *v)
{
	if (v->wait_since_ns)
		return;
	v->wait_since_ns = platform_ns();
	*(v->wait_disk ? &v->disk_wait_count : &v->wait_count) += 1;
}

enum exit_action memwait_disk(struct vcpu *v, gpa_t gpa, uint32_t access)
{
	uint64_t now = platform_tsc();
	bool again = v->wait_since_ns && v->wait_disk && v->wait_gpa.v == gpa.v;

	v->wait_access = access || !again ? access : P2M_READ;
	v->wait_gpa = gpa;
	v->wait_disk = true;
	v->wait_interruptible = virt_interruptible(v->virt);
	v->wait_retry_tsc = now + platform_tsc_khz * DISK_US / 1000;
	v->wait_enter_tsc = now + platform_ms_to_tsc(ENTER_MS);
	begin_wait(v);
	return EXIT_WAIT;
}

enum exit_action memwait_fault(struct vcpu *v, gpa_t gpa, uint32_t access)
{
	uint64_t now = platform_tsc();

	v->wait_disk = false;
	v->wait_gpa = gpa;
	v->wait_access = access;
	v->wait_kernel = in_kernel(v);
	v->wait_interruptible = virt_interruptible(v->virt);
	overcommit_kick(v->guest);
	if (grace(v))
		return EXIT_RESUME;
	v->wait_free_pages = frame_pool_free();
	v->wait_retry_tsc = now + platform_ms_to_tsc(RETRY_MS);
	v->wait_enter_tsc = now + platform_ms_to_tsc(ENTER_MS);
	begin_wait(v);
	return EXIT_WAIT;
}

enum exit_action memwait_hypercall(struct vcpu *v, gpa_t gpa, uint64_t bytes, uint32_t access)
{
	uint64_t end = gpa.v + bytes;

	virt_hypercall_again(v->virt);
	for (uint64_t at = gpa.v; at < end; at = ALIGN_DOWN(at, PAGE_BYTES) + PAGE_BYTES) {
		switch (p2m_fault(&v->guest->p2m, GPA(at), access)) {
		case P2M_FAULT_WAIT:
			return memwait_fault(v, GPA(at), access);
		case P2M_FAULT_DISK:
			return memwait_disk(v, GPA(at), access);
		case P2M_FAULT_LOST:
			guest_page_lost(v->guest);
			return EXIT_YIELD;
		default:
			break;
		}
	}
	return EXIT_RESUME;
}

/* More may wait for the disk than swap has buffers, and who comes next would take the one that its page lies in. */
static bool poll_disk(struct vcpu *v, uint64_t now_tsc)
{
	struct p2m *p = &v->guest->p2m;

	v->wait_retry_tsc = now_tsc + platform_tsc_khz * DISK_US / 1000;
	if (!p2m_ready(p, v->wait_gpa))
		return false;
	return !v->wait_access || p2m_fault(p, v->wait_gpa, v->wait_access) != P2M_FAULT_DISK;
}

bool memwait_poll(struct vcpu *v, uint64_t now_tsc)
{
	if (v->wait_disk)
		return poll_disk(v, now_tsc);
	uint64_t free = frame_pool_free();
	bool change = free > v->wait_free_pages || now_tsc >= v->wait_retry_tsc;

	if (free < v->wait_free_pages)
		v->wait_free_pages = free;
	if (change) {
		v->wait_free_pages = free;
		v->wait_retry_tsc = now_tsc + platform_ms_to_tsc(RETRY_MS);
		if (p2m_fault(&v->guest->p2m, v->wait_gpa, v->wait_access) != P2M_FAULT_WAIT)
			return true;
	}
	return grace(v);
}

void memwait_repay(struct guest *g, uint64_t pages)
{
	uint32_t owed = __atomic_load_n(&g->grace_pages, __ATOMIC_RELAXED), left;

	do {
		left = owed - (uint32_t)MIN(pages, (uint64_t)owed);
	} while (!__atomic_compare_exchange_n(&g->grace_pages, &owed, left, false, __ATOMIC_RELAXED,
		__ATOMIC_RELAXED));
}
