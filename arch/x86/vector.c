/* See vmm/base/vector.h. SDM vol. 1, Programming with Intel SSE: FXSAVE's legacy area has all that is meant. */
#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "vmm/base/bug.h"
#include "vmm/base/string.h"
#include "vmm/base/vector.h"

#define XMM_OFFSET 160u
#define XMM_BYTES  256u

static inline void fxsave(uint8_t *area)
{
	__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

static inline void fxrstor(const uint8_t *area)
{
	__asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

void vector_begin(void)
{
	struct pcpu *p = this_cpu();

	HV_BUG_ON(p->vector_used || read_rflags() & RFLAGS_IF || read_cr0() & (CR0_TS | CR0_EM));
	p->vector_used = true;
	fxsave(p->vector);
}

void vector_end(void)
{
	struct pcpu *p = this_cpu();

	HV_BUG_ON(!p->vector_used);
	fxrstor(p->vector);
	p->vector_used = false;
}

bool vector_survives(void (*work)(void *ctx), void *ctx)
{
	uint8_t guests[512] __attribute__((aligned(16)));
	uint8_t before[512] __attribute__((aligned(16))), after[512] __attribute__((aligned(16)));

	fxsave(guests);
	memcpy(before, guests, sizeof(before));
	for (uint32_t i = 0; i < XMM_BYTES; i++)
		before[XMM_OFFSET + i] = (uint8_t)(i * 37 + 11);
	memcpy(after, before, sizeof(after)); /* FXSAVE leaves reserved bytes as they are */
	fxrstor(before);
	work(ctx);
	fxsave(after);
	fxrstor(guests);
	return memcmp(before, after, XMM_OFFSET + XMM_BYTES) == 0;
}
