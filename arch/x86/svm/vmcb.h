/*
 * The virtual machine control block: layout, bits, exit codes. Source: APM vol. 2 appendix B "VMCB
 * Layout", appendix C "SVM Intercept Exit Codes", section 15 "Secure Virtual Machine".
 */
#pragma once

#include "vmm/base/types.h"

/* CPUID 0x8000000a edx */
#define SVM_FEATURE_NPT         (1u << 0)
#define SVM_FEATURE_LOCK        (1u << 2) /* VM_CR.LOCK is there */
#define SVM_FEATURE_NRIPS       (1u << 3)
#define SVM_FEATURE_CLEAN       (1u << 5)
#define SVM_FEATURE_FLUSH_ASID  (1u << 6)
#define SVM_FEATURE_DECODE      (1u << 7)
#define SVM_FEATURE_PAUSE       (1u << 10)
#define SVM_FEATURE_PAUSE_GAP   (1u << 12)

#define MSR_VM_CR       0xc0010114u
#define MSR_VM_HSAVE_PA 0xc0010117u
#define VM_CR_LOCK      (1ull << 3)
#define VM_CR_SVMDIS    (1ull << 4)
#define EFER_SVME       (1ull << 12)

#define SVM_IOPM_BYTES  (3u * 4096u)
#define SVM_MSRPM_BYTES (2u * 4096u)

/* Intercepts: word 0 CR reads (low half) and writes, 1 DR, 2 exceptions, 3 to 5 as below. The bit's
 * number is its exit code's, counted from the word's first. */
#define SVM_WORD_CR        0u
#define SVM_WORD_EXCEPTION 2u
#define SVM_WORDS          6u
#define SVM_INTERCEPT(code) ((code) / 32u), 1u << ((code) % 32u)

enum svm_exit_code {
	SVM_EXIT_CR_READ = 0x00,
	SVM_EXIT_CR_WRITE = 0x10,
	SVM_EXIT_EXCEPTION = 0x40,
	SVM_EXIT_INTR = 0x60, SVM_EXIT_NMI, SVM_EXIT_SMI, SVM_EXIT_INIT, SVM_EXIT_VINTR,
	SVM_EXIT_CR0_SELECTIVE,
	SVM_EXIT_RDPMC = 0x6f,
	SVM_EXIT_CPUID = 0x72, SVM_EXIT_RSM,
	SVM_EXIT_INVD = 0x76, SVM_EXIT_PAUSE, SVM_EXIT_HLT, SVM_EXIT_INVLPG, SVM_EXIT_INVLPGA,
	SVM_EXIT_IOIO, SVM_EXIT_MSR, SVM_EXIT_TASK_SWITCH, SVM_EXIT_FERR_FREEZE, SVM_EXIT_SHUTDOWN,
	SVM_EXIT_VMRUN = 0x80, SVM_EXIT_VMMCALL, SVM_EXIT_VMLOAD, SVM_EXIT_VMSAVE, SVM_EXIT_STGI,
	SVM_EXIT_CLGI, SVM_EXIT_SKINIT, SVM_EXIT_RDTSCP, SVM_EXIT_ICEBP, SVM_EXIT_WBINVD,
	SVM_EXIT_MONITOR, SVM_EXIT_MWAIT, SVM_EXIT_MWAIT_ARMED, SVM_EXIT_XSETBV, SVM_EXIT_RDPRU,
	SVM_EXIT_INVLPGB = 0xa0, SVM_EXIT_INVLPGB_ILLEGAL, SVM_EXIT_INVPCID, SVM_EXIT_MCOMMIT,
	SVM_EXIT_TLBSYNC,
	SVM_EXIT_COUNT = 0xc0, /* of those that have an intercept bit */
	SVM_EXIT_NPF = 0x400,
};
#define SVM_EXIT_INVALID UINT64_MAX

/* exit_info_1 of IOIO */
#define SVM_IO_IN     (1u << 0)
#define SVM_IO_STRING (1u << 2)
#define SVM_IO_8      (1u << 4)
#define SVM_IO_16     (1u << 5)
#define SVM_IO_32     (1u << 6)

/* exit_info_1 of a MOV to or from CR, with decode assists */
#define SVM_CR_IS_MOV (1ull << 63)

/* exit_info_1 of NPF: the page fault's error code, and where it was met */
#define SVM_NPF_WRITE (1ull << 1)
#define SVM_NPF_FETCH (1ull << 4)

/* event_inj, exit_int_info: as X86_EVENT_*; types */
#define SVM_EVENT_NMI  (2u << 8)
#define SVM_EVENT_SOFT (4u << 8)

/* int_ctl */
#define SVM_V_IRQ          (1ull << 8)
#define SVM_V_PRIO_SHIFT   16u
#define SVM_V_IGN_TPR      (1ull << 20)
#define SVM_V_INTR_MASKING (1ull << 24)

#define SVM_TLB_KEEP       0u
#define SVM_TLB_FLUSH_ALL  1u
#define SVM_TLB_FLUSH_ASID 3u

/* What the processor may keep from the last run: VMCB clean bits. */
#define SVM_CLEAN_INTERCEPTS (1u << 0)
#define SVM_CLEAN_MAPS       (1u << 1)
#define SVM_CLEAN_ASID       (1u << 2)
#define SVM_CLEAN_TPR        (1u << 3)
#define SVM_CLEAN_NP         (1u << 4)
#define SVM_CLEAN_CR         (1u << 5)
#define SVM_CLEAN_DR         (1u << 6)
#define SVM_CLEAN_CR2        (1u << 9)
#define SVM_CLEAN_ALL        0x3ffu /* bits 0 to 9: LBR and AVIC are not used */

struct svm_segment {
	uint16_t selector, attributes; /* descriptor bits 40..47 and 52..55 */
	uint32_t limit;
	uint64_t base;
};
_Static_assert(sizeof(struct svm_segment) == 16, "VMCB segment");

struct svm_vmcb {
	/* control area */
	uint32_t intercept[SVM_WORDS];
	uint8_t reserved_018[0x24];
	uint16_t pause_threshold, pause_count;
	uint64_t iopm, msrpm;
	uint64_t tsc_offset;
	uint32_t asid;
	uint8_t tlb_control, reserved_05d[3];
	uint64_t int_ctl;
	uint64_t interrupt_shadow; /* bit 0 */
	uint64_t exit_code, exit_info_1, exit_info_2;
	uint32_t exit_int_info, exit_int_error;
	uint64_t np_enable; /* bit 0 */
	uint8_t reserved_098[0x10];
	uint32_t event_inj, event_error;
	uint64_t n_cr3;
	uint64_t lbr_control;
	uint32_t clean, reserved_0c4;
	uint64_t next_rip;
	uint8_t fetched, bytes[15]; /* decode assists, for #NPF */
	uint8_t reserved_0e0[0x320];
	/* state save area */
	struct svm_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t reserved_4a0[0x2b];
	uint8_t cpl;
	uint32_t reserved_4cc;
	uint64_t efer;
	uint8_t reserved_4d8[0x70];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t reserved_580[0x58];
	uint64_t rsp;
	uint8_t reserved_5e0[0x18];
	uint64_t rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp,
		sysenter_eip, cr2;
	uint8_t reserved_648[0x20];
	uint64_t g_pat, debugctl;
	uint8_t reserved_678[0x988];
};
_Static_assert(sizeof(struct svm_vmcb) == 4096, "the VMCB is a page");
_Static_assert(offsetof(struct svm_vmcb, iopm) == 0x40, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, int_ctl) == 0x60, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, exit_int_info) == 0x88, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, event_inj) == 0xa8, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, clean) == 0xc0, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, next_rip) == 0xc8, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, es) == 0x400, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, cpl) == 0x4cb, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, efer) == 0x4d0, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, cr4) == 0x548, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, rip) == 0x578, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, rsp) == 0x5d8, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, rax) == 0x5f8, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, cr2) == 0x640, "VMCB");
_Static_assert(offsetof(struct svm_vmcb, g_pat) == 0x668, "VMCB");
