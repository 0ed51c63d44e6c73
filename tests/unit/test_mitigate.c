/* Which processor needs what against speculation, over a table of processors. */
#include "arch/x86/mitigate.h"
#include "tests/unit/unit.h"

#define NEEDS_ALL_INTEL                                                                                                \
	(MITIGATE_IBPB | MITIGATE_VERW | MITIGATE_L1D | MITIGATE_IBRS_EXIT | MITIGATE_RSB | MITIGATE_REGISTERS |       \
		MITIGATE_LARGE)
#define BASIC (MITIGATE_IBPB | MITIGATE_RSB | MITIGATE_REGISTERS)

#define MD_CLEAR   (1u << 10)
#define SPEC_CTRL  (1u << 26)
#define L1D_FLUSH  (1u << 28)
#define ARCH_CAPS  (1u << 29)
#define MICROCODE  (MD_CLEAR | SPEC_CTRL | L1D_FLUSH)

struct processor {
	const char *name;
	struct mitigate_facts f;
	uint32_t needed, done;
	uint64_t spec_ctrl;
	bool guarded, large, auto_ibrs;
};

static const struct processor processors[] = {
	{ "Skylake-X without microcode (Bochs's)", { .vendor = MITIGATE_INTEL, .signature = 0x50654 }, NEEDS_ALL_INTEL,
		MITIGATE_LARGE, 0, false, true, false },
	{ "Haswell without microcode", { .vendor = MITIGATE_INTEL, .signature = 0x306c3 }, NEEDS_ALL_INTEL,
		MITIGATE_LARGE, 0, false, true, false },
	{ "Skylake, all its microcode", { .vendor = MITIGATE_INTEL, .signature = 0x506e3, .leaf7_ebx = 1 << 11,
		.leaf7_edx = MICROCODE },
		NEEDS_ALL_INTEL, NEEDS_ALL_INTEL, 0, true, true, false },
	{ "Haswell, microcode of early 2018", { .vendor = MITIGATE_INTEL, .signature = 0x306c3,
		.leaf7_edx = SPEC_CTRL }, NEEDS_ALL_INTEL,
		NEEDS_ALL_INTEL & ~(MITIGATE_VERW | MITIGATE_L1D), 0, true, true, false },
	/* RDCL_NO, IBRS_ALL, SKIP_L1DFL, MDS_NO: TAA and the page size erratum are left */
	{ "Cascade Lake", { .vendor = MITIGATE_INTEL, .signature = 0x50657, .leaf7_ebx = 1 << 11,
		.leaf7_edx = MICROCODE | ARCH_CAPS,
		.arch_caps = 0x2b }, BASIC | MITIGATE_IBRS | MITIGATE_BHI | MITIGATE_VERW | MITIGATE_LARGE,
		BASIC | MITIGATE_IBRS | MITIGATE_VERW | MITIGATE_LARGE, 1, true, true, false },
	/* and PSCHANGE_MC_NO, TAA_NO, BHI_CTRL from microcode */
	{ "Ice Lake-SP", { .vendor = MITIGATE_INTEL, .signature = 0x606a6, .leaf7_edx = MICROCODE | ARCH_CAPS,
		.leaf7_2_edx = 0x10,
		.arch_caps = 0x16b }, BASIC | MITIGATE_IBRS | MITIGATE_BHI,
			BASIC | MITIGATE_IBRS | MITIGATE_BHI, 0x401, true,
		false, false },
	{ "Sapphire Rapids", { .vendor = MITIGATE_INTEL, .signature = 0x806f8,
		.leaf7_edx = MICROCODE | ARCH_CAPS, .leaf7_2_edx = 0x10,
		.arch_caps = 0x8d6eb | 1 << 20 }, BASIC | MITIGATE_IBRS, BASIC | MITIGATE_IBRS, 1, true, false, false },
	/* RFDS_CLEAR: its Atom cores have buffers to clear */
	{ "Alder Lake", { .vendor = MITIGATE_INTEL, .signature = 0x90672, .leaf7_edx = MICROCODE | ARCH_CAPS,
		.leaf7_2_edx = 0x10,
		.arch_caps = 0x16b | 1 << 28 }, BASIC | MITIGATE_IBRS | MITIGATE_BHI | MITIGATE_VERW,
		BASIC | MITIGATE_IBRS | MITIGATE_BHI | MITIGATE_VERW, 0x401, true, false, false },
	{ "the same, of big cores only", { .vendor = MITIGATE_INTEL, .signature = 0x90672,
		.leaf7_edx = MICROCODE | ARCH_CAPS, .leaf7_2_edx = 0x10,
		.arch_caps = 0x16b | 3 << 27 }, BASIC | MITIGATE_IBRS | MITIGATE_BHI,
			BASIC | MITIGATE_IBRS | MITIGATE_BHI,
		0x401, true, false, false },
	{ "a guest of KVM on Skylake: it flushes", { .vendor = MITIGATE_INTEL, .signature = 0x506e3,
		.leaf7_edx = MICROCODE | ARCH_CAPS,
		.arch_caps = 0x48 }, NEEDS_ALL_INTEL & ~(MITIGATE_L1D | MITIGATE_LARGE),
		NEEDS_ALL_INTEL & ~(MITIGATE_L1D | MITIGATE_LARGE), 0, true, false, false },
	{ "Silvermont", { .vendor = MITIGATE_INTEL, .signature = 0x30678, .leaf7_edx = SPEC_CTRL | MD_CLEAR },
		BASIC | MITIGATE_IBRS_EXIT | MITIGATE_VERW, BASIC | MITIGATE_IBRS_EXIT | MITIGATE_VERW, 0, true,
			false, false },
	{ "Goldmont", { .vendor = MITIGATE_INTEL, .signature = 0x506c9, .leaf7_edx = SPEC_CTRL | ARCH_CAPS,
		.arch_caps = 1 },
		BASIC | MITIGATE_IBRS_EXIT, BASIC | MITIGATE_IBRS_EXIT, 0, true, false, false },
	{ "Bonnell", { .vendor = MITIGATE_INTEL, .signature = 0x106ca }, 0, 0, 0, false, false, false },
	{ "Zen (Bochs's ryzen, QEMU's EPYC)", { .vendor = MITIGATE_AMD, .signature = 0x800f11 },
		BASIC | MITIGATE_IBRS_EXIT, 0, 0, false, false, false },
	{ "Zen with IBPB only", { .vendor = MITIGATE_AMD, .signature = 0x800f12, .ext8_ebx = 1 << 12 },
		BASIC | MITIGATE_IBRS_EXIT, BASIC, 0, true,
		false, false },
	{ "Zen 2", { .vendor = MITIGATE_AMD, .signature = 0x830f10, .ext8_ebx = 0x5000 },
		BASIC | MITIGATE_IBRS_EXIT, BASIC | MITIGATE_IBRS_EXIT, 0,
		true, false, false },
	{ "Zen 3, IBRS always on, TSA", { .vendor = MITIGATE_AMD, .signature = 0xa20f12, .ext8_ebx = 0x15000,
		.ext21_eax = 1 << 5 },
		BASIC | MITIGATE_IBRS | MITIGATE_VERW, BASIC | MITIGATE_IBRS | MITIGATE_VERW, 1, true, false, false },
	{ "Zen 4, automatic IBRS, half of TSA", { .vendor = MITIGATE_AMD, .signature = 0xa10f11,
		.ext8_ebx = 0x5000, .ext21_eax = 1 << 8 | 1 << 5,
		.ext21_ecx = 2 }, BASIC | MITIGATE_IBRS | MITIGATE_VERW, BASIC | MITIGATE_IBRS | MITIGATE_VERW,
			0, true, false,
		true },
	{ "Zen 5", { .vendor = MITIGATE_AMD, .signature = 0xb40f40, .ext8_ebx = 0x5000,
		.ext21_eax = 1 << 8 | 1 << 5, .ext21_ecx = 6 },
		BASIC | MITIGATE_IBRS, BASIC | MITIGATE_IBRS, 0, true, false, true },
	{ "nobody's", { .vendor = MITIGATE_OTHER, .signature = 0x600f10 }, NEEDS_ALL_INTEL & ~MITIGATE_LARGE, 0,
		0, false, false, false },
};

static void each_processor(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(processors); i++) {
		const struct processor *p = &processors[i];
		struct mitigate_plan plan;
		char text[MITIGATE_TEXT_BYTES];

		mitigate_decide(&p->f, VIRT_MITIGATIONS_AUTO, &plan);
		if (plan.needed != p->needed || plan.done != p->done)
			print_error("%s: needs %#x, does %#x\n", p->name, plan.needed, plan.done);
		assert_int_equal(plan.needed, p->needed);
		assert_int_equal(plan.done, p->done);
		assert_int_equal(plan.spec_ctrl, p->spec_ctrl);
		assert_int_equal(plan.guarded, p->guarded);
		assert_int_equal(plan.large_no_exec, p->large);
		assert_int_equal(plan.auto_ibrs, p->auto_ibrs);
		mitigate_text(&plan, VIRT_MITIGATIONS_AUTO, text);
		assert_int_equal(!strstr(text, "not executable"), !p->large);
		assert_int_equal(!strstr(text, "needed, not done"), p->needed == p->done);

		mitigate_decide(&p->f, VIRT_MITIGATIONS_OFF, &plan);
		assert_true(plan.done == 0 && !plan.guarded && !plan.large_no_exec && !plan.auto_ibrs &&
			plan.spec_ctrl == 0);
		mitigate_text(&plan, VIRT_MITIGATIONS_OFF, text);
		assert_int_equal(strncmp(text, "off", 3), 0);
	}
}

static void what_is_said(void **state)
{
	struct mitigate_facts f = { .vendor = MITIGATE_INTEL, .signature = 0x506e3, .leaf7_edx = MICROCODE,
		.smt = true };
	struct mitigate_plan plan;
	char text[MITIGATE_TEXT_BYTES];

	(void)state;
	mitigate_decide(&f, VIRT_MITIGATIONS_AUTO, &plan);
	mitigate_text(&plan, VIRT_MITIGATIONS_AUTO, text);
	assert_string_equal(text, "ibpb verw l1d-flush ibrs-at-exit rsb registers, large pages not executable; "
		"hyperthreads share a core");
	f.leaf7_edx = f.smt = 0;
	mitigate_decide(&f, VIRT_MITIGATIONS_AUTO, &plan);
	mitigate_text(&plan, VIRT_MITIGATIONS_AUTO, text);
	assert_string_equal(text,
		"large pages not executable; needed, not done: ibpb verw l1d-flush ibrs-at-exit rsb registers");
	mitigate_decide(&f, VIRT_MITIGATIONS_OFF, &plan);
	mitigate_text(&plan, VIRT_MITIGATIONS_OFF, text);
	assert_string_equal(text,
		"off; needed, not done: ibpb verw l1d-flush ibrs-at-exit rsb registers no-large-code");
	f = (struct mitigate_facts){ .vendor = MITIGATE_INTEL, .signature = 0x106ca };
	mitigate_decide(&f, VIRT_MITIGATIONS_AUTO, &plan);
	mitigate_text(&plan, VIRT_MITIGATIONS_AUTO, text);
	assert_string_equal(text, "none");
	mitigate_decide(&f, VIRT_MITIGATIONS_FORCE, &plan);
	mitigate_text(&plan, VIRT_MITIGATIONS_FORCE, text);
	assert_string_equal(text, "verw rsb registers, large pages not executable");
}

/* Whatever a processor says: no MSR is written that is not enumerated, and what is needed and can be had is done. */
static void processors_at_random(void **state)
{
	uint64_t seed = 11;

	(void)state;
	for (uint32_t i = 0; i < 200000; i++) {
		uint64_t r = test_random(&seed), q = test_random(&seed);
		struct mitigate_facts f = { .vendor = (enum mitigate_vendor)(r % 3), .signature = (uint32_t)(r >> 8),
			.leaf7_ebx = (uint32_t)q, .leaf7_edx = (uint32_t)(q >> 32), .arch_caps = test_random(&seed),
			.smt = r >> 63 };
		struct mitigate_plan plan[3];
		char text[MITIGATE_TEXT_BYTES];

		r = test_random(&seed);
		f.leaf7_2_edx = (uint32_t)r;
		if (f.vendor == MITIGATE_AMD) {
			f.ext8_ebx = (uint32_t)(r >> 32);
			f.ext21_eax = (uint32_t)(r >> 16);
			f.ext21_ecx = (uint32_t)(r >> 8);
		}
		for (enum virt_mitigations m = VIRT_MITIGATIONS_AUTO; m <= VIRT_MITIGATIONS_FORCE; m++) {
			struct mitigate_plan *p = &plan[m];

			mitigate_decide(&f, m, p);
			mitigate_text(p, m, text);
			assert_in_range(strlen(text), 1, MITIGATE_TEXT_BYTES - 2);
			assert_false(p->done & MITIGATE_IBPB && !(f.leaf7_edx & SPEC_CTRL) && !(f.ext8_ebx & 1 << 12));
			assert_false(p->done & MITIGATE_L1D && !(f.leaf7_edx & L1D_FLUSH));
			assert_false((p->done & MITIGATE_IBRS_EXIT || p->spec_ctrl & 1) && !(f.leaf7_edx & SPEC_CTRL) &&
				!(f.ext8_ebx & 1 << 14));
			assert_false(p->spec_ctrl & 0x400 && !(f.leaf7_2_edx & 0x10));
			assert_false(p->auto_ibrs && !(f.ext21_eax & 1 << 8));
			assert_false((p->done & MITIGATE_IBRS) && (p->done & MITIGATE_IBRS_EXIT));
			assert_int_equal(p->spec_ctrl & ~0x401ull, 0);
			assert_int_equal(p->needed, plan[0].needed);
			assert_false((p->done & (MITIGATE_VERW | MITIGATE_L1D | MITIGATE_IBPB | MITIGATE_IBRS_EXIT)) &&
				!p->guarded);
			assert_int_equal(p->large_no_exec, (p->done & MITIGATE_LARGE) != 0);
		}
		assert_int_equal(plan[0].done & ~plan[0].needed, 0);
		assert_int_equal(plan[0].done & ~plan[2].done, 0); /* force does all that auto does */
		assert_true(plan[2].guarded && plan[2].large_no_exec && !plan[1].done);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_processor),
		cmocka_unit_test(what_is_said),
		cmocka_unit_test(processors_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
