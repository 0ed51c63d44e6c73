/*
 * EPT: the format that mm's walker works from, and flushes. Source: SDM vol. 3C "Caching Translation
 * Information", "Invalidation of Cached Information".
 */
#include "arch/x86/vmx/vmx.h"

struct slat_format vmx_slat_format;

static void flush(uint64_t eptp)
{
	invept(vmx_caps.invept_single ? VMX_INV_SINGLE : VMX_INV_ALL, eptp);
}

/*
 * At once, on this CPU: one instruction, against a comparison at every entry. Another CPU that ran
 * this space compares `generation` when it loads a vCPU of it; one that is running it now needs a
 * kick besides (issue 4).
 */
void vmx_slat_flush(struct slat_space *s)
{
	if (s->arch_tag != 0)
		flush(s->arch_tag);
}

void vmx_slat_open(struct slat_space *s)
{
	s->arch_tag = mfn_to_hpa(s->root).v | vmx_caps.eptp_bits;
	/* The root's frame may have been another guest's root. */
	flush(s->arch_tag);
}
