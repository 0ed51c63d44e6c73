/* What is the same for every virtual CPU, whatever the vendor. See vcpu.h. */
#include "arch/x86/vcpu.h"
#include "arch/x86/guest_msr.h"
#include "arch/x86/guest_mce.h"
#include "arch/x86/regs.h"
#include "arch/x86/vcpu_live.h"
#include "mm/heap.h"
#include "vmm/abi/aerostat.h"
#include "vmm/base/bug.h"
#include "vmm/base/fmt.h"
#include "vmm/base/log.h"
#include "vmm/base/string.h"
#include "vmm/platform.h"

/* A guest's timer never interrupts it more often than this: the guest must get somewhere. */
#define TIMER_MIN_TICKS 1000u
/* For stop_low: the guest is looked after at least this often. */
#define STOP_MAX_TICKS (1u << 30)

struct virt_caps virt_caps;
static const struct virt_ops *ops; /* set once at boot */
/* ops->run: one load less on the way. Set once at boot. */
static enum virt_exit_kind (*run)(struct x86_vcpu *v, uint64_t deadline);
static struct virt_cpu boot_virt_cpu; /* set up once at boot, then its CPU's only */

status_t virt_init(const char **why)
{
	status_t s = vmx_probe(&ops, why);
	if (s != OK)
		return s;
	this_cpu()->virt = &boot_virt_cpu;
	virt_caps = ops->caps;
	run = ops->run;
	return OK;
}

void slat_flush(struct slat_space *s)
{
	s->generation++;
	s->flush_count++;
	ops->slat_flush(s);
}

static void read_cpuid(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	*out = cpuid(leaf, subleaf);
}

void virt_vcpu_destroy(struct virt_vcpu *vv)
{
	if (vv == NULL)
		return;
	struct x86_vcpu *v = x86_vcpu(vv);
	struct virt_cpu *cpu = virt_this_cpu();
	ops->destroy(v);
	if (cpu->live == v)
		cpu->live = NULL;
	if (cpu->loaded == v)
		cpu->loaded = NULL;
	heap_free(v->xsave, v->xsave_bytes);
	heap_free(v, ops->vcpu_bytes);
}

status_t virt_vcpu_create(uint32_t guest_id, uint32_t vcpu_id, struct slat_space *slat,
	struct virt_vcpu **out)
{
	struct x86_vcpu *v = heap_alloc(ops->vcpu_bytes);
	if (v == NULL)
		return ERR_NOMEM;
	v->virt.guest_id = guest_id;
	v->virt.vcpu_id = vcpu_id;
	v->virt.slat = slat;
	struct guest_cpuid_config c = {
		.apic_id = vcpu_id,
		.guest_id = guest_id,
		.tsc_khz = (uint32_t)platform_tsc_khz,
		.call = ops->caps.hypercall_kind,
		.features = AERO_FEAT_CONSOLE | AERO_FEAT_BLOCK | AERO_FEAT_EVENT |
			AERO_FEAT_BALLOON | AERO_FEAT_STATS | AERO_FEAT_PRESSURE,
		.rdtscp = ops->rdtscp,
		.invpcid = ops->invpcid,
	};
	guest_cpuid_init(&v->cpuid, &c, read_cpuid);
	/* Page aligned from 4096 bytes up; XSAVE wants 64. */
	v->xsave_bytes = (uint32_t)MAX(guest_cpuid_xsave_bytes(&v->cpuid), PAGE_BYTES);
	v->xsave = heap_alloc(v->xsave_bytes);
	if (v->xsave == NULL) {
		heap_free(v, ops->vcpu_bytes);
		return ERR_NOMEM;
	}
	status_t s = ops->create(v);
	if (s != OK) {
		heap_free(v->xsave, v->xsave_bytes);
		heap_free(v, ops->vcpu_bytes);
		return s;
	}
	struct virt_boot zero = { 0 };
	virt_boot(&v->virt, &zero);
	*out = &v->virt;
	return OK;
}

void virt_boot(struct virt_vcpu *vv, const struct virt_boot *boot)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	struct virt_cpu *cpu = virt_this_cpu();
	memset(v->virt.gpr, 0, sizeof(v->virt.gpr));
	v->virt.gpr[VIRT_RSI] = boot->rsi;
	vlapic_reset(&v->lapic, v->virt.vcpu_id);
	v->event_info = 0;
	v->deaf = v->halting = false;
	vcpu_live_reset(v);
	if (cpu->live == v)
		cpu->live = NULL; /* what is in the processor is of no use any more */
	guest_cpuid_set_cr4(&v->cpuid, CR4_PAE);
	guest_cpuid_set_xcr0(&v->cpuid, v->xcr0);
	ops->load(v);
	ops->boot(v, boot);
	v->attention = X86_ATTENTION_LOAD | X86_ATTENTION_TIME | X86_ATTENTION_LAPIC;
}

static void switch_to(struct x86_vcpu *v)
{
	struct virt_cpu *cpu = virt_this_cpu();
	if (cpu->live != v) {
		if (cpu->live != NULL)
			vcpu_live_save(cpu->live);
		vcpu_live_load(v);
		cpu->live = v;
	}
	ops->load(v);
}

/* Events first, as they were being delivered already; then one interrupt. */
static void deliver(struct x86_vcpu *v)
{
	bool window = false;
	if (v->event_info & X86_EVENT_VALID) {
		ops->inject(v, v->event_info, v->event_error, v->event_length);
		v->event_info = 0;
		window = vlapic_pending(&v->lapic) >= 0;
	} else {
		int vector = vlapic_pending(&v->lapic);
		if (vector >= 0 && ops->can_interrupt(v)) {
			vlapic_accept(&v->lapic, (uint32_t)vector);
			ops->inject(v, X86_EVENT_VALID | X86_EVENT_EXTERNAL | (uint32_t)vector, 0, 0);
			v->virt.count[VIRT_COUNT_INJECTED]++;
			vector = vlapic_pending(&v->lapic);
		}
		window = vector >= 0;
	}
	ops->set_window(v, window);
}

bool x86_prepare(struct x86_vcpu *v)
{
	uint64_t now = rdtsc();
	if (now >= v->deadline)
		return false;
	vlapic_tick(&v->lapic, now);
	if (v->attention & X86_ATTENTION_LOAD)
		switch_to(v);
	v->attention = ops->each_entry ? X86_ATTENTION_TIME : 0;
	if (v->halting) {
		ops->clear_shadow(v); /* HLT was executed: STI's shadow is over */
		v->halting = v->deaf = false;
	}
	deliver(v);
	uint64_t timer = MAX(v->lapic.timer_tsc, now + TIMER_MIN_TICKS);
	uint64_t stop = MIN(v->deadline, timer);
	v->stop_tsc = MIN(stop, now + STOP_MAX_TICKS);
	v->stop_low = (uint32_t)v->stop_tsc;
	ops->set_time(v, rdtsc()); /* loading took its time */
	return true;
}

enum virt_exit_kind virt_run(struct virt_vcpu *v, uint64_t deadline_tsc)
{
	return run(x86_vcpu(v), deadline_tsc);
}

void x86_inject(struct x86_vcpu *v, uint32_t info, uint32_t error, uint32_t length)
{
	/* An interrupt that was cut short goes back to where it waits; an exception comes again. */
	if ((v->event_info & X86_EVENT_VALID) &&
		(v->event_info & X86_EVENT_TYPE) == X86_EVENT_EXTERNAL)
		vlapic_unaccept(&v->lapic, v->event_info & 0xffu);
	v->event_info = info | X86_EVENT_VALID;
	v->event_error = error;
	v->event_length = length;
	v->attention |= X86_ATTENTION_EVENT;
}

static enum virt_exit_kind general_protection(struct x86_vcpu *v)
{
	x86_inject(v, X86_EVENT_EXCEPTION | X86_EVENT_ERROR | X86_GP, 0, 0);
	return X86_RESUME;
}

void x86_fail(struct x86_vcpu *v, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)fmt_vsnprintf(v->text, sizeof(v->text), fmt, args);
	va_end(args);
	v->virt.exit.text = v->text;
}

/* ---- one function for each kind of exit --------------------------------------------------- */

static enum virt_exit_kind on_user_hypercall(struct x86_vcpu *v)
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
	default:
		return X86_FIELD_COUNT;
	}
}

static bool read_msr(struct x86_vcpu *v, uint32_t msr, uint64_t *value)
{
	const struct guest_msr *m = guest_msr_find(msr);
	if (m == NULL)
		return false;
	switch ((enum guest_msr_kind)m->kind) {
	case GUEST_MSR_CONST:
	case GUEST_MSR_IGNORE:
		*value = m->value;
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
		*value = ops->get(v, backend_field(msr));
		return true;
	case GUEST_MSR_LIVE:
		if (msr == MSR_TSC_AUX && !v->cpuid.rdtscp)
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
	if (reg != VLAPIC_EOI)
		v->attention |= X86_ATTENTION_LAPIC | X86_ATTENTION_TIME;
	else if (vlapic_pending(&v->lapic) >= 0)
		v->attention |= X86_ATTENTION_LAPIC;
	return true;
}

static bool write_msr(struct x86_vcpu *v, uint32_t msr, uint64_t value)
{
	const struct guest_msr *m = guest_msr_find(msr);
	if (m == NULL || !guest_msr_value_ok(m, value))
		return false;
	switch ((enum guest_msr_kind)m->kind) {
	case GUEST_MSR_CONST:
	case GUEST_MSR_IGNORE:
		return true;
	case GUEST_MSR_LAPIC:
		return write_lapic(v, msr - MSR_X2APIC_FIRST, value);
	case GUEST_MSR_DEADLINE:
		v->attention |= X86_ATTENTION_TIME;
		vlapic_write_deadline(&v->lapic, value);
		return true;
	case GUEST_MSR_BACKEND:
		ops->set(v, backend_field(msr), value);
		return true;
	case GUEST_MSR_LIVE:
		if (msr == MSR_TSC_AUX && !v->cpuid.rdtscp)
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
	ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_msr_write(struct x86_vcpu *v)
{
	uint64_t *gpr = v->virt.gpr;
	v->virt.count[VIRT_COUNT_MSR_WRITE]++;
	uint64_t value = (uint32_t)gpr[VIRT_RAX] | gpr[VIRT_RDX] << 32;
	if (!write_msr(v, (uint32_t)gpr[VIRT_RCX], value))
		return general_protection(v);
	ops->skip(v);
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
	ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_halt(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_HALT]++;
	ops->skip(v);
	v->halting = true;
	v->deaf = !(ops->get(v, X86_RFLAGS) & RFLAGS_IF);
	v->attention |= X86_ATTENTION_LAPIC;
	vlapic_tick(&v->lapic, rdtsc());
	if (!v->deaf && vlapic_pending(&v->lapic) >= 0)
		return X86_RESUME;
	return VIRT_EXIT_HALT;
}

/* false: #GP. SDM vol. 2B "MOV - Move to/from Control Registers". */
static bool write_cr(struct x86_vcpu *v, uint32_t cr, uint64_t value)
{
	switch (cr) {
	case 0:
		/* Guests stay in 64-bit mode with paging. */
		if (value >> 32 != 0 || (~value & (CR0_PE | CR0_PG)) ||
			((value & CR0_NW) && !(value & CR0_CD)))
			return false;
		ops->set(v, X86_CR0, (value & CR0_DEFINED) | CR0_ET);
		return true;
	case 3:
		ops->set(v, X86_CR3, value & ~(1ull << 63));
		ops->flush_guest(v);
		return true;
	case 4:
		if ((value & ~v->cpuid.cr4_allowed) || !(value & CR4_PAE))
			return false;
		if ((value & CR4_PCIDE) && !(ops->get(v, X86_CR4) & CR4_PCIDE) &&
			(ops->get(v, X86_CR3) & 0xfffu))
			return false;
		ops->set(v, X86_CR4, value);
		guest_cpuid_set_cr4(&v->cpuid, value);
		ops->flush_guest(v);
		return true;
	case 8:
		return vlapic_write(&v->lapic, VLAPIC_TPR, value > 15 ? UINT64_MAX : value << 4, 0);
	default:
		return false;
	}
}

static enum virt_exit_kind on_cr(struct x86_vcpu *v)
{
	uint32_t cr = v->info.cr.cr;
	v->virt.count[VIRT_COUNT_OTHER]++;
	if (v->info.cr.write) {
		if (!write_cr(v, cr, v->info.cr.value))
			return general_protection(v);
		v->attention |= X86_ATTENTION_LAPIC;
	} else {
		uint64_t value = cr == 8 ? v->lapic.tpr >> 4 : ops->get(v, X86_CR3);
		if (v->info.cr.gpr == VIRT_RSP)
			ops->set(v, X86_RSP, value);
		else
			v->virt.gpr[v->info.cr.gpr & 15u] = value;
	}
	ops->skip(v);
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
	ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_timer(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_TIMER]++;
	v->attention |= X86_ATTENTION_TIME;
	return X86_RESUME;
}

static enum virt_exit_kind on_interrupt(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_HOST_INTERRUPT]++;
	v->attention |= X86_ATTENTION_TIME;
	return VIRT_EXIT_HOST_EVENT;
}

static enum virt_exit_kind on_window(struct x86_vcpu *v)
{
	v->virt.count[VIRT_COUNT_WINDOW]++;
	v->attention |= X86_ATTENTION_LAPIC;
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
		write_dr6(read_dr6() | v->info.exception.dr6);
		ops->set(v, X86_DR7, ops->get(v, X86_DR7) & ~(1ull << 13)); /* GD */
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
	ops->skip(v);
	return X86_RESUME;
}

static enum virt_exit_kind on_flush(struct x86_vcpu *v)
{
	ops->flush_guest(v);
	return on_nothing(v);
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
	[X86_EXIT_HYPERCALL] = on_user_hypercall,
	[X86_EXIT_CPUID] = on_inlined,
	[X86_EXIT_SLAT_FAULT] = on_inlined,
	[X86_EXIT_MSR_READ] = on_msr_read,
	[X86_EXIT_MSR_WRITE] = on_msr_write,
	[X86_EXIT_IO] = on_io,
	[X86_EXIT_HALT] = on_halt,
	[X86_EXIT_CR] = on_cr,
	[X86_EXIT_XSETBV] = on_xsetbv,
	[X86_EXIT_TIMER] = on_timer,
	[X86_EXIT_INTERRUPT] = on_interrupt,
	[X86_EXIT_WINDOW] = on_window,
	[X86_EXIT_EXCEPTION] = on_exception,
	[X86_EXIT_NMI] = on_nmi,
	[X86_EXIT_MACHINE_CHECK] = on_machine_check,
	[X86_EXIT_NOTHING] = on_nothing,
	[X86_EXIT_FLUSH] = on_flush,
	[X86_EXIT_UNDEFINED] = on_user_hypercall,
	[X86_EXIT_DENIED] = on_denied,
	[X86_EXIT_SHUTDOWN] = on_shutdown,
	[X86_EXIT_FAILED] = on_failed,
};

/* ---- the rest of vmm/virt.h ---------------------------------------------------------------- */

void virt_raise(struct virt_vcpu *vv, uint8_t vector)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	vlapic_raise(&v->lapic, vector);
	v->attention |= X86_ATTENTION_LAPIC;
}

bool virt_has_work(struct virt_vcpu *vv, uint64_t now_tsc)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	if (v->deaf)
		return false;
	return v->lapic.timer_tsc <= now_tsc || vlapic_pending(&v->lapic) >= 0;
}

bool virt_interruptible(struct virt_vcpu *vv)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	ops->load(v);
	return ops->can_interrupt(v);
}

uint64_t virt_wake_tsc(const struct virt_vcpu *vv)
{
	const struct x86_vcpu *v = container_of(vv, const struct x86_vcpu, virt);
	return v->deaf ? UINT64_MAX : v->lapic.timer_tsc;
}

void virt_hypercall_again(struct virt_vcpu *vv)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	ops->load(v);
	ops->rewind(v);
}

void virt_inject_gp(struct virt_vcpu *vv)
{
	(void)general_protection(x86_vcpu(vv));
}

void virt_inject_ud(struct virt_vcpu *vv)
{
	x86_inject(x86_vcpu(vv), X86_EVENT_EXCEPTION | X86_UD, 0, 0);
}

void virt_get_state(struct virt_vcpu *vv, struct virt_state *out)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	ops->load(v);
	memcpy(out->gpr, v->virt.gpr, sizeof(out->gpr));
	out->gpr[VIRT_RSP] = ops->get(v, X86_RSP);
	out->rip = ops->get(v, X86_RIP);
	out->rflags = ops->get(v, X86_RFLAGS);
	out->cr0 = ops->get(v, X86_CR0);
	out->cr2 = virt_this_cpu()->live == v ? read_cr2() : v->cr2;
	out->cr3 = ops->get(v, X86_CR3);
	out->cr4 = ops->get(v, X86_CR4);
	out->efer = ops->get(v, X86_EFER);
	out->cs_base = ops->get(v, X86_CS_BASE);
	out->cpl = (uint32_t)ops->get(v, X86_CPL);
}

const char *virt_counter_name(enum virt_counter c)
{
	static const char *const names[VIRT_COUNTERS] = {
		[VIRT_COUNT_CPUID] = "cpuid",
		[VIRT_COUNT_MSR_READ] = "msr-read",
		[VIRT_COUNT_MSR_WRITE] = "msr-write",
		[VIRT_COUNT_IO] = "io",
		[VIRT_COUNT_HYPERCALL] = "hypercall",
		[VIRT_COUNT_SLAT_FAULT] = "slat-fault",
		[VIRT_COUNT_HALT] = "halt",
		[VIRT_COUNT_HOST_INTERRUPT] = "host-interrupt",
		[VIRT_COUNT_TIMER] = "timer",
		[VIRT_COUNT_WINDOW] = "window",
		[VIRT_COUNT_EXCEPTION] = "exception",
		[VIRT_COUNT_NMI] = "nmi",
		[VIRT_COUNT_OTHER] = "other",
		[VIRT_COUNT_INJECTED] = "injected",
	};
	return (uint32_t)c < VIRT_COUNTERS ? names[c] : "?";
}
