/* Where every trap arrives. */
#include "guest-drivers/kernel/trap.h"

#include "guest-drivers/kernel/ballooning.h"
#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/smp.h"
#include "guest-drivers/kernel/timer.h"

extern char user_text[], kernel_rodata[];

static const char *const names[32] = {
	"divide error", "debug", "NMI", "breakpoint", "overflow", "bound range", "invalid opcode",
	"no coprocessor", "double fault", "coprocessor overrun", "invalid TSS", "segment missing",
	"stack fault", "general protection", "page fault", "reserved", "x87 error", "alignment",
	"machine check", "SIMD error", "virtualisation", "control protection",
};

bool trap_is_user_image(uint64_t at, uint64_t bytes)
{
	return at >= (uint64_t)user_text && at < (uint64_t)kernel_rodata &&
	       bytes <= (uint64_t)kernel_rodata - at;
}

static _Noreturn void oops(const struct trap_frame *f, uint64_t cr2)
{
	irq_off();
	print("oops: %s (vector %lu, error 0x%lx) in thread %s\n",
	      f->vector < 32 && names[f->vector] ? names[f->vector] : "trap", f->vector, f->error,
	      current->name);
	print("  rip 0x%lx cs 0x%lx rflags 0x%lx rsp 0x%lx cr2 0x%lx cr3 0x%lx\n", f->rip, f->cs,
	      f->rflags, f->rsp, cr2, read_cr3());
	print("  rax 0x%lx rbx 0x%lx rcx 0x%lx rdx 0x%lx rsi 0x%lx rdi 0x%lx rbp 0x%lx\n", f->rax, f->rbx,
	      f->rcx, f->rdx, f->rsi, f->rdi, f->rbp);
	print("  r8 0x%lx r9 0x%lx r10 0x%lx r11 0x%lx r12 0x%lx r13 0x%lx r14 0x%lx r15 0x%lx\n", f->r8,
	      f->r9, f->r10, f->r11, f->r12, f->r13, f->r14, f->r15);
	hv_shutdown(AERO_SHUTDOWN_CRASH, f->vector);
}

static void user_fault(const struct trap_frame *f, uint64_t cr2)
{
	struct proc *p = current->proc;

	irq_on();
	print("pid %u (%s): %s at rip 0x%lx, address 0x%lx\n", p->pid, p->name,
	      f->vector < 32 && names[f->vector] ? names[f->vector] : "trap", f->rip, cr2);
	proc_exit(EXIT_FAULT);
}

/* A process's page, touched by it or by the kernel on its behalf. */
static void page_fault(const struct trap_frame *f, uint64_t cr2)
{
	struct proc *p = current->proc;

	if (!p || preempt_count || !(f->rflags & RFLAGS_IF))
		oops(f, cr2);
	irq_on();
	switch (vm_fault(p, cr2)) {
	case FAULT_DONE:
		break;
	case FAULT_OUTSIDE:
		if (!trap_from_user(f))
			oops(f, cr2);
		user_fault(f, cr2);
		break;
	case FAULT_IO:
		print("pid %u (%s): its page 0x%lx cannot be read from swap\n", p->pid, p->name, cr2);
		proc_exit(EXIT_IO);
	case FAULT_NO_MEMORY:
		proc_exit(EXIT_OOM);
	}
	irq_off();
}

static void event(void)
{
	int64_t bits = hypercall(AERO_HC_EVENT_TAKE, 0, 0, 0);

	if (bits <= 0)
		return;
	if (bits & AERO_EVENT_CONSOLE)
		console_event();
	if (bits & (AERO_EVENT_BALLOON | AERO_EVENT_STATS | AERO_EVENT_SHUTDOWN))
		ballooning_event((uint32_t)bits);
}

static void dispatch(struct trap_frame *f)
{
	uint64_t cr2;

	switch (f->vector) {
	case VECTOR_TIMER:
		interrupt_done();
		sched_tick();
		break;
	case VECTOR_EVENT:
		interrupt_done();
		event();
		break;
	case VECTOR_SYSCALL:
		trap_system_call(f);
		break;
	case VECTOR_KICK:
		interrupt_done();
		break;
	case VECTOR_NMI:
		return;
	case VECTOR_PAGE_FAULT:
		cr2 = read_cr2();
		page_fault(f, cr2);
		break;
	default:
		if (!trap_from_user(f))
			oops(f, read_cr2());
		user_fault(f, read_cr2());
	}
	if (trap_from_user(f) && current->proc->killed) {
		irq_on();
		proc_exit(EXIT_KILLED);
	}
	if (f->rflags & RFLAGS_IF && sched_wanted)
		sched_preempt();
}

/*
 * From ring 3 or out of a halt the kernel lock comes first; two interrupts do without. A thread may come
 * back here on another vCPU than it left: the lock is then that one's, and given up as well.
 */
static void dispatch_among_several(struct trap_frame *f)
{
	/* A system call comes with interrupts on: a thread that one moves here would ask for another's lock. */
	irq_off();
	if (f->vector == VECTOR_FLUSH) {
		smp_answer();
		interrupt_done();
		return;
	}
	if (kernel_mine()) {
		dispatch(f);
		return;
	}
	/* Who has the lock may be waiting for memory that only the balloon's thread, under the lock, brings. */
	if (f->vector == VECTOR_EVENT) {
		while (!kernel_try()) {
			if (smp_forward_event()) {
				interrupt_done();
				return;
			}
			smp_answer();
		}
	} else {
		kernel_enter();
	}
	if (f->vector == VECTOR_SYSCALL)
		irq_on();
	dispatch(f);
	irq_off();
	kernel_leave();
}

void trap_dispatch(struct trap_frame *f)
{
	if (__builtin_expect(smp_count > 1, 0))
		dispatch_among_several(f);
	else
		dispatch(f);
}
