/*
 * One VMCS: set-up, registers, events. Sources: SDM vol. 3C "Virtual Machine Control Structures",
 * "VM Entries" (its checks on controls, host and guest state are what boot and host_state obey).
 */
#include "arch/x86/guard.h"
#include "arch/x86/lapic.h"
#include "arch/x86/regs.h"
#include "arch/x86/vmx/vmx.h"
#include "mm/heap.h"
#include "vmm/base/bug.h"
#include "vmm/base/directmap.h"
#include "vmm/base/string.h"

#define AR_CODE_64    0xa09bu /* granular, long, present, code, accessed */
#define AR_DATA       0xc093u
#define AR_TSS_BUSY   0x008bu
#define AR_UNUSABLE   0x10000u
#define AR_REAL_CODE  0x009bu
#define AR_REAL_DATA  0x0093u
#define AR_DPL_SHIFT  5u
#define TSS_LIMIT     0x67u
#define SEGMENTS      6u /* ES CS SS DS FS GS */
#define CR0_GUEST_OWN (CR0_TS | CR0_MP | CR0_EM | CR0_WP | CR0_AM)
#define CR4_HOST_OWN  (CR4_PAE | CR4_MCE | CR4_VMXE | CR4_OSXSAVE)
#define TIMER_MAX     0xffffffffull

/* VPIDs: 1 .. 4095. Atomic. */
static uint64_t vpid_used[64] = { 1 };

static uint16_t vpid_get(void)
{
	if (!vmx_caps.vpid)
		return 0;
	for (uint32_t i = 0; i < ARRAY_COUNT(vpid_used); i++) {
		uint64_t used = __atomic_load_n(&vpid_used[i], __ATOMIC_RELAXED);
		while (used != UINT64_MAX) {
			uint32_t bit = (uint32_t)__builtin_ctzll(~used);
			if (__atomic_compare_exchange_n(&vpid_used[i], &used, used | 1ull << bit,
				    false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
				return (uint16_t)(i * 64 + bit);
		}
	}
	return 0; /* all taken: this vCPU's translations are flushed by each entry and exit */
}

static void vpid_put(uint16_t vpid)
{
	if (vpid != 0)
		__atomic_fetch_and(&vpid_used[vpid / 64], ~(1ull << vpid % 64), __ATOMIC_ACQ_REL);
}

static uint64_t cr4_guest_own(const struct vmx_vcpu *v)
{
	return v->x.cpuid.cr4_allowed & ~CR4_HOST_OWN;
}

/* ---- the host's part ----------------------------------------------------------------------- */

static void host_state(struct vmx_vcpu *v)
{
	struct pcpu *cpu = this_cpu();
	vmwrite(VMCS_HOST_CR0, read_cr0());
	vmwrite(VMCS_HOST_CR3, read_cr3());
	vmwrite(VMCS_HOST_CR4, read_cr4());
	vmwrite(VMCS_HOST_CS_SEL, SEL_CODE);
	for (uint32_t f = VMCS_HOST_SS_SEL; f <= VMCS_HOST_GS_SEL; f += 2)
		vmwrite(f, SEL_DATA);
	vmwrite(VMCS_HOST_ES_SEL, SEL_DATA);
	vmwrite(VMCS_HOST_TR_SEL, SEL_TSS);
	vmwrite(VMCS_HOST_FS_BASE, rdmsr(MSR_FS_BASE));
	vmwrite(VMCS_HOST_GS_BASE, rdmsr(MSR_GS_BASE));
	vmwrite(VMCS_HOST_TR_BASE, (uintptr_t)&cpu->tss);
	vmwrite(VMCS_HOST_GDTR_BASE, sgdt().base);
	vmwrite(VMCS_HOST_IDTR_BASE, sidt().base);
	vmwrite(VMCS_HOST_SYSENTER_CS, 0);
	vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
	vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
	vmwrite(VMCS_HOST_RIP, (uintptr_t)(guard_plan.guarded ? vmx_entry_exit_guarded : vmx_entry_exit));
	vmwrite(VMCS_HOST_RSP, (uintptr_t)v);
	if (vmx_caps.efer_controls)
		vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER));
	if (vmx_caps.pat_controls)
		vmwrite(VMCS_HOST_PAT, rdmsr(MSR_PAT));
	for (uint32_t i = 0; i < v->area_count; i++)
		v->areas->host[i].value = rdmsr(v->areas->host[i].index);
	v->host = cpu;
}

/* ---- the controls -------------------------------------------------------------------------- */

static void area_add(struct vmx_vcpu *v, uint32_t msr, uint64_t guest)
{
	uint32_t i = v->area_count++;
	v->areas->guest[i] = (struct vmx_msr_entry){ msr, 0, guest };
	v->areas->host[i] = (struct vmx_msr_entry){ msr, 0, rdmsr(msr) };
}

static struct vmx_msr_entry *area_find(struct vmx_vcpu *v, uint32_t msr)
{
	for (uint32_t i = 0; i < v->area_count; i++)
		if (v->areas->guest[i].index == msr)
			return &v->areas->guest[i];
	HV_BUG("MSR %#x is in no area", msr);
}

static void areas(struct vmx_vcpu *v)
{
	vmwrite(VMCS_EXIT_MSR_STORE_COUNT, v->area_count);
	vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, v->area_count);
	vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, v->area_count);
	if (v->area_count == 0)
		return;
	vmwrite(VMCS_EXIT_MSR_STORE, va_to_hpa(v->areas->guest).v);
	vmwrite(VMCS_ENTRY_MSR_LOAD, va_to_hpa(v->areas->guest).v);
	vmwrite(VMCS_EXIT_MSR_LOAD, va_to_hpa(v->areas->host).v);
}

static void controls(struct vmx_vcpu *v)
{
	uint32_t proc2 = v->vpid != 0 ? vmx_caps.proc2 : vmx_caps.proc2 & ~PROC2_VPID;
	vmwrite(VMCS_PIN_CTL, vmx_caps.pin);
	vmwrite(VMCS_PROC_CTL, vmx_caps.proc);
	vmwrite(VMCS_PROC2_CTL, proc2);
	vmwrite(VMCS_EXIT_CTL, vmx_caps.exit);
	vmwrite(VMCS_ENTRY_CTL, vmx_caps.entry);
	if (v->vpid != 0)
		vmwrite(VMCS_VPID, v->vpid);
	if (vmx_caps.pause_loop) {
		vmwrite(VMCS_PLE_GAP, X86_SPIN_GAP);
		vmwrite(VMCS_PLE_WINDOW, X86_SPIN_WINDOW);
	}
	/* See on_exception() in vcpu.c. */
	vmwrite(VMCS_EXCEPTION_BITMAP, 1u << X86_DB | 1u << X86_AC | 1u << X86_MC);
	vmwrite(VMCS_PF_MASK, 0);
	vmwrite(VMCS_PF_MATCH, 0);
	vmwrite(VMCS_CR3_TARGETS, 0);
	vmwrite(VMCS_EPTP, v->x.virt.slat->arch_tag);
	vmwrite(VMCS_LINK, UINT64_MAX);
	if (vmx_caps.io_bitmaps) {
		vmwrite(VMCS_IO_BITMAP_A, va_to_hpa(vmx_io_bitmaps).v);
		vmwrite(VMCS_IO_BITMAP_B, va_to_hpa(vmx_io_bitmaps).v + PAGE_BYTES);
	}
	if (vmx_caps.msr_bitmaps)
		vmwrite(VMCS_MSR_BITMAP, va_to_hpa(vmx_msr_bitmap).v);
	if (vmx_caps.encls_exiting)
		vmwrite(VMCS_ENCLS_BITMAP, UINT64_MAX);
	vmwrite(VMCS_CR0_MASK, ~CR0_GUEST_OWN);
	vmwrite(VMCS_CR4_MASK, ~cr4_guest_own(v));
	vmwrite(VMCS_ENTRY_INFO, 0);
	areas(v);
	v->window = false;
}

/* ---- the guest's part ---------------------------------------------------------------------- */

static void segments(void)
{
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		bool code = i == 1;
		vmwrite(VMCS_GUEST_ES_SEL + 2 * i, code ? SEL_CODE : SEL_DATA);
		vmwrite(VMCS_GUEST_ES_BASE + 2 * i, 0);
		vmwrite(VMCS_GUEST_ES_LIMIT + 2 * i, 0xffffffffu);
		vmwrite(VMCS_GUEST_ES_AR + 2 * i, code ? AR_CODE_64 : AR_DATA);
	}
	vmwrite(VMCS_GUEST_LDTR_SEL, 0);
	vmwrite(VMCS_GUEST_LDTR_BASE, 0);
	vmwrite(VMCS_GUEST_LDTR_LIMIT, 0);
	vmwrite(VMCS_GUEST_LDTR_AR, AR_UNUSABLE);
	vmwrite(VMCS_GUEST_TR_SEL, SEL_TSS);
	vmwrite(VMCS_GUEST_TR_BASE, 0);
	vmwrite(VMCS_GUEST_TR_LIMIT, TSS_LIMIT);
	vmwrite(VMCS_GUEST_TR_AR, AR_TSS_BUSY);
	vmwrite(VMCS_GUEST_GDTR_BASE, 0);
	vmwrite(VMCS_GUEST_GDTR_LIMIT, 0);
	vmwrite(VMCS_GUEST_IDTR_BASE, 0);
	vmwrite(VMCS_GUEST_IDTR_LIMIT, 0);
}

void vmx_boot(struct x86_vcpu *x)
{
	controls(vmx_vcpu(x));
	segments();
	vmwrite(VMCS_GUEST_DEBUGCTL, 0);
	vmwrite(VMCS_INTERRUPTIBILITY, 0);
	vmwrite(VMCS_ACTIVITY, 0);
	vmwrite(VMCS_PENDING_DEBUG, 0);
}

/* Segments of real mode, which unrestricted guests may have (SDM vol. 3C, Checks on Guest Segment
 * Registers). */
void vmx_start(struct x86_vcpu *x, uint8_t vector)
{
	(void)x;
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		bool code = i == 1;
		vmwrite(VMCS_GUEST_ES_SEL + 2 * i, code ? (uint64_t)vector << 8 : 0);
		vmwrite(VMCS_GUEST_ES_BASE + 2 * i, code ? (uint64_t)vector << 12 : 0);
		vmwrite(VMCS_GUEST_ES_LIMIT + 2 * i, 0xffffu);
		vmwrite(VMCS_GUEST_ES_AR + 2 * i, code ? AR_REAL_CODE : AR_REAL_DATA);
	}
	vmwrite(VMCS_GUEST_LDTR_AR, AR_UNUSABLE);
	vmwrite(VMCS_GUEST_TR_SEL, 0);
	vmwrite(VMCS_GUEST_TR_LIMIT, 0xffffu);
	vmwrite(VMCS_GUEST_GDTR_LIMIT, 0xffffu);
	vmwrite(VMCS_GUEST_IDTR_LIMIT, 0xffffu);
}

/* ---- life ---------------------------------------------------------------------------------- */

status_t vmx_create(struct x86_vcpu *x)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	v->vmcs = heap_alloc(PAGE_BYTES);
	if (v->vmcs == NULL)
		return ERR_NOMEM;
	if (!vmx_caps.efer_controls || !vmx_caps.pat_controls) {
		v->areas = heap_alloc(sizeof(*v->areas));
		if (v->areas == NULL) {
			heap_free(v->vmcs, PAGE_BYTES);
			return ERR_NOMEM;
		}
		if (!vmx_caps.efer_controls)
			area_add(v, MSR_EFER, EFER_LME | EFER_LMA);
		if (!vmx_caps.pat_controls)
			area_add(v, MSR_PAT, PAT_DEFAULT);
	}
	memcpy(v->vmcs, &vmx_caps.revision, sizeof(vmx_caps.revision));
	HV_BUG_ON(!vmclear(va_to_hpa(v->vmcs).v));
	v->vpid = vpid_get();
	vmx_slat_open(x->virt.slat);
	return OK;
}

void vmx_destroy(struct x86_vcpu *x)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	HV_BUG_ON(!vmclear(va_to_hpa(v->vmcs).v));
	vpid_put(v->vpid);
	heap_free(v->vmcs, PAGE_BYTES);
	heap_free(v->areas, sizeof(*v->areas));
}

void vmx_load(struct x86_vcpu *x)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	struct virt_cpu *cpu = virt_this_cpu();
	if (cpu->loaded == x)
		return;
	if (cpu->loaded != NULL)
		x86_attend(cpu->loaded, X86_ATTENTION_LOAD);
	HV_BUG_ON(!vmptrld(va_to_hpa(v->vmcs).v));
	cpu->loaded = x;
	if (v->host == this_cpu())
		return;
	/* What this CPU cached for it when it was here last may be out of date. */
	if (v->host != NULL)
		vmx_flush_guest(x);
	host_state(v);
}

/* "Software should use the VMCLEAR instruction before ... another logical processor" (SDM vol. 3C,
 * Software Use of Virtual-Machine Control Structures). The next entry is a launch again. */
void vmx_put(struct x86_vcpu *x)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	HV_BUG_ON(!vmclear(va_to_hpa(v->vmcs).v));
	v->launched = false;
}

/* ---- registers ------------------------------------------------------------------------------ */

static const uint16_t field_of[X86_FIELD_COUNT] = {
	[X86_RIP] = VMCS_GUEST_RIP,
	[X86_RSP] = VMCS_GUEST_RSP,
	[X86_RFLAGS] = VMCS_GUEST_RFLAGS,
	[X86_CR3] = VMCS_GUEST_CR3,
	[X86_EFER] = VMCS_GUEST_EFER,
	[X86_PAT] = VMCS_GUEST_PAT,
	[X86_FS_BASE] = VMCS_GUEST_FS_BASE,
	[X86_GS_BASE] = VMCS_GUEST_GS_BASE,
	[X86_SYSENTER_CS] = VMCS_GUEST_SYSENTER_CS,
	[X86_SYSENTER_ESP] = VMCS_GUEST_SYSENTER_ESP,
	[X86_SYSENTER_EIP] = VMCS_GUEST_SYSENTER_EIP,
	[X86_DR7] = VMCS_GUEST_DR7,
	[X86_CS_BASE] = VMCS_GUEST_CS_BASE,
};

static const uint32_t syscall_msrs[VMX_SYSCALL_MSRS] = { MSR_STAR, MSR_LSTAR, MSR_CSTAR,
	MSR_FMASK, MSR_KERNEL_GS_BASE };

void vmx_live_save(struct x86_vcpu *x)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	v->cr2 = read_cr2();
	v->dr6 = read_dr6();
	for (uint32_t i = 0; i < VMX_SYSCALL_MSRS; i++)
		v->syscall[i] = rdmsr(syscall_msrs[i]);
}

void vmx_live_load(struct x86_vcpu *x)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	write_cr2(v->cr2);
	write_dr6(v->dr6);
	for (uint32_t i = 0; i < VMX_SYSCALL_MSRS; i++)
		wrmsr(syscall_msrs[i], v->syscall[i]);
}

/* Where a register is that VMX leaves alone: VMX_SYSCALL_MSRS if it is none of these. */
static uint32_t syscall_index(enum x86_field f)
{
	switch (f) {
	case X86_STAR:
		return 0;
	case X86_LSTAR:
		return 1;
	case X86_CSTAR:
		return 2;
	case X86_FMASK:
		return 3;
	case X86_KERNEL_GS_BASE:
		return 4;
	default:
		return VMX_SYSCALL_MSRS;
	}
}

/* CR2, DR6 and SYSCALL's MSRs: in the processor, or where vmx_live_save() has put them. */
static bool get_live(struct vmx_vcpu *v, enum x86_field f, uint64_t *value)
{
	bool live = virt_this_cpu()->live == &v->x;
	uint32_t i = syscall_index(f);
	if (f == X86_CR2)
		*value = live ? read_cr2() : v->cr2;
	else if (f == X86_DR6)
		*value = live ? read_dr6() : v->dr6;
	else if (i < VMX_SYSCALL_MSRS)
		*value = live ? rdmsr(syscall_msrs[i]) : v->syscall[i];
	else
		return false;
	return true;
}

static bool set_live(struct vmx_vcpu *v, enum x86_field f, uint64_t value)
{
	bool live = virt_this_cpu()->live == &v->x;
	uint32_t i = syscall_index(f);
	if (f == X86_CR2)
		v->cr2 = value;
	else if (f == X86_DR6)
		v->dr6 = value;
	else if (i < VMX_SYSCALL_MSRS)
		v->syscall[i] = value;
	else
		return false;
	if (live && f == X86_CR2)
		write_cr2(value);
	else if (live && f == X86_DR6)
		write_dr6(value);
	else if (live)
		wrmsr(syscall_msrs[i], value);
	return true;
}

static bool in_area(enum x86_field f, uint32_t *msr)
{
	*msr = f == X86_EFER ? MSR_EFER : MSR_PAT;
	return (f == X86_EFER && !vmx_caps.efer_controls) ||
		(f == X86_PAT && !vmx_caps.pat_controls);
}

uint64_t vmx_get(struct x86_vcpu *x, enum x86_field f)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	uint32_t msr;
	uint64_t value;
	if (in_area(f, &msr))
		return area_find(v, msr)->value;
	if (get_live(v, f, &value))
		return value;
	switch (f) {
	case X86_CR0:
		return (vmread(VMCS_GUEST_CR0) & CR0_GUEST_OWN) |
			(vmread(VMCS_CR0_SHADOW) & ~CR0_GUEST_OWN);
	case X86_CR4:
		return (vmread(VMCS_GUEST_CR4) & cr4_guest_own(v)) |
			(vmread(VMCS_CR4_SHADOW) & ~cr4_guest_own(v));
	case X86_CPL:
		return vmread(VMCS_GUEST_SS_AR) >> AR_DPL_SHIFT & 3u;
	default:
		return (uint32_t)f < X86_FIELD_COUNT ? vmread(field_of[f]) : 0;
	}
}

void vmx_set(struct x86_vcpu *x, enum x86_field f, uint64_t value)
{
	uint32_t msr;
	if (in_area(f, &msr)) {
		area_find(vmx_vcpu(x), msr)->value = value;
		return;
	}
	if (set_live(vmx_vcpu(x), f, value))
		return;
	switch (f) {
	case X86_CR0: {
		/* Caches stay on whatever the guest says. */
		uint64_t must = vmx_caps.cr0_fixed0;
		if (vmx_caps.unrestricted)
			must &= ~(CR0_PE | CR0_PG);
		uint64_t real = (value | must) & vmx_caps.cr0_fixed1;
		vmwrite(VMCS_GUEST_CR0, real & ~(CR0_CD | CR0_NW));
		vmwrite(VMCS_CR0_SHADOW, value);
		return;
	}
	case X86_CR4:
		/* With CR4.MCE off a machine check would shut the processor down. */
		vmwrite(VMCS_GUEST_CR4, value | vmx_caps.cr4_fixed0 | CR4_VMXE |
				(vmx_caps.cr4_fixed1 & CR4_MCE));
		vmwrite(VMCS_CR4_SHADOW, value);
		return;
	case X86_EFER:
		vmwrite(VMCS_GUEST_EFER, value);
		vmwrite(VMCS_ENTRY_CTL, value & EFER_LMA ? vmx_caps.entry :
							   vmx_caps.entry & ~ENTRY_GUEST_64);
		return;
	case X86_CPL:
		return; /* follows SS */
	default:
		if ((uint32_t)f < X86_FIELD_COUNT)
			vmwrite(field_of[f], value);
	}
}

/* A step traps when it has really been executed. A shadow would want one pending, and is over (can_interrupt). */
void vmx_rewind(struct x86_vcpu *v)
{
	vmwrite(VMCS_GUEST_RIP, vmread(VMCS_GUEST_RIP) - vmread(VMCS_EXIT_LENGTH));
	vmx_clear_shadow(v);
	vmwrite(VMCS_PENDING_DEBUG, vmread(VMCS_PENDING_DEBUG) & ~PENDING_DEBUG_BS);
}

/* ---- time and events ------------------------------------------------------------------------ */

void vmx_set_time(struct x86_vcpu *v, uint64_t now)
{
	/* Rounded up: at the exit the TSC has passed stop_tsc. */
	uint64_t ticks = v->stop_tsc > now ? ((v->stop_tsc - now) >> vmx_caps.timer_shift) + 1 : 0;
	if (vmx_caps.preemption_timer)
		vmwrite(VMCS_PREEMPTION_TIMER, MIN(ticks, TIMER_MAX));
	else
		lapic_timer_arm(now, v->stop_tsc > now ? v->stop_tsc - now : 1);
}

/* Was the last exit an instruction's, which has been done for the guest since? Where it was not, an exception comes. */
static bool instruction_done(void)
{
	switch (vmread32(VMCS_EXIT_REASON)) {
	case REASON_CPUID: case REASON_HLT: case REASON_INVD: case REASON_INVLPG: case REASON_VMCALL: case REASON_CR:
	case REASON_IO: case REASON_RDMSR: case REASON_WRMSR: case REASON_WBINVD: case REASON_XSETBV:
		return true;
	default:
		return false;
	}
}

/*
 * The shadow of STI or MOV SS lasts for one instruction, also if that was done for the guest: which is found out here,
 * where it matters, and not at each exit (skip). A trap that is pending comes first: an entry that brings an interrupt
 * would lose it (SDM vol. 3C, "Delivery of Pending Debug Exceptions after VM Entry"); the window is behind it.
 */
bool vmx_can_interrupt(struct x86_vcpu *v)
{
	if (instruction_done())
		vmx_clear_shadow(v);
	return (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF) &&
		!(vmread(VMCS_INTERRUPTIBILITY) & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS)) &&
		!(vmread(VMCS_PENDING_DEBUG) & (PENDING_DEBUG_BS | PENDING_DEBUG_ENABLED));
}

void vmx_clear_shadow(struct x86_vcpu *v)
{
	(void)v;
	uint64_t s = vmread(VMCS_INTERRUPTIBILITY);
	if (s & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS))
		vmwrite(VMCS_INTERRUPTIBILITY,
			s & ~(uint64_t)(INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS));
}

/* While it is open each exit leads to can_interrupt: the window stays shut in a shadow, also in one that is over. */
void vmx_set_window(struct x86_vcpu *x, bool on)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	if (on)
		x86_attend(x, X86_ATTENTION_LAPIC);
	if (v->window == on)
		return;
	v->window = on;
	vmwrite(VMCS_PROC_CTL, on ? vmx_caps.proc | PROC_INTERRUPT_WINDOW : vmx_caps.proc);
}

void vmx_inject(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length)
{
	(void)v;
	/* Bit 12 is undefined in what an exit reports and reserved in what an entry takes. */
	vmwrite(VMCS_ENTRY_INFO, info & (INFO_VALID | INFO_ERROR_CODE | INFO_TYPE | INFO_VECTOR));
	if (info & INFO_ERROR_CODE)
		vmwrite(VMCS_ENTRY_ERROR, error & 0x7fffu); /* bits 31:15 must be 0 */
	uint32_t type = info & INFO_TYPE;
	if (type == INFO_TYPE_SOFT || type == INFO_TYPE_PRIV || type == INFO_TYPE_SW)
		vmwrite(VMCS_ENTRY_LENGTH, length);
}

void vmx_flush_guest(struct x86_vcpu *x)
{
	uint16_t vpid = vmx_vcpu(x)->vpid;
	if (vpid != 0)
		invvpid(vmx_caps.invvpid_single ? VMX_INV_SINGLE : VMX_INV_ALL, vpid);
}
