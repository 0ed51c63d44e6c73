#include "arch/x86/percpu.h"
#include "vmm/base/cpu.h"

uint32_t cpu_index(void)
{
	return this_cpu()->index;
}

void cpu_relax(void)
{
	__builtin_ia32_pause();
}
