/* Pure. VMX capabilities to control fields. */
#include "arch/x86/vmx/vmx_caps.h"

/* IA32_VMX_EPT_VPID_CAP */
#define EPT_WALK_4         (1ull << 6)
#define EPT_UC             (1ull << 8)
#define EPT_WB             (1ull << 14)
#define EPT_2M             (1ull << 16)
#define EPT_1G             (1ull << 17)
#define EPT_INVEPT         (1ull << 20)
#define EPT_AD             (1ull << 21)
#define EPT_INVEPT_SINGLE  (1ull << 25)
#define EPT_INVEPT_ALL     (1ull << 26)
#define VPID_INVVPID       (1ull << 32)
#define VPID_SINGLE        (1ull << 41)
#define VPID_ALL           (1ull << 42)

/* EPT pointer and entries (SDM vol. 3C, The Extended Page Table Mechanism). */
#define EPTP_WALK_4    (3ull << 3)
#define EPTP_AD        (1ull << 6)
#define EPT_READ       (1ull << 0)
#define EPT_WRITE      (1ull << 1)
#define EPT_EXEC       (1ull << 2)
#define EPT_TYPE_SHIFT 3u
#define EPT_IGNORE_PAT (1ull << 6)
#define EPT_BIG        (1ull << 7)
#define EPT_ACCESSED   (1ull << 8)
#define EPT_DIRTY      (1ull << 9)
#define TYPE_UC        0ull
#define TYPE_WB        6ull

status_t vmx_control(uint64_t capability, uint32_t required, uint32_t optional, uint32_t *out,
	uint32_t *missing)
{
	uint32_t must = (uint32_t)capability;
	uint32_t may = (uint32_t)(capability >> 32);
	*missing = required & ~may;
	if (*missing != 0)
		return ERR_NOSYS;
	*out = required | (optional & may) | must;
	return OK;
}

static status_t fail(const char **why, const char *text)
{
	*why = text;
	return ERR_NOSYS;
}

static status_t primary_fields(const struct vmx_msrs *m, struct vmx_caps *c, const char **why)
{
	uint32_t missing;
	uint32_t optional = PIN_VIRTUAL_NMI | PIN_PREEMPTION_TIMER;
	if (vmx_control(m->pin, PIN_EXTERNAL_INTERRUPT | PIN_NMI, optional, &c->pin, &missing) != OK)
		return fail(why, "VMX lacks external-interrupt or NMI exiting; another CPU model (or "
				 "hypervisor below this one) is needed");
	/* I/O: all ports exit, by a bitmap of ones where there are bitmaps. */
	if (vmx_control(m->proc,
		    PROC_HLT | PROC_IO | PROC_CR8_LOAD | PROC_CR8_STORE | PROC_SECONDARY,
		    PROC_MWAIT | PROC_MONITOR | PROC_RDPMC | PROC_IO_BITMAPS | PROC_MSR_BITMAPS,
		    &c->proc, &missing) != OK)
		return fail(why, missing & PROC_SECONDARY ?
				"VMX lacks secondary controls and so EPT; a CPU from 2010 on is "
				"needed" :
				"VMX lacks HLT, I/O or CR8 exiting; another CPU model is needed");
	c->proc &= ~PROC_INTERRUPT_WINDOW; /* set when it is wanted */
	optional = EXIT_ACK_INTERRUPT | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER |
		EXIT_LOAD_EFER | EXIT_SAVE_PREEMPTION;
	if (vmx_control(m->exit, EXIT_HOST_64 | EXIT_SAVE_DEBUG, optional, &c->exit, &missing) != OK)
		return fail(why, "VMX cannot return to a 64-bit host; another CPU model is needed");
	optional = ENTRY_LOAD_PAT | ENTRY_LOAD_EFER;
	if (vmx_control(m->entry, ENTRY_GUEST_64 | ENTRY_LOAD_DEBUG, optional, &c->entry,
		    &missing) != OK)
		return fail(why, "VMX cannot enter a 64-bit guest; another CPU model is needed");
	return OK;
}

/* Both halves of a feature or none of it. */
static void pair_fields(struct vmx_caps *c)
{
	c->efer_controls = (c->exit & EXIT_SAVE_EFER) && (c->exit & EXIT_LOAD_EFER) &&
		(c->entry & ENTRY_LOAD_EFER);
	if (!c->efer_controls) {
		c->exit &= ~(EXIT_SAVE_EFER | EXIT_LOAD_EFER);
		c->entry &= ~ENTRY_LOAD_EFER;
	}
	c->pat_controls = (c->exit & EXIT_SAVE_PAT) && (c->exit & EXIT_LOAD_PAT) &&
		(c->entry & ENTRY_LOAD_PAT);
	if (!c->pat_controls) {
		c->exit &= ~(EXIT_SAVE_PAT | EXIT_LOAD_PAT);
		c->entry &= ~ENTRY_LOAD_PAT;
	}
	c->preemption_timer = (c->pin & PIN_PREEMPTION_TIMER) != 0;
	if (!c->preemption_timer)
		c->exit &= ~EXIT_SAVE_PREEMPTION;
	c->preemption_saved = (c->exit & EXIT_SAVE_PREEMPTION) != 0;
	c->ack_interrupt = (c->exit & EXIT_ACK_INTERRUPT) != 0;
	c->virtual_nmi = (c->pin & PIN_VIRTUAL_NMI) != 0;
	c->msr_bitmaps = (c->proc & PROC_MSR_BITMAPS) != 0;
	c->io_bitmaps = (c->proc & PROC_IO_BITMAPS) != 0;
}

static status_t second_level(const struct vmx_msrs *m, struct vmx_caps *c, const char **why)
{
	uint64_t e = m->ept_vpid;
	uint32_t missing;
	if (vmx_control(m->proc2, PROC2_EPT,
		    PROC2_VPID | PROC2_UNRESTRICTED | PROC2_RDTSCP | PROC2_INVPCID | PROC2_WBINVD |
			    PROC2_PAUSE_LOOP | PROC2_ENCLS,
		    &c->proc2, &missing) != OK)
		return fail(why, "VMX lacks EPT; a CPU from 2010 on, or \"ept=1\" in the hypervisor "
				 "below this one, is needed");
	if (!(e & EPT_WALK_4) || !(e & EPT_2M) || !(e & (EPT_WB | EPT_UC)))
		return fail(why, "EPT lacks 4-level tables or 2 MiB pages; another CPU model is "
				 "needed");
	if (!(e & EPT_INVEPT) || !(e & (EPT_INVEPT_SINGLE | EPT_INVEPT_ALL)))
		return fail(why, "EPT lacks INVEPT; another CPU model is needed");
	c->invept_single = (e & EPT_INVEPT_SINGLE) != 0;
	c->ept_ad = (e & EPT_AD) != 0;
	c->ept_1g = (e & EPT_1G) != 0;
	c->eptp_bits = EPTP_WALK_4 | (e & EPT_WB ? TYPE_WB : TYPE_UC) | (c->ept_ad ? EPTP_AD : 0);
	c->invvpid_single = (e & VPID_SINGLE) != 0;
	/* A VPID that cannot be flushed is of no use. */
	if (!(e & VPID_INVVPID) || !(e & (VPID_SINGLE | VPID_ALL)))
		c->proc2 &= ~PROC2_VPID;
	c->vpid = (c->proc2 & PROC2_VPID) != 0;
	return OK;
}

status_t vmx_caps_compute(const struct vmx_msrs *m, struct vmx_caps *c, const char **why)
{
	*c = (struct vmx_caps){ .revision = (uint32_t)m->basic & 0x7fffffffu };
	if ((m->basic >> 50 & 0xfu) != TYPE_WB)
		return fail(why, "the VMCS must be in uncached memory here, which is not supported");
	status_t s = primary_fields(m, c, why);
	if (s != OK)
		return s;
	s = second_level(m, c, why);
	if (s != OK)
		return s;
	pair_fields(c);
	uint32_t may2 = (uint32_t)(m->proc2 >> 32);
	c->true_controls = (m->basic & VMX_BASIC_TRUE) != 0;
	c->unrestricted = (c->proc2 & PROC2_UNRESTRICTED) != 0;
	c->rdtscp = (c->proc2 & PROC2_RDTSCP) != 0;
	c->invpcid = (c->proc2 & PROC2_INVPCID) != 0;
	c->pause_loop = (c->proc2 & PROC2_PAUSE_LOOP) != 0;
	c->encls_exiting = (c->proc2 & PROC2_ENCLS) != 0;
	c->apicv = (may2 & PROC2_APIC_REGS) && (may2 & PROC2_VIRQ);
	c->pml = (may2 & PROC2_PML) != 0;
	c->xsaves = (may2 & PROC2_XSAVES) != 0;
	c->timer_shift = m->misc & 31u;
	c->cr0_fixed0 = m->cr0_fixed0;
	c->cr0_fixed1 = m->cr0_fixed1;
	c->cr4_fixed0 = m->cr4_fixed0;
	c->cr4_fixed1 = m->cr4_fixed1;
	return OK;
}

void vmx_ept_format(const struct vmx_caps *c, bool big_no_exec, struct slat_format *out)
{
	uint64_t type = (c->eptp_bits & 7u) << EPT_TYPE_SHIFT;
	/* Guests have memory and no devices: write-back whatever their PAT says. */
	uint64_t leaf = EPT_READ | EPT_EXEC | EPT_IGNORE_PAT | type;
	*out = (struct slat_format){
		.name = "EPT",
		.present_mask = EPT_READ | EPT_WRITE | EPT_EXEC,
		.table = EPT_READ | EPT_WRITE | EPT_EXEC,
		.leaf_4k = leaf,
		.leaf_big = (big_no_exec ? leaf & ~EPT_EXEC : leaf) | EPT_BIG,
		.big_mask = EPT_BIG,
		.write = EPT_WRITE,
		.accessed = c->ept_ad ? EPT_ACCESSED : 0,
		.dirty = c->ept_ad ? EPT_DIRTY : 0,
		.has_1g = c->ept_1g,
		.big_no_exec = big_no_exec,
	};
}

enum vmx_feature vmx_feature_control(uint64_t value, uint64_t *to_write)
{
	*to_write = value | VMX_FEATURE_ENABLE | VMX_FEATURE_LOCK;
	if (!(value & VMX_FEATURE_LOCK))
		return VMX_FEATURE_WRITE;
	return value & VMX_FEATURE_ENABLE ? VMX_FEATURE_READY : VMX_FEATURE_REFUSED;
}
