/* Processes' lives. */
#include "guest-drivers/kernel/proc.h"

#include "guest-drivers/kernel/cache.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/smp.h"

/* Preemption off; what belongs to a process's own thread, by that. */
static struct proc procs[PROC_MAX];
static uint32_t next_pid = 1;
static uint64_t ended_minor, ended_major;

const char proc_ended = 0;

struct proc *proc_by_index(uint32_t i)
{
	return &procs[i];
}

uint32_t proc_index(const struct proc *p)
{
	return (uint32_t)(p - procs);
}

struct proc *proc_by_pid(uint32_t pid)
{
	for (struct proc *p = procs; p < procs + PROC_MAX; p++)
		if (p->state != PROC_UNUSED && p->pid == pid)
			return p;
	return NULL;
}

void proc_fault_totals(uint64_t *minor, uint64_t *major)
{
	*minor = ended_minor;
	*major = ended_major;
	for (struct proc *p = procs; p < procs + PROC_MAX; p++) {
		*minor += p->minor_faults;
		*major += p->major_faults;
	}
}

static void proc_main(void *argument)
{
	struct proc *p = argument;

	irq_off();
	if (smp_count > 1)
		kernel_leave();
	user_enter(p->entry, USER_STACK_TOP - 8, p->args);
}

/* A slot that was never used, else that of the process that ended first. */
static struct proc *slot(void)
{
	struct proc *found = NULL;

	for (struct proc *p = procs; p < procs + PROC_MAX; p++) {
		if (p->state == PROC_UNUSED)
			return p;
		if (p->state == PROC_ENDED && !p->vm.pml4 && (!found || p->pid < found->pid))
			found = p;
	}
	return found;
}

uint32_t proc_start(const char *name, uint64_t entry, const uint64_t args[PROC_ARGS])
{
	struct vm vm;

	if (!vm_create(&vm))
		return 0;
	preempt_off();
	struct proc *p = slot();

	if (p) {
		ended_minor += p->minor_faults;
		ended_major += p->major_faults;
		*p = (struct proc){ .pid = next_pid++, .vm = vm, .entry = entry,
				    .pinned_page = NO_PAGE };
		size_t n = MIN(strlen(name), sizeof(p->name) - 1);

		memcpy(p->name, name, n);
		memcpy(p->args, args, sizeof(p->args));
		p->state = PROC_RUNNING;
	}
	preempt_on();
	if (!p) {
		vm_destroy(&vm);
		return 0;
	}
	uint32_t pid = p->pid;

	if (!thread_create("user", PRIORITY_NORMAL, p, proc_main, p)) {
		vm_destroy(&p->vm);
		p->state = PROC_UNUSED;
		return 0;
	}
	return pid;
}

_Noreturn void proc_exit(int code)
{
	struct proc *p = current->proc;

	current->reclaiming = false;
	cache_unpin(p);
	vm_destroy(&p->vm);
	if (!p->killed)
		p->exit_code = code;
	print("pid %u (%s): %s %d, %lu passes, %lu errors\n", p->pid, p->name,
	      p->killed ? "killed" : "exit", p->exit_code, p->passes, p->errors);
	p->thread = NULL;
	p->state = PROC_ENDED;
	sched_wake(&proc_ended);
	thread_exit();
}

void proc_kill(struct proc *p, int code)
{
	if (p->state != PROC_RUNNING || p->killed)
		return;
	p->exit_code = code;
	p->killed = true;
	if (p->thread)
		sched_wake_thread(p->thread); /* every wait is for a condition and looks again */
	if (smp_count > 1)
		smp_kick_all();
}

void proc_switch(struct proc *p)
{
	if (p && p->vm.pml4)
		vm_switch(&p->vm);
}
