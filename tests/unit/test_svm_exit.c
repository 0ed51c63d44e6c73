/* What a host interrupt's #VMEXIT means where the guest stands in the shadow of its STI. */
#include "tests/fake/x86_cpu.h"

#define sti fake_sti
#define cli fake_cli
static uint32_t taken; /* host interrupts let in */
static void fake_sti(void)
{
	taken++;
}
static void fake_cli(void)
{
}
#include "arch/x86/svm/svm_exit.c"

#include "tests/unit/unit.h"

#define HLT 0xf4
#define RET 0xc3

struct svm_caps svm_caps;

static uint8_t code[2]; /* at RIP; code[0] == 0: it cannot be read */
static uint32_t fetches;

uint32_t guest_fetch(uint64_t cr3, uint64_t gva, guest_read_fn read, void *ctx, uint8_t *buf,
	uint32_t max)
{
	(void)cr3, (void)gva, (void)read, (void)ctx;
	fetches++;
	if (code[0] == 0)
		return 0;
	memset(buf, 0x90, max);
	memcpy(buf, code, sizeof(code));
	return max;
}

void svm_dump(const struct svm_vcpu *v)
{
	(void)v;
}

void svm_keep_event(struct svm_vcpu *v, uint32_t info)
{
	(void)v, (void)info;
}

void svm_set_window(struct x86_vcpu *v, bool on)
{
	(void)v, (void)on;
}

void x86_fail(struct x86_vcpu *v, const char *fmt, ...)
{
	(void)v, (void)fmt;
	fail();
}

static struct svm_vmcb vmcb;
static struct slat_space space;

static enum x86_exit_kind interrupt_at(const uint8_t *bytes)
{
	struct svm_vcpu v = { .vmcb = &vmcb };
	v.x.virt.slat = &space;
	memcpy(code, bytes, sizeof(code));
	taken = fetches = 0;
	enum x86_exit_kind kind = svm_translate(&v, SVM_EXIT_INTR);
	assert_int_equal(taken, 1);
	return kind;
}

static void reset(void)
{
	memset(&vmcb, 0, sizeof(vmcb));
	vmcb.rip = 0x1000;
	vmcb.cr0 = CR0_PG | CR0_PE;
	vmcb.cs.attributes = SEG_L;
	vmcb.rflags = RFLAGS_IF;
	vmcb.dr7 = DR7_RESET;
	vmcb.interrupt_shadow = 1;
}

static const uint8_t hlt[2] = { HLT }, prefixed[2] = { 0x40, HLT }, ret[2] = { RET }, none[2] = { 0 };

static void a_halt_in_the_shadow_is_done(void **state)
{
	(void)state;
	reset();
	assert_int_equal(interrupt_at(hlt), X86_EXIT_INTERRUPT_AT_HALT);
	assert_int_equal(vmcb.next_rip, 0x1001);
	assert_int_equal(vmcb.rip, 0x1000); /* skip's */
	assert_int_equal(interrupt_at(prefixed), X86_EXIT_INTERRUPT_AT_HALT);
	assert_int_equal(vmcb.next_rip, 0x1002);
}

static void all_else_is_an_interrupt(void **state)
{
	(void)state;
	reset();
	assert_int_equal(interrupt_at(ret), X86_EXIT_INTERRUPT);
	assert_int_equal(interrupt_at(none), X86_EXIT_INTERRUPT);
	vmcb.cpl = 3; /* #GP, and not ours to give */
	assert_int_equal(interrupt_at(hlt), X86_EXIT_INTERRUPT);
	reset();
	vmcb.dr7 |= 1;
	assert_int_equal(interrupt_at(hlt), X86_EXIT_INTERRUPT);
	reset();
	vmcb.interrupt_shadow = 0; /* the hot case: nothing is read */
	assert_int_equal(interrupt_at(hlt), X86_EXIT_INTERRUPT);
	assert_int_equal(fetches, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_halt_in_the_shadow_is_done),
		cmocka_unit_test(all_else_is_an_interrupt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
