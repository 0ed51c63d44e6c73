/*
 * What vmm needs of the processor's virtualisation: create a virtual CPU, run it until something
 * happens that is not the processor's own business, raise interrupts. Implemented in arch/x86
 * (vcpu.c over vmx/ and svm/; a fake in tests). CPUID, MSRs, the local APIC with its timer,
 * ports, XSETBV and the like are resolved below this line and never reach vmm.
 *
 * Locks: none taken; a vCPU is used by one CPU at a time (its owner), which calls virt_put() before
 * another one does.
 */
#pragma once

#include "mm/slat.h"
#include "vmm/base/status.h"

/* Order is the x86 encoding's. */
enum virt_gpr { VIRT_RAX, VIRT_RCX, VIRT_RDX, VIRT_RBX, VIRT_RSP, VIRT_RBP, VIRT_RSI, VIRT_RDI,
	VIRT_R8, VIRT_R9, VIRT_R10, VIRT_R11, VIRT_R12, VIRT_R13, VIRT_R14, VIRT_R15, VIRT_GPR_COUNT };

enum virt_exit_kind {
	VIRT_EXIT_DEADLINE,   /* the deadline given to virt_run() has passed */
	VIRT_EXIT_HOST_EVENT, /* a host interrupt came and was taken; look at timers and devices */
	VIRT_EXIT_HYPERCALL,  /* from CPL 0; the instruction is already skipped; gpr[] hold arguments */
	VIRT_EXIT_SLAT_FAULT, /* exit.slat; the instruction will run again */
	VIRT_EXIT_HALT,       /* HLT, skipped; nothing is pending. See virt_wake_tsc() */
	VIRT_EXIT_SPIN,       /* a loop around PAUSE in its kernel: it waits for another vCPU of its guest */
	VIRT_EXIT_SHUTDOWN,   /* triple fault */
	VIRT_EXIT_FAILED,     /* entry failure or an exit that arch cannot resolve: exit.text says what;
	                         details are in the log. The guest is to be killed */
	VIRT_EXIT_COUNT
};

struct virt_exit {
	uint32_t kind; /* enum virt_exit_kind */
	struct {
		gpa_t gpa;
		uint32_t access; /* P2M_READ | P2M_WRITE | P2M_EXEC bits (mm/p2m.h) */
	} slat;
	const char *text; /* FAILED: static or in the vCPU, one line */
};

/* Exits by what caused them, for `stats`. Counted by arch. */
enum virt_counter {
	VIRT_COUNT_CPUID, VIRT_COUNT_MSR_READ, VIRT_COUNT_MSR_WRITE, VIRT_COUNT_IO,
	VIRT_COUNT_HYPERCALL, VIRT_COUNT_SLAT_FAULT, VIRT_COUNT_HALT, VIRT_COUNT_HOST_INTERRUPT,
	VIRT_COUNT_TIMER, VIRT_COUNT_WINDOW, VIRT_COUNT_EXCEPTION, VIRT_COUNT_NMI, VIRT_COUNT_SPIN,
	VIRT_COUNT_OTHER,
	VIRT_COUNT_INJECTED, /* interrupts delivered to the guest: not an exit */
	VIRT_COUNTERS
};
const char *virt_counter_name(enum virt_counter c); /* "cpuid", "msr-read", ... */

/* The head of a vCPU; arch's own part follows it (allocated by virt_vcpu_create()). */
struct virt_vcpu {
	uint64_t gpr[VIRT_GPR_COUNT]; /* valid while not running; RSP lives in gpr[VIRT_RSP] only after
	                                 virt_sync() */
	struct virt_exit exit;
	uint64_t count[VIRT_COUNTERS];
	struct slat_space *slat;
	uint32_t guest_id;
	uint32_t vcpu_id;
	/* vmm's, constant once the guest is made. */
	void *owner;              /* vmm's struct vcpu */
	struct virt_vcpu **peers; /* all of the guest's vCPUs, by vcpu_id; NULL: it is alone */
	uint32_t peer_count;
};

/* What is done against guests that attack through the processor: docs/threat-model.md, "Speculation". */
enum virt_mitigations {
	VIRT_MITIGATIONS_AUTO,  /* what this processor needs and can; the default */
	VIRT_MITIGATIONS_OFF,
	VIRT_MITIGATIONS_FORCE, /* all that it can, needed or not: for tests */
};

struct virt_caps {
	const char *name;        /* "VMX+EPT", "SVM+NPT" */
	const char *features;    /* what is used of the optional ones: words, for people */
	const char *mitigations; /* what is done, and what is needed and is not: the same */
	uint32_t hypercall_kind; /* AERO_CALL_* */
	bool real_mode; /* a vCPU can start as processors do: needed for guests with several */
};
extern struct virt_caps virt_caps; /* constant after virt_init() */

/*
 * Once at boot, on the boot CPU: finds and turns on virtualisation, sets slat_format, virt_caps.
 * ERR_NOSYS: cannot; *why gets one sentence: what is missing and what would help.
 */
status_t virt_init(enum virt_mitigations mode, const char **why) MUST_CHECK;
/* The same on each other CPU. ERR_NOSYS, ERR_NOMEM: it cannot run guests; *why says it. */
status_t virt_cpu_init(const char **why) MUST_CHECK;

/* `slat` must stay valid; its root is set. ERR_NOMEM. State after: as virt_boot() of a zeroed boot. */
status_t virt_vcpu_create(uint32_t guest_id, uint32_t vcpu_id, uint32_t vcpu_count,
	struct slat_space *slat, struct virt_vcpu **out) MUST_CHECK;
void virt_vcpu_destroy(struct virt_vcpu *v);

/* 64-bit flat entry state as at the end of vmm/abi/aerostat.h. */
struct virt_boot {
	uint64_t entry;
	uint64_t cr3;
	uint64_t rsi;
};
void virt_boot(struct virt_vcpu *v, const struct virt_boot *boot);

/* It waits for another of its guest's to start it (INIT, start-up IPI). Only with virt_caps.real_mode. */
void virt_park(struct virt_vcpu *v);

/*
 * Runs the guest until something for vmm: returns the kind, also in v->exit. Returns
 * VIRT_EXIT_DEADLINE at or shortly after `deadline_tsc` (a TSC value). Delivers pending interrupts
 * and APIC timer ticks that are due. Host interrupts are off on entry and return.
 */
enum virt_exit_kind virt_run(struct virt_vcpu *v, uint64_t deadline_tsc);

/* True if the guest has interrupts enabled: one that is pending would be taken at the next entry,
 * before any instruction. For vCPUs that wait in front of an access. */
bool virt_interruptible(struct virt_vcpu *v);

/* Makes `vector` pending in the virtual APIC (edge). From any CPU, running or not; a full fence. Whoever
 * calls sees to it that the vCPU notices: sched_wake(). */
void virt_raise(struct virt_vcpu *v, uint8_t vector);
/* An interrupt could be delivered now, or a timer has expired: a halted vCPU should run. Its owner's. */
bool virt_has_work(struct virt_vcpu *v, uint64_t now_tsc);
/* When its APIC timer will fire: a TSC value, UINT64_MAX if it is off. For halted vCPUs. */
uint64_t virt_wake_tsc(const struct virt_vcpu *v);

/*
 * Takes back the skip of the hypercall that just exited: its instruction will run again, so that
 * interrupts can come first. For hypercalls that wait for memory; no register has been changed.
 */
void virt_hypercall_again(struct virt_vcpu *v);

/* Queues an exception for the next entry: #GP(0), #UD. For accesses that lead nowhere. */
void virt_inject_gp(struct virt_vcpu *v);
void virt_inject_ud(struct virt_vcpu *v);

/*
 * A vCPU has made another of its guest (or itself) ready: by an inter-processor interrupt. Called from
 * the sender's exit path, no lock held. Set once at boot by vmm; NULL: nobody wants to know.
 */
extern void (*virt_wake_hook)(struct virt_vcpu *v);

/*
 * This CPU gives up what it holds of `v` (VMCS, FPU and debug registers), so that another may run it. With
 * one CPU in use it does nothing: what stays is used again.
 */
void virt_put(struct virt_vcpu *v);
/* Once, before the first guest is made: more than one CPU will run them. */
void virt_several_cpus(void);

/* Registers for the console and for crash reports. */
struct virt_state {
	uint64_t gpr[VIRT_GPR_COUNT];
	uint64_t rip, rflags, cr0, cr2, cr3, cr4, efer, cs_base;
	uint32_t cpl;
};
void virt_get_state(struct virt_vcpu *v, struct virt_state *out);
