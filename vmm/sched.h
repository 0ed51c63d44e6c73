/*
 * Which vCPU runs where and when: docs/scheduling.md. The policy is vmm/fair.h; here is the protocol by
 * which vCPUs sleep, are woken, move between CPUs and are stopped, and each CPU's loop.
 *
 * The control plane (console, memory policy, guests' life cycles, who waits for memory) is CPU 0's, from
 * its loop; what is "control" below may be called there only. Locks: LOCK_RANK_SCHED inside.
 */
#pragma once

#include "vmm/exit.h"
#include "vmm/guest.h"

#define SCHED_SLICE_US 1000u /* on CPU 0 also bounds how long the serial port goes unpolled */

/* Once at boot, with as many CPUs as platform_cpu_count() says. */
void sched_init(void);

/* A new vCPU, STOPPED. `cpus`: mask of those it may run on. */
void sched_vcpu_init(struct vcpu *v, uint32_t weight, uint64_t cpus);
/* control: a STOPPED vCPU runs from now on, or sleeps if it is `halted`. */
void sched_add(struct vcpu *v);
/*
 * Any CPU: it stops, at once or where it next leaves the guest. For its guest's own failure, too: then
 * from its exit path. sched_stop_wait() (control, no lock held) returns when it has: STOPPED, and no CPU
 * holds anything of it.
 */
void sched_stop(struct vcpu *v);
void sched_stop_wait(struct vcpu *v);
/* control: another weight, another mask. What it does goes on. */
void sched_set(struct vcpu *v, uint32_t weight, uint64_t cpus);
/* Any CPU, after something was raised: it looks at it soon, wherever it is. Takes SCHED only. */
void sched_wake(struct vcpu *v);
/* From the exit path of `v`: an interrupt came. True: its turn ends, there is something else to do. */
bool sched_must_leave(const struct vcpu *v);
/*
 * From the exit path of `v`: it spins until another vCPU of its guest gets somewhere, `peer` (its index) or any. What
 * that calls for: EXIT_GIVE_WAY if that one waits for a CPU, which is then `v`'s; EXIT_RESUME if it runs; EXIT_YIELD
 * if it does neither. docs/scheduling.md, "Who spins".
 */
#define SCHED_ANY_PEER UINT64_MAX
enum exit_action sched_spins(struct vcpu *v, uint64_t peer);
/* CPU 0 has something to look at: wakes it if it idles. Any CPU. */
void sched_poke_control(void);

/*
 * All other CPUs stand still, in no guest and with no lock held, between these two. No lock held; two
 * at a time take turns. Any CPU.
 */
void sched_park_others(void);
void sched_unpark(void);

bool sched_pass(void); /* one turn of this CPU's loop; false: nothing was to be done. For tests too */
void sched_rest(void); /* what follows then: scrubs, or halts until there is something to do */
_Noreturn void sched_loop(void);
void sched_cpu_main(void); /* the other CPUs' loop, for platform_cpus_start() */

/* Work that CPU 0's loop calls between vCPUs: returns true while it has more to do. Set once at boot. */
void sched_set_poll(bool (*poll)(void));

struct sched_cpu_stats {
	uint64_t idle_tsc, guest_tsc; /* since boot */
	uint64_t switches; /* turns given */
	uint64_t steals;   /* vCPUs taken over from other CPUs */
	uint64_t wakes;    /* from sleep, onto this CPU */
	uint64_t lock_contended; /* its queue's lock: acquisitions that waited */
	uint32_t waiting;  /* RUNNABLE on it now */
	const struct vcpu *running; /* a hint: NULL, or who was there a moment ago */
};
void sched_cpu_stats(uint32_t cpu, struct sched_cpu_stats *out);
uint64_t sched_idle_tsc(void); /* of all CPUs together */

/* TSC when hv_main() began, and just before the first entry to a guest (0: not yet). */
extern uint64_t hv_entry_tsc, hv_first_guest_tsc;
