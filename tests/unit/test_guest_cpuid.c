/* What CPUID and the MSRs show to guests. */
#include "tests/unit/unit.h"

#include "arch/x86/guest_cpuid.h"
#include "arch/x86/guest_msr.h"
#include "arch/x86/regs.h"
#include "vmm/abi/aerostat.h"

static uint32_t host_max_basic, host_max_extended;
static uint32_t no_leaf1_ecx;

/* A host that says yes to everything. */
static void rich_host(uint32_t leaf, uint32_t sub, struct cpuid_regs *r)
{
	*r = (struct cpuid_regs){ ~0u, ~0u, ~0u, ~0u };
	if (leaf == 0)
		*r = (struct cpuid_regs){ host_max_basic, 0x756e6547, 0x6c65746e, 0x49656e69 };
	if (leaf == 1)
		r->ecx = ~no_leaf1_ecx;
	if (leaf == 0x80000000u)
		*r = (struct cpuid_regs){ host_max_extended, 0, 0, 0 };
	if (leaf == 4 && sub > 3)
		r->eax = 0;
	if (leaf == 0xd && sub == 0)
		r->eax = 0x2ff;
	if (leaf == 0xd && sub >= 2)
		*r = (struct cpuid_regs){ 64 * sub, 576 + 512 * (sub - 2), 0, 0 };
	if (leaf == 0x80000008u)
		r->eax = 57u << 8 | 52u;
}

static struct guest_cpuid made(bool rdtscp)
{
	struct guest_cpuid t;
	struct guest_cpuid_config c = { .apic_id = 2, .vcpu_count = 6, .guest_id = 9, .tsc_khz = 100000,
		.call = AERO_CALL_VMCALL, .features = 0x3f, .rdtscp = rdtscp, .invpcid = rdtscp };
	guest_cpuid_init(&t, &c, rich_host);
	return t;
}

static int setup(void **state)
{
	(void)state;
	host_max_basic = 0x20;
	host_max_extended = 0x80000021u;
	no_leaf1_ecx = 0;
	return 0;
}

static void own_leaves(void **state)
{
	(void)state;
	struct guest_cpuid t = made(true);
	const struct cpuid_regs *r = guest_cpuid_find(&t, AERO_CPUID_BASE, 0);
	assert_int_equal(r->eax, AERO_CPUID_TIME);
	assert_memory_equal(&r->ebx, "AerostatHV\0\0", 12);
	r = guest_cpuid_find(&t, AERO_CPUID_FEATURES, 5);
	assert_int_equal(r->eax, AERO_ABI_MAJOR << 16 | AERO_ABI_MINOR);
	assert_int_equal(r->ebx, 0x3f);
	assert_int_equal(r->edx, 9);
	assert_int_equal(guest_cpuid_find(&t, AERO_CPUID_TIME, 0)->eax, 100000);
}

static void hidden(void **state)
{
	(void)state;
	struct guest_cpuid t = made(true);
	const struct cpuid_regs *r = guest_cpuid_find(&t, 1, 0);
	assert_false(r->ecx & 1u << 5);  /* VMX */
	assert_false(r->ecx & 1u << 6);  /* SMX */
	assert_false(r->ecx & 1u << 3);  /* MONITOR */
	assert_false(r->ecx & 1u << 27); /* OSXSAVE: the guest has not set it */
	assert_true(r->ecx & 1u << 31);  /* hypervisor */
	assert_true(r->ecx & 1u << 21);  /* x2APIC */
	assert_false(r->edx & 1u << 12); /* MTRR */
	assert_false(r->edx & 1u << 14); /* MCA */
	assert_true(r->edx & 1u << 28);	 /* HTT: ebx counts six */
	assert_int_equal(r->ebx >> 24, 2);
	assert_int_equal(r->ebx >> 16 & 0xff, 6);
	r = guest_cpuid_find(&t, 7, 0);
	assert_false(r->ebx & 1u << 2);  /* SGX */
	assert_false(r->ebx & 1u << 1);  /* TSC_ADJUST */
	assert_false(r->ecx & 1u << 3);  /* PKU */
	assert_false(r->ecx & 1u << 16); /* LA57 */
	assert_false(r->edx & 1u << 26); /* SPEC_CTRL: its MSR is not offered */
	assert_false(guest_cpuid_find(&t, 0x80000001u, 0)->ecx & 1u << 2); /* SVM */
	assert_int_equal(guest_cpuid_find(&t, 0x80000008u, 0)->eax, 48u << 8 | 48u);
	assert_int_equal(guest_cpuid_find(&t, 0, 0)->eax, 0xd);
	/* What does not exist is zero. */
	static const uint32_t none[] = { 5, 9, 0xa, 0x14, 0x1f, 0x40000003u, 0x400000ffu,
		0x80000009u, 0xffffffffu, 0x20000000u };
	for (size_t i = 0; i < ARRAY_COUNT(none); i++) {
		r = guest_cpuid_find(&t, none[i], 0);
		assert_int_equal(r->eax | r->ebx | r->ecx | r->edx, 0);
	}
}

static void processor_controls(void **state)
{
	(void)state;
	struct guest_cpuid t = made(false);
	assert_false(guest_cpuid_find(&t, 7, 0)->ebx & 1u << 10); /* INVPCID would be #UD */
	assert_false(guest_cpuid_find(&t, 7, 0)->ecx & 1u << 22); /* RDPID */
	assert_false(guest_cpuid_find(&t, 0x80000001u, 0)->edx & 1u << 27);
	assert_false(t.rdtscp);
	assert_true(made(true).rdtscp);
}

static void topology_and_caches(void **state)
{
	(void)state;
	struct guest_cpuid t = made(true);
	assert_int_equal(guest_cpuid_find(&t, 0xb, 0)->edx, 2);
	assert_int_equal(guest_cpuid_find(&t, 0xb, 0)->ecx, 0x100);
	assert_int_equal(guest_cpuid_find(&t, 0xb, 1)->ecx, 0x201);
	assert_int_equal(guest_cpuid_find(&t, 0xb, 1)->ebx, 6);
	assert_int_equal(guest_cpuid_find(&t, 0xb, 1)->eax, 3); /* ids 0 .. 5 need three bits */
	assert_int_equal(guest_cpuid_find(&t, 0xb, 2)->ebx, 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(guest_cpuid_find(&t, 4, i)->eax >> 14, 0);
	assert_int_equal(guest_cpuid_find(&t, 4, 4)->eax, 0);
	assert_true(t.indexed_count <= GUEST_CPUID_INDEXED);
}

static void xsave(void **state)
{
	(void)state;
	struct guest_cpuid t = made(true);
	assert_int_equal(t.xcr0_allowed, 0xe7);
	/* Component 7 ends last: 576 + 512 * 5 + 64 * 7. */
	assert_int_equal(guest_cpuid_xsave_bytes(&t), 576 + 2560 + 448);
	assert_int_equal(guest_cpuid_find(&t, 0xd, 0)->eax, 0xe7);
	assert_int_equal(guest_cpuid_find(&t, 0xd, 0)->ebx, 576);
	guest_cpuid_set_xcr0(&t, 7);
	assert_int_equal(guest_cpuid_find(&t, 0xd, 0)->ebx, 576 + 128);
	guest_cpuid_set_xcr0(&t, 0xe7);
	assert_int_equal(guest_cpuid_find(&t, 0xd, 0)->ebx, guest_cpuid_find(&t, 0xd, 0)->ecx);
	assert_int_equal(guest_cpuid_find(&t, 0xd, 1)->eax & ~5u, 0); /* no XSAVES */
	static const struct {
		uint64_t xcr0;
		bool ok;
	} x[] = { { 0, false }, { 1, true }, { 3, true }, { 5, false }, { 7, true }, { 2, false },
		{ 0xe7, true }, { 0x27, false }, { 0xe3, false }, { 0x207, false }, { 0x1f, false },
		{ 1ull << 62 | 1, false } };
	for (size_t i = 0; i < ARRAY_COUNT(x); i++)
		assert_int_equal(guest_cpuid_xcr0_ok(&t, x[i].xcr0), x[i].ok);
}

static void no_xsave(void **state)
{
	(void)state;
	no_leaf1_ecx = 1u << 26;
	struct guest_cpuid t = made(true);
	assert_int_equal(t.xcr0_allowed, 0);
	assert_int_equal(guest_cpuid_xsave_bytes(&t), 512);
	assert_false(guest_cpuid_find(&t, 1, 0)->ecx & (1u << 26 | 1u << 28 | 1u << 12));
	assert_false(guest_cpuid_find(&t, 7, 0)->ebx & 1u << 5);
	assert_false(t.cr4_allowed & CR4_OSXSAVE);
	assert_int_equal(guest_cpuid_find(&t, 0xd, 0)->eax, 0);
}

static void old_host(void **state)
{
	(void)state;
	host_max_basic = 2;
	host_max_extended = 0x80000001u;
	struct guest_cpuid t = made(true);
	assert_int_equal(guest_cpuid_find(&t, 0, 0)->eax, 2);
	assert_int_equal(guest_cpuid_find(&t, 7, 0)->ebx, 0);
	assert_int_equal(guest_cpuid_find(&t, 0x80000002u, 0)->eax, 0);
	assert_int_equal(t.xcr0_allowed, 0);
	host_max_extended = 0;
	t = made(true);
	assert_int_equal(guest_cpuid_find(&t, 0x80000001u, 0)->edx, 0);
}

static void cr4(void **state)
{
	(void)state;
	struct guest_cpuid t = made(true);
	assert_false(t.cr4_allowed & CR4_VMXE);
	assert_false(t.cr4_allowed & CR4_SMXE);
	assert_false(t.cr4_allowed & CR4_LA57);
	assert_false(t.cr4_allowed & 1ull << 22); /* PKE */
	assert_true(t.cr4_allowed & CR4_PAE);
	assert_true(t.cr4_allowed & CR4_SMEP);
	guest_cpuid_set_cr4(&t, CR4_PAE | CR4_OSXSAVE);
	assert_true(guest_cpuid_find(&t, 1, 0)->ecx & 1u << 27);
	guest_cpuid_set_cr4(&t, CR4_PAE);
	assert_false(guest_cpuid_find(&t, 1, 0)->ecx & 1u << 27);
}

static void msr_table(void **state)
{
	(void)state;
	assert_null(guest_msr_find(0x12345));
	assert_null(guest_msr_find(0x48));  /* SPEC_CTRL */
	assert_null(guest_msr_find(0x480)); /* VMX capabilities */
	assert_null(guest_msr_find(0xfe));  /* MTRRs */
	assert_int_equal(guest_msr_find(0x800)->kind, GUEST_MSR_LAPIC);
	assert_int_equal(guest_msr_find(0x83f)->kind, GUEST_MSR_LAPIC);
	assert_null(guest_msr_find(0x900));
	assert_int_equal(guest_msr_find(MSR_EFER)->kind, GUEST_MSR_BACKEND);
	/* What is passed through must be switched by somebody. */
	for (uint32_t i = 0; i < guest_msr_count; i++) {
		const struct guest_msr *m = &guest_msr_table[i];
		if (m->pass)
			assert_true(m->kind == GUEST_MSR_BACKEND);
		assert_ptr_equal(guest_msr_find(m->msr), m);
	}
}

static void msr_values(void **state)
{
	(void)state;
	static const struct {
		uint32_t msr;
		uint64_t value;
		bool ok;
	} t[] = {
		{ MSR_EFER, 0x500, true }, { MSR_EFER, 0xd01, true }, { MSR_EFER, 0, true },
		{ MSR_EFER, 0x100, true }, { MSR_EFER, 0x1500, false }, /* SVME */
		{ MSR_EFER, 0x4500, false },
		{ MSR_PAT, PAT_DEFAULT, true }, { MSR_PAT, 2, false }, { MSR_PAT, 8, false },
		{ MSR_PAT, 3ull << 56, false }, { MSR_PAT, 0x0706050401000006ull, true },
		{ MSR_LSTAR, 0xffff800000000000ull, true }, { MSR_LSTAR, 1ull << 47, false },
		{ MSR_KERNEL_GS_BASE, 0x7fffffffffffull, true },
		{ MSR_APIC_BASE, 0xfee00d00, true }, { MSR_APIC_BASE, 0xfee00900, false },
		{ MSR_APIC_BASE, 0, false }, { MSR_FEATURE_CONTROL, 5, false },
		{ MSR_DEBUGCTL, 0, true }, { MSR_DEBUGCTL, 1, false },
		{ MSR_BIOS_SIGN_ID, 0x1234, true }, { MSR_TSC_AUX, 1ull << 32, false },
	};
	for (size_t i = 0; i < ARRAY_COUNT(t); i++)
		assert_int_equal(guest_msr_value_ok(guest_msr_find(t[i].msr), t[i].value), t[i].ok);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(own_leaves, setup),
		cmocka_unit_test_setup(hidden, setup),
		cmocka_unit_test_setup(processor_controls, setup),
		cmocka_unit_test_setup(topology_and_caches, setup),
		cmocka_unit_test_setup(xsave, setup),
		cmocka_unit_test_setup(no_xsave, setup),
		cmocka_unit_test_setup(old_host, setup),
		cmocka_unit_test_setup(cr4, setup),
		cmocka_unit_test_setup(msr_table, setup),
		cmocka_unit_test_setup(msr_values, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
