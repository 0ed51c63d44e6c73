/*
 * What a guest's processors do to each other: inter-processor interrupts, INIT and start-up. The sender
 * writes what it wants of another into words that are atomic (`posted`, `reset`) and has vmm wake it; the
 * owner takes them before its next entry. Source: SDM vol. 3A, "Issuing Interprocessor Interrupts",
 * "Multiple-Processor (MP) Initialization".
 */
#include "arch/x86/regs.h"
#include "arch/x86/vcpu.h"
#include "arch/x86/vcpu_live.h"
#include "vmm/base/string.h"

#define RESET_INIT         1u
#define RESET_START        2u /* vector in bits 8..15 */
#define RESET_VECTOR_SHIFT 8u
#define CR0_AT_INIT        (CR0_CD | CR0_NW | CR0_ET)
#define RDX_AT_INIT        0x600u /* a family of this sort: what BIOSes look at */

static void tell(struct x86_vcpu *to, uint32_t attention)
{
	x86_attend(to, attention);
	if (virt_wake_hook != NULL)
		virt_wake_hook(&to->virt);
}

/* The first of several start-ups counts: a second one comes as a matter of habit. */
static void ask_start(struct x86_vcpu *to, uint32_t vector)
{
	uint32_t old = __atomic_load_n(&to->reset, __ATOMIC_RELAXED);
	do {
		if (old & RESET_START)
			return;
	} while (!__atomic_compare_exchange_n(&to->reset, &old,
		old | RESET_START | vector << RESET_VECTOR_SHIFT, false, __ATOMIC_ACQ_REL,
		__ATOMIC_RELAXED));
	tell(to, X86_ATTENTION_RESET);
}

static void deliver_ipi(const struct x86_vcpu *from, struct x86_vcpu *to, const struct vlapic_ipi *ipi)
{
	switch (ipi->mode) {
	case VLAPIC_IPI_FIXED:
	case VLAPIC_IPI_LOWEST:
		virt_raise(&to->virt, ipi->vector);
		if (to != from && virt_wake_hook != NULL)
			virt_wake_hook(&to->virt);
		return;
	case VLAPIC_IPI_INIT:
		/* Whatever start-up was asked for before it is void: also one that a running vCPU has not
		 * got round to ignoring. */
		__atomic_store_n(&to->reset, RESET_INIT, __ATOMIC_RELEASE);
		tell(to, X86_ATTENTION_RESET);
		return;
	case VLAPIC_IPI_STARTUP:
		ask_start(to, ipi->vector);
		return;
	default:
		return; /* NMI and SMI: docs/caveats.md */
	}
}

void x86_send_ipi(struct x86_vcpu *v)
{
	struct virt_vcpu *self = &v->virt, *const *peers = v->virt.peers ? v->virt.peers : &self;
	uint32_t count = v->virt.peers ? v->virt.peer_count : 1;
	struct vlapic_ipi ipi;
	if (!vlapic_ipi_decode(v->lapic.icr, &ipi))
		return;
	for (uint32_t i = 0; i < count; i++) {
		if (!vlapic_ipi_is_for(&ipi, peers[i]->vcpu_id, v->virt.vcpu_id))
			continue;
		deliver_ipi(v, x86_vcpu(peers[i]), &ipi);
		if (ipi.mode == VLAPIC_IPI_LOWEST)
			return; /* any one of them */
	}
}

/* ---- the owner's side ------------------------------------------------------------------------- */

/* A local APIC after INIT is disabled until the guest enables it: it takes no interrupts meanwhile. */
static void forget_interrupts(struct x86_vcpu *v)
{
	vlapic_reset(&v->lapic, v->virt.vcpu_id);
	for (uint32_t i = 0; i < ARRAY_COUNT(v->posted); i++)
		__atomic_store_n(&v->posted[i], 0, __ATOMIC_RELAXED);
}

static void forget_breakpoints(struct x86_vcpu *v)
{
	bool live = virt_this_cpu()->live == v;
	if (live)
		vcpu_live_save(v);
	memset(v->dr, 0, sizeof(v->dr));
	if (live)
		vcpu_live_load(v);
}

/* As INIT leaves it, where it then waits: SDM vol. 3A, "Processor State After Reset". A back end's boot()
 * may lose what INIT leaves unchanged; a PAT of 0 would make all of its memory uncached. */
static void initialise(struct x86_vcpu *v)
{
	static const uint8_t unchanged[] = { X86_PAT, X86_STAR, X86_LSTAR, X86_CSTAR, X86_FMASK,
		X86_KERNEL_GS_BASE, X86_SYSENTER_CS, X86_SYSENTER_ESP, X86_SYSENTER_EIP };
	uint64_t kept[ARRAY_COUNT(unchanged)];
	static const struct {
		uint8_t field;
		uint64_t value;
	} registers[] = {
		{ X86_EFER, 0 }, { X86_CR0, CR0_AT_INIT }, { X86_CR2, 0 }, { X86_CR3, 0 },
		{ X86_CR4, 0 }, { X86_RIP, 0 }, { X86_RSP, 0 }, { X86_RFLAGS, RFLAGS_FIXED },
		{ X86_DR6, DR6_RESET }, { X86_DR7, DR7_RESET },
	};
	memset(v->virt.gpr, 0, sizeof(v->virt.gpr));
	v->virt.gpr[VIRT_RDX] = RDX_AT_INIT;
	forget_interrupts(v);
	forget_breakpoints(v);
	v->event_info = 0;
	v->deaf = v->halting = false;
	for (uint32_t i = 0; i < ARRAY_COUNT(unchanged); i++)
		kept[i] = x86_ops->get(v, (enum x86_field)unchanged[i]);
	x86_ops->boot(v);
	for (uint32_t i = 0; i < ARRAY_COUNT(unchanged); i++)
		x86_ops->set(v, (enum x86_field)unchanged[i], kept[i]);
	for (uint32_t i = 0; i < ARRAY_COUNT(registers); i++)
		x86_ops->set(v, (enum x86_field)registers[i].field, registers[i].value);
	guest_cpuid_set_cr4(&v->cpuid, 0);
	x86_ops->flush_guest(v);
	v->parked = true;
}

void x86_take_reset(struct x86_vcpu *v)
{
	uint32_t asked = __atomic_exchange_n(&v->reset, 0, __ATOMIC_ACQ_REL);
	if (asked & RESET_INIT)
		initialise(v);
	if ((asked & RESET_START) && v->parked) {
		forget_interrupts(v);
		x86_ops->start(v, (uint8_t)(asked >> RESET_VECTOR_SHIFT));
		v->parked = false;
	}
	if (v->parked)
		x86_attend(v, X86_ATTENTION_RESET); /* each look at it finds it parked */
}

bool x86_reset_asked(const struct x86_vcpu *v)
{
	uint32_t asked = __atomic_load_n(&v->reset, __ATOMIC_ACQUIRE);
	return (asked & (v->parked ? RESET_START : RESET_INIT)) != 0;
}

void virt_park(struct virt_vcpu *vv)
{
	struct x86_vcpu *v = x86_vcpu(vv);
	x86_ops->load(v);
	initialise(v);
	v->attention = X86_ATTENTION_LOAD | X86_ATTENTION_TIME | X86_ATTENTION_RESET;
}
