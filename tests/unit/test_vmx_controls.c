/* VMX capability MSRs to control fields, and the words for its numbers. */
#include "tests/unit/unit.h"

#include "arch/x86/vmx/vmx.h"
#include "arch/x86/vmx/vmx_check.h"
#include "arch/x86/guest_mce.h"
#include "arch/x86/regs.h"

#define CAP(must, may) ((uint64_t)(may) << 32 | (must))

/* As Skylake's: everything is offered, the default-1 bits can be cleared. */
static struct vmx_msrs everything(void)
{
	return (struct vmx_msrs){
		.basic = 6ull << 50 | VMX_BASIC_TRUE | 0x11,
		.pin = CAP(0x16, 0xffffffffu),
		.proc = CAP(0x04006172, 0xffffffffu),
		.proc2 = CAP(0, 0xffffffffu),
		.exit = CAP(0x36dfb, 0xffffffffu),
		.entry = CAP(0x11fb, 0xffffffffu),
		.misc = 5,
		.ept_vpid = UINT64_MAX,
		.cr0_fixed0 = 0x80000021, .cr0_fixed1 = 0xffffffff,
		.cr4_fixed0 = 0x2000, .cr4_fixed1 = 0x3727ff,
	};
}

static void control_takes_what_is_offered(void **state)
{
	(void)state;
	uint32_t out = 0, missing = 0;
	assert_int_equal(vmx_control(CAP(0x10, 0x1f), 0x1, 0x26, &out, &missing), OK);
	assert_int_equal(out, 0x17); /* required, the offered half of optional, forced */
	assert_int_equal(missing, 0);
}

static void control_names_what_is_missing(void **state)
{
	(void)state;
	uint32_t out = 77, missing = 0;
	assert_int_equal(vmx_control(CAP(0, 0x5), 0x7, 0, &out, &missing), ERR_NOSYS);
	assert_int_equal(missing, 0x2);
	assert_int_equal(out, 77);
}

/* For any capability: a result never clears a forced bit nor sets one that is not allowed. */
static void control_property(void **state)
{
	(void)state;
	uint64_t seed = 1;
	for (int i = 0; i < 100000; i++) {
		uint32_t may = (uint32_t)test_random(&seed);
		uint32_t must = may & (uint32_t)test_random(&seed);
		uint32_t required = (uint32_t)test_random(&seed) & (uint32_t)test_random(&seed);
		uint32_t optional = (uint32_t)test_random(&seed), out = 0, missing = 0;
		status_t s = vmx_control(CAP(must, may), required, optional, &out, &missing);
		assert_int_equal(s == OK, (required & ~may) == 0);
		if (s != OK)
			continue;
		assert_int_equal(out & must, must);
		assert_int_equal(out & ~may, 0);
		assert_int_equal(out & required, required);
		assert_int_equal(out & ~(must | required | optional), 0);
	}
}

static void all_features(void **state)
{
	(void)state;
	struct vmx_msrs m = everything();
	struct vmx_caps c;
	const char *why = NULL;
	assert_int_equal(vmx_caps_compute(&m, &c, &why), OK);
	assert_null(why);
	assert_int_equal(c.revision, 0x11);
	assert_int_equal(c.timer_shift, 5);
	assert_true(c.preemption_timer && c.preemption_saved && c.vpid && c.unrestricted);
	assert_true(c.efer_controls && c.pat_controls && c.msr_bitmaps && c.io_bitmaps);
	assert_true(c.ept_ad && c.ept_1g && c.invept_single && c.invvpid_single && c.true_controls);
	assert_false(c.proc & PROC_INTERRUPT_WINDOW);
	assert_int_equal(c.eptp_bits, 0x5e); /* A/D, 4 levels, write-back */
}

/* Nothing of this is needed: each is masked in turn, and must go away without a trace. */
static void each_optional_feature_may_be_missing(void **state)
{
	(void)state;
	static const struct {
		size_t field;
		uint32_t bits;
	} off[] = {
		{ offsetof(struct vmx_msrs, pin), PIN_PREEMPTION_TIMER },
		{ offsetof(struct vmx_msrs, pin), PIN_VIRTUAL_NMI },
		{ offsetof(struct vmx_msrs, proc), PROC_MSR_BITMAPS },
		{ offsetof(struct vmx_msrs, proc), PROC_IO_BITMAPS },
		{ offsetof(struct vmx_msrs, proc), PROC_MWAIT | PROC_MONITOR | PROC_RDPMC },
		{ offsetof(struct vmx_msrs, proc2), PROC2_VPID },
		{ offsetof(struct vmx_msrs, proc2), PROC2_UNRESTRICTED },
		{ offsetof(struct vmx_msrs, proc2), PROC2_RDTSCP | PROC2_INVPCID | PROC2_ENCLS },
		{ offsetof(struct vmx_msrs, proc2), PROC2_WBINVD },
		{ offsetof(struct vmx_msrs, exit), EXIT_SAVE_EFER },
		{ offsetof(struct vmx_msrs, exit), EXIT_LOAD_PAT },
		{ offsetof(struct vmx_msrs, exit), EXIT_SAVE_PREEMPTION },
		{ offsetof(struct vmx_msrs, entry), ENTRY_LOAD_EFER },
		{ offsetof(struct vmx_msrs, entry), ENTRY_LOAD_PAT },
	};
	for (size_t i = 0; i < ARRAY_COUNT(off); i++) {
		struct vmx_msrs m = everything();
		*(uint64_t *)((char *)&m + off[i].field) &= ~((uint64_t)off[i].bits << 32);
		struct vmx_caps c;
		const char *why;
		assert_int_equal(vmx_caps_compute(&m, &c, &why), OK);
		assert_int_equal(c.pin & ~(m.pin >> 32), 0);
		assert_int_equal(c.proc & ~(m.proc >> 32), 0);
		assert_int_equal(c.proc2 & ~(m.proc2 >> 32), 0);
		assert_int_equal(c.exit & ~(m.exit >> 32), 0);
		assert_int_equal(c.entry & ~(m.entry >> 32), 0);
		/* Halves of a feature are not used. */
		bool efer = (c.exit & EXIT_SAVE_EFER) != 0;
		assert_int_equal(efer, (c.exit & EXIT_LOAD_EFER) != 0);
		assert_int_equal(efer, (c.entry & ENTRY_LOAD_EFER) != 0);
		bool pat = (c.exit & EXIT_SAVE_PAT) != 0;
		assert_int_equal(pat, (c.exit & EXIT_LOAD_PAT) != 0);
		assert_int_equal(pat, (c.entry & ENTRY_LOAD_PAT) != 0);
		assert_true(!(c.exit & EXIT_SAVE_PREEMPTION) || (c.pin & PIN_PREEMPTION_TIMER));
	}
}

static void each_required_feature_is_named(void **state)
{
	(void)state;
	static const struct {
		size_t field;
		uint32_t bits;
		const char *word;
	} off[] = {
		{ offsetof(struct vmx_msrs, pin), PIN_NMI, "NMI" },
		{ offsetof(struct vmx_msrs, proc), PROC_SECONDARY, "EPT" },
		{ offsetof(struct vmx_msrs, proc), PROC_HLT, "HLT" },
		{ offsetof(struct vmx_msrs, proc2), PROC2_EPT, "EPT" },
		{ offsetof(struct vmx_msrs, exit), EXIT_HOST_64, "64-bit" },
		{ offsetof(struct vmx_msrs, entry), ENTRY_GUEST_64, "64-bit" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(off); i++) {
		struct vmx_msrs m = everything();
		*(uint64_t *)((char *)&m + off[i].field) &= ~((uint64_t)off[i].bits << 32);
		struct vmx_caps c;
		const char *why = NULL;
		assert_int_equal(vmx_caps_compute(&m, &c, &why), ERR_NOSYS);
		assert_non_null(why);
		assert_non_null(strstr(why, off[i].word));
	}
}

static void ept_capabilities(void **state)
{
	(void)state;
	static const struct {
		uint32_t bit;
		bool ok;
	} bits[] = { { 6, false }, { 16, false }, { 20, false }, { 17, true }, { 21, true },
		{ 25, true }, { 26, true }, { 32, true }, { 41, true }, { 14, true } };
	for (size_t i = 0; i < ARRAY_COUNT(bits); i++) {
		struct vmx_msrs m = everything();
		m.ept_vpid &= ~(1ull << bits[i].bit);
		struct vmx_caps c;
		struct slat_format f;
		const char *why;
		assert_int_equal(vmx_caps_compute(&m, &c, &why) == OK, bits[i].ok);
		if (!bits[i].ok)
			continue;
		vmx_ept_format(&c, true, &f);
		assert_int_equal(f.leaf_big, (f.leaf_4k & ~4ull) | f.big_mask);
		assert_true(f.big_no_exec && (f.leaf_4k & 4));
		vmx_ept_format(&c, false, &f);
		assert_false(f.big_no_exec);
		assert_int_equal(f.has_1g, bits[i].bit != 17);
		assert_int_equal(f.accessed != 0, bits[i].bit != 21);
		assert_int_equal(f.dirty != 0, bits[i].bit != 21);
		assert_int_equal((c.eptp_bits & 0x40) != 0, bits[i].bit != 21);
		assert_int_equal(c.invept_single, bits[i].bit != 25);
		assert_int_equal(c.vpid, bits[i].bit != 32);
		assert_int_equal(c.proc2 & PROC2_VPID, bits[i].bit != 32 ? PROC2_VPID : 0);
		/* Memory type: EPTP's and the leaf's agree. */
		assert_int_equal(f.leaf_4k >> 3 & 7, c.eptp_bits & 7);
		assert_int_equal(c.eptp_bits & 7, bits[i].bit == 14 ? 0 : 6);
		assert_int_equal(f.leaf_4k & f.write, 0);
		assert_int_equal(f.leaf_big, f.leaf_4k | f.big_mask);
		assert_int_equal((f.leaf_big | f.write | f.accessed | f.dirty) &
				(SLAT_SW_MASK | SLAT_ADDR_MASK), 0);
	}
}

static void feature_control(void **state)
{
	(void)state;
	uint64_t w = 0;
	assert_int_equal(vmx_feature_control(0, &w), VMX_FEATURE_WRITE);
	assert_int_equal(w, 5);
	assert_int_equal(vmx_feature_control(0xff00, &w), VMX_FEATURE_WRITE);
	assert_int_equal(w, 0xff05); /* what else is set stays */
	assert_int_equal(vmx_feature_control(4, &w), VMX_FEATURE_WRITE);
	assert_int_equal(vmx_feature_control(5, &w), VMX_FEATURE_READY);
	assert_int_equal(vmx_feature_control(1, &w), VMX_FEATURE_REFUSED);
	assert_int_equal(vmx_feature_control(3, &w), VMX_FEATURE_REFUSED); /* inside SMX only */
}

static void words(void **state)
{
	(void)state;
	assert_string_equal(vmx_reason_name(48), "EPT violation");
	assert_string_equal(vmx_reason_name(35), "unknown reason");
	assert_string_equal(vmx_reason_name(0xffff), "unknown reason");
	assert_string_equal(vmx_error_text(7), "invalid control fields");
	assert_string_equal(vmx_error_text(14), "unknown error");
	assert_string_equal(vmx_error_text(UINT32_MAX), "unknown error");
	assert_non_null(strstr(vmx_entry_state_text(4), "link"));
	assert_non_null(strstr(vmx_entry_state_text(0), "register"));
	for (uint32_t i = 1; i < vmx_field_name_count; i++)
		assert_true(vmx_field_names[i - 1].field < vmx_field_names[i].field);
}

static void machine_checks(void **state)
{
	(void)state;
	const uint64_t val = 1ull << 63, over = 1ull << 62, uc = 1ull << 61, en = 1ull << 60,
		       pcc = 1ull << 57;
	assert_int_equal(guest_mce_judge(0, 0), GUEST_MCE_GO_ON);
	assert_int_equal(guest_mce_judge(0, val | en), GUEST_MCE_GO_ON); /* corrected */
	assert_int_equal(guest_mce_judge(5, val | uc | en), GUEST_MCE_GUEST);
	assert_int_equal(guest_mce_judge(5, val | uc | en | pcc), GUEST_MCE_HOST);
	assert_int_equal(guest_mce_judge(5, val | uc | en | over), GUEST_MCE_HOST);
	assert_int_equal(guest_mce_judge(1, val | uc), GUEST_MCE_GO_ON);
}

static uint64_t fields[0x7000];

static uint64_t get_field(uint32_t field)
{
	return fields[field];
}

static void good_guest(void)
{
	memset(fields, 0, sizeof(fields));
	fields[VMCS_GUEST_CR0] = 0x80010033;
	fields[VMCS_GUEST_CR3] = 0x1000;
	fields[VMCS_GUEST_CR4] = 0x2060;
	fields[VMCS_GUEST_EFER] = 0x500;
	fields[VMCS_GUEST_RFLAGS] = 2;
	fields[VMCS_GUEST_DR7] = 0x400;
	for (uint32_t i = 0; i < 6; i++)
		fields[VMCS_GUEST_ES_AR + 2 * i] = i == 1 ? 0xa09b : 0xc093;
	fields[VMCS_GUEST_LDTR_AR] = 0x10000;
	fields[VMCS_GUEST_TR_AR] = 0x8b;
	fields[VMCS_LINK] = UINT64_MAX;
}

static void guest_state_rules(void **state)
{
	(void)state;
	static const struct {
		uint32_t field;
		uint64_t value;
		const char *word;
	} bad[] = {
		{ VMCS_GUEST_CR0, 0x80010013, "CR0" }, /* NE */
		{ VMCS_GUEST_CR4, 0x60, "CR4" },       /* VMXE */
		{ VMCS_GUEST_CR4, 0x2060 | 1ull << 40, "CR4" },
		{ VMCS_GUEST_CR3, 1ull << 46, "CR3" },
		{ VMCS_GUEST_CR4, 0x2040, "PAE" },
		{ VMCS_GUEST_DR7, 1ull << 32, "DR7" },
		{ VMCS_GUEST_EFER, 0x100, "EFER" },
		{ VMCS_GUEST_SYSENTER_EIP, 1ull << 60, "SYSENTER" },
		{ VMCS_GUEST_CS_AR, 0x10000, "CS" },
		{ VMCS_GUEST_CS_AR, 0xe09b, "CS" },
		{ VMCS_GUEST_SS_AR, 0xc013, "access rights" },
		{ VMCS_GUEST_GS_BASE, 1ull << 60, "GS" },
		{ VMCS_GUEST_TR_AR, 0x89, "TR" },
		{ VMCS_GUEST_TR_AR, 0x10000, "TR" },
		{ VMCS_GUEST_IDTR_LIMIT, 0x10000, "IDTR" },
		{ VMCS_GUEST_RIP, 1ull << 60, "RIP" },
		{ VMCS_GUEST_RFLAGS, 0, "RFLAGS" },
		{ VMCS_ENTRY_INFO, INFO_VALID | 0x40, "IF" },
		{ VMCS_INTERRUPTIBILITY, 1, "STI" },
		{ VMCS_ACTIVITY, 4, "activity" },
		{ VMCS_LINK, 0, "link" },
	};
	struct vmx_msrs m = everything();
	struct vmx_caps c;
	const char *why;
	assert_int_equal(vmx_caps_compute(&m, &c, &why), OK);
	good_guest();
	assert_null(vmx_check_guest(get_field, &c, 46));
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		good_guest();
		fields[bad[i].field] = bad[i].value;
		const char *text = vmx_check_guest(get_field, &c, 46);
		assert_non_null(text);
		assert_non_null(strstr(text, bad[i].word));
	}
	good_guest();
	fields[VMCS_GUEST_RFLAGS] = 0x302; /* IF, TF */
	fields[VMCS_INTERRUPTIBILITY] = 1;
	assert_non_null(strstr(vmx_check_guest(get_field, &c, 46), "step"));
	fields[VMCS_PENDING_DEBUG] = PENDING_DEBUG_BS;
	assert_null(vmx_check_guest(get_field, &c, 46));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_takes_what_is_offered),
		cmocka_unit_test(control_names_what_is_missing),
		cmocka_unit_test(control_property),
		cmocka_unit_test(all_features),
		cmocka_unit_test(each_optional_feature_may_be_missing),
		cmocka_unit_test(each_required_feature_is_named),
		cmocka_unit_test(ept_capabilities),
		cmocka_unit_test(feature_control),
		cmocka_unit_test(words),
		cmocka_unit_test(machine_checks),
		cmocka_unit_test(guest_state_rules),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
