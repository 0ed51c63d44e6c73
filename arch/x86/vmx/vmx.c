/*
 * Finds VMX, turns it on, and describes it to vcpu.c. Source: SDM vol. 3C "Introduction to Virtual
 * Machine Extensions", vol. 3D appendix A.
 */
#include "arch/x86/guard.h"
#include "arch/x86/guest_msr.h"
#include "arch/x86/regs.h"
#include "arch/x86/vmx/vmx.h"
#include "mm/heap.h"
#include "vmm/abi/aerostat.h"
#include "vmm/base/directmap.h"
#include "vmm/base/fmt.h"
#include "vmm/base/string.h"

#define CPUID_VMX          (1u << 5)
#define PROC2_AVAILABLE(p) ((p) >> 32 & PROC_SECONDARY)

struct vmx_caps vmx_caps;
void *vmx_msr_bitmap;
void *vmx_io_bitmaps;
static struct virt_ops vmx_ops; /* constant after vmx_probe() */
static char features[96];       /* constant after vmx_probe() */

static void read_msrs(struct vmx_msrs *m)
{
	*m = (struct vmx_msrs){ .basic = rdmsr(VMX_MSR_BASIC) };
	bool t = (m->basic & VMX_BASIC_TRUE) != 0;
	m->pin = rdmsr(t ? VMX_MSR_TRUE_PIN : VMX_MSR_PIN);
	m->proc = rdmsr(t ? VMX_MSR_TRUE_PROC : VMX_MSR_PROC);
	m->exit = rdmsr(t ? VMX_MSR_TRUE_EXIT : VMX_MSR_EXIT);
	m->entry = rdmsr(t ? VMX_MSR_TRUE_ENTRY : VMX_MSR_ENTRY);
	m->misc = rdmsr(VMX_MSR_MISC);
	m->cr0_fixed0 = rdmsr(VMX_MSR_CR0_FIXED0);
	m->cr0_fixed1 = rdmsr(VMX_MSR_CR0_FIXED1);
	m->cr4_fixed0 = rdmsr(VMX_MSR_CR4_FIXED0);
	m->cr4_fixed1 = rdmsr(VMX_MSR_CR4_FIXED1);
	if (PROC2_AVAILABLE(m->proc)) {
		m->proc2 = rdmsr(VMX_MSR_PROC2);
		if (m->proc2 >> 32 & (PROC2_EPT | PROC2_VPID))
			m->ept_vpid = rdmsr(VMX_MSR_EPT_VPID);
	}
}

static status_t unlock(const char **why)
{
	uint64_t value;
	switch (vmx_feature_control(rdmsr(MSR_FEATURE_CONTROL), &value)) {
	case VMX_FEATURE_READY:
		return OK;
	case VMX_FEATURE_WRITE:
		wrmsr(MSR_FEATURE_CONTROL, value);
		return OK;
	case VMX_FEATURE_REFUSED:
		break;
	}
	*why = "the firmware has locked VMX off (IA32_FEATURE_CONTROL); turn on \"Intel "
	       "Virtualization Technology\" in its setup";
	return ERR_NOSYS;
}

static status_t cpu_on(struct virt_cpu *cpu, const char **why)
{
	status_t s = unlock(why);
	if (s != OK)
		return s;
	void *vmxon_region = heap_alloc(PAGE_BYTES);
	if (vmxon_region == NULL) {
		*why = "no memory for VMX's own page (4 KiB a CPU)";
		return ERR_NOMEM;
	}
	write_cr0((read_cr0() | vmx_caps.cr0_fixed0) & vmx_caps.cr0_fixed1);
	write_cr4((read_cr4() | vmx_caps.cr4_fixed0 | CR4_VMXE) & vmx_caps.cr4_fixed1);
	memcpy(vmxon_region, &vmx_caps.revision, sizeof(vmx_caps.revision));
	if (vmxon(va_to_hpa(vmxon_region).v)) {
		cpu->backend = vmxon_region;
		return OK;
	}
	heap_free(vmxon_region, PAGE_BYTES);
	*why = "VMXON failed although all that it wants is there; is VMX in use below this machine?";
	return ERR_NOSYS;
}

/* All exits but for the MSRs that the processor switches by itself or that stay loaded. */
static void fill_bitmaps(void)
{
	memset(vmx_io_bitmaps, 0xff, 2 * PAGE_BYTES);
	memset(vmx_msr_bitmap, 0xff, PAGE_BYTES);
	uint8_t *map = vmx_msr_bitmap;
	for (uint32_t i = 0; i < guest_msr_count; i++) {
		if (!guest_msr_table[i].pass)
			continue;
		uint32_t msr = guest_msr_table[i].msr;
		uint32_t base = msr >= 0xc0000000u ? 1024 : 0; /* reads; writes 2048 behind */
		uint32_t bit = msr & 0x1fffu;
		map[base + bit / 8] &= (uint8_t)~(1u << bit % 8);
		map[base + 2048 + bit / 8] &= (uint8_t)~(1u << bit % 8);
	}
}

static void describe(void)
{
	fmt_snprintf(features, sizeof(features), "ept%s%s%s%s%s%s%s%s%s", vmx_caps.vpid ? " vpid" : "",
		vmx_caps.unrestricted ? " unrestricted" : "",
		vmx_caps.preemption_timer ? " preemption-timer" : "",
		vmx_caps.pause_loop ? " pause-loop" : "",
		vmx_caps.ept_ad ? " accessed-dirty" : "", vmx_caps.ept_1g ? " 1g" : "",
		vmx_caps.xsaves ? " xsaves" : "", vmx_caps.apicv ? " apicv" : "",
		vmx_caps.pml ? " pml" : "");
	vmx_ops = (struct virt_ops){
		.caps = {
			.name = "VMX+EPT",
			.features = features,
			.hypercall_kind = AERO_CALL_VMCALL,
			/* EFER and the entry control must follow the guest into long mode. */
			.real_mode = vmx_caps.unrestricted && vmx_caps.efer_controls,
		},
		.vcpu_bytes = sizeof(struct vmx_vcpu),
		.rdtscp = vmx_caps.rdtscp,
		.invpcid = vmx_caps.invpcid,
		.cpu_on = cpu_on,
		.run = guard_plan.guarded ? vmx_run_guarded : vmx_run,
		.run_smp = guard_plan.guarded ? vmx_run_smp_guarded : vmx_run_smp,
		.create = vmx_create,
		.destroy = vmx_destroy,
		.boot = vmx_boot,
		.start = vmx_start,
		.load = vmx_load,
		.put = vmx_put,
		.get = vmx_get,
		.set = vmx_set,
		.skip = vmx_skip,
		.rewind = vmx_rewind,
		.set_time = vmx_set_time,
		.can_interrupt = vmx_can_interrupt,
		.clear_shadow = vmx_clear_shadow,
		.set_window = vmx_set_window,
		.inject = vmx_inject,
		.flush_guest = vmx_flush_guest,
		.slat_flush = vmx_slat_flush,
		.live_save = vmx_live_save,
		.live_load = vmx_live_load,
		.each_entry = vmx_caps.preemption_timer && !vmx_caps.preemption_saved,
	};
}

status_t vmx_probe(const struct virt_ops **out, const char **why)
{
	if (!(cpuid(1, 0).ecx & CPUID_VMX)) {
		*why = "";
		return ERR_NOENT;
	}
	status_t s = unlock(why);
	if (s != OK)
		return s;
	struct vmx_msrs m;
	read_msrs(&m);
	s = vmx_caps_compute(&m, &vmx_caps, why);
	if (s != OK)
		return s;
	vmx_msr_bitmap = heap_alloc(PAGE_BYTES);
	vmx_io_bitmaps = heap_alloc(2 * PAGE_BYTES);
	if (vmx_msr_bitmap == NULL || vmx_io_bitmaps == NULL) {
		*why = "no memory for VMX's bitmaps (12 KiB)";
		return ERR_NOMEM;
	}
	fill_bitmaps();
	vmx_ept_format(&vmx_caps, guard_plan.large_no_exec, &vmx_slat_format);
	slat_format = &vmx_slat_format;
	describe();
	*out = &vmx_ops;
	return OK;
}
