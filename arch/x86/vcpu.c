/* What is the same for every virtual CPU, whatever the vendor. See vcpu.h. */
#include "arch/x86/vcpu.h"
#include "arch/x86/guard.h"
#include "arch/x86/regs.h"
#include "arch/x86/vcpu_live.h"
#include "mm/heap.h"
#include "vmm/abi/aerostat.h"
#include "vmm/base/cpu.h"
#include "vmm/base/fmt.h"
#include "vmm/base/string.h"
#include "vmm/platform.h"

/* A guest's timer never interrupts it more often than this: the guest must get somewhere. */
#define TIMER_MIN_TICKS 1000u
/* For stop_low: the guest is looked after at least this often. */
#define STOP_MAX_TICKS (1u << 30)

struct virt_caps virt_caps;
void (*virt_wake_hook)(struct virt_vcpu *v);
const struct virt_ops *x86_ops; /* set once at boot */
const struct slat_format *slat_format; /* set once at boot, by the back end */
/* x86_ops->run: one load less on the way. Set once at boot. */
static enum virt_exit_kind (*run)(struct x86_vcpu *v, uint64_t deadline);
static bool several; /* more than one CPU runs guests. Set once at boot */
static struct virt_cpu boot_virt_cpu; /* set up once at boot, then its CPU's only */

status_t virt_init(enum virt_mitigations mode, const char **why)
{
	/* The one place that chooses. */
	static status_t (*const probes[])(const struct virt_ops **, const char **) = {
		vmx_probe, svm_probe,
	};
	guard_init(mode);
	status_t s = ERR_NOENT;
	for (uint32_t i = 0; s == ERR_NOENT && i < ARRAY_COUNT(probes); i++)
		s = probes[i](&x86_ops, why);
	if (s == ERR_NOENT)
		*why = "this CPU shows neither VMX (Intel VT-x) nor SVM (AMD-V); turn it on in the "
		       "firmware's setup, or use KVM with nested=1 and -cpu host, QEMU with -cpu "
		       "EPYC,+svm,+npt, or Bochs";
	if (s != OK)
		return s == ERR_NOENT ? ERR_NOSYS : s;
	virt_caps = x86_ops->caps;
	virt_caps.mitigations = guard_text;
	run = x86_ops->run;
	vcpu_live_init();
	guard_cpu_on();
	this_cpu()->virt = &boot_virt_cpu;
	return x86_ops->cpu_on(&boot_virt_cpu, why);
}

status_t virt_cpu_init(const char **why)
{
	struct virt_cpu *cpu = heap_alloc(sizeof(*cpu));
	if (cpu == NULL) {
		*why = "no memory";
		return ERR_NOMEM;
	}
	vcpu_live_init();
	guard_cpu_on();
	status_t s = x86_ops->cpu_on(cpu, why);
	if (s != OK) {
		heap_free(cpu, sizeof(*cpu));
		return s;
	}
	this_cpu()->virt = cpu;
	return OK;
}

static bool runs(const struct pcpu *cpu, const struct slat_space *s)
{
	return __atomic_load_n(&cpu->running, __ATOMIC_ACQUIRE) == s;
}

/* docs/shootdown.md, "Take". This CPU flushes at its own next entry, if it ever enters. */
static void shoot_down(struct slat_space *s)
{
	uint64_t g = __atomic_add_fetch(&s->generation, 1, __ATOMIC_SEQ_CST);
	uint32_t me = this_cpu()->index, count = platform_cpu_count();
	uint64_t waiting = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (i == me || !runs(smp_cpu(i), s))
			continue;
		waiting |= 1ull << i;
		s->kick_count++;
		platform_kick(i);
	}
	for (uint32_t i = 0; waiting != 0; i++, waiting >>= 1)
		while ((waiting & 1) && runs(smp_cpu(i), s) &&
			__atomic_load_n(&s->seen[i], __ATOMIC_ACQUIRE) < g)
			cpu_relax();
}

void slat_flush(struct slat_space *s)
{
	s->flush_count++;
	if (several) {
		shoot_down(s);
		return;
	}
	s->generation++;
	if (x86_ops->slat_flush != NULL)
		x86_ops->slat_flush(s);
}

void x86_space_flush(struct x86_vcpu *v, uint64_t generation)
{
	struct slat_space *s = v->virt.slat;
	if (x86_ops->slat_flush != NULL)
		x86_ops->slat_flush(s);
	__atomic_store_n(&s->seen[this_cpu()->index], generation, __ATOMIC_RELEASE);
}

void virt_several_cpus(void)
{
	several = true;
	run = x86_ops->run_smp;
}

void virt_put(struct virt_vcpu *vv)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	struct virt_cpu *cpu = virt_this_cpu();
	if (!several)
		return;
	if (cpu->live == v) {
		vcpu_live_save(v);
		cpu->live = NULL;
	}
	/* Not only if it is the loaded one: it may have been before that one. */
	if (x86_ops->put != NULL)
		x86_ops->put(v);
	if (cpu->loaded == v)
		cpu->loaded = NULL;
	x86_attend(v, X86_ATTENTION_LOAD);
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
	x86_ops->destroy(v);
	if (cpu->live == v)
		cpu->live = NULL;
	if (cpu->loaded == v)
		cpu->loaded = NULL;
	heap_free(v->xsave, v->xsave_bytes);
	heap_free(v, x86_ops->vcpu_bytes);
}

status_t virt_vcpu_create(uint32_t guest_id, uint32_t vcpu_id, uint32_t vcpu_count,
	struct slat_space *slat, struct virt_vcpu **out)
{
	struct x86_vcpu *v = heap_alloc(x86_ops->vcpu_bytes);
	if (v == NULL)
		return ERR_NOMEM;
	v->virt.guest_id = guest_id;
	v->virt.vcpu_id = vcpu_id;
	v->virt.slat = slat;
	if (slat->generation == 0)
		slat->generation = 1; /* no CPU has seen it: its root's frame may have been another's */
	struct guest_cpuid_config c = {
		.apic_id = vcpu_id,
		.vcpu_count = vcpu_count,
		.guest_id = guest_id,
		.tsc_khz = (uint32_t)platform_tsc_khz,
		.call = x86_ops->caps.hypercall_kind,
		.features = AERO_FEAT_CONSOLE | AERO_FEAT_BLOCK | AERO_FEAT_EVENT |
			AERO_FEAT_BALLOON | AERO_FEAT_STATS | AERO_FEAT_PRESSURE | AERO_FEAT_YIELD,
		.rdtscp = x86_ops->rdtscp,
		.invpcid = x86_ops->invpcid,
	};
	guest_cpuid_init(&v->cpuid, &c, read_cpuid);
	/* Page aligned from 4096 bytes up; XSAVE wants 64. */
	v->xsave_bytes = (uint32_t)MAX(guest_cpuid_xsave_bytes(&v->cpuid), PAGE_BYTES);
	v->xsave = heap_alloc(v->xsave_bytes);
	if (v->xsave == NULL) {
		heap_free(v, x86_ops->vcpu_bytes);
		return ERR_NOMEM;
	}
	status_t s = x86_ops->create(v);
	if (s != OK) {
		heap_free(v->xsave, v->xsave_bytes);
		heap_free(v, x86_ops->vcpu_bytes);
		return s;
	}
	struct virt_boot zero = { 0 };
	virt_boot(&v->virt, &zero);
	*out = &v->virt;
	return OK;
}

static void boot_registers(struct x86_vcpu *v, const struct virt_boot *boot)
{
	const struct {
		enum x86_field field;
		uint64_t value;
	} registers[] = {
		{ X86_CR0, CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE }, { X86_CR2, 0 },
		{ X86_CR3, boot->cr3 }, { X86_CR4, CR4_PAE }, { X86_EFER, EFER_LME | EFER_LMA },
		{ X86_PAT, PAT_DEFAULT }, { X86_RIP, boot->entry }, { X86_RSP, 0 },
		{ X86_RFLAGS, RFLAGS_FIXED }, { X86_DR6, DR6_RESET }, { X86_DR7, DR7_RESET },
		{ X86_SYSENTER_CS, 0 }, { X86_SYSENTER_ESP, 0 }, { X86_SYSENTER_EIP, 0 },
		{ X86_STAR, 0 }, { X86_LSTAR, 0 }, { X86_CSTAR, 0 }, { X86_FMASK, 0 },
		{ X86_FS_BASE, 0 }, { X86_GS_BASE, 0 }, { X86_KERNEL_GS_BASE, 0 },
	};
	for (uint32_t i = 0; i < ARRAY_COUNT(registers); i++)
		x86_ops->set(v, registers[i].field, registers[i].value);
}

void virt_boot(struct virt_vcpu *vv, const struct virt_boot *boot)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	struct virt_cpu *cpu = virt_this_cpu();
	memset(v->virt.gpr, 0, sizeof(v->virt.gpr));
	v->virt.gpr[VIRT_RSI] = boot->rsi;
	vlapic_reset(&v->lapic, v->virt.vcpu_id);
	memset(v->posted, 0, sizeof(v->posted));
	v->event_info = 0;
	v->deaf = v->halting = v->parked = false;
	v->reset = 0;
	vcpu_live_reset(v);
	if (cpu->live == v)
		cpu->live = NULL; /* what is in the processor is of no use any more */
	guest_cpuid_set_cr4(&v->cpuid, CR4_PAE);
	guest_cpuid_set_xcr0(&v->cpuid, v->xcr0);
	x86_ops->load(v);
	x86_ops->boot(v);
	boot_registers(v, boot);
	x86_ops->flush_guest(v);
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
	x86_ops->load(v);
}

/* Events first, as they were being delivered already; then one interrupt. */
static void deliver(struct x86_vcpu *v)
{
	bool window = false;
	if (v->event_info & X86_EVENT_VALID) {
		x86_ops->inject(v, v->event_info, v->event_error, v->event_length);
		v->event_info = 0;
		window = vlapic_pending(&v->lapic) >= 0;
	} else {
		int vector = vlapic_pending(&v->lapic);
		if (vector >= 0 && x86_ops->can_interrupt(v)) {
			vlapic_accept(&v->lapic, (uint32_t)vector);
			x86_ops->inject(v, X86_EVENT_VALID | X86_EVENT_EXTERNAL | (uint32_t)vector, 0, 0);
			v->virt.count[VIRT_COUNT_INJECTED]++;
			vector = vlapic_pending(&v->lapic);
		}
		window = vector >= 0;
	}
	x86_ops->set_window(v, window);
}

/* What others raised becomes the local APIC's. The vCPU's owner. */
static void take_posted(struct x86_vcpu *v)
{
	uint64_t vectors[4];
	for (uint32_t i = 0; i < 4; i++)
		vectors[i] = __atomic_exchange_n(&v->posted[i], 0, __ATOMIC_ACQ_REL);
	vlapic_raise_all(&v->lapic, vectors);
}

enum x86_go x86_prepare(struct x86_vcpu *v)
{
	uint64_t now = rdtsc();
	if (now >= v->deadline)
		return X86_GO_DEADLINE;
	vlapic_tick(&v->lapic, now);
	uint32_t attention = __atomic_exchange_n(&v->attention,
		x86_ops->each_entry ? X86_ATTENTION_TIME : 0, __ATOMIC_SEQ_CST);
	if (attention & X86_ATTENTION_LOAD)
		switch_to(v);
	if (UNLIKELY(attention & X86_ATTENTION_RESET)) {
		x86_take_reset(v);
		if (v->parked)
			return X86_GO_PARKED;
	}
	if (attention & X86_ATTENTION_POSTED)
		take_posted(v);
	if (v->halting) {
		x86_ops->clear_shadow(v); /* HLT was executed: STI's shadow is over */
		v->halting = v->deaf = false;
	}
	deliver(v);
	uint64_t timer = MAX(v->lapic.timer_tsc, now + TIMER_MIN_TICKS);
	uint64_t stop = MIN(v->deadline, timer);
	v->stop_tsc = MIN(stop, now + STOP_MAX_TICKS);
	v->stop_low = (uint32_t)v->stop_tsc;
	x86_ops->set_time(v, rdtsc()); /* loading took its time */
	return X86_GO_ENTER;
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
	/* Real mode has no error codes, and an entry that brings one fails (SDM vol. 3C, "VM-Entry
	 * Control Fields"). */
	if ((info & X86_EVENT_ERROR) && !(x86_ops->get(v, X86_CR0) & CR0_PE))
		info &= ~X86_EVENT_ERROR;
	v->event_info = info | X86_EVENT_VALID;
	v->event_error = error;
	v->event_length = length;
	x86_attend(v, X86_ATTENTION_EVENT);
}

void x86_inject_gp(struct x86_vcpu *v)
{
	x86_inject(v, X86_EVENT_EXCEPTION | X86_EVENT_ERROR | X86_GP, 0, 0);
}

void x86_fail(struct x86_vcpu *v, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)fmt_vsnprintf(v->text, sizeof(v->text), fmt, args);
	va_end(args);
	v->virt.exit.text = v->text;
}

/* ---- the rest of vmm/virt.h ---------------------------------------------------------------- */

void virt_raise(struct virt_vcpu *vv, uint8_t vector)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	__atomic_fetch_or(&v->posted[vector / 64], 1ull << vector % 64, __ATOMIC_RELEASE);
	x86_attend(v, X86_ATTENTION_POSTED);
}

bool virt_has_work(struct virt_vcpu *vv, uint64_t now_tsc)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	if (__atomic_load_n(&v->attention, __ATOMIC_ACQUIRE) & X86_ATTENTION_POSTED)
		take_posted(v); /* the bit stays: it costs one look */
	if (UNLIKELY(v->parked))
		return x86_reset_asked(v);
	if (UNLIKELY(__atomic_load_n(&v->reset, __ATOMIC_RELAXED) != 0) && x86_reset_asked(v))
		return true;
	if (v->deaf)
		return false;
	return v->lapic.timer_tsc <= now_tsc || vlapic_pending(&v->lapic) >= 0;
}

bool virt_interruptible(struct virt_vcpu *vv)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	x86_ops->load(v);
	return x86_ops->can_interrupt(v);
}

uint64_t virt_wake_tsc(const struct virt_vcpu *vv)
{
	const struct x86_vcpu *v = container_of(vv, const struct x86_vcpu, virt);
	return v->deaf || v->parked ? UINT64_MAX : v->lapic.timer_tsc;
}

void virt_hypercall_again(struct virt_vcpu *vv)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	x86_ops->load(v);
	x86_ops->rewind(v);
}

void virt_inject_gp(struct virt_vcpu *vv)
{
	x86_inject_gp(x86_vcpu(vv));
}

void virt_inject_ud(struct virt_vcpu *vv)
{
	x86_inject(x86_vcpu(vv), X86_EVENT_EXCEPTION | X86_UD, 0, 0);
}

void virt_get_state(struct virt_vcpu *vv, struct virt_state *out)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	x86_ops->load(v);
	memcpy(out->gpr, v->virt.gpr, sizeof(out->gpr));
	out->gpr[VIRT_RSP] = x86_ops->get(v, X86_RSP);
	out->rip = x86_ops->get(v, X86_RIP);
	out->rflags = x86_ops->get(v, X86_RFLAGS);
	out->cr0 = x86_ops->get(v, X86_CR0);
	out->cr2 = x86_ops->get(v, X86_CR2);
	out->cr3 = x86_ops->get(v, X86_CR3);
	out->cr4 = x86_ops->get(v, X86_CR4);
	out->efer = x86_ops->get(v, X86_EFER);
	out->cs_base = x86_ops->get(v, X86_CS_BASE);
	out->cpl = (uint32_t)x86_ops->get(v, X86_CPL);
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
		[VIRT_COUNT_SPIN] = "pause-loop",
		[VIRT_COUNT_OTHER] = "other",
		[VIRT_COUNT_INJECTED] = "injected",
	};
	return (uint32_t)c < VIRT_COUNTERS ? names[c] : "?";
}
