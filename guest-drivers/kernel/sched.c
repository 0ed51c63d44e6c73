/* The scheduler: two queues for all vCPUs, slices only while more than one thread wants to run. */
#include "guest-drivers/kernel/sched.h"

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/cpu.h"
#include "guest-drivers/kernel/page.h"
#include "guest-drivers/kernel/proc.h"
#include "guest-drivers/kernel/smp.h"
#include "guest-drivers/kernel/timer.h"

#define SLICE_NS (10 * NS_PER_MS)

struct queue {
	struct thread *head, *tail;
};

/* All with interrupts off, and the kernel lock where there are several vCPUs (smp.h). */
static struct thread threads[THREAD_MAX];
static struct thread boot_idle, *idle_thread = &boot_idle; /* this vCPU's */
static struct queue ready[PRIORITY_COUNT];
static struct thread *dead; /* its stack is freed once another runs */
static uint64_t slice_end_ns, switched_tsc, switches;

struct thread *current = &boot_idle;
volatile uint32_t preempt_count;
volatile bool sched_wanted;

void sched_save(struct sched_context *c)
{
	*c = (struct sched_context){ current, idle_thread, sched_wanted, slice_end_ns, switched_tsc };
}

void sched_load(const struct sched_context *c)
{
	current = c->current;
	idle_thread = c->idle;
	sched_wanted = c->wanted;
	slice_end_ns = c->slice_end_ns;
	switched_tsc = c->switched_tsc;
}

void sched_thread_main(void (*fn)(void *), void *argument);

static void enqueue(struct thread *t)
{
	struct queue *q = &ready[t->priority];

	t->state = THREAD_READY;
	t->next = NULL;
	if (q->tail)
		q->tail->next = t;
	else
		q->head = t;
	q->tail = t;
}

static struct thread *dequeue(void)
{
	for (unsigned int p = 0; p < PRIORITY_COUNT; p++) {
		struct thread *t = ready[p].head;

		if (!t)
			continue;
		ready[p].head = t->next;
		if (!t->next)
			ready[p].tail = NULL;
		return t;
	}
	return idle_thread;
}

/* Wakes the sleepers whose time has come; returns the next one's. */
static uint64_t wake_sleepers(uint64_t now)
{
	uint64_t next = NEVER;

	for (struct thread *t = threads; t < threads + THREAD_MAX; t++) {
		if (t->state != THREAD_BLOCKED || t->wake_ns == NEVER)
			continue;
		if (t->wake_ns <= now)
			sched_wake_thread(t);
		else
			next = MIN(next, t->wake_ns);
	}
	return next;
}

static void set_alarm(uint64_t next)
{
	if (current != idle_thread && ready[current->priority].head)
		next = MIN(next, slice_end_ns);
	if (next != NEVER)
		timer_alarm(next);
}

/* `t` has just been put on its queue: must the one that runs give way, now or after its slice? */
static void made_ready(const struct thread *t)
{
	if (smp_count > 1 && current != idle_thread)
		smp_kick_idle();
	if (current == idle_thread || t->priority < current->priority)
		sched_wanted = true;
	else if (t->priority == current->priority)
		timer_alarm(slice_end_ns);
}

static void bury(void)
{
	struct thread *t = dead;

	dead = NULL;
	if (t) {
		page_free(t->stack_page, STACK_ORDER);
		*t = (struct thread){ 0 };
	}
}

/* Interrupts off; the caller has put `current` where it belongs. */
static void switch_away(void)
{
	PANIC_ON(preempt_count);
	uint64_t tsc = rdtsc(), now = now_ns();
	uint64_t next_wake = wake_sleepers(now);
	struct thread *from = current, *to = dequeue();

	sched_wanted = false;
	slice_end_ns = now + SLICE_NS;
	from->run_ticks += tsc - switched_tsc;
	switched_tsc = tsc;
	current = to;
	set_alarm(next_wake);
	if (smp_count > 1 && (ready[PRIORITY_HIGH].head || ready[PRIORITY_NORMAL].head))
		smp_kick_idle();
	if (to == from)
		return;
	switches++;
	if (to != idle_thread)
		cpu_set_trap_stack((uint64_t)to->stack_page * PAGE_BYTES + STACK_BYTES);
	proc_switch(to->proc);
	stack_switch(&from->rsp, to->rsp);
	bury();
}

void sched_thread_main(void (*fn)(void *), void *argument)
{
	bury();
	irq_on();
	fn(argument);
	thread_exit();
}

struct thread *thread_create(const char *name, enum thread_priority priority, struct proc *proc,
			     void (*fn)(void *), void *argument)
{
	uint32_t stack = page_alloc(STACK_ORDER, PAGE_MAY_WAIT, NULL);

	if (stack == NO_PAGE)
		return NULL;
	/* Touched here, where it may wait for the host; a trap could not. */
	uint64_t *top = page_address(stack) + STACK_BYTES / 8;

	*(volatile uint64_t *)page_address(stack) = 0;
	*--top = 0;
	*--top = (uint64_t)thread_begin;
	*--top = 0; /* rbx */
	*--top = 0; /* rbp */
	*--top = (uint64_t)fn;
	*--top = (uint64_t)argument;
	*--top = 0; /* r14 */
	*--top = 0; /* r15 */

	uint64_t flags = irq_save();

	for (struct thread *t = threads; t < threads + THREAD_MAX; t++) {
		if (t->state != THREAD_UNUSED)
			continue;
		*t = (struct thread){ .rsp = (uint64_t)top, .stack_page = stack, .name = name,
				      .priority = (uint8_t)priority, .proc = proc };
		if (proc)
			proc->thread = t;
		enqueue(t);
		made_ready(t);
		irq_restore(flags);
		return t;
	}
	irq_restore(flags);
	page_free(stack, STACK_ORDER);
	return NULL;
}

_Noreturn void thread_exit(void)
{
	irq_off();
	current->state = THREAD_DEAD;
	current->proc = NULL;
	dead = current;
	switch_away();
	panic("a dead thread ran");
}

void sched_wake_thread(struct thread *t)
{
	uint64_t flags = irq_save();

	if (t->state == THREAD_BLOCKED) {
		t->channel = NULL;
		t->wake_ns = NEVER;
		enqueue(t);
		made_ready(t);
	}
	irq_restore(flags);
}

void sched_wake(const void *channel)
{
	uint64_t flags = irq_save();

	for (struct thread *t = threads; t < threads + THREAD_MAX; t++)
		if (t->state == THREAD_BLOCKED && t->channel == channel)
			sched_wake_thread(t);
	irq_restore(flags);
}

void sched_block(const void *channel, uint64_t until_ns)
{
	current->state = THREAD_BLOCKED;
	current->channel = channel;
	current->wake_ns = until_ns;
	switch_away();
}

void sched_sleep_ns(uint64_t ns)
{
	uint64_t flags = irq_save();

	sched_block(NULL, now_ns() + ns);
	irq_restore(flags);
}

void sched_yield(void)
{
	uint64_t flags = irq_save();

	if (current != idle_thread)
		enqueue(current);
	switch_away();
	irq_restore(flags);
}

void sched_preempt(void)
{
	uint64_t flags = irq_save();

	while (sched_wanted && !preempt_count && current != idle_thread) {
		enqueue(current);
		switch_away();
	}
	irq_restore(flags);
}

void sched_tick(void)
{
	uint64_t now = now_ns();

	timer_fired();
	uint64_t next_wake = wake_sleepers(now);

	if (current != idle_thread && ready[current->priority].head && now >= slice_end_ns)
		sched_wanted = true;
	else
		set_alarm(next_wake);
}

_Noreturn void sched_idle(void)
{
	for (;;) {
		irq_off();
		if (ready[PRIORITY_HIGH].head || ready[PRIORITY_NORMAL].head) {
			switch_away();
			irq_on();
		} else {
			set_alarm(wake_sleepers(now_ns()));
			if (!ready[PRIORITY_HIGH].head && !ready[PRIORITY_NORMAL].head)
				smp_idle();
		}
	}
}

void sched_init(void)
{
	boot_idle.name = "idle";
	boot_idle.priority = PRIORITY_NORMAL;
	boot_idle.state = THREAD_READY;
	switched_tsc = rdtsc();
}

uint64_t sched_idle_ticks(void)
{
	return boot_idle.run_ticks;
}

uint64_t sched_switches(void)
{
	return switches;
}

const struct thread *sched_thread(uint32_t i)
{
	return &threads[i];
}
