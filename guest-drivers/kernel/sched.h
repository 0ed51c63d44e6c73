/*
 * Threads. One vCPU is in the kernel at a time (smp.h). Kernel code is preemptible wherever preempt_count is
 * 0 and interrupts are on: a page fault that waits for the host must let the balloon's thread run. Data that
 * threads share is changed between preempt_off() and preempt_on(), where fresh pages are never touched; what the
 * interrupt handlers share too, with interrupts off.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guest-drivers/kernel/cpu.h"

#define STACK_ORDER 1u
#define STACK_BYTES 8192u
#define THREAD_MAX 40u

enum thread_state { THREAD_UNUSED = 0, THREAD_READY, THREAD_BLOCKED, THREAD_DEAD };
enum thread_priority { PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_COUNT };

struct proc;

/* Interrupts off, all but what the thread itself owns (proc, reclaiming). */
struct thread {
	uint64_t rsp;
	uint32_t stack_page; /* first page, order STACK_ORDER */
	uint8_t state, priority;
	bool reclaiming; /* may use the reserve, never reclaims within reclaim */
	const void *channel; /* blocked on */
	uint64_t wake_ns;
	struct thread *next; /* ready queue */
	struct proc *proc;   /* NULL: a kernel thread */
	const char *name;
	uint64_t run_ticks;
};

/* What is kept of a vCPU (smp.h). */
struct sched_context {
	struct thread *current, *idle;
	bool wanted;
	uint64_t slice_end_ns, switched_tsc;
};
void sched_save(struct sched_context *c);
void sched_load(const struct sched_context *c);

extern struct thread *current;      /* changes at switches, interrupts off */
extern volatile uint32_t preempt_count; /* this CPU's */
extern volatile bool sched_wanted;

void sched_init(void);
/* NULL: no memory or too many. fn(argument) returning ends the thread. */
struct thread *thread_create(const char *name, enum thread_priority priority, struct proc *proc,
			     void (*fn)(void *), void *argument);
_Noreturn void thread_exit(void);

/*
 * Blocks on `channel` until sched_wake(channel) or the time; interrupts off before and after, so
 * that the caller's test of its condition and the wait are one step.
 */
void sched_block(const void *channel, uint64_t until_ns);
void sched_wake(const void *channel); /* any context */
void sched_wake_thread(struct thread *t);
void sched_sleep_ns(uint64_t ns);
void sched_yield(void);
/* At interrupt return (to code with interrupts on) and preempt_on(): gives way if wanted. */
void sched_preempt(void);
void sched_tick(void);    /* the timer's interrupt */
_Noreturn void sched_idle(void);
uint64_t sched_idle_ticks(void);
uint64_t sched_switches(void);
const struct thread *sched_thread(uint32_t i); /* i < THREAD_MAX */

static inline void preempt_off(void)
{
	preempt_count++;
	__asm__ volatile("" : : : "memory");
}
static inline void preempt_on(void)
{
	__asm__ volatile("" : : : "memory");
	if (--preempt_count == 0 && sched_wanted && irq_is_on())
		sched_preempt();
}
