/*
 * What a VM exit means, in neutral words. Sources: SDM vol. 3C "VM-Exit Qualification", "VM-Exit
 * Information Fields", "VM-Entry Failures During or After Loading Guest State".
 */
#include "arch/x86/regs.h"
#include "arch/x86/traps.h"
#include "arch/x86/vmx/offsets.h"
#include "arch/x86/vmx/vmx.h"
#include "arch/x86/vmx/vmx_check.h"
#include "vmm/base/log.h"

#define ERROR_NOT_LAUNCHED 5u /* VMRESUME with non-launched VMCS */

static uint64_t read_field(uint32_t field)
{
	uint64_t value = 0;
	(void)!vmread_checked(field, &value);
	return value;
}

static const char *bad_state_text(uint64_t qualification)
{
	uint32_t bits = cpuid(0x80000008u, 0).eax & 0xffu;
	const char *broken = vmx_check_guest(read_field, &vmx_caps, bits);
	return qualification == 0 && broken != NULL ? broken : vmx_entry_state_text(qualification);
}

static enum x86_exit_kind fail_entry(struct x86_vcpu *v, uint32_t reason)
{
	uint32_t basic = reason & 0xffffu;
	uint64_t q = vmread(VMCS_QUALIFICATION);
	if (basic == REASON_ENTRY_MC)
		return X86_EXIT_MACHINE_CHECK;
	if (basic == REASON_ENTRY_STATE)
		x86_fail(v, "VM entry failed: %s", bad_state_text(q));
	else
		x86_fail(v, "VM entry failed: %s (qualification %#llx)", vmx_reason_name(basic),
			(unsigned long long)q);
	log_err("guest %u: %s", v->virt.guest_id, v->text);
	vmx_dump(v);
	return X86_EXIT_FAILED;
}

static enum x86_exit_kind fail_exit(struct x86_vcpu *v, uint32_t reason)
{
	x86_fail(v, "VM exit %u (%s) that nothing here can resolve, qualification %#llx",
		reason & 0xffffu, vmx_reason_name(reason & 0xffffu),
		(unsigned long long)vmread(VMCS_QUALIFICATION));
	log_err("guest %u: %s", v->virt.guest_id, v->text);
	vmx_dump(v);
	return X86_EXIT_FAILED;
}

/* VMfail: nothing was entered. The first entry of a VMCS must be VMLAUNCH, and is found out here,
 * which keeps the question out of the hot path. */
static enum x86_exit_kind not_entered(struct x86_vcpu *x, uint32_t how)
{
	struct vmx_vcpu *v = vmx_vcpu(x);
	uint32_t error = how == VMX_FAIL_VALID ? vmread32(VMCS_INSTRUCTION_ERROR) : 0;
	if (!v->launched && error == ERROR_NOT_LAUNCHED) {
		v->launched = true;
		uint32_t reason = vmx_launch(x);
		if (reason & REASON_ENTRY_FAILED)
			v->launched = false;
		return vmx_understand(x, reason);
	}
	if (how == VMX_FAIL_INVALID) {
		x86_fail(x, "VM entry failed: no current VMCS");
	} else {
		v->launched = false;
		x86_fail(x, "VM entry failed: error %u, %s", error, vmx_error_text(error));
	}
	log_err("guest %u: %s", x->virt.guest_id, x->text);
	vmx_dump(x);
	return X86_EXIT_FAILED;
}

void vmx_keep_event(struct x86_vcpu *v, uint32_t info)
{
	v->event_info = info;
	v->event_error = info & INFO_ERROR_CODE ? vmread32(VMCS_VECTORING_ERROR) : 0;
	v->event_length = vmread32(VMCS_EXIT_LENGTH);
	x86_attend(v, X86_ATTENTION_EVENT);
}

static enum x86_exit_kind host_interrupt(void)
{
	if (vmx_caps.ack_interrupt) {
		traps_external((uint8_t)(vmread32(VMCS_EXIT_INFO) & INFO_VECTOR));
	} else {
		sti(); /* taken through the IDT; STI's shadow needs one instruction more */
		__asm__ volatile("nop");
		cli();
	}
	return X86_EXIT_INTERRUPT;
}

static enum x86_exit_kind exception(struct x86_vcpu *v)
{
	uint32_t info = vmread32(VMCS_EXIT_INFO);
	uint32_t vector = info & INFO_VECTOR;
	if ((info & INFO_TYPE) == INFO_TYPE_NMI) {
		__asm__ volatile("int $2"); /* its IRET unblocks the next one */
		return X86_EXIT_NMI;
	}
	if (vector == X86_MC)
		return X86_EXIT_MACHINE_CHECK;
	v->info.exception.info = info & (INFO_VECTOR | INFO_TYPE | INFO_ERROR_CODE);
	v->info.exception.error = info & INFO_ERROR_CODE ? vmread32(VMCS_EXIT_ERROR) : 0;
	v->info.exception.length = vmread32(VMCS_EXIT_LENGTH);
	v->info.exception.dr6 = 0;
	if (vector == X86_DB) {
		v->info.exception.dr6 = vmread(VMCS_QUALIFICATION) & 0x600full;
		/* "Checks on Guest Non-Register State": a step pending under a shadow must be told. */
		if ((vmread(VMCS_INTERRUPTIBILITY) &
			    (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS)) &&
			(vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF))
			vmwrite(VMCS_PENDING_DEBUG, PENDING_DEBUG_BS);
	}
	return X86_EXIT_EXCEPTION;
}

static enum x86_exit_kind io(struct x86_vcpu *v)
{
	uint64_t q = vmread(VMCS_QUALIFICATION);
	v->info.io.bytes = (uint8_t)((q & 7u) + 1);
	v->info.io.in = (q & 8u) != 0;
	v->info.io.string = (q & 16u) != 0;
	v->info.io.port = (uint16_t)(q >> 16);
	return X86_EXIT_IO;
}

static enum x86_exit_kind cr(struct x86_vcpu *v)
{
	uint64_t q = vmread(VMCS_QUALIFICATION);
	uint64_t cr0 = vmx_get(v, X86_CR0);
	v->info.cr.cr = q & 15u;
	v->info.cr.gpr = q >> 8 & 15u;
	v->info.cr.write = true;
	switch (q >> 4 & 3u) {
	case 0:
		v->info.cr.value = v->info.cr.gpr == VIRT_RSP ? vmread(VMCS_GUEST_RSP) :
							       v->virt.gpr[v->info.cr.gpr];
		break;
	case 1:
		v->info.cr.write = false;
		break;
	case 2: /* CLTS */
		v->info.cr.cr = 0;
		v->info.cr.value = cr0 & ~CR0_TS;
		break;
	default: /* LMSW: bits 0 to 3, and PE cannot be cleared */
		v->info.cr.cr = 0;
		v->info.cr.value = (cr0 & ~0xeull) | (q >> 16 & 0xfu);
		break;
	}
	return X86_EXIT_CR;
}

static const uint8_t plain[REASON_COUNT] = {
	[REASON_VMCALL] = X86_EXIT_HYPERCALL + 1,
	[REASON_CPUID] = X86_EXIT_CPUID + 1,
	[REASON_RDMSR] = X86_EXIT_MSR_READ + 1,
	[REASON_WRMSR] = X86_EXIT_MSR_WRITE + 1,
	[REASON_HLT] = X86_EXIT_HALT + 1,
	[REASON_XSETBV] = X86_EXIT_XSETBV + 1,
	[REASON_PAUSE] = X86_EXIT_SPIN + 1,
	[REASON_PREEMPTION] = X86_EXIT_TIMER + 1,
	[REASON_TRIPLE_FAULT] = X86_EXIT_SHUTDOWN + 1,
	[REASON_INVD] = X86_EXIT_NOTHING + 1,
	[REASON_WBINVD] = X86_EXIT_NOTHING + 1,
	[REASON_INVLPG] = X86_EXIT_FLUSH + 1,
	[REASON_RDPMC] = X86_EXIT_DENIED + 1,
	[REASON_GETSEC] = X86_EXIT_UNDEFINED + 1,
	[REASON_RSM] = X86_EXIT_UNDEFINED + 1,
	[REASON_VMCLEAR] = X86_EXIT_UNDEFINED + 1,
	[REASON_VMCLEAR + 1] = X86_EXIT_UNDEFINED + 1, /* VMLAUNCH */
	[REASON_VMCLEAR + 2] = X86_EXIT_UNDEFINED + 1, /* VMPTRLD */
	[REASON_VMCLEAR + 3] = X86_EXIT_UNDEFINED + 1, /* VMPTRST */
	[REASON_VMCLEAR + 4] = X86_EXIT_UNDEFINED + 1, /* VMREAD */
	[REASON_VMCLEAR + 5] = X86_EXIT_UNDEFINED + 1, /* VMRESUME */
	[REASON_VMCLEAR + 6] = X86_EXIT_UNDEFINED + 1, /* VMWRITE */
	[REASON_VMCLEAR + 7] = X86_EXIT_UNDEFINED + 1, /* VMXOFF */
	[REASON_VMXON] = X86_EXIT_UNDEFINED + 1,
	[REASON_MWAIT] = X86_EXIT_UNDEFINED + 1,
	[REASON_MONITOR] = X86_EXIT_UNDEFINED + 1,
	[REASON_INVEPT] = X86_EXIT_UNDEFINED + 1,
	[REASON_INVVPID] = X86_EXIT_UNDEFINED + 1,
	[REASON_VMFUNC] = X86_EXIT_UNDEFINED + 1,
	[REASON_ENCLS] = X86_EXIT_UNDEFINED + 1,
};

enum x86_exit_kind vmx_translate(struct x86_vcpu *v, uint32_t reason)
{
	if (reason == VMX_FAIL_VALID || reason == VMX_FAIL_INVALID)
		return not_entered(v, reason);
	if (reason & REASON_ENTRY_FAILED)
		return fail_entry(v, reason);
	if (reason < REASON_COUNT && plain[reason] != 0)
		return (enum x86_exit_kind)(plain[reason] - 1);
	switch (reason) {
	case REASON_EXTERNAL:
		return host_interrupt();
	case REASON_WINDOW:
		vmx_set_window(v, false);
		return X86_EXIT_WINDOW;
	case REASON_EXCEPTION: {
		uint32_t info = vmread32(VMCS_VECTORING_INFO);
		if (info & INFO_VALID)
			vmx_keep_event(v, info);
		return exception(v);
	}
	case REASON_IO:
		return io(v);
	case REASON_CR:
		return cr(v);
	default:
		return fail_exit(v, reason);
	}
}
