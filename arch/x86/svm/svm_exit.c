/*
 * What a #VMEXIT means, in neutral words. Sources: APM vol. 2 "Instruction Intercepts", "IOIO
 * Intercept", "State Saved on Exit" (nRIP, decode assists), "EXITINTINFO".
 *
 * Processors without NRIPS do not say how long the instruction was, those without decode assists not
 * which register it names: then the instruction is fetched through the guest's own tables and decoded.
 * That may fail (the guest changed its tables or the code behind its own back): the instruction is
 * then executed again after a flush, which settles what the guest really has there.
 */
#include "arch/x86/guest_walk.h"
#include "arch/x86/regs.h"
#include "arch/x86/run_loop.h"
#include "arch/x86/svm/decode.h"
#include "arch/x86/svm/svm.h"
#include "mm/p2m.h"
#include "vmm/base/log.h"

#define INSN_MAX    15u
#define SEG_L       (1u << 9)
#define SEG_D       (1u << 10)

static bool read_guest(void *ctx, uint64_t gpa, void *buf, uint32_t bytes)
{
	return p2m_copy_from(ctx, GPA(gpa), buf, bytes) == OK;
}

/* Without paging an address is one; the instruction may end where memory does. */
static uint32_t fetch_flat(struct p2m *p2m, uint64_t linear, uint8_t *bytes)
{
	uint32_t n = 0;
	while (n < INSN_MAX && p2m_copy_from(p2m, GPA(linear + n), bytes + n, 1) == OK)
		n++;
	return n;
}

/* The instruction at RIP, if it is one of ours. */
static bool decode(struct svm_vcpu *v, struct svm_decoded *d)
{
	/* Reading takes the p2m's lock, whose holder may be waiting for this CPU to be out of the guest. */
	x86_space_leave();
	const struct svm_vmcb *c = v->vmcb;
	struct p2m *p2m = container_of(v->x.virt.slat, struct p2m, slat);
	bool long_mode = (c->cs.attributes & SEG_L) != 0;
	uint64_t linear = long_mode ? c->rip : (uint32_t)(c->cs.base + c->rip);
	uint8_t bytes[INSN_MAX];
	uint32_t n = c->cr0 & CR0_PG ? guest_fetch(c->cr3, linear, read_guest, p2m, bytes, INSN_MAX) :
				       fetch_flat(p2m, linear, bytes);
	return n != 0 && svm_decode(bytes, n, long_mode, (c->cs.attributes & SEG_D) != 0, d);
}

static enum x86_exit_kind fail_exit(struct svm_vcpu *v, uint64_t code)
{
	const char *broken = code == SVM_EXIT_INVALID ? svm_check(v->vmcb) : NULL;
	if (code == SVM_EXIT_INVALID)
		x86_fail(&v->x, "VMRUN refused the guest's state: %s",
			broken != NULL ? broken : "no rule that is known here is broken");
	else
		x86_fail(&v->x, "#VMEXIT %#llx (%s) that nothing here can resolve, information %#llx",
			(unsigned long long)code, svm_exit_name(code),
			(unsigned long long)v->vmcb->exit_info_1);
	log_err("guest %u: %s", v->x.virt.guest_id, v->x.text);
	svm_dump(v);
	return X86_EXIT_FAILED;
}

static enum x86_exit_kind exception(struct svm_vcpu *v, uint32_t vector)
{
	const struct svm_vmcb *c = v->vmcb;
	if (vector == X86_MC)
		return X86_EXIT_MACHINE_CHECK;
	/* #DB: DR6 in the VMCB has its new bits already. */
	v->x.info.exception.info = X86_EVENT_EXCEPTION | vector |
		(vector == X86_AC ? X86_EVENT_ERROR : 0);
	v->x.info.exception.error = vector == X86_AC ? (uint32_t)c->exit_info_1 : 0;
	v->x.info.exception.length = 0;
	v->x.info.exception.dr6 = 0;
	return X86_EXIT_EXCEPTION;
}

static enum x86_exit_kind io(struct svm_vcpu *v)
{
	struct svm_vmcb *c = v->vmcb;
	uint32_t info = (uint32_t)c->exit_info_1;
	v->x.info.io.bytes = info & SVM_IO_8 ? 1 : info & SVM_IO_16 ? 2 : 4;
	v->x.info.io.in = (info & SVM_IO_IN) != 0;
	v->x.info.io.string = (info & SVM_IO_STRING) != 0;
	v->x.info.io.port = (uint16_t)(info >> 16);
	c->next_rip = c->exit_info_2;
	return X86_EXIT_IO;
}

static uint64_t gpr_value(const struct svm_vcpu *v, uint32_t gpr)
{
	return gpr == VIRT_RSP ? v->vmcb->rsp : v->x.virt.gpr[gpr & 15u];
}

/* What a MOV, LMSW or SMSW names. `cr`: by the exit code. */
static enum x86_exit_kind cr(struct svm_vcpu *v, uint32_t number, bool write)
{
	struct svm_vmcb *c = v->vmcb;
	struct svm_decoded d = { 0 };
	bool told = svm_caps.decode_assists && svm_caps.nrips &&
		(c->exit_info_1 & SVM_CR_IS_MOV);
	if (told)
		d = (struct svm_decoded){ .kind = write ? SVM_INSN_MOV_TO_CR : SVM_INSN_MOV_FROM_CR,
			.cr = (uint8_t)number, .gpr = c->exit_info_1 & 15u };
	else if (!decode(v, &d))
		return X86_EXIT_AGAIN;
	if (!told && !svm_caps.nrips)
		c->next_rip = c->rip + d.length;
	v->x.info.cr.cr = (uint8_t)number;
	v->x.info.cr.gpr = d.gpr & 15u;
	v->x.info.cr.write = write;
	switch (d.kind) {
	case SVM_INSN_MOV_TO_CR:
		v->x.info.cr.value = gpr_value(v, d.gpr);
		return d.cr == number && write ? X86_EXIT_CR : X86_EXIT_AGAIN;
	case SVM_INSN_MOV_FROM_CR:
		return d.cr == number && !write ? X86_EXIT_CR : X86_EXIT_AGAIN;
	case SVM_INSN_CLTS:
		v->x.info.cr.value = c->cr0 & ~CR0_TS;
		return X86_EXIT_CR;
	case SVM_INSN_LMSW:
		if (d.memory)
			return X86_EXIT_UNDEFINED; /* docs/caveats.md */
		v->x.info.cr.value = (c->cr0 & ~0xeull) | (gpr_value(v, d.gpr) & 0xfu);
		return X86_EXIT_CR;
	default:
		return X86_EXIT_AGAIN;
	}
}

/* Exits of instructions: which kind, and what the bytes must be. */
static const struct {
	uint8_t kind, insn;
} instructions[SVM_EXIT_COUNT] = {
	[SVM_EXIT_VMMCALL] = { X86_EXIT_HYPERCALL, SVM_INSN_VMMCALL },
	[SVM_EXIT_CPUID] = { X86_EXIT_CPUID, SVM_INSN_CPUID },
	[SVM_EXIT_HLT] = { X86_EXIT_HALT, SVM_INSN_HLT },
	[SVM_EXIT_XSETBV] = { X86_EXIT_XSETBV, SVM_INSN_XSETBV },
	[SVM_EXIT_INVD] = { X86_EXIT_NOTHING, SVM_INSN_INVD },
	[SVM_EXIT_WBINVD] = { X86_EXIT_NOTHING, SVM_INSN_WBINVD },
};

static enum x86_exit_kind instruction(struct svm_vcpu *v, uint32_t kind, uint32_t insn)
{
	struct svm_decoded d;
	if (svm_caps.nrips)
		return (enum x86_exit_kind)kind;
	if (!decode(v, &d) || d.kind != insn)
		return X86_EXIT_AGAIN;
	v->vmcb->next_rip = v->vmcb->rip + d.length;
	return (enum x86_exit_kind)kind;
}

/*
 * Taken through the IDT; STI's shadow needs one instruction more. A HLT in the shadow of the guest's own STI
 * is done here: QEMU 7.2 saves the shadow at an exit and does not load it again (helper_vmrun()), so the
 * interrupt would come in front of the HLT, and what it wakes would wait for the next one. With a shadow that
 * is kept this saves an exit. Not where the guest has breakpoints, which come before the instruction.
 */
static enum x86_exit_kind interrupted(struct svm_vcpu *v)
{
	struct svm_vmcb *c = v->vmcb;
	struct svm_decoded d;
	sti();
	__asm__ volatile("nop");
	cli();
	if (LIKELY(!(c->interrupt_shadow & 1)) || c->cpl != 0 || (c->dr7 & DR7_ENABLE) != 0)
		return X86_EXIT_INTERRUPT;
	if (!decode(v, &d) || d.kind != SVM_INSN_HLT)
		return X86_EXIT_INTERRUPT;
	c->next_rip = c->rip + d.length;
	return X86_EXIT_INTERRUPT_AT_HALT;
}

static enum x86_exit_kind other(struct svm_vcpu *v, uint64_t code)
{
	switch (code) {
	case SVM_EXIT_INTR:
		return interrupted(v);
	case SVM_EXIT_PAUSE:
		return X86_EXIT_SPIN;
	case SVM_EXIT_NMI:
		return X86_EXIT_NMI; /* STGI let it in */
	case SVM_EXIT_VINTR:
		svm_set_window(&v->x, false);
		return X86_EXIT_WINDOW;
	case SVM_EXIT_IOIO:
		return io(v);
	case SVM_EXIT_MSR:
		return v->vmcb->exit_info_1 & 1 ?
			instruction(v, X86_EXIT_MSR_WRITE, SVM_INSN_WRMSR) :
			instruction(v, X86_EXIT_MSR_READ, SVM_INSN_RDMSR);
	case SVM_EXIT_CR0_SELECTIVE:
		return cr(v, 0, true);
	case SVM_EXIT_RDPMC:
		return X86_EXIT_DENIED;
	case SVM_EXIT_SHUTDOWN:
		return X86_EXIT_SHUTDOWN;
	case SVM_EXIT_RSM: case SVM_EXIT_INVLPGA: case SVM_EXIT_VMRUN: case SVM_EXIT_VMLOAD:
	case SVM_EXIT_VMSAVE: case SVM_EXIT_STGI: case SVM_EXIT_CLGI: case SVM_EXIT_SKINIT:
	case SVM_EXIT_MONITOR: case SVM_EXIT_MWAIT: case SVM_EXIT_MWAIT_ARMED:
	case SVM_EXIT_RDPRU: case SVM_EXIT_INVLPGB: case SVM_EXIT_INVLPGB_ILLEGAL:
	case SVM_EXIT_MCOMMIT: case SVM_EXIT_TLBSYNC:
		return X86_EXIT_UNDEFINED;
	default:
		return fail_exit(v, code);
	}
}

enum x86_exit_kind svm_translate(struct svm_vcpu *v, uint64_t code)
{
	uint32_t event = v->vmcb->exit_int_info;
	if (UNLIKELY(code == SVM_EXIT_INVALID))
		return fail_exit(v, code);
	if (UNLIKELY(event & X86_EVENT_VALID))
		svm_keep_event(v, event);
	if (code < SVM_EXIT_COUNT && instructions[code].insn != SVM_INSN_NONE)
		return instruction(v, instructions[code].kind, instructions[code].insn);
	if (code < SVM_EXIT_CR_WRITE)
		return cr(v, (uint32_t)code, false);
	if (code < SVM_EXIT_CR_WRITE + 16u)
		return cr(v, (uint32_t)code - SVM_EXIT_CR_WRITE, true);
	if (code >= SVM_EXIT_EXCEPTION && code < SVM_EXIT_EXCEPTION + 32u)
		return exception(v, (uint32_t)code - SVM_EXIT_EXCEPTION);
	return other(v, code);
}
