/* Pure. See vmx_check.h. */
#include "arch/x86/vmx/vmx_check.h"
#include "arch/x86/regs.h"

#define RFLAGS_VM       (1ull << 17)
#define RFLAGS_RESERVED 0xffffffffffc08028ull
#define EFER_DEFINED    (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define DEBUGCTL_BITS   0xffc3ull
#define AR_UNUSABLE     0x10000u
#define AR_LONG         (1u << 13)
#define AR_DB           (1u << 14)
#define AR_PRESENT      (1u << 7)
#define AR_S            (1u << 4)
#define AR_RESERVED     0xfffe0f00u
#define SELECTOR_TI     4u
#define SEGMENTS        6u
#define SEGMENT_CS      1u
#define SEGMENT_SS      2u

typedef uint64_t (*get_fn)(uint32_t field);

static const char *registers(get_fn get, const struct vmx_caps *c, uint32_t physical_bits)
{
	uint64_t cr0 = get(VMCS_GUEST_CR0), cr4 = get(VMCS_GUEST_CR4);
	uint64_t must0 = c->cr0_fixed0;
	if (c->unrestricted)
		must0 &= ~(CR0_PE | CR0_PG);
	if ((~cr0 & must0) || (cr0 & ~c->cr0_fixed1))
		return "CR0 has bits that VMX does not allow";
	if ((cr0 & CR0_PG) && !(cr0 & CR0_PE))
		return "CR0.PG without CR0.PE";
	if ((~cr4 & c->cr4_fixed0) || (cr4 & ~c->cr4_fixed1))
		return "CR4 has bits that VMX does not allow";
	if (get(VMCS_GUEST_CR3) >> physical_bits)
		return "CR3 is beyond the physical address width";
	if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE))
		return "a 64-bit guest without CR0.PG and CR4.PAE";
	if (get(VMCS_GUEST_DEBUGCTL) & ~DEBUGCTL_BITS)
		return "IA32_DEBUGCTL has reserved bits";
	if (get(VMCS_GUEST_DR7) >> 32)
		return "DR7 has bits above 31";
	if (!x86_canonical(get(VMCS_GUEST_SYSENTER_ESP)) ||
		!x86_canonical(get(VMCS_GUEST_SYSENTER_EIP)))
		return "a SYSENTER address is not canonical";
	uint64_t efer = get(VMCS_GUEST_EFER);
	if (c->efer_controls &&
		((efer & ~EFER_DEFINED) || (efer & (EFER_LME | EFER_LMA)) != (EFER_LME | EFER_LMA)))
		return "EFER is not that of a 64-bit guest";
	return NULL;
}

static const char *segments(get_fn get)
{
	for (uint32_t i = 0; i < SEGMENTS; i++) {
		uint32_t ar = (uint32_t)get(VMCS_GUEST_ES_AR + 2 * i);
		if (ar & AR_UNUSABLE) {
			if (i == SEGMENT_CS)
				return "CS is unusable";
			continue;
		}
		if (!(ar & AR_PRESENT) || !(ar & AR_S) || (ar & AR_RESERVED))
			return "a segment's access rights are wrong";
		if (i == SEGMENT_CS && (ar & AR_LONG) && (ar & AR_DB))
			return "CS is 64-bit and 32-bit at once";
	}
	if (!x86_canonical(get(VMCS_GUEST_FS_BASE)) || !x86_canonical(get(VMCS_GUEST_GS_BASE)))
		return "the base of FS or GS is not canonical";
	if (!x86_canonical(get(VMCS_GUEST_TR_BASE)) || (get(VMCS_GUEST_TR_SEL) & SELECTOR_TI) ||
		(get(VMCS_GUEST_TR_AR) & 0x1009fu) != 0x8b)
		return "TR is not a busy 64-bit TSS";
	if (!x86_canonical(get(VMCS_GUEST_GDTR_BASE)) || !x86_canonical(get(VMCS_GUEST_IDTR_BASE)))
		return "the base of GDTR or IDTR is not canonical";
	if (get(VMCS_GUEST_GDTR_LIMIT) >> 16 || get(VMCS_GUEST_IDTR_LIMIT) >> 16)
		return "the limit of GDTR or IDTR is above 65535";
	return NULL;
}

static const char *rip_and_events(get_fn get)
{
	uint64_t rflags = get(VMCS_GUEST_RFLAGS), shadow = get(VMCS_INTERRUPTIBILITY);
	uint32_t info = (uint32_t)get(VMCS_ENTRY_INFO);
	bool external = (info & INFO_VALID) && (info & INFO_TYPE) == INFO_TYPE_EXT;
	if (!x86_canonical(get(VMCS_GUEST_RIP)))
		return "RIP is not canonical";
	if (!(rflags & RFLAGS_FIXED) || (rflags & RFLAGS_RESERVED) || (rflags & RFLAGS_VM))
		return "RFLAGS has reserved bits";
	if (external && !(rflags & RFLAGS_IF))
		return "an interrupt is injected while RFLAGS.IF is clear";
	if (external && (shadow & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS)))
		return "an interrupt is injected in the shadow of STI or MOV SS";
	if ((shadow & INTERRUPTIBILITY_STI) && (shadow & INTERRUPTIBILITY_MOV_SS))
		return "blocking by STI and by MOV SS at once";
	if ((shadow & INTERRUPTIBILITY_STI) && !(rflags & RFLAGS_IF))
		return "blocking by STI while RFLAGS.IF is clear";
	bool step = (get(VMCS_PENDING_DEBUG) & PENDING_DEBUG_BS) != 0;
	if ((shadow & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS)) &&
		step != ((rflags & RFLAGS_TF) != 0))
		return "a pending single step does not agree with RFLAGS.TF";
	if (get(VMCS_ACTIVITY) > 3)
		return "the activity state does not exist";
	if (get(VMCS_LINK) != UINT64_MAX)
		return "the VMCS link pointer is not -1";
	return NULL;
}

const char *vmx_check_guest(get_fn get, const struct vmx_caps *caps, uint32_t physical_bits)
{
	const char *broken = registers(get, caps, physical_bits);
	if (broken == NULL)
		broken = segments(get);
	return broken != NULL ? broken : rip_and_events(get);
}
