/* Reads what mitigate.c decides from, and sets what is set once. See guard.h. */
#include "arch/x86/guard.h"
#include "arch/x86/guard_bits.h"
#include "arch/x86/regs.h"

#define MSR_ARCH_CAPABILITIES 0x10au
#define L7_ARCH_CAPABILITIES  (1u << 29)
#define EFER_AIBRSE           (1ull << 21)

struct mitigate_plan guard_plan;
char guard_text[MITIGATE_TEXT_BYTES];
/* For entry.S: GUARD_*. Set once at boot. */
uint32_t guard_flags;
/* VERW's operand: a selector in memory (its form with a register overwrites nothing), of a writable segment, which is
 * the fastest. */
const uint16_t guard_selector = SEL_DATA;

_Static_assert(GUARD_VERW == MITIGATE_VERW && GUARD_IBRS == MITIGATE_IBRS_EXIT && GUARD_RSB == MITIGATE_RSB, "entry.S");
_Static_assert(GUARD_MSR_SPEC_CTRL == MSR_SPEC_CTRL, "entry.S");

static enum mitigate_vendor vendor(const struct cpuid_regs *r)
{
	if (r->ebx == 0x756e6547 && r->edx == 0x49656e69 && r->ecx == 0x6c65746e) /* GenuineIntel */
		return MITIGATE_INTEL;
	if (r->ebx == 0x68747541 && r->edx == 0x69746e65 && r->ecx == 0x444d4163) /* AuthenticAMD */
		return MITIGATE_AMD;
	if (r->ebx == 0x6f677948 && r->edx == 0x6e65476e && r->ecx == 0x656e6975) /* HygonGenuine */
		return MITIGATE_AMD;
	return MITIGATE_OTHER;
}

/* Two threads a core: SDM vol. 3A, "Identifying Topological Relationships"; APM vol. 3, Fn8000_001E. */
static bool smt(uint32_t leaves, uint32_t extended)
{
	if (leaves >= 0xb && (cpuid(0xb, 0).ebx & 0xffff) != 0)
		return (cpuid(0xb, 0).ebx & 0xffff) > 1;
	return extended >= 0x8000001eu && (cpuid(0x8000001eu, 0).ebx >> 8 & 0xff) != 0;
}

static void read_facts(struct mitigate_facts *f)
{
	struct cpuid_regs r = cpuid(0, 0);
	uint32_t leaves = r.eax, extended = cpuid(0x80000000u, 0).eax;

	*f = (struct mitigate_facts){ .vendor = vendor(&r), .signature = cpuid(1, 0).eax,
		.smt = smt(leaves, extended) };
	if (leaves >= 7) {
		r = cpuid(7, 0);
		f->leaf7_ebx = r.ebx;
		f->leaf7_edx = r.edx;
		if (r.eax >= 2)
			f->leaf7_2_edx = cpuid(7, 2).edx;
		if (r.edx & L7_ARCH_CAPABILITIES)
			f->arch_caps = rdmsr(MSR_ARCH_CAPABILITIES);
	}
	if (f->vendor != MITIGATE_AMD)
		return;
	if (extended >= 0x80000008u)
		f->ext8_ebx = cpuid(0x80000008u, 0).ebx;
	if (extended >= 0x80000021u) {
		r = cpuid(0x80000021u, 0);
		f->ext21_eax = r.eax;
		f->ext21_ecx = r.ecx;
	}
}

void guard_init(enum virt_mitigations mode)
{
	struct mitigate_facts f;

	read_facts(&f);
	mitigate_decide(&f, mode, &guard_plan);
	mitigate_text(&guard_plan, mode, guard_text);
	guard_flags = guard_plan.done & (GUARD_VERW | GUARD_IBRS | GUARD_RSB);
}

void guard_cpu_on(void)
{
	if (guard_plan.spec_ctrl)
		wrmsr(MSR_SPEC_CTRL, guard_plan.spec_ctrl);
	if (guard_plan.auto_ibrs)
		wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AIBRSE);
}
