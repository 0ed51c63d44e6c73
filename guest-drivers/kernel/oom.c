/* The last resort: all caches dropped, nothing more fits on swap, the balloon has nothing to give. */
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/reclaim.h"
#include "guest-drivers/kernel/sched.h"

#define PATIENCE_MS 2000u

bool oom_kill(void)
{
	struct proc *victim = NULL;

	preempt_off();
	for (uint32_t i = 0; i < PROC_MAX; i++) {
		struct proc *p = proc_by_index(i);

		if (p->state != PROC_RUNNING)
			continue;
		if (p->killed) { /* one is dying already: wait for what it frees */
			victim = p;
			break;
		}
		if (!victim || p->vm.rss > victim->vm.rss)
			victim = p;
	}
	bool fresh = victim && !victim->killed;
	uint32_t pid = victim ? victim->pid : 0;

	if (fresh) {
		proc_kill(victim, EXIT_OOM);
		reclaim_count_oom_kill();
	}
	preempt_on();
	if (!victim)
		return false;
	if (fresh)
		print("oom: killed pid %u (%s), rss %u KiB, swapped %u KiB\n", pid, victim->name,
		      victim->vm.rss * 4, victim->vm.swapped * 4);
	if (current->proc == victim)
		return false;
	for (uint32_t ms = 0; ms < PATIENCE_MS && victim->pid == pid && victim->state == PROC_RUNNING; ms++)
		sched_sleep_ns(NS_PER_MS);
	return true;
}
