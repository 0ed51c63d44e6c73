/* SVM's features to what is used of them, permission maps, intercepts, ASIDs, VMRUN's rules. */
#include <string.h>

#include "arch/x86/regs.h"
#include "arch/x86/svm/svm.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

static struct svm_facts good(void)
{
	return (struct svm_facts){
		.max_extended = 0x8000001f,
		.ext_ecx = 1u << 2,
		.ext_edx = 1u << 26 | 1u << 27,
		.leaf7_ebx = 1u << 10,
		.asid_count = 16,
		.features = SVM_FEATURE_NPT | SVM_FEATURE_NRIPS | SVM_FEATURE_CLEAN |
			SVM_FEATURE_FLUSH_ASID | SVM_FEATURE_DECODE,
	};
}

static void refused(const struct svm_facts *f, const char *word)
{
	struct svm_caps c;
	const char *why = NULL;
	assert_int_equal(svm_caps_compute(f, &c, &why), ERR_NOSYS);
	assert_non_null(strstr(why, word));
}

static void what_is_missing_is_named(void **state)
{
	(void)state;
	struct svm_facts f = good();
	f.ext_ecx = 0;
	assert_false(svm_present(&f));
	refused(&f, "no SVM");
	f = good();
	f.max_extended = 0x80000008u;
	assert_false(svm_present(&f));
	f = good();
	f.features &= ~SVM_FEATURE_NPT;
	refused(&f, "nested paging");
	f = good();
	f.asid_count = 1;
	refused(&f, "ASID");
	f = good();
	f.vm_cr = VM_CR_SVMDIS | VM_CR_LOCK;
	refused(&f, "VM_CR.LOCK");
	f.features |= SVM_FEATURE_LOCK;
	refused(&f, "with a key");
}

static void disabled_but_not_locked_is_usable(void **state)
{
	(void)state;
	struct svm_facts f = good();
	struct svm_caps c;
	const char *why;
	f.vm_cr = VM_CR_SVMDIS;
	assert_int_equal(svm_caps_compute(&f, &c, &why), OK);
	f.vm_cr = VM_CR_LOCK;
	assert_int_equal(svm_caps_compute(&f, &c, &why), OK);
}

static void each_option_by_itself(void **state)
{
	(void)state;
	static const struct {
		size_t fact;
		uint32_t bit;
		size_t cap;
	} options[] = {
#define OPTION(fact, bit, cap) { offsetof(struct svm_facts, fact), bit, offsetof(struct svm_caps, cap) }
		OPTION(features, SVM_FEATURE_NRIPS, nrips),
		OPTION(features, SVM_FEATURE_CLEAN, clean),
		OPTION(features, SVM_FEATURE_FLUSH_ASID, flush_by_asid),
		OPTION(features, SVM_FEATURE_DECODE, decode_assists),
		OPTION(ext_edx, 1u << 26, page_1g),
		OPTION(ext_edx, 1u << 27, rdtscp),
		OPTION(leaf7_ebx, 1u << 10, invpcid),
	};
	for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
		struct svm_facts f = good();
		struct svm_caps less;
		const char *why;
		*(uint32_t *)(void *)((uint8_t *)&f + options[i].fact) &= ~options[i].bit;
		assert_int_equal(svm_caps_compute(&f, &less, &why), OK);
		bool *flag = (bool *)(void *)((uint8_t *)&less + options[i].cap);
		assert_false(*flag);
		/* And nothing else. */
		for (size_t k = 0; k < ARRAY_COUNT(options); k++)
			assert_int_equal(*((uint8_t *)&less + options[k].cap), k != i);
	}
}

static void nested_format(void **state)
{
	(void)state;
	struct svm_facts f = good();
	struct svm_caps c;
	const char *why;
	struct slat_format got;
	assert_int_equal(svm_caps_compute(&f, &c, &why), OK);
	svm_npt_format(&c, true, &got);
	assert_int_equal(got.leaf_big, fake_npt_no_exec.leaf_big);
	assert_int_equal(got.leaf_4k, fake_npt.leaf_4k);
	assert_true(got.big_no_exec);
	svm_npt_format(&c, false, &got);
	assert_false(got.big_no_exec);
	assert_int_equal(got.present_mask, fake_npt.present_mask);
	assert_int_equal(got.table, fake_npt.table);
	assert_int_equal(got.leaf_4k, fake_npt.leaf_4k);
	assert_int_equal(got.leaf_big, fake_npt.leaf_big);
	assert_int_equal(got.big_mask, fake_npt.big_mask);
	assert_int_equal(got.write, fake_npt.write);
	assert_int_equal(got.accessed, fake_npt.accessed);
	assert_int_equal(got.dirty, fake_npt.dirty);
	assert_true(got.has_1g);
}

static void msr_map(void **state)
{
	(void)state;
	static const struct {
		uint32_t msr, byte;
		uint8_t left;
	} rows[] = {
		{ 0x174, 0x174 / 4, 0xfc }, { 0x175, 0x175 / 4, 0xf3 },
		{ 0xc0000082u, 2048 + 0x82 / 4, 0xcf }, { 0xc0000102u, 2048 + 0x102 / 4, 0xcf },
		{ 0xc0010117u, 4096 + 0x117 / 4, 0x3f },
	};
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		uint8_t map[SVM_MSRPM_BYTES];
		memset(map, 0xff, sizeof(map));
		svm_msrpm_pass(map, rows[i].msr);
		for (uint32_t b = 0; b < sizeof(map); b++)
			assert_int_equal(map[b], b == rows[i].byte ? rows[i].left : 0xff);
	}
	uint8_t map[SVM_MSRPM_BYTES];
	memset(map, 0xff, sizeof(map));
	svm_msrpm_pass(map, 0x2000);
	svm_msrpm_pass(map, 0x40000000);
	svm_msrpm_pass(map, 0xc0012000u);
	for (uint32_t b = 0; b < sizeof(map); b++)
		assert_int_equal(map[b], 0xff);
}

static void guests_get_no_svm_instruction(void **state)
{
	(void)state;
	static const uint8_t must[] = {
		SVM_EXIT_VMRUN, SVM_EXIT_VMMCALL, SVM_EXIT_VMLOAD, SVM_EXIT_VMSAVE, SVM_EXIT_STGI,
		SVM_EXIT_CLGI, SVM_EXIT_SKINIT, SVM_EXIT_INVLPGA, SVM_EXIT_INTR, SVM_EXIT_NMI,
		SVM_EXIT_SHUTDOWN, SVM_EXIT_MSR, SVM_EXIT_IOIO, SVM_EXIT_HLT, SVM_EXIT_XSETBV,
		SVM_EXIT_CR0_SELECTIVE, SVM_EXIT_CR_WRITE + 4, SVM_EXIT_CR_WRITE + 8,
		SVM_EXIT_CR_READ + 8, SVM_EXIT_EXCEPTION + 1, SVM_EXIT_EXCEPTION + 17,
		SVM_EXIT_EXCEPTION + 18,
	};
	uint32_t words[SVM_WORDS];
	svm_intercepts(words);
	for (size_t i = 0; i < ARRAY_COUNT(must); i++)
		assert_true(words[must[i] / 32] >> must[i] % 32 & 1);
	/* Left to the guest: page faults, CR3, INVLPG, task-switched FPU. */
	assert_false(words[2] >> 14 & 1);
	assert_false(words[0] >> (SVM_EXIT_CR_WRITE + 3) & 1);
	assert_false(words[SVM_EXIT_INVLPG / 32] >> SVM_EXIT_INVLPG % 32 & 1);
	assert_false(words[SVM_EXIT_VINTR / 32] >> SVM_EXIT_VINTR % 32 & 1);
}

/* In a generation no ASID comes twice, and each generation begins with a flush of all. */
static void asids(void **state)
{
	(void)state;
	for (uint32_t count = 2; count < 20; count++) {
		struct svm_asids a = { .count = count };
		uint64_t generation = 0;
		uint32_t used = 0;
		for (uint32_t i = 0; i < 200; i++) {
			bool flush_all;
			uint32_t asid = svm_asid_take(&a, &flush_all);
			assert_in_range(asid, 1, count - 1);
			if (a.generation != generation) {
				assert_int_equal(a.generation, generation + 1);
				assert_true(flush_all);
				generation = a.generation;
				used = 0;
			} else {
				assert_false(flush_all);
			}
			assert_false(used >> asid & 1);
			used |= 1u << asid;
		}
		assert_int_equal(generation, (200 + count - 2) / (count - 1));
	}
}

static struct svm_vmcb valid(void)
{
	struct svm_vmcb c = { 0 };
	svm_intercepts(c.intercept);
	c.asid = 1;
	c.efer = EFER_SVME | EFER_LME | EFER_LMA;
	c.cr0 = CR0_PG | CR0_PE;
	c.cr4 = CR4_PAE;
	c.cs.attributes = 0xa9b;
	return c;
}

#define BROKEN(change, word)                                                                       \
	do {                                                                                       \
		struct svm_vmcb c = valid();                                                       \
		change;                                                                            \
		const char *rule = svm_check(&c);                                                  \
		assert_non_null(rule);                                                             \
		assert_non_null(strstr(rule, word));                                               \
	} while (0)

static void rules_of_vmrun(void **state)
{
	(void)state;
	struct svm_vmcb fine = valid();
	assert_null(svm_check(&fine));
	BROKEN(c.efer &= ~EFER_SVME, "SVME");
	BROKEN(c.cr0 |= CR0_NW, "NW");
	BROKEN(c.cr0 |= 1ull << 40, "CR0 has bits");
	BROKEN(c.cr3 = 1ull << 60, "CR3");
	BROKEN(c.dr6 = 1ull << 33, "DR6");
	BROKEN(c.dr7 = 1ull << 33, "DR7");
	BROKEN(c.cr4 = 0, "PAE");
	BROKEN(c.cr0 &= ~CR0_PE, "PE");
	BROKEN(c.cs.attributes |= 1u << 10, "L and D");
	BROKEN(c.intercept[SVM_EXIT_VMRUN / 32] = 0, "VMRUN");
	BROKEN(c.asid = 0, "ASID");
	BROKEN(c.event_inj = X86_EVENT_VALID | X86_EVENT_EXCEPTION | 32, "vector");
	BROKEN(c.n_cr3 = 8, "unaligned");
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(svm_exit_name(SVM_EXIT_NPF), "nested page fault");
	assert_string_equal(svm_exit_name(SVM_EXIT_INVALID), "invalid guest state");
	assert_string_equal(svm_exit_name(SVM_EXIT_VMMCALL), "VMMCALL");
	assert_string_equal(svm_exit_name(3), "CR read");
	assert_string_equal(svm_exit_name(SVM_EXIT_EXCEPTION + 14), "exception");
	assert_string_equal(svm_exit_name(0x9999), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_missing_is_named),
		cmocka_unit_test(disabled_but_not_locked_is_usable),
		cmocka_unit_test(each_option_by_itself),
		cmocka_unit_test(nested_format),
		cmocka_unit_test(msr_map),
		cmocka_unit_test(guests_get_no_svm_instruction),
		cmocka_unit_test(asids),
		cmocka_unit_test(rules_of_vmrun),
		cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
