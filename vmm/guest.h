/*
 * Guests: life cycle, and what the console, the hypercalls and the scheduler need of one.
 * Locks: the list by LOCK_RANK_GUESTS, one guest's mutable part by guest->lock (LOCK_RANK_GUEST).
 */
#pragma once

#include "balloon/balloon.h"
#include "balloon/stall.h"
#include "mm/reclaim.h"
#include "vmm/base/list.h"
#include "vmm/base/log.h"
#include "vmm/config.h"
#include "vmm/fair.h"
#include "vmm/gconsole.h"
#include "vmm/sampling.h"
#include "vmm/virt.h"

#define GUEST_MAX      CONFIG_GUEST_MAX
#define GUEST_VCPU_MAX CONFIG_VCPU_MAX

enum guest_state {
	GUEST_RUNNING,  /* has runnable or halted vCPUs */
	GUEST_PAUSED,   /* by the operator */
	GUEST_SHUTDOWN, /* it powered off; memory still held until destroyed */
	GUEST_CRASHED,  /* it failed; `reason` says how */
	GUEST_DYING,    /* being destroyed */
};

#define VCPU_STATE_MASK 0xffu
#define VCPU_CPU_SHIFT  8u
enum vcpu_state {
	VCPU_RUNNABLE,    /* on a CPU's queue */
	VCPU_RUNNING,
	VCPU_HALTED,      /* HLT: until an interrupt or its timer */
	VCPU_WAIT_MEMORY, /* its page cannot be given yet */
	VCPU_WAIT_DISK,   /* another has the disk */
	VCPU_STOPPED,     /* its guest is not RUNNING, or about to be */
};

struct vcpu {
	struct virt_vcpu *virt;
	struct guest *guest;
	struct list run_link;    /* scheduler's: who sleeps, or waits for memory */
	struct fair_entity fair; /* scheduler's: who wants to run */
	uint32_t where;          /* enum vcpu_state, and the CPU above it; atomic: vcpu_state() */
	bool stop;               /* wanted STOPPED; atomic */
	bool halted;             /* in HLT: kept over a pause */
	uint64_t cpu_tsc;        /* time it ran */
	uint64_t spin_for;       /* whom it spins for, if it gives way: a vCPU's index, or any. Its CPU's */
	bool spun;               /* its last turn ended by that; atomic, others read a hint */
	/* What became of its other time, for the policy (balloon/stall.h). Written by who owns it or its place;
	 * read by CPU 0, a little old or torn from each other as they may be. */
	uint64_t where_since_tsc; /* where it is now */
	uint64_t idle_tsc;        /* HALTED or STOPPED */
	uint64_t stalled_tsc;     /* stood still for a page, a frame, or for its disk to read */
	uint64_t disk_tsc;        /* of cpu_tsc: its own requests at the disk */
	bool disk_reads;          /* the request that waits in line for the disk does */
	/* waiting for memory (vmm/memwait.h): its CPU's, or CPU 0's while it is WAIT_MEMORY */
	uint64_t wait_since_ns; /* in one wait since; 0: not waiting. Survives the retries */
	gpa_t wait_gpa;         /* the page it wants, and how */
	uint32_t wait_access;
	bool wait_kernel;         /* its kernel does, not a process in it */
	bool wait_interruptible;  /* it could take an interrupt where it stands */
	bool wait_disk;           /* for a page that is being read from swap, not for a frame */
	uint64_t wait_free_pages; /* free in the pool at the last try, or fewer since */
	uint64_t wait_retry_tsc;  /* tried again by then even if nothing seems to have changed */
	uint64_t wait_enter_tsc;  /* not entered for an interrupt before this */
	uint64_t wait_ns_total, wait_count;
	uint64_t gave_way; /* turns given to another vCPU of the guest */
	uint64_t disk_wait_ns_total, disk_wait_count;
	/* what a hypercall that must wait could not get at; owner CPU only */
	gpa_t call_gpa;
	uint64_t call_bytes;
	uint32_t call_access;
	/* a block request that has to wait for a page on its way in: where it goes on */
	struct aero_block_req block_at;
	uint32_t block_done; /* sectors */
	struct aero_range *ranges; /* AERO_RANGE_MAX: a balloon call's copy */
	uint64_t hypercalls[32];   /* by number */
	uint64_t hypercall_errors;
	uint64_t access_outside;   /* accesses outside its memory: answered by #GP */
};

/* A snapshot: only its CPU, or who holds the queue's lock, may rely on it. */
static inline enum vcpu_state vcpu_state(const struct vcpu *v)
{
	return (enum vcpu_state)(__atomic_load_n(&v->where, __ATOMIC_ACQUIRE) & VCPU_STATE_MASK);
}
static inline uint32_t vcpu_cpu(const struct vcpu *v)
{
	return __atomic_load_n(&v->where, __ATOMIC_ACQUIRE) >> VCPU_CPU_SHIFT;
}

/* What a guest may make the hypervisor log: GUEST_LOG_LINES a second, the rest is counted. */
#define GUEST_LOG_LINES 10u
/* Atomic: several vCPUs of a guest may have something to say. */
struct guest_log_budget {
	uint64_t second;
	uint32_t lines, dropped;
};

struct block_region {
	uint32_t disk;         /* platform disk index */
	uint64_t first_sector; /* on it */
	uint64_t sector_count; /* 0: no disk */
	uint64_t reads, writes, read_sectors, write_sectors, errors;
};

struct guest {
	uint16_t id; /* 1 .. ; never reused while a guest of that id holds memory */
	struct config_guest config;
	struct spinlock lock;
	struct list link; /* the list of guests */
	enum guest_state state;
	char reason[96]; /* why CRASHED or SHUTDOWN */
	struct p2m p2m;
	struct balloon balloon;
	struct gconsole console;
	struct block_region disk;
	uint32_t vcpu_count;
	struct vcpu vcpu[GUEST_VCPU_MAX];
	struct virt_vcpu *peers[GUEST_VCPU_MAX]; /* of vcpu[]: what they send each other interrupts by */
	struct { /* the ladder's, CPU 0's: vmm/ladder.h */
		uint64_t limit_pages; /* frames it may hold; UINT64_MAX: no limit */
		/* of the policy's last step, for its next (balloon/policy.h) */
		uint64_t rate_pages, withheld_pages, entitled_pages, over_since_ns;
		bool limited;
		/* pages that it touched when they were out, decaying: until when, and those counted so far */
		uint64_t refault_pages, refault_ns, refault_seen;
		bool wait_over;       /* state LOW: it gets no frame beyond its limit, come what may */
		uint64_t full_ns;     /* when its pages last found no room; 0: never */
		uint64_t stuck_ns;    /* when last none of it could be taken; 0: some could since */
		uint64_t freed;       /* pages, since it was created */
		uint64_t rate_freed, rate_ns, rate; /* freed at the begin of a window; pages a second in the last */
		enum reclaim_limit obstacle; /* of the last step */
		struct reclaim reclaim;
	} ladder;
	struct sampling sampling; /* CPU 0's: vmm/sampling.h */
	struct { /* CPU 0's: vmm/overcommit.c */
		struct stall average;
		uint64_t seen_tsc;
		struct stall_time seen[GUEST_VCPU_MAX]; /* then */
	} stall;
	uint8_t event_vector; /* 0: none */
	uint32_t event_pending; /* AERO_EVENT_*; atomic: raised under any lock */
	uint64_t created_ns;
	uint32_t grace_pages;      /* emergency pages it owes (docs/adr/0003); atomic */
	uint64_t grace_total;
	bool reboot;               /* SHUTDOWN, and wants to be started again */
	struct guest_log_budget log;
};

/*
 * Creates and starts a guest (state RUNNING). Nothing is left behind on failure. `error` gets a
 * sentence with the numbers: ERR_EXIST (name), ERR_INVAL (cpus), ERR_NOENT (kernel image), ERR_LIMIT (admission),
 * ERR_FORMAT (image), ERR_NOMEM.
 */
status_t guest_create(const struct config_guest *config, struct guest **out,
	char error[CONFIG_ERROR_BYTES]) MUST_CHECK;
/* Ends it and gives all it held back. Not from the guest's own exit path (use guest_crash). */
void guest_destroy(struct guest *g);
status_t guest_pause(struct guest *g) MUST_CHECK;   /* ERR_BUSY: not RUNNING */
status_t guest_unpause(struct guest *g) MUST_CHECK; /* ERR_BUSY: not PAUSED */
/* From its exit path: the guest fails or ends; the others go on. */
void guest_crash(struct guest *g, const char *fmt, ...) PRINTF(2, 3);
void guest_shutdown(struct guest *g, const char *reason, bool reboot);
/* A page of it cannot be had any more: it fails, with the page in its reason. From its exit path. */
void guest_page_lost(struct guest *g);

/* Destroys and creates again those that asked for a reboot. Between vCPUs only. */
void guest_poll(void);

/* Logs on a guest's behalf, with its name in front and its budget observed. */
void guest_log(struct guest *g, enum log_level level, const char *fmt, ...) PRINTF(3, 4);

struct guest *guest_find(const char *name); /* by name, or by id in decimal; NULL */
struct guest *guest_next(struct guest *g);  /* NULL: first; returns NULL after the last; by id */
uint32_t guest_count(void);

/* mem-max: it never holds more memory than this (its page tables apart). min <= bytes <= memory. */
void guest_set_max(struct guest *g, uint64_t bytes);

/* Its weight when processors are short: 1 .. FAIR_WEIGHT_MAX. Control plane. */
void guest_set_cpu_shares(struct guest *g, uint32_t shares);

/* Raises AERO_EVENT_* bits: pending, interrupt, wake. */
void guest_event(struct guest *g, uint32_t events);
/* Operator's bytes to its console; returns how many were taken. */
size_t guest_console_input(struct guest *g, const char *s, size_t n);

const char *guest_state_name(enum guest_state s);
/* xl's letters, six columns "r-----": r running, b blocked, p paused, s shutdown, c crashed, d dying */
void guest_state_letters(const struct guest *g, char out[7]);

/* The config that the machine booted with (constant after boot), for `create`. */
extern struct config hv_config;
