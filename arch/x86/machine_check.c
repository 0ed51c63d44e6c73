#include "arch/x86/cpu.h"
#include "arch/x86/dump.h"
#include "arch/x86/traps.h"

#define MCI_STATUS_VALID  (1ull << 63)
#define MCI_STATUS_MISCV  (1ull << 59)
#define MCI_STATUS_ADDRV  (1ull << 58)
#define MCI_BANK_MSRS     4u
#define CPUID_1_EDX_MCA   (1u << 14)

/* SDM vol. 3B, Machine-Check Architecture. */
static void dump_bank(uint32_t bank)
{
	uint32_t at = bank * MCI_BANK_MSRS;
	uint64_t status = rdmsr(MSR_MC0_STATUS + at);

	if (!(status & MCI_STATUS_VALID))
		return;
	dump_line("bank %u: status %016lx address %016lx misc %016lx", bank, status,
		status & MCI_STATUS_ADDRV ? rdmsr(MSR_MC0_ADDR + at) : 0,
		status & MCI_STATUS_MISCV ? rdmsr(MSR_MC0_MISC + at) : 0);
}

void machine_check_stop(void)
{
	if (!dump_begin())
		cpu_halt_forever();
	dump_line("aerostat: machine check: the hardware reports an error it cannot correct");
	if (cpuid(1, 0).edx & CPUID_1_EDX_MCA) {
		uint32_t banks = (uint32_t)rdmsr(MSR_MCG_CAP) & 0xff;

		dump_line("global status %016lx, %u banks", rdmsr(MSR_MCG_STATUS), banks);
		for (uint32_t i = 0; i < banks; i++)
			dump_bank(i);
	}
	dump_stop();
}
