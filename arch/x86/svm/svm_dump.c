/* What matters of the VMCB into the log, for a refused entry or an exit that nobody expects. */
#include "arch/x86/svm/svm.h"
#include "vmm/base/log.h"

typedef unsigned long long ull;

static void segment(const char *name, const struct svm_segment *s)
{
	log_err("  %s %#x attributes %#x limit %#x base %#llx", name, s->selector, s->attributes,
		s->limit, (ull)s->base);
}

void svm_dump(const struct svm_vcpu *v)
{
	const struct svm_vmcb *c = v->vmcb;
	log_err("  exit %#llx information %#llx %#llx event %#x %#x", (ull)c->exit_code,
		(ull)c->exit_info_1, (ull)c->exit_info_2, c->exit_int_info, c->exit_int_error);
	log_err("  intercepts %#x %#x %#x %#x %#x %#x", c->intercept[0], c->intercept[1],
		c->intercept[2], c->intercept[3], c->intercept[4], c->intercept[5]);
	log_err("  asid %u tlb control %u int_ctl %#llx shadow %#llx inject %#x %#x", c->asid,
		c->tlb_control, (ull)c->int_ctl, (ull)c->interrupt_shadow, c->event_inj,
		c->event_error);
	log_err("  np %#llx ncr3 %#llx iopm %#llx msrpm %#llx next rip %#llx", (ull)c->np_enable,
		(ull)c->n_cr3, (ull)c->iopm, (ull)c->msrpm, (ull)c->next_rip);
	log_err("  rip %#llx rsp %#llx rax %#llx rflags %#llx cpl %u", (ull)c->rip, (ull)c->rsp,
		(ull)c->rax, (ull)c->rflags, c->cpl);
	log_err("  cr0 %#llx cr2 %#llx cr3 %#llx cr4 %#llx efer %#llx pat %#llx", (ull)c->cr0,
		(ull)c->cr2, (ull)c->cr3, (ull)c->cr4, (ull)c->efer, (ull)c->g_pat);
	log_err("  dr6 %#llx dr7 %#llx", (ull)c->dr6, (ull)c->dr7);
	segment("cs", &c->cs);
	segment("ss", &c->ss);
	segment("ds", &c->ds);
	segment("tr", &c->tr);
	segment("gdtr", &c->gdtr);
	segment("idtr", &c->idtr);
}
