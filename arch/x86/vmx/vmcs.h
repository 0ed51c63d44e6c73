/*
 * The VMCS: field encodings, bits of the control fields, exit reasons, and the instructions that
 * reach it. Source: SDM vol. 3D appendix B "Field Encoding in VMCS", appendix C "VMX Basic Exit
 * Reasons", vol. 3C "Virtual Machine Control Structures".
 */
#pragma once

#include "vmm/base/types.h"

enum vmcs_field {
	VMCS_VPID = 0x0000,
	VMCS_GUEST_ES_SEL = 0x0800, /* then CS SS DS FS GS LDTR TR, in steps of 2 */
	VMCS_GUEST_LDTR_SEL = 0x080c, VMCS_GUEST_TR_SEL = 0x080e,
	VMCS_HOST_ES_SEL = 0x0c00, VMCS_HOST_CS_SEL = 0x0c02, VMCS_HOST_SS_SEL = 0x0c04,
	VMCS_HOST_DS_SEL = 0x0c06, VMCS_HOST_FS_SEL = 0x0c08, VMCS_HOST_GS_SEL = 0x0c0a,
	VMCS_HOST_TR_SEL = 0x0c0c,
	VMCS_IO_BITMAP_A = 0x2000, VMCS_IO_BITMAP_B = 0x2002, VMCS_MSR_BITMAP = 0x2004,
	VMCS_EXIT_MSR_STORE = 0x2006, VMCS_EXIT_MSR_LOAD = 0x2008, VMCS_ENTRY_MSR_LOAD = 0x200a,
	VMCS_TSC_OFFSET = 0x2010, VMCS_EPTP = 0x201a, VMCS_ENCLS_BITMAP = 0x202e,
	VMCS_GPA = 0x2400,
	VMCS_LINK = 0x2800, VMCS_GUEST_DEBUGCTL = 0x2802, VMCS_GUEST_PAT = 0x2804,
	VMCS_GUEST_EFER = 0x2806, VMCS_HOST_PAT = 0x2c00, VMCS_HOST_EFER = 0x2c02,
	VMCS_PIN_CTL = 0x4000, VMCS_PROC_CTL = 0x4002, VMCS_EXCEPTION_BITMAP = 0x4004,
	VMCS_PF_MASK = 0x4006, VMCS_PF_MATCH = 0x4008, VMCS_CR3_TARGETS = 0x400a,
	VMCS_EXIT_CTL = 0x400c, VMCS_EXIT_MSR_STORE_COUNT = 0x400e,
	VMCS_EXIT_MSR_LOAD_COUNT = 0x4010, VMCS_ENTRY_CTL = 0x4012,
	VMCS_ENTRY_MSR_LOAD_COUNT = 0x4014, VMCS_ENTRY_INFO = 0x4016, VMCS_ENTRY_ERROR = 0x4018,
	VMCS_ENTRY_LENGTH = 0x401a, VMCS_PROC2_CTL = 0x401e,
	VMCS_PLE_GAP = 0x4020, VMCS_PLE_WINDOW = 0x4022,
	VMCS_INSTRUCTION_ERROR = 0x4400, VMCS_EXIT_REASON = 0x4402, VMCS_EXIT_INFO = 0x4404,
	VMCS_EXIT_ERROR = 0x4406, VMCS_VECTORING_INFO = 0x4408, VMCS_VECTORING_ERROR = 0x440a,
	VMCS_EXIT_LENGTH = 0x440c, VMCS_INSTRUCTION_INFO = 0x440e,
	VMCS_GUEST_ES_LIMIT = 0x4800, VMCS_GUEST_LDTR_LIMIT = 0x480c, VMCS_GUEST_TR_LIMIT = 0x480e,
	VMCS_GUEST_GDTR_LIMIT = 0x4810, VMCS_GUEST_IDTR_LIMIT = 0x4812, VMCS_GUEST_ES_AR = 0x4814,
	VMCS_GUEST_CS_AR = 0x4816, VMCS_GUEST_SS_AR = 0x4818, VMCS_GUEST_LDTR_AR = 0x4820,
	VMCS_GUEST_TR_AR = 0x4822, VMCS_INTERRUPTIBILITY = 0x4824, VMCS_ACTIVITY = 0x4826,
	VMCS_GUEST_SYSENTER_CS = 0x482a, VMCS_PREEMPTION_TIMER = 0x482e,
	VMCS_HOST_SYSENTER_CS = 0x4c00,
	VMCS_CR0_MASK = 0x6000, VMCS_CR4_MASK = 0x6002, VMCS_CR0_SHADOW = 0x6004,
	VMCS_CR4_SHADOW = 0x6006,
	VMCS_QUALIFICATION = 0x6400, VMCS_GUEST_LINEAR = 0x640a,
	VMCS_GUEST_CR0 = 0x6800, VMCS_GUEST_CR3 = 0x6802, VMCS_GUEST_CR4 = 0x6804,
	VMCS_GUEST_ES_BASE = 0x6806, VMCS_GUEST_CS_BASE = 0x6808, VMCS_GUEST_FS_BASE = 0x680e,
	VMCS_GUEST_GS_BASE = 0x6810, VMCS_GUEST_LDTR_BASE = 0x6812, VMCS_GUEST_TR_BASE = 0x6814,
	VMCS_GUEST_GDTR_BASE = 0x6816, VMCS_GUEST_IDTR_BASE = 0x6818, VMCS_GUEST_DR7 = 0x681a,
	VMCS_GUEST_RSP = 0x681c, VMCS_GUEST_RIP = 0x681e, VMCS_GUEST_RFLAGS = 0x6820,
	VMCS_PENDING_DEBUG = 0x6822, VMCS_GUEST_SYSENTER_ESP = 0x6824,
	VMCS_GUEST_SYSENTER_EIP = 0x6826,
	VMCS_HOST_CR0 = 0x6c00, VMCS_HOST_CR3 = 0x6c02, VMCS_HOST_CR4 = 0x6c04,
	VMCS_HOST_FS_BASE = 0x6c06, VMCS_HOST_GS_BASE = 0x6c08, VMCS_HOST_TR_BASE = 0x6c0a,
	VMCS_HOST_GDTR_BASE = 0x6c0c, VMCS_HOST_IDTR_BASE = 0x6c0e,
	VMCS_HOST_SYSENTER_ESP = 0x6c10, VMCS_HOST_SYSENTER_EIP = 0x6c12,
	VMCS_HOST_RSP = 0x6c14, VMCS_HOST_RIP = 0x6c16,
};

#define PIN_EXTERNAL_INTERRUPT (1u << 0)
#define PIN_NMI                (1u << 3)
#define PIN_VIRTUAL_NMI        (1u << 5)
#define PIN_PREEMPTION_TIMER   (1u << 6)

#define PROC_INTERRUPT_WINDOW (1u << 2)
#define PROC_HLT              (1u << 7)
#define PROC_INVLPG           (1u << 9)
#define PROC_MWAIT            (1u << 10)
#define PROC_RDPMC            (1u << 11)
#define PROC_CR3_LOAD         (1u << 15)
#define PROC_CR3_STORE        (1u << 16)
#define PROC_CR8_LOAD         (1u << 19)
#define PROC_CR8_STORE        (1u << 20)
#define PROC_IO               (1u << 24)
#define PROC_IO_BITMAPS       (1u << 25)
#define PROC_MSR_BITMAPS      (1u << 28)
#define PROC_MONITOR          (1u << 29)
#define PROC_SECONDARY        (1u << 31)

#define PROC2_EPT          (1u << 1)
#define PROC2_RDTSCP       (1u << 3)
#define PROC2_VPID         (1u << 5)
#define PROC2_WBINVD       (1u << 6)
#define PROC2_UNRESTRICTED (1u << 7)
#define PROC2_APIC_REGS    (1u << 8)
#define PROC2_VIRQ         (1u << 9)
#define PROC2_PAUSE_LOOP   (1u << 10)
#define PROC2_INVPCID      (1u << 12)
#define PROC2_ENCLS        (1u << 15)
#define PROC2_PML          (1u << 17)
#define PROC2_XSAVES       (1u << 20)

#define EXIT_SAVE_DEBUG        (1u << 2)
#define EXIT_HOST_64           (1u << 9)
#define EXIT_ACK_INTERRUPT     (1u << 15)
#define EXIT_SAVE_PAT          (1u << 18)
#define EXIT_LOAD_PAT          (1u << 19)
#define EXIT_SAVE_EFER         (1u << 20)
#define EXIT_LOAD_EFER         (1u << 21)
#define EXIT_SAVE_PREEMPTION   (1u << 22)

#define ENTRY_LOAD_DEBUG (1u << 2)
#define ENTRY_GUEST_64   (1u << 9)
#define ENTRY_LOAD_PAT   (1u << 14)
#define ENTRY_LOAD_EFER  (1u << 15)

/* Interruption information: of entry, exit and IDT vectoring alike. */
#define INFO_VECTOR      0xffu
#define INFO_TYPE_SHIFT  8u
#define INFO_TYPE        (7u << 8)
#define INFO_TYPE_EXT    (0u << 8)
#define INFO_TYPE_NMI    (2u << 8)
#define INFO_TYPE_HW     (3u << 8) /* hardware exception */
#define INFO_TYPE_SOFT   (4u << 8) /* INT n */
#define INFO_TYPE_PRIV   (5u << 8) /* INT1 */
#define INFO_TYPE_SW     (6u << 8) /* INT3, INTO */
#define INFO_ERROR_CODE  (1u << 11)
#define INFO_NMI_UNBLOCK (1u << 12)
#define INFO_VALID       (1u << 31)

#define INTERRUPTIBILITY_STI    (1u << 0)
#define INTERRUPTIBILITY_MOV_SS (1u << 1)
#define INTERRUPTIBILITY_NMI    (1u << 3)

#define PENDING_DEBUG_ENABLED (1ull << 12) /* a breakpoint that is enabled has matched */
#define PENDING_DEBUG_BS      (1ull << 14)

enum vmx_reason {
	REASON_EXCEPTION = 0, REASON_EXTERNAL = 1, REASON_TRIPLE_FAULT = 2, REASON_WINDOW = 7,
	REASON_TASK_SWITCH = 9, REASON_CPUID = 10, REASON_GETSEC = 11, REASON_HLT = 12,
	REASON_INVD = 13, REASON_INVLPG = 14, REASON_RDPMC = 15, REASON_RSM = 17,
	REASON_VMCALL = 18, REASON_VMCLEAR = 19, REASON_VMXON = 27, REASON_CR = 28, REASON_IO = 30,
	REASON_RDMSR = 31, REASON_WRMSR = 32, REASON_ENTRY_STATE = 33, REASON_ENTRY_MSR = 34,
	REASON_MWAIT = 36, REASON_MONITOR = 39, REASON_PAUSE = 40, REASON_ENTRY_MC = 41, REASON_EPT_VIOLATION = 48,
	REASON_EPT_MISCONFIG = 49, REASON_INVEPT = 50, REASON_PREEMPTION = 52, REASON_INVVPID = 53,
	REASON_WBINVD = 54, REASON_XSETBV = 55, REASON_VMFUNC = 59, REASON_ENCLS = 60,
	REASON_COUNT = 70
};
#define REASON_ENTRY_FAILED (1u << 31)

static inline uint64_t vmread(enum vmcs_field field)
{
	uint64_t v;
	__asm__ volatile("vmread %1, %0" : "=r"(v) : "r"((uint64_t)field) : "cc");
	return v;
}

static inline uint32_t vmread32(enum vmcs_field field)
{
	return (uint32_t)vmread(field);
}

/* false: no such field in this processor, or no current VMCS. */
static inline bool vmread_checked(uint32_t field, uint64_t *out)
{
	bool ok;
	uint64_t v;
	__asm__ volatile("vmread %2, %1" : "=@cca"(ok), "=r"(v) : "r"((uint64_t)field));
	*out = v;
	return ok;
}

static inline void vmwrite(enum vmcs_field field, uint64_t v)
{
	__asm__ volatile("vmwrite %1, %0" : : "r"((uint64_t)field), "r"(v) : "cc", "memory");
}

/* The following take the physical address of a VMCS or VMXON region; false: VMfail. */
static inline bool vmxon(uint64_t pa)
{
	bool ok;
	__asm__ volatile("vmxon %1" : "=@cca"(ok) : "m"(pa) : "memory");
	return ok;
}

static inline bool vmclear(uint64_t pa)
{
	bool ok;
	__asm__ volatile("vmclear %1" : "=@cca"(ok) : "m"(pa) : "memory");
	return ok;
}

static inline bool vmptrld(uint64_t pa)
{
	bool ok;
	__asm__ volatile("vmptrld %1" : "=@cca"(ok) : "m"(pa) : "memory");
	return ok;
}

struct vmx_inv {
	uint64_t tag; /* EPTP, or VPID */
	uint64_t address;
};

enum vmx_inv_type { VMX_INV_SINGLE = 1, VMX_INV_ALL = 2 };

static inline void invept(enum vmx_inv_type type, uint64_t eptp)
{
	struct vmx_inv d = { eptp, 0 };
	__asm__ volatile("invept %0, %1" : : "m"(d), "r"((uint64_t)type) : "cc", "memory");
}

static inline void invvpid(enum vmx_inv_type type, uint64_t vpid)
{
	struct vmx_inv d = { vpid, 0 };
	__asm__ volatile("invvpid %0, %1" : : "m"(d), "r"((uint64_t)type) : "cc", "memory");
}
