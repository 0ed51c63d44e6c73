/*
 * Several vCPUs: processes run on all of them at once, the kernel on one at a time. Whoever comes out of
 * ring 3 or out of its halt takes the kernel lock; returning there gives it up. So all that is "interrupts
 * off" or "preemption off" on one vCPU stays as it was, and what the kernel keeps of a vCPU (current thread,
 * slice, alarm, address space) is loaded with the lock and put away with it. With one vCPU nothing of this
 * is reached.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define VCPU_MAX 8u

struct vm;

/* vCPUs that run the kernel; rises during smp_init() only. */
extern uint32_t smp_count;

/* Starts the others: those that CPUID tells of. On the first vCPU, when all else is ready. */
void smp_init(void);

/* The lock is this vCPU's. */
bool kernel_mine(void);
/* Interrupts as they are; off while it waits. */
void kernel_enter(void);
bool kernel_try(void);
void kernel_leave(void); /* interrupts off */
/* Which vCPU is in the kernel: the caller's. */
extern uint32_t kernel_vcpu;

/* Interrupts off, nothing to run: gives the lock up, halts, comes back with it. */
void smp_idle(void);
/* A thread waits: a vCPU that halts looks. */
void smp_kick_idle(void);
/* All others come by the kernel soon: a process on one may have been killed. */
void smp_kick_all(void);
/* Another has the lock: the event is its to look at. False: nobody has. */
bool smp_forward_event(void);

/* No other vCPU uses what it cached of `vm`; `drop`: nor its tables, which are about to go. */
void smp_flush(const struct vm *vm, bool drop);
/* This vCPU was asked to: from the interrupt, or while it waits for the lock. */
void smp_answer(void);
