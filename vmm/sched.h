/*
 * Which vCPU runs. First form: one CPU, round robin with a slice, sleep on HLT, wake by timer or
 * event, a list of vCPUs that wait for memory. The loop also polls the console and runs the balloon's
 * policy on its period. Locks: LOCK_RANK_SCHED inside.
 */
#pragma once

#include "vmm/guest.h"

#define SCHED_SLICE_US 1000u /* also bounds how long the serial port goes unpolled */

void sched_init(void);
void sched_add(struct vcpu *v);    /* VCPU_RUNNABLE from now on */
void sched_remove(struct vcpu *v); /* VCPU_STOPPED */
void sched_wake(struct vcpu *v);   /* HALTED -> RUNNABLE; nothing otherwise */
void sched_wait_memory(struct vcpu *v); /* from its exit path, by vmm/memwait.c */
bool sched_pass(void); /* one turn of the loop; false: nothing was to be done. For tests too */
_Noreturn void sched_loop(void);
void sched_cpu_main(void);

/* Work the loop calls between vCPUs: poll returns true while it has more to do. Set once at boot. */
void sched_set_poll(bool (*poll)(void));
uint64_t sched_idle_tsc(void); /* time spent idle since boot */

/* TSC when hv_main() began, and just before the first entry to a guest (0: not yet). */
extern uint64_t hv_entry_tsc, hv_first_guest_tsc;
