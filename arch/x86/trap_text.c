/* Pure. */
#include "arch/x86/trap_text.h"
#include "vmm/base/fmt.h"

static const char *const names[32] = {
	[0] = "divide error", [1] = "debug", [2] = "NMI", [3] = "breakpoint", [4] = "overflow",
	[5] = "bound range", [6] = "invalid opcode", [7] = "device not available",
	[8] = "double fault", [10] = "invalid TSS", [11] = "segment not present",
	[12] = "stack fault", [13] = "general protection", [14] = "page fault",
	[16] = "x87 floating point", [17] = "alignment check", [18] = "machine check",
	[19] = "SIMD floating point", [20] = "virtualization exception",
	[21] = "control protection", [28] = "hypervisor injection", [29] = "VMM communication",
	[30] = "security exception",
};

const char *trap_name(uint64_t vector)
{
	if (vector >= ARRAY_COUNT(names))
		return "interrupt";
	return names[vector] ? names[vector] : "reserved exception";
}

void trap_page_fault_text(uint64_t error_code, char out[TRAP_PF_TEXT_BYTES])
{
	const char *what = error_code & 1u << 4 ? "fetch from"
		: error_code & 1u << 1		? "write to"
						: "read of";
	const char *why = error_code & 1u << 3 ? "a page with a reserved bit set"
		: error_code & 1u << 5	       ? "a page that its protection key forbids"
		: error_code & 1u << 0	       ? "a page whose rights forbid it"
					       : "a page that is not present";

	fmt_snprintf(out, TRAP_PF_TEXT_BYTES, "%s%s %s", error_code & 1u << 2 ? "user-mode " : "",
		what, why);
}

bool trap_follows_call(const uint8_t *code, uint64_t offset)
{
	if (offset >= 5 && code[offset - 5] == 0xe8)
		return true; /* call rel32 */
	/* FF /2: call r/m64, 2 to 7 bytes long. */
	for (uint64_t n = 2; n <= 7 && n <= offset; n++)
		if (code[offset - n] == 0xff && (code[offset - n + 1] >> 3 & 7) == 2)
			return true;
	return false;
}
