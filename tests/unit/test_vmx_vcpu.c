/*
 * What VMX leaves to software when an instruction has been done for a guest: the shadow of the one before it,
 * the trap of a single step, and which of the two comes before an interrupt. On a VMCS that is an array.
 */
#include "tests/fake/x86_cpu.h"

#define vmread   cpu_vmread
#define vmread32 cpu_vmread32
#define vmwrite  cpu_vmwrite
#include "arch/x86/vmx/vmcs.h"
#undef vmread
#undef vmread32
#undef vmwrite

static uint64_t vmcs[0x7000];

static inline uint64_t vmread(enum vmcs_field field)
{
	return vmcs[field];
}

static inline uint32_t vmread32(enum vmcs_field field)
{
	return (uint32_t)vmcs[field];
}

static inline void vmwrite(enum vmcs_field field, uint64_t value)
{
	vmcs[field] = value;
}

/* It gives RBP away in its way into the guest, which nothing here takes. */
#pragma GCC push_options
#pragma GCC optimize("omit-frame-pointer")
#include "arch/x86/vmx/vmx_run.c"
#pragma GCC pop_options
#include "arch/x86/vmx/vmx_vcpu.c"

#include "arch/x86/vmx/vmx_check.h"
#include "tests/unit/unit.h"

/* ---- what the two files need, and these tests do not ------------------------------------------- */

struct vmx_caps vmx_caps;
void *vmx_msr_bitmap, *vmx_io_bitmaps;
struct slat_format vmx_slat_format;
struct mitigate_plan guard_plan;
enum virt_exit_kind (*const x86_handlers[X86_EXIT_COUNT])(struct x86_vcpu *v) = { 0 };

enum x86_go x86_prepare(struct x86_vcpu *v)
{
	(void)v;
	return X86_GO_DEADLINE;
}

enum x86_exit_kind vmx_translate(struct x86_vcpu *v, uint32_t reason)
{
	(void)v, (void)reason;
	return X86_EXIT_FAILED;
}

void vmx_keep_event(struct x86_vcpu *v, uint32_t info)
{
	(void)v, (void)info;
}

void x86_space_flush(struct x86_vcpu *v, uint64_t generation)
{
	(void)v, (void)generation;
}

void vmx_slat_open(struct slat_space *s)
{
	(void)s;
}

void vmx_entry_resume(void)
{
}

void vmx_entry_launch(void)
{
}

void vmx_entry_exit(void)
{
}

void vmx_entry_resume_guarded(void)
{
}

void vmx_entry_launch_guarded(void)
{
}

void vmx_entry_exit_guarded(void)
{
}

void lapic_timer_arm(uint64_t now_tsc, uint64_t ticks)
{
	(void)now_tsc, (void)ticks;
}

/* ---- the tests ----------------------------------------------------------------------------------- */

static struct vmx_vcpu vcpu;

/* An exit by an instruction of three bytes at 0x1000, under `shadow`. */
static void exit_by(uint32_t reason, uint64_t shadow, uint64_t rflags)
{
	memset(vmcs, 0, sizeof(vmcs));
	memset(&vcpu, 0, sizeof(vcpu));
	vmcs[VMCS_EXIT_REASON] = reason;
	vmcs[VMCS_GUEST_RIP] = 0x1000;
	vmcs[VMCS_EXIT_LENGTH] = 3;
	vmcs[VMCS_GUEST_RFLAGS] = RFLAGS_FIXED | rflags;
	vmcs[VMCS_INTERRUPTIBILITY] = shadow;
	/* "Checks on Guest Non-Register State": as the processor saves it. */
	if (shadow && (rflags & RFLAGS_TF))
		vmcs[VMCS_PENDING_DEBUG] = PENDING_DEBUG_BS;
}

/*
 * "Execution of STI with RFLAGS.IF = 0 blocks maskable interrupts on the instruction boundary following its execution"
 * (SDM vol. 3A, Masking Maskable Hardware Interrupts), on that one: a guest that goes on STI, CPUID, CLI must get its
 * interrupt behind CPUID, as it never gets it elsewhere.
 */
static void a_shadow_ends_with_what_was_done_for_the_guest(void **state)
{
	static const uint32_t done[] = { REASON_CPUID, REASON_HLT, REASON_INVD, REASON_INVLPG, REASON_VMCALL, REASON_CR,
		REASON_IO, REASON_RDMSR, REASON_WRMSR, REASON_WBINVD, REASON_XSETBV };
	static const uint64_t shadow[] = { INTERRUPTIBILITY_STI, INTERRUPTIBILITY_MOV_SS };
	(void)state;
	for (uint32_t i = 0; i < ARRAY_COUNT(done); i++) {
		for (uint32_t s = 0; s < ARRAY_COUNT(shadow); s++) {
			exit_by(done[i], shadow[s], RFLAGS_IF);
			vmx_skip(&vcpu.x);
			assert_true(vmx_can_interrupt(&vcpu.x));
			/* Else the entry that brings the interrupt fails. */
			assert_int_equal(vmcs[VMCS_INTERRUPTIBILITY], 0);
		}
	}
}

/* So that it is asked at CPUID's exit in STI, CPUID, CLI, too, with the window open since the interrupt came. */
static void an_open_window_is_looked_after_at_each_exit(void **state)
{
	(void)state;
	exit_by(REASON_WRMSR, 0, 0);
	for (uint32_t i = 0; i < 3; i++) {
		vcpu.x.attention = 0; /* as x86_prepare() takes it */
		vmx_set_window(&vcpu.x, true);
		assert_int_not_equal(vcpu.x.attention, 0);
		assert_int_not_equal(vmcs[VMCS_PROC_CTL] & PROC_INTERRUPT_WINDOW, 0);
	}
	vcpu.x.attention = 0;
	vmx_set_window(&vcpu.x, false);
	assert_int_equal(vcpu.x.attention, 0);
	assert_int_equal(vmcs[VMCS_PROC_CTL] & PROC_INTERRUPT_WINDOW, 0);
}

/* In front of an instruction that has not been executed it stays. */
static void a_shadow_lasts_until_then(void **state)
{
	static const uint32_t before[] = { REASON_EXCEPTION, REASON_EXTERNAL, REASON_WINDOW, REASON_EPT_VIOLATION,
		REASON_PREEMPTION };
	(void)state;
	for (uint32_t i = 0; i < ARRAY_COUNT(before); i++) {
		exit_by(before[i], INTERRUPTIBILITY_STI, RFLAGS_IF);
		assert_false(vmx_can_interrupt(&vcpu.x));
		assert_int_equal(vmcs[VMCS_INTERRUPTIBILITY], INTERRUPTIBILITY_STI);
	}
	exit_by(REASON_CPUID, 0, 0);
	vmx_skip(&vcpu.x);
	assert_false(vmx_can_interrupt(&vcpu.x));
}

/*
 * "There are no pending debug exceptions after VM entry if ... the VM entry is vectoring with ... external interrupt"
 * (SDM vol. 3C, Delivery of Pending Debug Exceptions after VM Entry): brought together, the trap is lost. It comes
 * first; the interrupt-window exit comes behind it.
 */
static void a_trap_comes_before_an_interrupt(void **state)
{
	(void)state;
	exit_by(REASON_CPUID, 0, RFLAGS_IF | RFLAGS_TF);
	vmx_skip(&vcpu.x);
	assert_int_equal(vmcs[VMCS_PENDING_DEBUG], PENDING_DEBUG_BS);
	assert_false(vmx_can_interrupt(&vcpu.x));
	vmcs[VMCS_PENDING_DEBUG] = 1; /* a breakpoint that matched and is not enabled: it is never delivered */
	assert_true(vmx_can_interrupt(&vcpu.x));
	vmcs[VMCS_PENDING_DEBUG] = 1 | PENDING_DEBUG_ENABLED;
	assert_false(vmx_can_interrupt(&vcpu.x));
}

/* A data breakpoint that waits for MOV SS's shadow to end is told beside the step. */
static void a_step_adds_to_what_is_pending(void **state)
{
	(void)state;
	exit_by(REASON_CPUID, INTERRUPTIBILITY_MOV_SS, RFLAGS_TF);
	vmcs[VMCS_PENDING_DEBUG] |= 2 | PENDING_DEBUG_ENABLED;
	vmx_skip(&vcpu.x);
	assert_int_equal(vmcs[VMCS_PENDING_DEBUG], 2 | PENDING_DEBUG_ENABLED | PENDING_DEBUG_BS);
}

/* An instruction that is to be executed again has not trapped yet. */
static void what_is_done_again_traps_then(void **state)
{
	static const uint64_t shadow[] = { 0, INTERRUPTIBILITY_STI, INTERRUPTIBILITY_MOV_SS };
	(void)state;
	for (uint32_t i = 0; i < ARRAY_COUNT(shadow); i++) {
		exit_by(REASON_VMCALL, shadow[i], RFLAGS_IF | RFLAGS_TF);
		vmx_skip(&vcpu.x);
		vmx_rewind(&vcpu.x);
		assert_int_equal(vmcs[VMCS_GUEST_RIP], 0x1000);
		/* The entry's checks want a step pending in a shadow while RFLAGS.TF is set. */
		assert_int_equal(vmcs[VMCS_PENDING_DEBUG], 0);
		assert_int_equal(vmcs[VMCS_INTERRUPTIBILITY], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_shadow_ends_with_what_was_done_for_the_guest),
		cmocka_unit_test(an_open_window_is_looked_after_at_each_exit),
		cmocka_unit_test(a_shadow_lasts_until_then),
		cmocka_unit_test(a_trap_comes_before_an_interrupt),
		cmocka_unit_test(a_step_adds_to_what_is_pending),
		cmocka_unit_test(what_is_done_again_traps_then),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
