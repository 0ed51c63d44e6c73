/*
 * What this processor's SVM offers and what follows from it. The reading is svm.c's; the deciding is
 * here and pure. Sources: APM vol. 2 "Enabling SVM", "VM_CR MSR", "Nested Paging", "Intercepting
 * I/O", "Intercepting MSR accesses"; vol. 3 appendix E, CPUID Fn8000_000A.
 */
#pragma once

#include "arch/x86/svm/vmcb.h"
#include "mm/slat.h"
#include "vmm/base/status.h"

/* As read. */
struct svm_facts {
	uint32_t max_extended;    /* CPUID 0x80000000 eax */
	uint32_t ext_ecx, ext_edx; /* 0x80000001 */
	uint32_t leaf7_ebx;
	uint32_t asid_count;      /* 0x8000000a ebx */
	uint32_t features;        /* 0x8000000a edx */
	uint64_t vm_cr;           /* 0 where the MSR is not there */
};

struct svm_caps {
	uint32_t asid_count; /* ASIDs 1 .. asid_count - 1 are for guests */
	bool nrips, clean, flush_by_asid, decode_assists, page_1g, rdtscp, invpcid;
	bool pause_filter, pause_threshold;
};

/* ERR_NOSYS: *why is one sentence that says what is missing and what would help. */
status_t svm_caps_compute(const struct svm_facts *f, struct svm_caps *out, const char **why)
	MUST_CHECK;
/* SVM is in the CPU's description at all. */
bool svm_present(const struct svm_facts *f);

/* big_no_exec: see struct slat_format. */
void svm_npt_format(const struct svm_caps *c, bool big_no_exec, struct slat_format *out);

/* Guests' reads and writes of `msr` do not exit. Bounds: MSRs of the map's three ranges. */
void svm_msrpm_pass(uint8_t *map, uint32_t msr);

/* The intercepts of every vCPU. */
void svm_intercepts(uint32_t out[SVM_WORDS]);

/*
 * ASIDs of one CPU. Each is handed out once in a generation, so a new one has no translations; when
 * all are used up, the next generation begins with a flush of everything. A vCPU whose generation is
 * an old one takes a new ASID before it runs.
 */
struct svm_asids {
	uint32_t count, next;
	uint64_t generation; /* 0: none was handed out */
};
/* *flush_all: everything must be flushed by the entry that first uses it. */
uint32_t svm_asid_take(struct svm_asids *a, bool *flush_all);
