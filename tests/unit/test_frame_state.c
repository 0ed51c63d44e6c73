#include "mm/frame_state.h"
#include "tests/unit/unit.h"

/* What a guest can read is reached from FREE (zeroed) or from what a guest had, never from DIRTY.
 */
static void no_dirty_frame_reaches_a_guest(void **state)
{
	const enum frame_state readable[] = { FRAME_PRIVATE, FRAME_SHARED, FRAME_IO };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_false(frame_move_legal(FRAME_DIRTY, readable[i]));
		assert_false(frame_move_legal(FRAME_RESERVED, readable[i]));
		assert_false(frame_move_legal(FRAME_HV, readable[i]));
		assert_false(frame_move_legal(FRAME_TABLE, readable[i]));
		assert_false(frame_move_legal(FRAME_ZPOOL, readable[i]));
	}
	assert_true(frame_move_legal(FRAME_FREE, FRAME_PRIVATE));
}

/* FREE means zero: only scrubbing leads there. */
static void only_dirty_becomes_free(void **state)
{
	(void)state;
	for (enum frame_state from = FRAME_RESERVED; from < FRAME_STATE_COUNT; from++)
		assert_int_equal(frame_move_legal(from, FRAME_FREE), from == FRAME_DIRTY);
}

static void every_state_can_be_left_but_none_to_reserved(void **state)
{
	(void)state;
	for (enum frame_state from = FRAME_RESERVED; from < FRAME_STATE_COUNT; from++) {
		bool out = false;

		assert_false(frame_move_legal(from, FRAME_RESERVED));
		assert_false(frame_move_legal(from, from));
		for (enum frame_state to = FRAME_RESERVED; to < FRAME_STATE_COUNT; to++)
			out |= frame_move_legal(from, to);
		assert_true(out);
	}
	assert_false(frame_move_legal(FRAME_STATE_COUNT, FRAME_DIRTY));
	assert_false(frame_move_legal(FRAME_FREE, FRAME_STATE_COUNT));
}

static void names(void **state)
{
	(void)state;
	for (enum frame_state s = FRAME_RESERVED; s < FRAME_STATE_COUNT; s++)
		assert_true(strlen(frame_state_name(s)) > 1);
	assert_string_equal(frame_state_name(FRAME_PRIVATE), "private");
	assert_string_equal(frame_state_name(FRAME_STATE_COUNT), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_dirty_frame_reaches_a_guest),
		cmocka_unit_test(only_dirty_becomes_free),
		cmocka_unit_test(every_state_can_be_left_but_none_to_reserved),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
