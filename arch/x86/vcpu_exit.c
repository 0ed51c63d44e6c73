/*
 * What a guest's exit leads to where that is the processor's own business: one function for each
 * kind. The three frequent kinds are in run_loop.h. Shared by all back ends.
 */
#include "arch/x86/guest_mce.h"
#include "arch/x86/guest_msr.h"
#include "arch/x86/regs.h"
#include "arch/x86/vcpu.h"

static enum virt_exit_kind general_protection(struct x86_vcpu *v)
{
	x86_inject_gp(v);
	return X86_RESUME;
}

/* Also a hypercall from user mode. */
static enum virt_exit_kind on_undefined(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_OTHER]++;
	x86_inject(v, X86_EVENT_EXCEPTION | X86_UD, 0, 0);
	return X86_RESUME;
}

/* run_loop.h has done it already. */
static enum virt_exit_kind on_inlined(struct x86_vcpu *v)
{
	(void)v;
	return X86_RESUME;
}

static enum x86_field backend_field(uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_CS:
		return X86_SYSENTER_CS;
	case MSR_SYSENTER_ESP:
		return X86_SYSENTER_ESP;
	case MSR_SYSENTER_EIP:
		return X86_SYSENTER_EIP;
	case MSR_PAT:
		return X86_PAT;
	case MSR_EFER:
		return X86_EFER;
	case MSR_FS_BASE:
		return X86_FS_BASE;
	case MSR_GS_BASE:
		return X86_GS_BASE;
	case MSR_KERNEL_GS_BASE:
		return X86_KERNEL_GS_BASE;
	case MSR_STAR:
		return X86_STAR;
	case MSR_LSTAR:
		return X86_LSTAR;
	case MSR_CSTAR:
		return X86_CSTAR;
	case MSR_FMASK:
		return X86_FMASK;
	default:
		return X86_FIELD_COUNT;
	}
}

/* What IA32_APIC_BASE lacks on all but the first vCPU. */
static uint64_t not_bsp(const struct x86_vcpu *v, uint32_t msr)
{
	return msr == MSR_APIC_BASE && v->virt.vcpu_id != 0 ? APIC_BASE_BSP : 0;
}

static bool read_msr(struct x86_vcpu *v, uint32_t msr, uint64_t *value)
{
	const struct guest_msr *m = guest_msr_find(msr);
	if (m == NULL)
		return false;
	switch ((enum guest_msr_kind)m->kind) {
	case GUEST_MSR_CONST:
	case GUEST_MSR_IGNORE:
		*value = m->value & ~not_bsp(v, msr);
		return true;
	case GUEST_MSR_LAPIC:
		return vlapic_read(&v->lapic, msr - MSR_X2APIC_FIRST, rdtsc(), value);
	case GUEST_MSR_DEADLINE:
		*value = vlapic_read_deadline(&v->lapic);
		return true;
	case GUEST_MSR_TSC:
		*value = rdtsc();
		return true;
	case GUEST_MSR_BACKEND:
		*value = x86_ops->get(v, backend_field(msr));
		return true;
	case GUEST_MSR_TSC_AUX:
		if (!v->cpuid.rdtscp)
			return false;
		*value = rdmsr(msr);
		return true;
	case GUEST_MSR_NONE:
		break;
	}
	return false;
}

/* EOI is the one that comes often: it needs attention only if something waits behind it. */
static bool write_lapic(struct x86_vcpu *v, uint32_t reg, uint64_t value)
{
	if (!vlapic_write(&v->lapic, reg, value, rdtsc()))
		return false;
	if (reg == VLAPIC_ICR)
		x86_send_ipi(v);
	if (reg != VLAPIC_EOI)
		x86_attend(v, X86_ATTENTION_LAPIC | X86_ATTENTION_TIME);
	else if (vlapic_pending(&v->lapic) >= 0)
		x86_attend(v, X86_ATTENTION_LAPIC);
	return true;
}

/* LMA is the processor's, LME is settled while paging is on. */
static bool load_efer(struct x86_vcpu *v, uint64_t value)
{
	uint64_t old = x86_ops->get(v, X86_EFER);
	if ((x86_ops->get(v, X86_CR0) & CR0_PG) && ((value ^ old) & EFER_LME))
		return false;
	x86_ops->set(v, X86_EFER, (value & ~EFER_LMA) | (old & EFER_LMA));
	return true;
}

static bool write_msr(struct x86_vcpu *v, uint32_t msr, uint64_t value)
{
	const struct guest_msr *m = guest_msr_find(msr);
	if (m == NULL || !guest_msr_value_ok(m, value | not_bsp(v, msr)))
		return false;
	switch ((enum guest_msr_kind)m->kind) {
	case GUEST_MSR_CONST:
	case GUEST_MSR_IGNORE:
		return true;
	case GUEST_MSR_LAPIC:
		return write_lapic(v, msr - MSR_X2APIC_FIRST, value);
	case GUEST_MSR_DEADLINE:
		x86_attend(v, X86_ATTENTION_TIME);
		vlapic_write_deadline(&v->lapic, value);
		return true;
	case GUEST_MSR_BACKEND:
		if (msr == MSR_EFER)
			return load_efer(v, value);
		x86_ops->set(v, backend_field(msr), value);
		return true;
	case GUEST_MSR_TSC_AUX:
		if (!v->cpuid.rdtscp)
			return false;
		wrmsr(msr, value);
		return true;
	case GUEST_MSR_TSC:
	case GUEST_MSR_NONE:
		break;
	}
	return false;
}

static enum virt_exit_kind on_msr_read(struct x86_vcpu *v)
{
	uint64_t *gpr = v->virt.gpr;
	uint64_t value;
	v->virt.count[VIRT_COUNT_MSR_READ]++;
	if (!read_msr(v, (uint32_t)gpr[VIRT_RCX], &value))
		return general_protection(v);
	gpr[VIRT_RAX] = (uint32_t)value;
	gpr[VIRT_RDX] = value >> 32;
	x86_ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_msr_write(struct x86_vcpu *v)
{
	uint64_t *gpr = v->virt.gpr;
	v->virt.count[VIRT_COUNT_MSR_WRITE]++;
	uint64_t value = (uint32_t)gpr[VIRT_RAX] | gpr[VIRT_RDX] << 32;
	if (!write_msr(v, (uint32_t)gpr[VIRT_RCX], value))
		return general_protection(v);
	x86_ops->skip(v);
	return X86_RESUME;
}

/* No port leads anywhere: reads give ones, writes are lost. String instructions are refused. */
static enum virt_exit_kind on_io(struct x86_vcpu *v)
{
	uint64_t *rax = &v->virt.gpr[VIRT_RAX];
	v->virt.count[VIRT_COUNT_IO]++;
	if (v->info.io.string)
		return general_protection(v);
	if (v->info.io.in) {
		if (v->info.io.bytes == 4)
			*rax = 0xffffffffu;
		else
			*rax |= v->info.io.bytes == 2 ? 0xffffu : 0xffu;
	}
	x86_ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_halt(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_HALT]++;
	x86_ops->skip(v);
	v->halting = true;
	v->deaf = !(x86_ops->get(v, X86_RFLAGS) & RFLAGS_IF);
	x86_attend(v, X86_ATTENTION_LAPIC);
	vlapic_tick(&v->lapic, rdtsc());
	if (!v->deaf && vlapic_pending(&v->lapic) >= 0)
		return X86_RESUME;
	return VIRT_EXIT_HALT;
}

/*
 * Paging goes on once, and from a processor's start to long mode only: what a started vCPU does on its way
 * there. Back leads INIT alone; 32-bit paging with PAE would want the PDPTEs kept (docs/caveats.md).
 */
static bool load_cr0(struct x86_vcpu *v, uint64_t value)
{
	uint64_t old = x86_ops->get(v, X86_CR0), efer = x86_ops->get(v, X86_EFER);
	if (value >> 32 != 0 || ((value & CR0_NW) && !(value & CR0_CD)) ||
		((value & CR0_PG) && !(value & CR0_PE)) || (~value & old & CR0_PG))
		return false;
	if (value & ~old & CR0_PG) {
		if (!(x86_ops->get(v, X86_CR4) & CR4_PAE) || !(efer & EFER_LME))
			return false;
		x86_ops->set(v, X86_EFER, efer | EFER_LMA);
		x86_ops->flush_guest(v);
	}
	x86_ops->set(v, X86_CR0, (value & CR0_DEFINED) | CR0_ET);
	return true;
}

/* false: #GP. SDM vol. 2B "MOV - Move to/from Control Registers". */
static bool write_cr(struct x86_vcpu *v, uint32_t cr, uint64_t value)
{
	switch (cr) {
	case 0:
		return load_cr0(v, value);
	case 3:
		x86_ops->set(v, X86_CR3, value & ~(1ull << 63));
		x86_ops->flush_guest(v);
		return true;
	case 4:
		if ((value & ~v->cpuid.cr4_allowed) ||
			(x86_ops->get(v, X86_EFER) & EFER_LMA ? !(value & CR4_PAE) :
								(value & CR4_PCIDE) != 0))
			return false;
		if ((value & CR4_PCIDE) && !(x86_ops->get(v, X86_CR4) & CR4_PCIDE) &&
			(x86_ops->get(v, X86_CR3) & 0xfffu))
			return false;
		x86_ops->set(v, X86_CR4, value);
		guest_cpuid_set_cr4(&v->cpuid, value);
		x86_ops->flush_guest(v);
		return true;
	case 8:
		return vlapic_write(&v->lapic, VLAPIC_TPR, value > 15 ? UINT64_MAX : value << 4, 0);
	default:
		return false;
	}
}

static uint64_t read_cr(struct x86_vcpu *v, uint32_t cr)
{
	switch (cr) {
	case 0:
		return x86_ops->get(v, X86_CR0);
	case 4:
		return x86_ops->get(v, X86_CR4);
	case 8:
		return v->lapic.tpr >> 4;
	default:
		return x86_ops->get(v, X86_CR3);
	}
}

static enum virt_exit_kind on_cr(struct x86_vcpu *v)
{
	uint32_t cr = v->info.cr.cr;
	v->virt.count[VIRT_COUNT_OTHER]++;
	if (v->info.cr.write) {
		if (!write_cr(v, cr, v->info.cr.value))
			return general_protection(v);
		x86_attend(v, X86_ATTENTION_LAPIC);
	} else {
		uint64_t value = read_cr(v, cr);
		if (v->info.cr.gpr == VIRT_RSP)
			x86_ops->set(v, X86_RSP, value);
		else
			v->virt.gpr[v->info.cr.gpr & 15u] = value;
	}
	x86_ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_xsetbv(struct x86_vcpu *v)
{
	uint64_t *gpr = v->virt.gpr;
	uint64_t value = (uint32_t)gpr[VIRT_RAX] | gpr[VIRT_RDX] << 32;
	v->virt.count[VIRT_COUNT_OTHER]++;
	if ((uint32_t)gpr[VIRT_RCX] != 0 || !guest_cpuid_xcr0_ok(&v->cpuid, value))
		return general_protection(v);
	v->xcr0 = value;
	xsetbv(0, value);
	guest_cpuid_set_xcr0(&v->cpuid, value);
	x86_ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_timer(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_TIMER]++;
	x86_attend(v, X86_ATTENTION_TIME);
	return X86_RESUME;
}

static enum virt_exit_kind on_interrupt(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_HOST_INTERRUPT]++;
	x86_attend(v, X86_ATTENTION_TIME);
	return VIRT_EXIT_HOST_EVENT;
}

/* Whatever the halt makes of it, the caller has to look at what the interrupt brought. */
static enum virt_exit_kind on_interrupt_at_halt(struct x86_vcpu *v)
{
	enum virt_exit_kind event = on_interrupt(v), halt = on_halt(v);
	return halt == X86_RESUME ? event : halt;
}

/* PAUSE will be executed: the next entry begins a new count of them. */
static enum virt_exit_kind on_spin(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_SPIN]++;
	return VIRT_EXIT_SPIN;
}

static enum virt_exit_kind on_window(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_WINDOW]++;
	x86_attend(v, X86_ATTENTION_LAPIC);
	return X86_RESUME;
}

/*
 * #DB and #AC are caught only because a guest could otherwise keep the processor in their delivery
 * for ever (CVE-2015-5307, CVE-2015-8104), where no timer reaches it.
 */
static enum virt_exit_kind on_exception(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_EXCEPTION]++;
	if ((v->info.exception.info & 0xffu) == X86_DB) {
		x86_ops->set(v, X86_DR6, x86_ops->get(v, X86_DR6) | v->info.exception.dr6);
		x86_ops->set(v, X86_DR7, x86_ops->get(v, X86_DR7) & ~(1ull << 13)); /* GD */
	}
	x86_inject(v, v->info.exception.info, v->info.exception.error, v->info.exception.length);
	return X86_RESUME;
}

static enum virt_exit_kind on_nmi(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_NMI]++;
	return X86_RESUME;
}

static enum virt_exit_kind on_machine_check(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_EXCEPTION]++;
	if (guest_mce_handle())
		return X86_RESUME;
	x86_fail(v, "the hardware reported an error in its memory or cache (machine check)");
	return VIRT_EXIT_FAILED;
}

static enum virt_exit_kind on_nothing(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_OTHER]++;
	x86_ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_flush(struct x86_vcpu *v)
{
	x86_ops->flush_guest(v);
	return on_nothing(v);
}

static enum virt_exit_kind on_again(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_OTHER]++;
	x86_ops->flush_guest(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_denied(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_OTHER]++;
	return general_protection(v);
}

static enum virt_exit_kind on_shutdown(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_OTHER]++;
	return VIRT_EXIT_SHUTDOWN;
}

static enum virt_exit_kind on_failed(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_OTHER]++;
	return VIRT_EXIT_FAILED;
}

enum virt_exit_kind (*const x86_handlers[X86_EXIT_COUNT])(struct x86_vcpu *v) = {
	[X86_EXIT_HYPERCALL] = on_undefined,
	[X86_EXIT_CPUID] = on_inlined,
	[X86_EXIT_SLAT_FAULT] = on_inlined,
	[X86_EXIT_MSR_READ] = on_msr_read,
	[X86_EXIT_MSR_WRITE] = on_msr_write,
	[X86_EXIT_IO] = on_io,
	[X86_EXIT_HALT] = on_halt,
	[X86_EXIT_SPIN] = on_spin,
	[X86_EXIT_CR] = on_cr,
	[X86_EXIT_XSETBV] = on_xsetbv,
	[X86_EXIT_TIMER] = on_timer,
	[X86_EXIT_INTERRUPT] = on_interrupt,
	[X86_EXIT_INTERRUPT_AT_HALT] = on_interrupt_at_halt,
	[X86_EXIT_WINDOW] = on_window,
	[X86_EXIT_EXCEPTION] = on_exception,
	[X86_EXIT_NMI] = on_nmi,
	[X86_EXIT_MACHINE_CHECK] = on_machine_check,
	[X86_EXIT_NOTHING] = on_nothing,
	[X86_EXIT_FLUSH] = on_flush,
	[X86_EXIT_UNDEFINED] = on_undefined,
	[X86_EXIT_DENIED] = on_denied,
	[X86_EXIT_AGAIN] = on_again,
	[X86_EXIT_SHUTDOWN] = on_shutdown,
	[X86_EXIT_FAILED] = on_failed,
};
