/* Pure. SVM's features to what is used of them. */
#include "arch/x86/svm/svm_caps.h"

#define EXT_ECX_SVM    (1u << 2)
#define EXT_EDX_1G     (1u << 26)
#define EXT_EDX_RDTSCP (1u << 27)
#define L7_EBX_INVPCID (1u << 10)
#define SVM_LEAF       0x8000000au

#define NPT_PRESENT  (1ull << 0)
#define NPT_WRITE    (1ull << 1)
#define NPT_USER     (1ull << 2) /* all of a guest's accesses are user accesses to these tables */
#define NPT_ACCESSED (1ull << 5)
#define NPT_DIRTY    (1ull << 6)
#define NPT_BIG      (1ull << 7)
#define NPT_NO_EXEC  (1ull << 63) /* the host's EFER.NXE is on: paging.c */

bool svm_present(const struct svm_facts *f)
{
	return (f->ext_ecx & EXT_ECX_SVM) && f->max_extended >= SVM_LEAF;
}

static status_t fail(const char **why, const char *text)
{
	*why = text;
	return ERR_NOSYS;
}

status_t svm_caps_compute(const struct svm_facts *f, struct svm_caps *out, const char **why)
{
	if (!svm_present(f))
		return fail(why, "this CPU has no SVM (AMD-V)");
	if ((f->vm_cr & VM_CR_SVMDIS) && (f->vm_cr & VM_CR_LOCK))
		return fail(why, f->features & SVM_FEATURE_LOCK ?
				"the firmware has locked SVM off with a key (VM_CR.SVMDIS and "
				"VM_CR.LOCK are set); turn on \"SVM Mode\" or \"AMD-V\" in its setup" :
				"SVM is locked off (VM_CR.SVMDIS and VM_CR.LOCK are set); turn on "
				"\"SVM Mode\" or \"AMD-V\" in the firmware's setup");
	if (!(f->features & SVM_FEATURE_NPT))
		return fail(why, "this CPU's SVM has no nested paging (NPT), which guests' memory "
				 "needs; a CPU from 2008 on has it, in QEMU -cpu EPYC,+svm,+npt");
	if (f->asid_count < 2)
		return fail(why, "this CPU's SVM offers no address space identifier (ASID) for guests");
	*out = (struct svm_caps){
		.asid_count = f->asid_count,
		.nrips = (f->features & SVM_FEATURE_NRIPS) != 0,
		.clean = (f->features & SVM_FEATURE_CLEAN) != 0,
		.flush_by_asid = (f->features & SVM_FEATURE_FLUSH_ASID) != 0,
		.decode_assists = (f->features & SVM_FEATURE_DECODE) != 0,
		.pause_filter = (f->features & SVM_FEATURE_PAUSE) != 0,
		.pause_threshold = (f->features & SVM_FEATURE_PAUSE_GAP) != 0,
		.page_1g = (f->ext_edx & EXT_EDX_1G) != 0,
		.rdtscp = (f->ext_edx & EXT_EDX_RDTSCP) != 0,
		.invpcid = (f->leaf7_ebx & L7_EBX_INVPCID) != 0,
	};
	return OK;
}

void svm_npt_format(const struct svm_caps *c, bool big_no_exec, struct slat_format *out)
{
	/* PAT index 0 of the host's PAT: write-back. */
	*out = (struct slat_format){
		.name = "NPT",
		.present_mask = NPT_PRESENT,
		.table = NPT_PRESENT | NPT_WRITE | NPT_USER,
		.leaf_4k = NPT_PRESENT | NPT_USER,
		.leaf_big = NPT_PRESENT | NPT_USER | NPT_BIG | (big_no_exec ? NPT_NO_EXEC : 0),
		.big_mask = NPT_BIG,
		.write = NPT_WRITE,
		.accessed = NPT_ACCESSED,
		.dirty = NPT_DIRTY,
		.has_1g = c->page_1g,
		.big_no_exec = big_no_exec,
	};
}

void svm_msrpm_pass(uint8_t *map, uint32_t msr)
{
	static const uint32_t first[] = { 0, 0xc0000000u, 0xc0010000u };
	for (uint32_t i = 0; i < ARRAY_COUNT(first); i++) {
		if (msr - first[i] >= 0x2000u)
			continue;
		uint32_t bit = (msr - first[i]) * 2; /* read, write */
		map[i * 2048 + bit / 8] &= (uint8_t)~(3u << bit % 8);
		return;
	}
}

void svm_intercepts(uint32_t out[SVM_WORDS])
{
	static const uint8_t codes[] = {
		SVM_EXIT_CR_WRITE + 4, SVM_EXIT_CR_WRITE + 8, SVM_EXIT_CR_READ + 8,
		/* See on_exception() in vcpu_exit.c: #DB, #AC, #MC. */
		SVM_EXIT_EXCEPTION + 1, SVM_EXIT_EXCEPTION + 17, SVM_EXIT_EXCEPTION + 18,
		SVM_EXIT_INTR, SVM_EXIT_NMI, SVM_EXIT_INIT, SVM_EXIT_CR0_SELECTIVE, SVM_EXIT_RDPMC,
		SVM_EXIT_CPUID, SVM_EXIT_RSM, SVM_EXIT_INVD, SVM_EXIT_HLT, SVM_EXIT_INVLPGA,
		SVM_EXIT_IOIO, SVM_EXIT_MSR, SVM_EXIT_TASK_SWITCH, SVM_EXIT_SHUTDOWN,
		/* EFER.SVME must be set in a guest, so SVM's instructions would run there. */
		SVM_EXIT_VMRUN, SVM_EXIT_VMMCALL, SVM_EXIT_VMLOAD, SVM_EXIT_VMSAVE, SVM_EXIT_STGI,
		SVM_EXIT_CLGI, SVM_EXIT_SKINIT, SVM_EXIT_WBINVD, SVM_EXIT_MONITOR, SVM_EXIT_MWAIT,
		SVM_EXIT_MWAIT_ARMED, SVM_EXIT_XSETBV, SVM_EXIT_RDPRU, SVM_EXIT_INVLPGB,
		SVM_EXIT_INVLPGB_ILLEGAL, SVM_EXIT_MCOMMIT, SVM_EXIT_TLBSYNC,
	};
	for (uint32_t i = 0; i < SVM_WORDS; i++)
		out[i] = 0;
	for (uint32_t i = 0; i < ARRAY_COUNT(codes); i++)
		out[codes[i] / 32] |= 1u << codes[i] % 32;
}

uint32_t svm_asid_take(struct svm_asids *a, bool *flush_all)
{
	*flush_all = false;
	if (a->generation == 0 || a->next >= a->count) {
		a->generation++;
		a->next = 1;
		*flush_all = true;
	}
	return a->next++;
}
