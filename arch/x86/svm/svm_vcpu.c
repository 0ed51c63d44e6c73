/*
 * One VMCB: set-up, registers, events. Sources: APM vol. 2 "VMRUN Instruction" (its canonicalisation
 * and consistency checks), "Event Injection", "TLB Control", "VMCB State Caching".
 */
#include "arch/x86/lapic.h"
#include "arch/x86/regs.h"
#include "arch/x86/svm/svm.h"
#include "mm/heap.h"
#include "vmm/base/directmap.h"
#include "vmm/base/string.h"

#define SEG_CODE_64  0xa9bu /* granular, long, present, code, accessed */
#define SEG_DATA     0xc93u
#define SEG_TSS_BUSY 0x08bu
#define SEG_REAL_CODE 0x09bu
#define SEG_REAL_DATA 0x093u
#define SEG_LDT      0x082u
#define TSS_LIMIT    0x67u
#define VECTOR_BP    3u
#define VECTOR_OF    4u
#define DR6_BS       (1ull << 14)

static void dirty(struct svm_vcpu *v, uint32_t bit)
{
	v->vmcb->clean &= ~bit;
}

static void intercept(struct svm_vcpu *v, uint32_t code, bool on)
{
	uint32_t *word = &v->vmcb->intercept[code / 32], bit = 1u << code % 32;
	*word = on ? *word | bit : *word & ~bit;
	dirty(v, SVM_CLEAN_INTERCEPTS);
}

/* ---- set-up --------------------------------------------------------------------------------- */

static void controls(struct svm_vcpu *v)
{
	struct svm_vmcb *c = v->vmcb;
	svm_intercepts(c->intercept);
	c->iopm = va_to_hpa(svm_iopm).v;
	c->msrpm = va_to_hpa(svm_msrpm).v;
	/* Without the filter each PAUSE would exit. The count is loaded anew by each VMRUN. */
	if (svm_caps.pause_filter) {
		intercept(v, SVM_EXIT_PAUSE, true);
		c->pause_count = X86_SPIN_COUNT;
		c->pause_threshold = svm_caps.pause_threshold ? X86_SPIN_GAP : 0;
	}
	c->int_ctl = SVM_V_INTR_MASKING;
	c->np_enable = 1;
	c->n_cr3 = mfn_to_hpa(v->x.virt.slat->root).v;
	v->window = v->stepped = false;
}

static void segments(struct svm_vmcb *c)
{
	const struct svm_segment data = { SEL_DATA, SEG_DATA, 0xffffffffu, 0 };
	c->es = c->ss = c->ds = c->fs = c->gs = data;
	c->cs = (struct svm_segment){ SEL_CODE, SEG_CODE_64, 0xffffffffu, 0 };
	c->tr = (struct svm_segment){ SEL_TSS, SEG_TSS_BUSY, TSS_LIMIT, 0 };
	c->ldtr = (struct svm_segment){ 0, SEG_LDT, 0, 0 };
	c->cpl = 0;
}

void svm_boot(struct x86_vcpu *x)
{
	struct svm_vcpu *v = svm_vcpu(x);
	struct svm_vmcb *c = v->vmcb;
	uint32_t asid = c->asid;
	uint8_t tlb_control = c->tlb_control;
	memset(c, 0, sizeof(*c)); /* clean: nothing is */
	c->asid = asid;
	c->tlb_control = tlb_control;
	controls(v);
	segments(c);
}

void svm_start(struct x86_vcpu *x, uint8_t vector)
{
	struct svm_vmcb *c = svm_vcpu(x)->vmcb;
	const struct svm_segment data = { 0, SEG_REAL_DATA, 0xffffu, 0 };
	c->es = c->ss = c->ds = c->fs = c->gs = data;
	c->cs = (struct svm_segment){ (uint16_t)(vector << 8), SEG_REAL_CODE, 0xffffu,
		(uint64_t)vector << 12 };
	c->tr = (struct svm_segment){ 0, SEG_TSS_BUSY, 0xffffu, 0 };
	c->ldtr = (struct svm_segment){ 0, SEG_LDT, 0xffffu, 0 };
	c->gdtr.limit = c->idtr.limit = 0xffffu;
	c->gdtr.base = c->idtr.base = 0;
	dirty(svm_vcpu(x), SVM_CLEAN_ALL);
}

status_t svm_create(struct x86_vcpu *x)
{
	struct svm_vcpu *v = svm_vcpu(x);
	v->vmcb = heap_alloc(PAGE_BYTES);
	if (v->vmcb == NULL)
		return ERR_NOMEM;
	memset(v->vmcb, 0, PAGE_BYTES);
	x->entry[0] = (uintptr_t)v->vmcb;
	x->entry[1] = va_to_hpa(v->vmcb).v;
	return OK;
}

void svm_destroy(struct x86_vcpu *x)
{
	heap_free(svm_vcpu(x)->vmcb, PAGE_BYTES);
}

/* ---- translations --------------------------------------------------------------------------- */

static void take_asid(struct svm_vcpu *v)
{
	struct svm_cpu *cpu = svm_this_cpu();
	bool flush_all;
	v->vmcb->asid = svm_asid_take(&cpu->asids, &flush_all);
	if (flush_all) {
		/* If another vCPU is entered before this one, it must flush: svm_set_time(). */
		v->vmcb->tlb_control = SVM_TLB_FLUSH_ALL;
		cpu->flush_owed = true;
	}
	v->asid_generation = cpu->asids.generation;
	v->host = cpu;
	dirty(v, SVM_CLEAN_ASID);
}

void svm_flush_guest(struct x86_vcpu *x)
{
	struct svm_vcpu *v = svm_vcpu(x);
	if (!svm_caps.flush_by_asid)
		take_asid(v);
	else if (v->vmcb->tlb_control != SVM_TLB_FLUSH_ALL)
		v->vmcb->tlb_control = SVM_TLB_FLUSH_ASID;
}

void svm_load(struct x86_vcpu *x)
{
	struct svm_vcpu *v = svm_vcpu(x);
	struct virt_cpu *cpu = virt_this_cpu();
	struct svm_cpu *own = cpu->backend;
	if (cpu->loaded == x)
		return;
	if (cpu->loaded != NULL)
		x86_attend(cpu->loaded, X86_ATTENTION_LOAD);
	cpu->loaded = x;
	if (v->host != own) {
		x->entry[2] = own->host_vmcb_hpa;
		dirty(v, SVM_CLEAN_ALL);
	}
	if (v->host != own || v->asid_generation != own->asids.generation)
		take_asid(v);
}

/* ---- registers ------------------------------------------------------------------------------ */

#define FIELD(f) offsetof(struct svm_vmcb, f)

/* Where each is, and which clean bit a change of it takes away. */
static const struct {
	uint16_t offset;
	uint16_t clean;
} field_of[X86_FIELD_COUNT] = {
	[X86_RIP] = { FIELD(rip), 0 },
	[X86_RSP] = { FIELD(rsp), 0 },
	[X86_RFLAGS] = { FIELD(rflags), 0 },
	[X86_CR0] = { FIELD(cr0), SVM_CLEAN_CR },
	[X86_CR2] = { FIELD(cr2), SVM_CLEAN_CR2 },
	[X86_CR3] = { FIELD(cr3), SVM_CLEAN_CR },
	[X86_PAT] = { FIELD(g_pat), SVM_CLEAN_NP },
	[X86_FS_BASE] = { FIELD(fs.base), 0 },
	[X86_GS_BASE] = { FIELD(gs.base), 0 },
	[X86_KERNEL_GS_BASE] = { FIELD(kernel_gs_base), 0 },
	[X86_STAR] = { FIELD(star), 0 },
	[X86_LSTAR] = { FIELD(lstar), 0 },
	[X86_CSTAR] = { FIELD(cstar), 0 },
	[X86_FMASK] = { FIELD(sfmask), 0 },
	[X86_SYSENTER_CS] = { FIELD(sysenter_cs), 0 },
	[X86_SYSENTER_ESP] = { FIELD(sysenter_esp), 0 },
	[X86_SYSENTER_EIP] = { FIELD(sysenter_eip), 0 },
	[X86_DR6] = { FIELD(dr6), SVM_CLEAN_DR },
	[X86_DR7] = { FIELD(dr7), SVM_CLEAN_DR },
	[X86_CS_BASE] = { FIELD(cs.base), 0 },
};

static uint64_t *field(struct svm_vcpu *v, enum x86_field f)
{
	return (uint64_t *)(void *)((uint8_t *)v->vmcb + field_of[f].offset);
}

uint64_t svm_get(struct x86_vcpu *x, enum x86_field f)
{
	struct svm_vcpu *v = svm_vcpu(x);
	switch (f) {
	case X86_CR4:
		return v->cr4;
	case X86_EFER:
		return v->vmcb->efer & ~EFER_SVME;
	case X86_CPL:
		return v->vmcb->cpl;
	default:
		return (uint32_t)f < X86_FIELD_COUNT ? *field(v, f) : 0;
	}
}

void svm_set(struct x86_vcpu *x, enum x86_field f, uint64_t value)
{
	struct svm_vcpu *v = svm_vcpu(x);
	switch (f) {
	case X86_CR4: {
		/* With CR4.MCE off a machine check would shut the processor down. What the guest
		 * reads back is its own value: its reads exit while the two differ. */
		uint64_t real = value | (read_cr4() & CR4_MCE);
		v->cr4 = value;
		v->vmcb->cr4 = real;
		dirty(v, SVM_CLEAN_CR);
		intercept(v, SVM_EXIT_CR_READ + 4, real != value);
		return;
	}
	case X86_EFER:
		v->vmcb->efer = value | EFER_SVME;
		dirty(v, SVM_CLEAN_CR);
		return;
	case X86_CPL:
		return; /* follows SS */
	default:
		if ((uint32_t)f >= X86_FIELD_COUNT)
			return;
		*field(v, f) = value;
		dirty(v, field_of[f].clean);
	}
}

void svm_rewind(struct x86_vcpu *x)
{
	struct svm_vcpu *v = svm_vcpu(x);
	v->vmcb->rip = v->exit_rip;
	if (v->stepped)
		x->event_info = 0; /* the trap comes when it has really been executed */
	v->stepped = false;
}

/* ---- time and events ------------------------------------------------------------------------ */

/*
 * SVM has no timer of its own. If the time has passed already, the interrupt is there at once.
 * This is also the last call before a vCPU is entered for the first time after another: the place to
 * pay the flush of all that a new generation of ASIDs owes, whoever began it.
 */
void svm_set_time(struct x86_vcpu *v, uint64_t now)
{
	struct svm_cpu *cpu = svm_this_cpu();
	if (UNLIKELY(cpu->flush_owed)) {
		svm_vcpu(v)->vmcb->tlb_control = SVM_TLB_FLUSH_ALL;
		cpu->flush_owed = false;
	}
	lapic_timer_arm(now, v->stop_tsc > now ? v->stop_tsc - now : 1);
}

bool svm_can_interrupt(struct x86_vcpu *v)
{
	const struct svm_vmcb *c = svm_vcpu(v)->vmcb;
	return (c->rflags & RFLAGS_IF) && !(c->interrupt_shadow & 1);
}

void svm_clear_shadow(struct x86_vcpu *v)
{
	svm_vcpu(v)->vmcb->interrupt_shadow = 0;
}

/* The window: a virtual interrupt that exits when the guest would take it. Its vector is of no
 * meaning then. */
void svm_set_window(struct x86_vcpu *x, bool on)
{
	struct svm_vcpu *v = svm_vcpu(x);
	if (v->window == on)
		return;
	v->window = on;
	intercept(v, SVM_EXIT_VINTR, on);
	v->vmcb->int_ctl = SVM_V_INTR_MASKING |
		(on ? SVM_V_IRQ | SVM_V_IGN_TPR | 0xfull << SVM_V_PRIO_SHIFT : 0);
	dirty(v, SVM_CLEAN_TPR);
}

void svm_inject(struct x86_vcpu *x, uint32_t info, uint32_t error, uint32_t length)
{
	struct svm_vmcb *c = svm_vcpu(x)->vmcb;
	(void)length;
	if ((info & X86_EVENT_TYPE) == X86_EVENT_PRIV_SW)
		info = (info & ~X86_EVENT_TYPE) | X86_EVENT_EXCEPTION; /* ICEBP: RIP is behind it */
	c->event_inj = info & (X86_EVENT_VALID | X86_EVENT_ERROR | X86_EVENT_TYPE | 0xffu);
	c->event_error = error;
}

/* An instruction's own event (INT n, INT3, INTO) is not injected again: RIP still stands in front of
 * it, and it runs again. */
void svm_keep_event(struct svm_vcpu *v, uint32_t info)
{
	uint32_t type = info & X86_EVENT_TYPE, vector = info & 0xffu;
	if (type == SVM_EVENT_SOFT ||
		(type == X86_EVENT_EXCEPTION && (vector == VECTOR_BP || vector == VECTOR_OF)))
		return;
	v->x.event_info = info;
	v->x.event_error = info & X86_EVENT_ERROR ? v->vmcb->exit_int_error : 0;
	v->x.event_length = 0;
	x86_attend(&v->x, X86_ATTENTION_EVENT);
}

void svm_skip(struct x86_vcpu *x)
{
	struct svm_vcpu *v = svm_vcpu(x);
	struct svm_vmcb *c = v->vmcb;
	v->exit_rip = c->rip;
	c->rip = c->next_rip;
	c->interrupt_shadow = 0;
	v->stepped = (c->rflags & RFLAGS_TF) != 0;
	if (!v->stepped)
		return;
	/* Being stepped: the trap after an instruction that was done for the guest. */
	svm_set(x, X86_DR6, c->dr6 | DR6_BS);
	x86_inject(x, X86_EVENT_EXCEPTION | X86_DB, 0, 0);
}
