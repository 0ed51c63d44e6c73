/* Pure. Words for SVM's numbers, and what VMRUN checks. Source: APM vol. 2 appendix C; "VMRUN
 * Instruction", its list of illegal states. */
#include "arch/x86/regs.h"
#include "arch/x86/svm/svm.h"

static const char *const names[SVM_EXIT_COUNT] = {
	[SVM_EXIT_INTR] = "interrupt", [SVM_EXIT_NMI] = "NMI", [SVM_EXIT_SMI] = "SMI",
	[SVM_EXIT_INIT] = "INIT", [SVM_EXIT_VINTR] = "virtual interrupt",
	[SVM_EXIT_CR0_SELECTIVE] = "CR0 write", [SVM_EXIT_RDPMC] = "RDPMC",
	[SVM_EXIT_CPUID] = "CPUID", [SVM_EXIT_RSM] = "RSM", [SVM_EXIT_INVD] = "INVD",
	[SVM_EXIT_PAUSE] = "PAUSE", [SVM_EXIT_HLT] = "HLT", [SVM_EXIT_INVLPG] = "INVLPG",
	[SVM_EXIT_INVLPGA] = "INVLPGA", [SVM_EXIT_IOIO] = "port access",
	[SVM_EXIT_MSR] = "MSR access", [SVM_EXIT_TASK_SWITCH] = "task switch",
	[SVM_EXIT_FERR_FREEZE] = "FERR freeze", [SVM_EXIT_SHUTDOWN] = "shutdown",
	[SVM_EXIT_VMRUN] = "VMRUN", [SVM_EXIT_VMMCALL] = "VMMCALL", [SVM_EXIT_VMLOAD] = "VMLOAD",
	[SVM_EXIT_VMSAVE] = "VMSAVE", [SVM_EXIT_STGI] = "STGI", [SVM_EXIT_CLGI] = "CLGI",
	[SVM_EXIT_SKINIT] = "SKINIT", [SVM_EXIT_RDTSCP] = "RDTSCP", [SVM_EXIT_ICEBP] = "ICEBP",
	[SVM_EXIT_WBINVD] = "WBINVD", [SVM_EXIT_MONITOR] = "MONITOR", [SVM_EXIT_MWAIT] = "MWAIT",
	[SVM_EXIT_MWAIT_ARMED] = "MWAIT", [SVM_EXIT_XSETBV] = "XSETBV", [SVM_EXIT_RDPRU] = "RDPRU",
	[SVM_EXIT_INVLPGB] = "INVLPGB", [SVM_EXIT_INVLPGB_ILLEGAL] = "INVLPGB",
	[SVM_EXIT_INVPCID] = "INVPCID", [SVM_EXIT_MCOMMIT] = "MCOMMIT",
	[SVM_EXIT_TLBSYNC] = "TLBSYNC",
};

const char *svm_exit_name(uint64_t code)
{
	if (code == SVM_EXIT_NPF)
		return "nested page fault";
	if (code == SVM_EXIT_INVALID)
		return "invalid guest state";
	if (code < SVM_EXIT_CR_WRITE)
		return "CR read";
	if (code < SVM_EXIT_CR_WRITE + 16u)
		return "CR write";
	if (code >= SVM_EXIT_EXCEPTION && code < SVM_EXIT_EXCEPTION + 32u)
		return "exception";
	return code < SVM_EXIT_COUNT && names[code] != NULL ? names[code] : "unknown";
}

static bool has(const struct svm_vmcb *c, uint32_t code)
{
	return c->intercept[code / 32] >> code % 32 & 1u;
}

const char *svm_check(const struct svm_vmcb *c)
{
	const uint64_t long_bits = EFER_LME | EFER_LMA;
	const struct {
		bool broken;
		const char *rule;
	} rules[] = {
		{ !(c->efer & EFER_SVME), "EFER.SVME is clear" },
		{ !(c->cr0 & CR0_CD) && (c->cr0 & CR0_NW), "CR0.NW is set and CR0.CD is not" },
		{ c->cr0 >> 32 != 0, "CR0 has bits above 31" },
		{ (c->cr3 >> 52 & 0x7ffu) != 0, "CR3 has reserved bits" },
		{ c->dr6 >> 32 != 0, "DR6 has bits above 31" },
		{ c->dr7 >> 32 != 0, "DR7 has bits above 31" },
		{ (c->efer & long_bits) && (c->cr0 & CR0_PG) && !(c->cr4 & CR4_PAE),
			"long mode without CR4.PAE" },
		{ (c->efer & EFER_LME) && (c->cr0 & CR0_PG) && !(c->cr0 & CR0_PE),
			"long mode without CR0.PE" },
		{ (c->efer & EFER_LME) && (c->cr0 & CR0_PG) && (c->cs.attributes >> 9 & 3u) == 3,
			"CS has both L and D" },
		{ !has(c, SVM_EXIT_VMRUN), "VMRUN is not intercepted" },
		{ c->asid == 0, "ASID 0 is the host's" },
		{ (c->event_inj & X86_EVENT_VALID) && (c->event_inj & X86_EVENT_TYPE) == X86_EVENT_EXCEPTION &&
				(c->event_inj & 0xffu) > 31,
			"an exception's vector is above 31" },
		{ (c->iopm | c->msrpm | c->n_cr3) & 0xfffu, "a map or the nested root is unaligned" },
	};
	for (uint32_t i = 0; i < ARRAY_COUNT(rules); i++)
		if (rules[i].broken)
			return rules[i].rule;
	return NULL;
}
