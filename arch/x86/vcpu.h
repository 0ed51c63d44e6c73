/*
 * A virtual CPU as both back ends (VMX, SVM) see it, and what a back end is: struct virt_ops. The
 * back end enters the guest and says in neutral words why it came back (enum x86_exit_kind); vcpu.c
 * resolves what is the processor's own business and hands the rest to vmm. run_loop.h is the loop
 * between the two; each back end compiles its own copy, so that nothing in it is an indirect call.
 */
#pragma once

#include "arch/x86/guest_cpuid.h"
#include "arch/x86/percpu.h"
#include "arch/x86/vlapic.h"
#include "vmm/virt.h"

enum x86_exit_kind {
	X86_EXIT_HYPERCALL,
	X86_EXIT_CPUID,
	X86_EXIT_SLAT_FAULT, /* virt.exit.slat is filled */
	X86_EXIT_MSR_READ,
	X86_EXIT_MSR_WRITE,
	X86_EXIT_IO,        /* info.io */
	X86_EXIT_HALT,
	X86_EXIT_SPIN,      /* a PAUSE in a loop, not executed */
	X86_EXIT_CR,        /* info.cr */
	X86_EXIT_XSETBV,
	X86_EXIT_TIMER,     /* the back end's timer for stop_tsc */
	X86_EXIT_INTERRUPT, /* a host interrupt; it has been taken */
	X86_EXIT_INTERRUPT_AT_HALT, /* the same, in front of a HLT that has to be done: skip goes behind it */
	X86_EXIT_WINDOW,    /* the guest can take an interrupt now; the request is off again */
	X86_EXIT_EXCEPTION, /* info.exception: goes back to the guest */
	X86_EXIT_NMI,       /* the host's; it has been taken */
	X86_EXIT_MACHINE_CHECK,
	X86_EXIT_NOTHING,   /* an instruction that has no effect on guests: WBINVD, INVD */
	X86_EXIT_FLUSH,     /* an instruction that flushes translations: INVLPG */
	X86_EXIT_UNDEFINED, /* an instruction that does not exist for guests: #UD */
	X86_EXIT_DENIED,    /* one that must not be executed: #GP(0) */
	X86_EXIT_AGAIN,     /* the guest's code is not what it was: flush, and execute it again */
	X86_EXIT_SHUTDOWN,
	X86_EXIT_FAILED,    /* text says what */
	X86_EXIT_COUNT
};

/* Registers that the back end keeps. CR0 and CR4 are as the guest sees them. */
enum x86_field {
	X86_RIP, X86_RSP, X86_RFLAGS, X86_CR0, X86_CR2, X86_CR3, X86_CR4, X86_EFER, X86_PAT,
	X86_FS_BASE, X86_GS_BASE, X86_KERNEL_GS_BASE, X86_STAR, X86_LSTAR, X86_CSTAR, X86_FMASK,
	X86_SYSENTER_CS, X86_SYSENTER_ESP, X86_SYSENTER_EIP, X86_DR6, X86_DR7, X86_CS_BASE,
	X86_CPL,
	X86_FIELD_COUNT
};

/* Why the loop must do more than enter again: x86_prepare(). */
enum x86_attention {
	X86_ATTENTION_LOAD = 1u,  /* another vCPU was on the CPU */
	X86_ATTENTION_TIME = 2u,  /* stop_tsc or the timer must be set */
	X86_ATTENTION_EVENT = 4u, /* event_info waits to be injected */
	X86_ATTENTION_LAPIC = 8u, /* something may have become deliverable */
	X86_ATTENTION_POSTED = 16u, /* `posted` is not empty */
	X86_ATTENTION_RESET = 32u, /* `reset` is not empty, or it is parked */
};

/* Event information: bits 0..7 vector, 8..10 type, 11 error code, 31 valid. VMX's interruption
 * information and SVM's EVENTINJ agree so far. */
#define X86_EVENT_EXTERNAL  0u
#define X86_EVENT_EXCEPTION (3u << 8)
#define X86_EVENT_PRIV_SW   (5u << 8)
#define X86_EVENT_TYPE      (7u << 8)
#define X86_EVENT_ERROR     (1u << 11)
#define X86_EVENT_VALID     (1u << 31)

/*
 * Pause-loop exiting, SVM's pause filter: PAUSEs that follow each other within GAP ticks are one loop, and a loop that
 * lasts WINDOW ticks (COUNT times) waits for somebody. A loop of a lock that is held briefly ends sooner.
 */
#define X86_SPIN_GAP    128u
#define X86_SPIN_WINDOW 4096u
#define X86_SPIN_COUNT  512u

struct x86_vcpu {
	struct virt_vcpu virt; /* first: gpr[] is at offset 0 (entry.S) */
	uint64_t entry[3];     /* the back end's entry.S */
	uint32_t attention;    /* X86_ATTENTION_*; atomic: x86_attend(), taken by x86_prepare() */
	bool deaf;             /* it halted with interrupts off: nothing wakes it */
	bool halting;          /* the last exit was HLT */
	bool parked;           /* after INIT: waits for a start-up IPI */
	uint32_t reset;        /* INIT and start-up that others asked for; atomic: vcpu_ipi.c */
	uint32_t stop_low;     /* low half of stop_tsc, which is never 2^31 ticks away or more */
	uint64_t deadline;
	uint64_t stop_tsc;     /* the guest must be left at this time: deadline, or its own timer */
	uint32_t event_info, event_error, event_length; /* to inject next; valid bit in info */
	union {
		struct {
			uint16_t port;
			uint8_t bytes; /* 1, 2, 4 */
			bool in, string;
		} io;
		struct {
			uint8_t cr, gpr; /* gpr: target of a read */
			bool write;
			uint64_t value; /* to write */
		} cr;
		struct {
			uint32_t info, error, length;
			uint64_t dr6; /* #DB: bits to set */
		} exception;
	} info;
	struct vlapic lapic;   /* its owner's; others post: */
	uint64_t posted[4];    /* vectors that wait for the owner to take them; atomic */
	struct guest_cpuid cpuid;
	/* Not in the processor unless this vCPU is the CPU's `live` one. */
	uint64_t xcr0, dr[4], tsc_aux;
	void *xsave; /* xsave_bytes */
	uint32_t xsave_bytes;
	char text[160]; /* of FAILED */
};

struct virt_cpu;

struct virt_ops {
	struct virt_caps caps;
	size_t vcpu_bytes; /* of the back end's struct, whose head is struct x86_vcpu */
	bool rdtscp, invpcid;

	/* The loop of run_loop.h over the next four. */
	enum virt_exit_kind (*run)(struct x86_vcpu *v, uint64_t deadline);
	/* The vCPU is loaded. Fills v->info or exit.slat; keeps an event whose delivery was cut
	 * short in v->event_*. *v does not change; giving it back spares the compiler a spill. */
	enum x86_exit_kind (*enter)(struct x86_vcpu **v);
	/* RIP behind the instruction that made the last exit. */
	void (*skip)(struct x86_vcpu *v);
	bool (*in_kernel)(struct x86_vcpu *v); /* CPL 0 */

	/* Turns virtualisation on, on this CPU. ERR_NOSYS, ERR_NOMEM: *why says it. */
	status_t (*cpu_on)(struct virt_cpu *cpu, const char **why);

	status_t (*create)(struct x86_vcpu *v);
	void (*destroy)(struct x86_vcpu *v);
	/* Everything but the registers of enum x86_field: 64-bit segments, nothing pending. Loaded. */
	void (*boot)(struct x86_vcpu *v);
	/* Real-mode segments, CS at vector << 12. Loaded; only where caps.real_mode. */
	void (*start)(struct x86_vcpu *v, uint8_t vector);
	/* The same for several CPUs: each entry obeys docs/shootdown.md. */
	enum virt_exit_kind (*run_smp)(struct x86_vcpu *v, uint64_t deadline);
	/* No CPU's any more; it was loaded on this one, if on any. NULL: nothing to do. */
	void (*put)(struct x86_vcpu *v);
	/* This CPU's vCPU from now on, until another one is loaded. get, set and the rest below
	 * want it loaded. The one before gets X86_ATTENTION_LOAD. */
	void (*load)(struct x86_vcpu *v);
	uint64_t (*get)(struct x86_vcpu *v, enum x86_field f);
	void (*set)(struct x86_vcpu *v, enum x86_field f, uint64_t value);
	void (*rewind)(struct x86_vcpu *v); /* undoes the last skip */
	void (*set_time)(struct x86_vcpu *v, uint64_t now_tsc); /* stop_tsc has changed */
	bool (*can_interrupt)(struct x86_vcpu *v); /* IF set, nothing in the way */
	void (*clear_shadow)(struct x86_vcpu *v);  /* of STI and MOV SS */
	void (*set_window)(struct x86_vcpu *v, bool on);
	void (*inject)(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length);
	void (*flush_guest)(struct x86_vcpu *v); /* its own translations (gva) */
	/* At once, on this CPU. NULL: the back end compares the space's generation at each entry. With
	 * several CPUs called from an entry that finds a new generation. */
	void (*slat_flush)(struct slat_space *s);
	/* What the back end leaves in the processor between exits (see vcpu_live.h): moved when
	 * another vCPU comes. NULL: nothing. */
	void (*live_save)(struct x86_vcpu *v);
	void (*live_load)(struct x86_vcpu *v);
	bool each_entry; /* set_time is wanted before each entry */
};

/* What one CPU keeps: this_cpu()->virt. Owner CPU only. */
struct virt_cpu {
	struct x86_vcpu *loaded; /* the back end's current one */
	struct x86_vcpu *live;   /* whose FPU and debug state is in the processor */
	void *backend;           /* the back end's own, from cpu_on() */
	uint32_t guest;          /* who ran last, by number; kept by the guarded loop only (guard.h) */
};

/* What a handler returns to go on running the guest. */
#define X86_RESUME VIRT_EXIT_COUNT

/* vcpu_exit.c and vcpu.c. */
extern enum virt_exit_kind (*const x86_handlers[X86_EXIT_COUNT])(struct x86_vcpu *v);
/* Does what attention and time ask for. */
enum x86_go { X86_GO_DEADLINE, X86_GO_PARKED, X86_GO_ENTER };
enum x86_go x86_prepare(struct x86_vcpu *v);
/* vcpu_ipi.c: what the ICR says; INIT and start-up that came; is there any that changes something? */
void x86_send_ipi(struct x86_vcpu *v);
void x86_take_reset(struct x86_vcpu *v);
bool x86_reset_asked(const struct x86_vcpu *v);
extern const struct virt_ops *x86_ops; /* the machine's back end; set once at boot */
/* This CPU's translations of the vCPU's space are older than `generation`. From its entry. */
void x86_space_flush(struct x86_vcpu *v, uint64_t generation);
void x86_inject_gp(struct x86_vcpu *v);
void x86_inject(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length);
void x86_fail(struct x86_vcpu *v, const char *fmt, ...) PRINTF(2, 3);

/* The back ends. ERR_NOENT: the CPU does not know of it; ERR_NOSYS, ERR_NOMEM: it does, and cannot;
 * *why says what is missing. */
status_t vmx_probe(const struct virt_ops **out, const char **why) MUST_CHECK;
status_t svm_probe(const struct virt_ops **out, const char **why) MUST_CHECK;

static inline struct x86_vcpu *x86_vcpu(struct virt_vcpu *v)
{
	return container_of(v, struct x86_vcpu, virt);
}

/* From any CPU: a locked operation, hence a full fence (docs/scheduling.md, "A waker"). */
static inline void x86_attend(struct x86_vcpu *v, uint32_t bits)
{
	__atomic_fetch_or(&v->attention, bits, __ATOMIC_SEQ_CST);
}

static inline struct virt_cpu *virt_this_cpu(void)
{
	return this_cpu()->virt;
}
