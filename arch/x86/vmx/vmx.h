/* What the files of this folder share. Only they include it. */
#pragma once

#include "arch/x86/vcpu.h"
#include "arch/x86/vmx/vmx_caps.h"

struct vmx_msr_entry {
	uint32_t index, reserved;
	uint64_t value;
};
_Static_assert(sizeof(struct vmx_msr_entry) == 16, "VM-entry MSR-load area");

/* For processors without EFER or PAT controls: at most those two. */
struct vmx_msr_areas {
	struct vmx_msr_entry guest[2]; /* stored at exit, loaded at entry */
	struct vmx_msr_entry host[2];  /* loaded at exit */
};

/* STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE: VMX switches none of them. */
#define VMX_SYSCALL_MSRS 5u

struct vmx_vcpu {
	struct x86_vcpu x; /* first. entry[0]: the host's RSP */
	void *vmcs;        /* a page */
	struct vmx_msr_areas *areas; /* NULL: not needed */
	uint32_t area_count;
	uint16_t vpid;     /* 0: none */
	bool launched, window;
	/* Not in the processor unless this vCPU is the CPU's `live` one. */
	uint64_t cr2, dr6, syscall[VMX_SYSCALL_MSRS];
	struct pcpu *host; /* the CPU whose host state the VMCS holds */
};

extern struct vmx_caps vmx_caps; /* constant after vmx_probe() */
extern void *vmx_msr_bitmap;     /* pages, constant after vmx_probe() */
extern void *vmx_io_bitmaps;

static inline struct vmx_vcpu *vmx_vcpu(struct x86_vcpu *v)
{
	return container_of(v, struct vmx_vcpu, x);
}

/* vmx_vcpu.c: the cold half of struct virt_ops. */
status_t vmx_create(struct x86_vcpu *v) MUST_CHECK;
void vmx_destroy(struct x86_vcpu *v);
void vmx_boot(struct x86_vcpu *v);
void vmx_start(struct x86_vcpu *v, uint8_t vector);
void vmx_load(struct x86_vcpu *v);
void vmx_put(struct x86_vcpu *v);
uint64_t vmx_get(struct x86_vcpu *v, enum x86_field f);
void vmx_set(struct x86_vcpu *v, enum x86_field f, uint64_t value);
void vmx_skip(struct x86_vcpu *v);
void vmx_rewind(struct x86_vcpu *v);
void vmx_set_time(struct x86_vcpu *v, uint64_t now_tsc);
bool vmx_can_interrupt(struct x86_vcpu *v);
void vmx_clear_shadow(struct x86_vcpu *v);
void vmx_set_window(struct x86_vcpu *v, bool on);
void vmx_inject(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length);
void vmx_flush_guest(struct x86_vcpu *v);
void vmx_live_save(struct x86_vcpu *v);
void vmx_live_load(struct x86_vcpu *v);

/* ept.c */
extern struct slat_format vmx_slat_format; /* constant after vmx_probe() */
void vmx_slat_flush(struct slat_space *s);
void vmx_slat_open(struct slat_space *s); /* before its first use */

/* vmx_run.c, vmx_exit.c */
enum virt_exit_kind vmx_run(struct x86_vcpu *v, uint64_t deadline);
enum virt_exit_kind vmx_run_smp(struct x86_vcpu *v, uint64_t deadline);
enum virt_exit_kind vmx_run_guarded(struct x86_vcpu *v, uint64_t deadline);
enum virt_exit_kind vmx_run_smp_guarded(struct x86_vcpu *v, uint64_t deadline);
/* Any exit; and those but the three frequent ones that vmx_run.c knows by itself. */
enum x86_exit_kind vmx_understand(struct x86_vcpu *v, uint32_t reason);
enum x86_exit_kind vmx_translate(struct x86_vcpu *v, uint32_t reason);
/* An event whose delivery caused this exit: it is delivered again, unless a handler changes that. */
void vmx_keep_event(struct x86_vcpu *v, uint32_t vectoring_info);
uint32_t vmx_launch(struct x86_vcpu *v); /* the first entry; as vmx_entry_resume */
void vmx_entry_resume(void); /* entry.S: not called by C's rules */
void vmx_entry_launch(void);
void vmx_entry_exit(void);
void vmx_entry_resume_guarded(void); /* the same in the guarded loop: all three */
void vmx_entry_launch_guarded(void);
void vmx_entry_exit_guarded(void);

/* vmx_text.c, pure */
struct vmx_field_name {
	uint16_t field;
	const char *name;
};
extern const struct vmx_field_name vmx_field_names[];
extern const uint32_t vmx_field_name_count;
const char *vmx_reason_name(uint32_t basic_reason);
const char *vmx_error_text(uint32_t instruction_error);
/* What makes the processor refuse a guest state: the qualification of exit 33. */
const char *vmx_entry_state_text(uint64_t qualification);

/* vmx_dump.c */
void vmx_dump(const struct x86_vcpu *v);
