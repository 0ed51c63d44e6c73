#include "tests/unit/unit.h"
#include "tests/fake/slat.h"

static void first_touch(void **state)
{
	struct p2m p;
	struct p2m_entry e;

	(void)state;
	fake_machine(4096);
	assert_int_equal(frame_pool_init(UINT64_MAX, 64, 16), OK);
	assert_int_equal(p2m_create(&p, 1, 4096, 100, NULL), OK);
	assert_int_equal(p2m_fault(&p, GPA(0x5000), P2M_READ), P2M_FAULT_MAPPED);
	p2m_lookup(&p, GFN(5), &e);
	assert_int_equal(e.state, P2M_EMPTY);
	assert_true(mfn_eq(e.mfn, frame_zero_mfn()));
	for (uint64_t gfn = 0; gfn < 512; gfn++)
		assert_int_equal(p2m_fault(&p, gfn_to_gpa(GFN(gfn)), P2M_WRITE), P2M_FAULT_MAPPED);
	p2m_lookup(&p, GFN(5), &e);
	assert_int_equal(e.state, P2M_RAM);
	assert_int_equal(e.level, 2);
	assert_int_equal(p.join_2m, 1);
	p2m_destroy(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_touch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
