/* The kernel lock and what goes with it; starting the others. See smp.h. */
#include "guest-drivers/kernel/smp.h"

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/console.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/sched.h"
#include "guest-drivers/kernel/smp_start.h"
#include "guest-drivers/kernel/timer.h"
#include "guest-drivers/kernel/vm.h"

#define ICR_INIT       0x4500u
#define ICR_STARTUP    0x4600u
#define START_NS       (5000 * NS_PER_MS)
#define YIELD_ROUNDS   64u   /* looks before the hypervisor is told whom this vCPU spins for */
#define EVENT_ROUNDS   4096u /* looks at the lock for one at the APIC, which is an exit */

enum { ASK_NOTHING, ASK_FLUSH, ASK_DROP };

static struct vcpu {
	/* the lock's, put away here while it is another's */
	struct sched_context sched;
	uint64_t armed_ns;
	const struct vm *active; /* read by whoever has the lock */
	/* atomic */
	uint32_t ask; /* ASK_*: set by who has the lock, cleared by this vCPU */
	bool halted;  /* or about to, with nothing to run */
	bool online;
	struct thread idle;
} vcpus[VCPU_MAX];

uint32_t smp_count = 1;
uint32_t kernel_vcpu;
static uint32_t owner = 1; /* vCPU + 1 that has the lock, 0: nobody; atomic */

void smp_vcpu_main(uint64_t id);

static void send(uint32_t id, uint32_t command)
{
	wrmsr(MSR_X2APIC_ICR, (uint64_t)id << 32 | command);
}

bool kernel_mine(void)
{
	return __atomic_load_n(&owner, __ATOMIC_RELAXED) == cpu_id() + 1;
}

static void load(uint32_t id)
{
	struct vcpu *v = &vcpus[id];

	kernel_vcpu = id;
	sched_load(&v->sched);
	timer_load(v->armed_ns);
	vm_load(v->active);
	v->halted = false;
}

bool kernel_try(void)
{
	uint64_t flags = irq_save();
	uint32_t nobody = 0, id = cpu_id();
	bool got = __atomic_compare_exchange_n(&owner, &nobody, id + 1, false, __ATOMIC_ACQUIRE,
					       __ATOMIC_RELAXED);

	if (got)
		load(id);
	irq_restore(flags);
	return got;
}

/*
 * The hypervisor's events come to the first vCPU, or are passed on to one that has left the lock since; its
 * interrupts are off while it waits here. Who has the lock may be waiting for memory that only the balloon's
 * thread brings: it must hear of them.
 */
static void pass_event_on(void)
{
	if (rdmsr(MSR_X2APIC_IRR + VECTOR_EVENT / 32) >> VECTOR_EVENT % 32 & 1)
		(void)smp_forward_event();
}

/* Its place for `id`, if that one waits for a processor while this one spins for it. */
static void spin(uint32_t round, uint32_t id)
{
	if (round % YIELD_ROUNDS == 0 && id < smp_count && hv_features() & AERO_FEAT_YIELD)
		(void)hypercall(AERO_HC_YIELD, id, 0, 0);
	else
		__asm__ volatile("pause" : : : "memory");
}

/* owner - 1; if it has just been given up, that is nobody. */
static uint32_t lock_owner(void)
{
	return __atomic_load_n(&owner, __ATOMIC_RELAXED) - 1;
}

void kernel_enter(void)
{
	uint64_t flags = irq_save();

	for (uint32_t round = 1; !kernel_try(); round++) {
		smp_answer(); /* who has the lock may be waiting for it */
		if (round % EVENT_ROUNDS == 0)
			pass_event_on();
		spin(round, lock_owner());
	}
	irq_restore(flags);
}

void kernel_leave(void)
{
	struct vcpu *v = &vcpus[kernel_vcpu];

	sched_save(&v->sched);
	v->armed_ns = timer_save();
	v->active = vm_save();
	__atomic_store_n(&owner, 0, __ATOMIC_RELEASE);
}

void smp_idle(void)
{
	if (smp_count == 1) {
		__asm__ volatile("sti; hlt; cli" : : : "memory");
		return;
	}
	__atomic_store_n(&vcpus[kernel_vcpu].halted, true, __ATOMIC_RELAXED);
	kernel_leave();
	/* Who makes a thread ready from here on sees `halted`, and its kick waits for STI. */
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	kernel_enter();
}

void smp_kick_idle(void)
{
	for (uint32_t i = 0; i < smp_count; i++) {
		if (i == kernel_vcpu || !__atomic_load_n(&vcpus[i].halted, __ATOMIC_RELAXED))
			continue;
		__atomic_store_n(&vcpus[i].halted, false, __ATOMIC_RELAXED);
		send(i, VECTOR_KICK);
		return;
	}
}

void smp_kick_all(void)
{
	for (uint32_t i = 0; i < smp_count; i++)
		if (i != kernel_vcpu)
			send(i, VECTOR_KICK);
}

bool smp_forward_event(void)
{
	uint32_t who = __atomic_load_n(&owner, __ATOMIC_RELAXED);

	if (!who)
		return false;
	send(who - 1, VECTOR_EVENT);
	return true;
}

void smp_answer(void)
{
	struct vcpu *v = &vcpus[cpu_id()];
	uint32_t ask = __atomic_load_n(&v->ask, __ATOMIC_ACQUIRE);

	if (ask == ASK_NOTHING)
		return;
	if (ask == ASK_DROP) {
		vm_leave_user();
		v->active = NULL;
	} else {
		write_cr3(read_cr3());
	}
	__atomic_store_n(&v->ask, ASK_NOTHING, __ATOMIC_RELEASE);
}

void smp_flush(const struct vm *vm, bool drop)
{
	for (uint32_t i = 0; i < smp_count; i++) {
		if (i == kernel_vcpu || vcpus[i].active != vm)
			continue;
		__atomic_store_n(&vcpus[i].ask, drop ? ASK_DROP : ASK_FLUSH, __ATOMIC_RELEASE);
		send(i, VECTOR_FLUSH);
	}
	for (uint32_t i = 0; i < smp_count; i++)
		for (uint32_t round = 1; i != kernel_vcpu && __atomic_load_n(&vcpus[i].ask, __ATOMIC_ACQUIRE); round++)
			spin(round, i);
}

/* ---- starting the others ---------------------------------------------------------------------- */

/* Its first C: on its own stack, the kernel's tables, interrupts off. */
void smp_vcpu_main(uint64_t id)
{
	cpu_init((uint32_t)id);
	timer_vcpu_init();
	vcpus[id].idle = (struct thread){ .name = "idle", .priority = PRIORITY_NORMAL, .state = THREAD_READY };
	vcpus[id].sched = (struct sched_context){ .current = &vcpus[id].idle, .idle = &vcpus[id].idle,
						  .switched_tsc = rdtsc() };
	vcpus[id].armed_ns = NEVER;
	__atomic_store_n(&vcpus[id].online, true, __ATOMIC_RELEASE);
	kernel_enter();
	sched_idle();
}

static uint32_t vcpus_told(void)
{
	uint32_t r[4];

	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(0xb), "c"(1));
	return MIN(MAX(r[1] & 0xffff, 1u), VCPU_MAX);
}

static bool start(uint32_t id)
{
	uint32_t stack = page_alloc(STACK_ORDER, PAGE_MAY_WAIT, NULL);

	if (stack == NO_PAGE)
		return false;
	/* Touched here, where it may wait for the host; a trap could not. */
	for (uint64_t at = 0; at < STACK_BYTES; at += PAGE_BYTES)
		*(volatile uint64_t *)((uint64_t)page_address(stack) + at) = 0;
	smp_prepare(id, (uint64_t)page_address(stack) + STACK_BYTES);
	send(id, ICR_INIT);
	send(id, ICR_STARTUP | SMP_PAGE / PAGE_BYTES);
	send(id, ICR_STARTUP | SMP_PAGE / PAGE_BYTES);
	for (uint64_t end = now_ns() + START_NS; now_ns() < end;)
		if (__atomic_load_n(&vcpus[id].online, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

void smp_init(void)
{
	uint32_t told = vcpus_told();

	for (uint32_t id = 1; id < told; id++) {
		if (!start(id)) {
			print("vcpu %u did not start: %u of %u are used\n", id, smp_count, told);
			send(id, ICR_INIT);
			return;
		}
		smp_count = id + 1;
	}
}
