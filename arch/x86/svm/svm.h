/* What the files of this folder share. Only they include it. */
#pragma once

#include "arch/x86/svm/svm_caps.h"
#include "arch/x86/vcpu.h"

struct svm_vcpu {
	struct x86_vcpu x; /* first. entry[]: the VMCB, its address, the host's state's address */
	struct svm_vmcb *vmcb; /* a page */
	uint64_t cr4;          /* as the guest sees it */
	uint64_t exit_rip;     /* of the instruction that was skipped last */
	uint64_t seen;         /* the second-level space's generation that it last entered with */
	uint64_t asid_generation;
	struct svm_cpu *host;  /* the CPU whose ASID it has */
	bool window, stepped;
};

/* What one CPU keeps: virt_this_cpu()->backend. Owner CPU only. */
struct svm_cpu {
	struct svm_asids asids;
	bool flush_owed;   /* a generation began: the next that is entered flushes everything */
	void *host_save;   /* VM_HSAVE_PA's page */
	void *host_vmcb;   /* VMSAVE's: FS, GS, TR, LDTR, SYSCALL and SYSENTER MSRs */
	uint64_t host_vmcb_hpa;
};

extern struct svm_caps svm_caps; /* constant after svm_probe() */
extern void *svm_msrpm;          /* pages, constant after svm_probe() */
extern void *svm_iopm;
extern uint32_t svm_clean;       /* what to claim clean after an exit. Constant after svm_probe() */

static inline struct svm_vcpu *svm_vcpu(struct x86_vcpu *v)
{
	return container_of(v, struct svm_vcpu, x);
}

static inline struct svm_cpu *svm_this_cpu(void)
{
	return virt_this_cpu()->backend;
}

/* svm_vcpu.c: the cold half of struct virt_ops. */
status_t svm_create(struct x86_vcpu *v) MUST_CHECK;
void svm_destroy(struct x86_vcpu *v);
void svm_boot(struct x86_vcpu *v);
void svm_start(struct x86_vcpu *v, uint8_t vector);
void svm_load(struct x86_vcpu *v);
uint64_t svm_get(struct x86_vcpu *v, enum x86_field f);
void svm_set(struct x86_vcpu *v, enum x86_field f, uint64_t value);
void svm_skip(struct x86_vcpu *v);
void svm_rewind(struct x86_vcpu *v);
void svm_set_time(struct x86_vcpu *v, uint64_t now_tsc);
bool svm_can_interrupt(struct x86_vcpu *v);
void svm_clear_shadow(struct x86_vcpu *v);
void svm_set_window(struct x86_vcpu *v, bool on);
void svm_inject(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length);
void svm_flush_guest(struct x86_vcpu *v);

/* svm_run.c, svm_exit.c */
enum virt_exit_kind svm_run(struct x86_vcpu *v, uint64_t deadline);
enum virt_exit_kind svm_run_smp(struct x86_vcpu *v, uint64_t deadline);
enum virt_exit_kind svm_run_guarded(struct x86_vcpu *v, uint64_t deadline);
enum virt_exit_kind svm_run_smp_guarded(struct x86_vcpu *v, uint64_t deadline);
/* Any exit but NPF, and VMMCALL and CPUID where next_rip is the processor's. */
enum x86_exit_kind svm_translate(struct svm_vcpu *v, uint64_t code);
/* An event whose delivery was cut short by this exit. */
void svm_keep_event(struct svm_vcpu *v, uint32_t info);
void svm_entry(void); /* entry.S: not called by C's rules */
void svm_entry_guarded(void); /* the guarded loop's */

/* svm_text.c, pure */
const char *svm_exit_name(uint64_t code);
/* What makes VMRUN refuse this block, as far as can be told; NULL: nothing that is known. */
const char *svm_check(const struct svm_vmcb *c);

/* svm_dump.c */
void svm_dump(const struct svm_vcpu *v);
