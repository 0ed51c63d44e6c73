/*
 * What the hypervisor owes guests that attack through the processor's speculation: which barriers this processor needs
 * between guests and in front of them, and which it has. The reading is guard.c's, the deciding is here and pure.
 * docs/adr/0011-mitigations.md says why these and not others.
 *
 * Sources: SDM vol. 4 (IA32_ARCH_CAPABILITIES, IA32_SPEC_CTRL, IA32_PRED_CMD, IA32_FLUSH_CMD) and vol. 2A
 * "CPUID"; Intel's "CPUID Enumeration and Architectural MSRs", "Intel Analysis of L1 Terminal Fault",
 * "Microarchitectural Data Sampling", "Machine Check Error Avoidance on Page Size Change", "Register File
 * Data Sampling", "Branch History Injection"; APM vol. 3 appendix E and AMD's "Software Techniques for
 * Managing Speculation", "Transient Scheduler Attacks".
 */
#pragma once

#include "vmm/base/types.h"
#include "vmm/virt.h"

enum mitigate_vendor { MITIGATE_OTHER, MITIGATE_INTEL, MITIGATE_AMD /* and Hygon */ };

/* As read; a leaf or an MSR that is not there is 0. */
struct mitigate_facts {
	enum mitigate_vendor vendor;
	uint32_t signature; /* CPUID.1:EAX */
	uint32_t leaf7_ebx, leaf7_edx, leaf7_2_edx;
	uint32_t ext8_ebx, ext21_eax, ext21_ecx; /* CPUID.80000008, .80000021 */
	uint64_t arch_caps;
	bool smt; /* two threads a core, as far as CPUID says */
};

enum mitigation {
	MITIGATE_IBPB = 1u << 0,      /* another guest's turn: what the last one taught the branch predictors is void */
	MITIGATE_VERW = 1u << 1,      /* each entry: buffers of loads, stores and fills are overwritten */
	/* an entry after the hypervisor did more than answer: the L1 data cache is emptied */
	MITIGATE_L1D = 1u << 2,
	MITIGATE_IBRS = 1u << 3,      /* set once: guests' predictions are not the hypervisor's */
	MITIGATE_IBRS_EXIT = 1u << 4, /* the same where it must be set at each exit, and is taken back at each entry */
	MITIGATE_BHI = 1u << 5,       /* set once: nor are guests' branch histories */
	MITIGATE_RSB = 1u << 6,       /* each exit: the predictions of returns are the hypervisor's own */
	MITIGATE_REGISTERS = 1u << 7, /* each exit: no guest's value stays in a general register */
	MITIGATE_LARGE = 1u << 8,     /* 2 MiB leaves are not executable: CVE-2018-12207 */
	MITIGATE_COUNT = 9
};

struct mitigate_plan {
	uint32_t needed, done; /* MITIGATE_* */
	bool guarded;          /* the run loop is the one that does them: run_loop.h */
	bool large_no_exec;
	bool auto_ibrs;        /* MITIGATE_IBRS by EFER.AIBRSE */
	bool smt;              /* and the other thread's guest sees what is needed and cleared in vain */
	uint64_t spec_ctrl;    /* to set once on each CPU; 0: nothing */
};

#define MITIGATE_TEXT_BYTES 240

void mitigate_decide(const struct mitigate_facts *f, enum virt_mitigations mode, struct mitigate_plan *out);
/* For people: what is done, and what is needed and is not. */
void mitigate_text(const struct mitigate_plan *p, enum virt_mitigations mode, char buf[MITIGATE_TEXT_BYTES]);
