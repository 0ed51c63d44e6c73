/* Processes: a workload in an address space of its own, with one thread. */
#pragma once

#include "guest-drivers/kernel/vm.h"

#define PROC_MAX 16u
#define PROC_ARGS 4u

enum proc_state { PROC_UNUSED = 0, PROC_RUNNING, PROC_ENDED };
enum { EXIT_KILLED = -9, EXIT_FAULT = -11, EXIT_OOM = -12, EXIT_IO = -5 };

struct thread;

struct proc {
	uint32_t pid;
	uint8_t state;
	volatile bool killed; /* ends at its next way back to ring 3, or when it waits for memory */
	int exit_code;
	char name[24]; /* as it was started, "hog 8M" */
	struct vm vm;
	struct thread *thread;
	uint32_t pinned_page; /* of the page cache, see cache.h */
	uint64_t entry, args[PROC_ARGS];
	uint64_t minor_faults, major_faults;
	uint64_t passes, errors; /* what the workload says of itself */
};

struct proc *proc_by_index(uint32_t i);
uint32_t proc_index(const struct proc *p);
struct proc *proc_by_pid(uint32_t pid); /* running or ended; NULL */

/* Starts a workload at `entry`; its pid, or 0: no memory, or PROC_MAX run. */
uint32_t proc_start(const char *name, uint64_t entry, const uint64_t args[PROC_ARGS]);
/* Of the current process. */
_Noreturn void proc_exit(int code);
/* Any context with preemption off. */
void proc_kill(struct proc *p, int code);
void proc_switch(struct proc *p);
void proc_fault_totals(uint64_t *minor, uint64_t *major);
/* Wakes when any process ends. */
extern const char proc_ended;
