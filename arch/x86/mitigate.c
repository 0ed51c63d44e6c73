/* Pure. What a processor needs against speculation, and what it has. See mitigate.h. */
#include "arch/x86/mitigate.h"

#include "vmm/base/fmt.h"

/* CPUID.(7,0):EBX, EDX; CPUID.(7,2):EDX */
#define L7_RTM         (1u << 11)
#define L7_MD_CLEAR    (1u << 10)
#define L7_IBRS_IBPB   (1u << 26)
#define L7_L1D_FLUSH   (1u << 28)
#define L7_2_BHI_CTRL  (1u << 4)
/* CPUID.80000008:EBX, CPUID.80000021:EAX and ECX */
#define E8_IBPB        (1u << 12)
#define E8_IBRS        (1u << 14)
#define E8_IBRS_ALWAYS (1u << 16)
#define E21_VERW_CLEAR (1u << 5)
#define E21_AUTO_IBRS  (1u << 8)
#define E21_TSA_NO     (3u << 1) /* TSA_SQ_NO, TSA_L1_NO */
/* IA32_ARCH_CAPABILITIES */
#define CAP_RDCL_NO    (1ull << 0)
#define CAP_IBRS_ALL   (1ull << 1)
#define CAP_SKIP_L1DFL (1ull << 3) /* a hypervisor below this one flushes */
#define CAP_MDS_NO     (1ull << 5)
#define CAP_PSCHANGE_NO (1ull << 6)
#define CAP_TAA_NO     (1ull << 8)
#define CAP_BHI_NO     (1ull << 20)
#define CAP_RFDS_NO    (1ull << 27)
#define CAP_RFDS_CLEAR (1ull << 28)
/* IA32_SPEC_CTRL */
#define SPEC_IBRS      (1ull << 0)
#define SPEC_BHI_DIS_S (1ull << 10)

#define INDIRECT ((uint32_t)(MITIGATE_IBRS | MITIGATE_IBRS_EXIT))
#define ONCE     ((uint32_t)(MITIGATE_IBRS | MITIGATE_BHI | MITIGATE_LARGE)) /* not the loop's */
#define FREE     ((uint32_t)(MITIGATE_RSB | MITIGATE_REGISTERS | MITIGATE_LARGE)) /* needs no enumeration */

/* What processors of family 6 are spared that are too old to say so themselves, or whose microcode is: Intel's
 * "Affected Processors" by model. All others are taken to be affected, unless IA32_ARCH_CAPABILITIES says no. */
#define NO_L1TF  1u
#define NO_MDS   2u
#define NO_LARGE 4u
#define NO_ANY   8u /* executes in order */
static const struct {
	uint8_t model, spared;
} atoms[] = {
	/* Bonnell, Saltwell */
	{ 0x1c, NO_ANY }, { 0x26, NO_ANY }, { 0x27, NO_ANY }, { 0x35, NO_ANY }, { 0x36, NO_ANY },
	{ 0x37, NO_L1TF | NO_LARGE }, { 0x4a, NO_L1TF | NO_LARGE }, { 0x4d, NO_L1TF | NO_LARGE }, /* Silvermont */
	{ 0x4c, NO_L1TF | NO_LARGE }, { 0x5a, NO_L1TF | NO_LARGE }, { 0x75, NO_L1TF | NO_LARGE }, /* Airmont */
	{ 0x57, NO_L1TF | NO_LARGE }, { 0x85, NO_L1TF | NO_LARGE },                               /* Xeon Phi */
	{ 0x5c, NO_L1TF | NO_MDS | NO_LARGE }, { 0x5f, NO_L1TF | NO_MDS | NO_LARGE },             /* Goldmont */
	{ 0x7a, NO_L1TF | NO_MDS | NO_LARGE },                                                    /* Goldmont Plus */
	{ 0x86, NO_L1TF | NO_MDS | NO_LARGE }, { 0x96, NO_L1TF | NO_MDS | NO_LARGE },             /* Tremont */
	{ 0x9c, NO_L1TF | NO_MDS | NO_LARGE },
};

/* SDM vol. 2A, CPUID, "Version Information"; APM vol. 3, "Function 1h". */
static uint32_t family_of(uint32_t signature)
{
	uint32_t family = signature >> 8 & 0xf;

	return family == 0xf ? family + (signature >> 20 & 0xff) : family;
}

static uint32_t model_of(uint32_t signature)
{
	return (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
}

static uint32_t spared(const struct mitigate_facts *f)
{
	if (f->vendor != MITIGATE_INTEL || family_of(f->signature) != 6)
		return 0;
	for (uint32_t i = 0; i < ARRAY_COUNT(atoms); i++)
		if (atoms[i].model == model_of(f->signature))
			return atoms[i].spared;
	return 0;
}

static uint32_t amd_needs(const struct mitigate_facts *f)
{
	bool once = (f->ext21_eax & E21_AUTO_IBRS) || (f->ext8_ebx & E8_IBRS_ALWAYS);
	uint32_t n = MITIGATE_IBPB | MITIGATE_RSB | MITIGATE_REGISTERS;

	n |= once ? MITIGATE_IBRS : MITIGATE_IBRS_EXIT;
	/* A processor whose VERW overwrites something has something to hide, unless it says what it has not. */
	if ((f->ext21_eax & E21_VERW_CLEAR) && (f->ext21_ecx & E21_TSA_NO) != E21_TSA_NO)
		n |= MITIGATE_VERW;
	return n;
}

/* Others, who have copied parts of the enumeration, are taken at their word like Intel's. */
static uint32_t intel_needs(const struct mitigate_facts *f)
{
	uint32_t no = spared(f), n = MITIGATE_IBPB | MITIGATE_RSB | MITIGATE_REGISTERS;
	uint64_t c = f->arch_caps;

	if (no & NO_ANY)
		return 0;
	n |= c & CAP_IBRS_ALL ? MITIGATE_IBRS : MITIGATE_IBRS_EXIT;
	if ((c & CAP_IBRS_ALL) && !(c & CAP_BHI_NO))
		n |= MITIGATE_BHI;
	if (!(c & (CAP_RDCL_NO | CAP_SKIP_L1DFL)) && !(no & NO_L1TF))
		n |= MITIGATE_L1D;
	if ((!(c & CAP_MDS_NO) && !(no & NO_MDS)) || ((f->leaf7_ebx & L7_RTM) && !(c & CAP_TAA_NO)) ||
		(c & (CAP_RFDS_NO | CAP_RFDS_CLEAR)) == CAP_RFDS_CLEAR)
		n |= MITIGATE_VERW;
	if (f->vendor == MITIGATE_INTEL && !(c & CAP_PSCHANGE_NO) && !(no & NO_LARGE))
		n |= MITIGATE_LARGE;
	return n;
}

/* What the processor's enumeration allows; the rest needs no permission. */
static uint32_t can(const struct mitigate_facts *f)
{
	uint32_t c = FREE;

	if ((f->leaf7_edx & L7_IBRS_IBPB) || (f->ext8_ebx & E8_IBPB))
		c |= MITIGATE_IBPB;
	if ((f->leaf7_edx & L7_IBRS_IBPB) || (f->ext8_ebx & E8_IBRS) || (f->ext21_eax & E21_AUTO_IBRS))
		c |= INDIRECT;
	if ((f->leaf7_edx & L7_MD_CLEAR) || (f->ext21_eax & E21_VERW_CLEAR))
		c |= MITIGATE_VERW;
	if (f->leaf7_edx & L7_L1D_FLUSH)
		c |= MITIGATE_L1D;
	if (f->leaf7_2_edx & L7_2_BHI_CTRL)
		c |= MITIGATE_BHI;
	return c;
}

void mitigate_decide(const struct mitigate_facts *f, enum virt_mitigations mode, struct mitigate_plan *out)
{
	uint32_t needed = f->vendor == MITIGATE_AMD ? amd_needs(f) : intel_needs(f);
	uint32_t done = needed & can(f);

	if (mode == VIRT_MITIGATIONS_FORCE) {
		/* VERW is an old instruction, harmless where it overwrites nothing. Of the two IBRS the one
		 * that fits. */
		uint32_t other = INDIRECT & ~(needed & INDIRECT ? needed : (uint32_t)MITIGATE_IBRS_EXIT);

		done = (can(f) | MITIGATE_VERW) & ~other;
	}
	/* Half a defence is none: without any of the processor's own barriers the loop stays as it is. */
	if (mode != VIRT_MITIGATIONS_FORCE && !(done & ~FREE))
		done &= MITIGATE_LARGE;
	if (mode == VIRT_MITIGATIONS_OFF)
		done = 0;
	*out = (struct mitigate_plan){
		.needed = needed,
		.done = done,
		.guarded = (done & ~ONCE) != 0,
		.large_no_exec = (done & MITIGATE_LARGE) != 0,
		.auto_ibrs = (done & MITIGATE_IBRS) && (f->ext21_eax & E21_AUTO_IBRS),
		.smt = f->smt && (needed & (MITIGATE_L1D | MITIGATE_VERW)),
	};
	if ((done & MITIGATE_IBRS) && !out->auto_ibrs)
		out->spec_ctrl |= SPEC_IBRS;
	if (done & MITIGATE_BHI)
		out->spec_ctrl |= SPEC_BHI_DIS_S;
}

/* Appends the words for `bits`, each behind a blank but the first. Returns the length. */
static size_t words(char *buf, size_t at, uint32_t bits)
{
	static const char *const names[MITIGATE_COUNT] = { "ibpb", "verw", "l1d-flush", "ibrs", "ibrs-at-exit",
		"bhi-dis",
		"rsb", "registers", "no-large-code" };
	const char *gap = "";

	for (uint32_t i = 0; i < MITIGATE_COUNT; i++) {
		if (!(bits & 1u << i))
			continue;
		at += (size_t)fmt_snprintf(buf + at, MITIGATE_TEXT_BYTES - at, "%s%s", gap, names[i]);
		gap = " ";
	}
	return at;
}

void mitigate_text(const struct mitigate_plan *p, enum virt_mitigations mode, char buf[MITIGATE_TEXT_BYTES])
{
	uint32_t loop = p->done & ~(uint32_t)MITIGATE_LARGE, missing = p->needed & ~p->done;
	size_t at;

	if (mode == VIRT_MITIGATIONS_OFF) {
		at = (size_t)fmt_snprintf(buf, MITIGATE_TEXT_BYTES, "off");
	} else if (!p->done) {
		at = (size_t)fmt_snprintf(buf, MITIGATE_TEXT_BYTES, "none");
	} else {
		at = words(buf, 0, loop);
		if (p->large_no_exec)
			at += (size_t)fmt_snprintf(buf + at, MITIGATE_TEXT_BYTES - at, "%slarge pages not executable",
				loop ? ", " : "");
	}
	if (missing) {
		at += (size_t)fmt_snprintf(buf + at, MITIGATE_TEXT_BYTES - at, "; needed, not done: ");
		at = words(buf, at, missing);
	}
	if (p->smt)
		fmt_snprintf(buf + at, MITIGATE_TEXT_BYTES - at, "; hyperthreads share a core");
}
