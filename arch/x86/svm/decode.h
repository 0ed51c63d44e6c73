/*
 * A decoder of just the instructions that are intercepted: how long, and what MOV CR and LMSW name.
 * For processors without NRIPS and decode assists. Source: APM vol. 3 "General-Purpose and System
 * Instruction Formats", "MOV CRn" (LOCK as an extension of the register's number).
 */
#pragma once

#include "vmm/base/types.h"

enum svm_insn {
	SVM_INSN_NONE,
	SVM_INSN_CPUID, SVM_INSN_RDMSR, SVM_INSN_WRMSR, SVM_INSN_HLT, SVM_INSN_VMMCALL,
	SVM_INSN_XSETBV, SVM_INSN_INVD, SVM_INSN_WBINVD, SVM_INSN_MOV_FROM_CR, SVM_INSN_MOV_TO_CR,
	SVM_INSN_CLTS, SVM_INSN_LMSW, SVM_INSN_SMSW,
};

#define SVM_INSN_BYTES 15u

struct svm_decoded {
	uint8_t kind;   /* enum svm_insn */
	uint8_t length; /* bytes, prefixes included */
	uint8_t cr;     /* MOV CR: which one */
	uint8_t gpr;    /* MOV CR, and LMSW and SMSW of a register */
	bool memory;    /* LMSW, SMSW: the operand lies in memory */
};

/*
 * `count` bytes stand at `bytes`, at most SVM_INSN_BYTES are looked at. `long_mode`: CS.L; else
 * `big`: CS.D. false: another instruction, a truncated one, or one that is too long.
 */
bool svm_decode(const uint8_t *bytes, uint32_t count, bool long_mode, bool big,
	struct svm_decoded *out);
