/*
 * Finds SVM, turns it on, and describes it to vcpu.c. Source: APM vol. 2 "Enabling SVM", "VM_CR MSR",
 * "VM_HSAVE_PA MSR".
 */
#include "arch/x86/guard.h"
#include "arch/x86/guest_msr.h"
#include "arch/x86/regs.h"
#include "arch/x86/svm/svm.h"
#include "mm/heap.h"
#include "vmm/abi/aerostat.h"
#include "vmm/base/directmap.h"
#include "vmm/base/fmt.h"
#include "vmm/base/string.h"

struct svm_caps svm_caps;
void *svm_msrpm;
void *svm_iopm;
uint32_t svm_clean;
static struct virt_ops svm_ops; /* constant after svm_probe() */
static struct slat_format svm_slat_format; /* constant after svm_probe() */
static char features[96]; /* constant after svm_probe() */

static void read_facts(struct svm_facts *f)
{
	*f = (struct svm_facts){ .max_extended = cpuid(0x80000000u, 0).eax };
	if (f->max_extended < 0x80000001u)
		return;
	struct cpuid_regs r = cpuid(0x80000001u, 0);
	f->ext_ecx = r.ecx;
	f->ext_edx = r.edx;
	if (!svm_present(f))
		return;
	if (cpuid(0, 0).eax >= 7)
		f->leaf7_ebx = cpuid(7, 0).ebx;
	r = cpuid(0x8000000au, 0);
	f->asid_count = r.ebx;
	f->features = r.edx;
	f->vm_cr = rdmsr(MSR_VM_CR);
}

/* All exit but for the MSRs that VMRUN, VMLOAD and VMSAVE switch. Not EFER, whose SVME the guest must
 * not see, and not PAT: the guest's is in the VMCB, and not every processor (emulator) reads it there. */
static void fill_maps(void)
{
	memset(svm_iopm, 0xff, SVM_IOPM_BYTES);
	memset(svm_msrpm, 0xff, SVM_MSRPM_BYTES);
	for (uint32_t i = 0; i < guest_msr_count; i++) {
		uint32_t msr = guest_msr_table[i].msr;
		if (guest_msr_table[i].pass && msr != MSR_EFER && msr != MSR_PAT)
			svm_msrpm_pass(svm_msrpm, msr);
	}
}

static status_t cpu_on(struct virt_cpu *cpu, const char **why)
{
	struct svm_cpu *s = heap_alloc(sizeof(*s));
	void *save = heap_alloc(PAGE_BYTES), *vmcb = heap_alloc(PAGE_BYTES);
	if (s == NULL || save == NULL || vmcb == NULL) {
		heap_free(s, sizeof(*s));
		heap_free(save, PAGE_BYTES);
		heap_free(vmcb, PAGE_BYTES);
		*why = "no memory for SVM's own pages (8 KiB a CPU)";
		return ERR_NOMEM;
	}
	*s = (struct svm_cpu){
		.asids.count = svm_caps.asid_count,
		.host_save = save,
		.host_vmcb = vmcb,
		.host_vmcb_hpa = va_to_hpa(vmcb).v,
	};
	uint64_t vm_cr = rdmsr(MSR_VM_CR);
	if (vm_cr & VM_CR_SVMDIS)
		wrmsr(MSR_VM_CR, vm_cr & ~VM_CR_SVMDIS); /* not locked: svm_caps_compute() */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, va_to_hpa(save).v);
	__asm__ volatile("vmsave %%rax" : : "a"(s->host_vmcb_hpa) : "memory");
	cpu->backend = s;
	return OK;
}

static void describe(void)
{
	fmt_snprintf(features, sizeof(features), "npt asids=%u%s%s%s%s%s%s", svm_caps.asid_count,
		svm_caps.nrips ? " nrips" : "", svm_caps.clean ? " clean-bits" : "",
		svm_caps.flush_by_asid ? " flush-by-asid" : "",
		svm_caps.pause_filter ? " pause-filter" : "",
		svm_caps.decode_assists ? " decode-assists" : "", svm_caps.page_1g ? " 1g" : "");
	svm_ops = (struct virt_ops){
		.caps = {
			.name = "SVM+NPT",
			.features = features,
			.hypercall_kind = AERO_CALL_VMMCALL,
			.real_mode = true,
		},
		.vcpu_bytes = sizeof(struct svm_vcpu),
		.rdtscp = svm_caps.rdtscp,
		.invpcid = svm_caps.invpcid,
		.cpu_on = cpu_on,
		.run = guard_plan.guarded ? svm_run_guarded : svm_run,
		.run_smp = guard_plan.guarded ? svm_run_smp_guarded : svm_run_smp,
		.create = svm_create,
		.destroy = svm_destroy,
		.boot = svm_boot,
		.start = svm_start,
		.load = svm_load,
		.get = svm_get,
		.set = svm_set,
		.skip = svm_skip,
		.rewind = svm_rewind,
		.set_time = svm_set_time,
		.can_interrupt = svm_can_interrupt,
		.clear_shadow = svm_clear_shadow,
		.set_window = svm_set_window,
		.inject = svm_inject,
		.flush_guest = svm_flush_guest,
	};
}

status_t svm_probe(const struct virt_ops **out, const char **why)
{
	struct svm_facts f;
	read_facts(&f);
	if (!svm_present(&f)) {
		*why = "";
		return ERR_NOENT;
	}
	status_t s = svm_caps_compute(&f, &svm_caps, why);
	if (s != OK)
		return s;
	svm_msrpm = heap_alloc(SVM_MSRPM_BYTES);
	svm_iopm = heap_alloc(SVM_IOPM_BYTES);
	if (svm_msrpm == NULL || svm_iopm == NULL) {
		*why = "no memory for SVM's permission maps (20 KiB)";
		return ERR_NOMEM;
	}
	fill_maps();
	svm_clean = svm_caps.clean ? SVM_CLEAN_ALL : 0;
	svm_npt_format(&svm_caps, guard_plan.large_no_exec, &svm_slat_format);
	slat_format = &svm_slat_format;
	describe();
	*out = &svm_ops;
	return OK;
}
