#include "arch/x86/traps.h"
#include "arch/x86/cpu.h"
#include "arch/x86/dump.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "arch/x86/trap_text.h"
#include "vmm/platform.h"

#define TRAP_NMI 2u
#define TRAP_PF  14u
#define TRAP_MC  18u

void trap_dispatch(struct trap_frame *f);

void traps_external(uint8_t vector)
{
	this_cpu()->interrupt_count++;
	/* A spurious interrupt is not in service: not to be ended (SDM, Spurious Interrupt). */
	if (vector != VECTOR_SPURIOUS)
		lapic_eoi();
}

static void dump_registers(const struct trap_frame *f)
{
	dump_line("rip %016lx  cs %04lx  rflags %08lx  error code %lx", f->rip, f->cs, f->rflags,
		f->error_code);
	dump_line("rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx", f->rax, f->rbx, f->rcx, f->rdx);
	dump_line("rsi %016lx  rdi %016lx  rbp %016lx  rsp %016lx", f->rsi, f->rdi, f->rbp, f->rsp);
	dump_line("r8  %016lx  r9  %016lx  r10 %016lx  r11 %016lx", f->r8, f->r9, f->r10, f->r11);
	dump_line("r12 %016lx  r13 %016lx  r14 %016lx  r15 %016lx", f->r12, f->r13, f->r14, f->r15);
	dump_line("cr0 %016lx  cr2 %016lx  cr3 %016lx  cr4 %016lx", read_cr0(), read_cr2(),
		read_cr3(), read_cr4());
}

/* Nothing can be printed without this_cpu(); that it was lost may be the failure itself. */
static void repair_gs(void)
{
	uint64_t gs = rdmsr(MSR_GS_BASE);

	for (uint32_t i = 0; i < platform_cpu_count(); i++)
		if (gs == (uintptr_t)smp_cpu(i))
			return;
	wrmsr(MSR_GS_BASE, (uintptr_t)&boot_pcpu);
	dump_line("aerostat: GS base is %016lx, which is no CPU's; CPU 0's is used from here on", gs);
}

static _Noreturn void trap_fatal(const struct trap_frame *f)
{
	char text[TRAP_PF_TEXT_BYTES];

	if (!dump_begin())
		cpu_halt_forever();
	repair_gs();
	dump_line("aerostat: %s (exception %lu) in the hypervisor on CPU %u", trap_name(f->vector),
		f->vector, this_cpu()->index);
	if (f->vector == TRAP_PF) {
		trap_page_fault_text(f->error_code, text);
		dump_line("%s at %016lx", text, read_cr2());
	}
	dump_registers(f);
	dump_backtrace(f->rsp);
	dump_stop();
}

/*
 * Another CPU has failed and says why: nothing may go on beside it (bug.c). Else it is some device's, and what was
 * interrupted goes on, but does not fall asleep: see idle.S.
 */
static void nmi(struct trap_frame *f)
{
	this_cpu()->nmi_count++;
	if (dump_has_begun())
		cpu_halt_forever();
	if (f->rip == (uintptr_t)cpu_idle_halt)
		f->rip = (uintptr_t)cpu_idle_behind;
}

void trap_dispatch(struct trap_frame *f)
{
	if (f->vector >= VECTOR_FIRST_EXTERNAL)
		traps_external((uint8_t)f->vector);
	else if (f->vector == TRAP_NMI)
		nmi(f);
	else if (f->vector == TRAP_MC)
		machine_check_stop();
	else
		trap_fatal(f);
}
