/* The software x2APIC. */
#include "tests/unit/unit.h"

#include "arch/x86/vlapic.h"

static struct vlapic fresh(void)
{
	struct vlapic a;
	vlapic_reset(&a, 3);
	assert_true(vlapic_write(&a, VLAPIC_SVR, 0x1ff, 0));
	return a;
}

static uint64_t get(const struct vlapic *a, uint32_t reg, uint64_t now)
{
	uint64_t v = ~0ull;
	assert_true(vlapic_read(a, reg, now, &v));
	return v;
}

static void after_reset(void **state)
{
	(void)state;
	struct vlapic a;
	vlapic_reset(&a, 0x23);
	assert_int_equal(get(&a, VLAPIC_ID, 0), 0x23);
	assert_int_equal(get(&a, VLAPIC_LDR, 0), 2u << 16 | 1u << 3);
	assert_int_equal(get(&a, VLAPIC_VERSION, 0) & 0xff, 0x14);
	assert_int_equal(get(&a, VLAPIC_SVR, 0), 0xff);
	assert_int_equal(get(&a, VLAPIC_LVT_TIMER, 0), VLAPIC_LVT_MASKED);
	assert_true(a.timer_tsc == VLAPIC_TIMER_OFF);
	/* Off: nothing is delivered until it is turned on. */
	vlapic_raise(&a, 0x40);
	assert_int_equal(vlapic_pending(&a), VLAPIC_NONE);
	assert_true(vlapic_write(&a, VLAPIC_SVR, 0x1ff, 0));
	assert_int_equal(vlapic_pending(&a), 0x40);
}

static void priorities(void **state)
{
	(void)state;
	struct vlapic a = fresh();
	vlapic_raise(&a, 0x45);
	vlapic_raise(&a, 0x81);
	vlapic_raise(&a, 0x8f);
	assert_int_equal(vlapic_pending(&a), 0x8f);
	vlapic_accept(&a, 0x8f);
	assert_int_equal(get(&a, VLAPIC_ISR + 4, 0), 1u << 15);
	assert_int_equal(get(&a, VLAPIC_PPR, 0), 0x80);
	assert_int_equal(vlapic_pending(&a), VLAPIC_NONE); /* the same class waits */
	vlapic_raise(&a, 0x90);
	assert_int_equal(vlapic_pending(&a), 0x90);
	vlapic_accept(&a, 0x90);
	assert_true(vlapic_write(&a, VLAPIC_EOI, 0, 0));
	assert_true(vlapic_write(&a, VLAPIC_EOI, 0, 0));
	assert_int_equal(vlapic_pending(&a), 0x81);
	vlapic_accept(&a, 0x81);
	vlapic_unaccept(&a, 0x81);
	assert_int_equal(vlapic_pending(&a), 0x81);
	assert_true(vlapic_write(&a, VLAPIC_TPR, 0x80, 0));
	assert_int_equal(vlapic_pending(&a), VLAPIC_NONE);
	assert_int_equal(get(&a, VLAPIC_IRR + 2, 0), 1u << 5);
	assert_true(vlapic_write(&a, VLAPIC_TPR, 0x44, 0));
	vlapic_accept(&a, 0x81);
	assert_int_equal(vlapic_pending(&a), VLAPIC_NONE);
	assert_true(vlapic_write(&a, VLAPIC_EOI, 0, 0));
	assert_int_equal(vlapic_pending(&a), VLAPIC_NONE); /* 0x45 is not above class 4 */
	assert_true(vlapic_write(&a, VLAPIC_TPR, 0, 0));
	assert_int_equal(vlapic_pending(&a), 0x45);
	assert_true(vlapic_write(&a, VLAPIC_EOI, 0, 0)); /* nothing in service: no effect */
}

static void one_shot(void **state)
{
	(void)state;
	struct vlapic a = fresh();
	assert_true(vlapic_write(&a, VLAPIC_LVT_TIMER, 0x40, 0));
	assert_true(vlapic_write(&a, VLAPIC_TIMER_DIVIDE, 0xb, 0)); /* 1 */
	assert_true(vlapic_write(&a, VLAPIC_TIMER_INITIAL, 1000, 5000));
	assert_int_equal(a.timer_tsc, 6000);
	assert_int_equal(get(&a, VLAPIC_TIMER_CURRENT, 5400), 600);
	vlapic_tick(&a, 5999);
	assert_int_equal(vlapic_pending(&a), VLAPIC_NONE);
	vlapic_tick(&a, 6000);
	assert_int_equal(vlapic_pending(&a), 0x40);
	assert_true(a.timer_tsc == VLAPIC_TIMER_OFF);
	assert_int_equal(get(&a, VLAPIC_TIMER_CURRENT, 6000), 0);
	/* Masked: it runs out in silence. */
	a = fresh();
	assert_true(vlapic_write(&a, VLAPIC_LVT_TIMER, VLAPIC_LVT_MASKED | 0x40, 0));
	assert_true(vlapic_write(&a, VLAPIC_TIMER_INITIAL, 10, 0));
	vlapic_tick(&a, 100);
	assert_int_equal(vlapic_pending(&a), VLAPIC_NONE);
	/* Stopped by a count of 0. */
	assert_true(vlapic_write(&a, VLAPIC_TIMER_INITIAL, 10, 0));
	assert_true(vlapic_write(&a, VLAPIC_TIMER_INITIAL, 0, 0));
	assert_true(a.timer_tsc == VLAPIC_TIMER_OFF);
}

static void divide(void **state)
{
	(void)state;
	static const uint32_t code[] = { 0xb, 0, 1, 2, 3, 8, 9, 0xa };
	for (uint32_t i = 0; i < 8; i++) {
		struct vlapic a = fresh();
		assert_true(vlapic_write(&a, VLAPIC_TIMER_DIVIDE, code[i], 0));
		assert_true(vlapic_write(&a, VLAPIC_TIMER_INITIAL, 0xffffffffu, 0));
		assert_true(a.timer_tsc == 0xffffffffull << i);
		assert_int_equal(get(&a, VLAPIC_TIMER_CURRENT, 0), 0xffffffffu);
	}
}

static void periodic(void **state)
{
	(void)state;
	struct vlapic a = fresh();
	assert_true(vlapic_write(&a, VLAPIC_LVT_TIMER, 0x20040, 0));
	assert_true(vlapic_write(&a, VLAPIC_TIMER_DIVIDE, 0xb, 0));
	assert_true(vlapic_write(&a, VLAPIC_TIMER_INITIAL, 100, 0));
	vlapic_tick(&a, 100);
	assert_int_equal(a.timer_tsc, 200);
	vlapic_tick(&a, 777); /* late: missed ticks are one, the phase stays */
	assert_int_equal(a.timer_tsc, 800);
	vlapic_tick(&a, 800);
	assert_int_equal(a.timer_tsc, 900);
	assert_int_equal(vlapic_pending(&a), 0x40);
	vlapic_tick(&a, UINT64_MAX - 1000); /* no loop, no overflow */
	assert_true(a.timer_tsc > UINT64_MAX - 1000);
}

static void deadline(void **state)
{
	(void)state;
	struct vlapic a = fresh();
	vlapic_write_deadline(&a, 500); /* not in that mode: no effect */
	assert_true(a.timer_tsc == VLAPIC_TIMER_OFF);
	assert_true(vlapic_write(&a, VLAPIC_LVT_TIMER, 0x40041, 0));
	vlapic_write_deadline(&a, 500);
	assert_int_equal(vlapic_read_deadline(&a), 500);
	assert_true(vlapic_write(&a, VLAPIC_TIMER_INITIAL, 7, 0)); /* ignored */
	assert_int_equal(a.timer_tsc, 500);
	vlapic_tick(&a, 500);
	assert_int_equal(vlapic_pending(&a), 0x41);
	assert_int_equal(vlapic_read_deadline(&a), 0);
	vlapic_write_deadline(&a, 900);
	vlapic_write_deadline(&a, 0);
	assert_true(a.timer_tsc == VLAPIC_TIMER_OFF);
	vlapic_write_deadline(&a, 900);
	assert_true(vlapic_write(&a, VLAPIC_LVT_TIMER, 0x41, 0)); /* a new mode disarms */
	assert_true(a.timer_tsc == VLAPIC_TIMER_OFF);
}

/* What the ICR asks for, and of whom: the sender is 3, among 0 .. 19. */
static void ipis(void **state)
{
	(void)state;
	static const struct {
		uint64_t icr;
		uint8_t mode;
		uint32_t who; /* mask */
	} t[] = {
		{ 3ull << 32 | 0x50, VLAPIC_IPI_FIXED, 1u << 3 },
		{ 4ull << 32 | 0x50, VLAPIC_IPI_FIXED, 1u << 4 },
		{ 77ull << 32 | 0x50, VLAPIC_IPI_FIXED, 0 },
		{ 0xffffffffull << 32 | 0x150, VLAPIC_IPI_LOWEST, 0xfffff },
		{ 1u << 18 | 0x50, VLAPIC_IPI_FIXED, 1u << 3 },
		{ 2u << 18 | 0x50, VLAPIC_IPI_FIXED, 0xfffff },
		{ 3u << 18 | 0x50, VLAPIC_IPI_FIXED, 0xfffff & ~(1u << 3) },
		{ 8ull << 32 | 1u << 11 | 0x50, VLAPIC_IPI_FIXED, 1u << 3 },	/* cluster 0, bit 3 */
		{ 0x6ull << 32 | 1u << 11 | 0x50, VLAPIC_IPI_FIXED, 6 },	/* two of it */
		{ 0x10009ull << 32 | 1u << 11 | 0x50, VLAPIC_IPI_FIXED, 9u << 16 }, /* cluster 1 */
		{ 4ull << 32 | 4u << 8 | 1, VLAPIC_IPI_NMI, 1u << 4 },
		{ 5ull << 32 | 0x4500, VLAPIC_IPI_INIT, 1u << 5 },
		{ 3u << 18 | 0x4608, VLAPIC_IPI_STARTUP, 0xfffff & ~(1u << 3) },
	};
	for (size_t i = 0; i < ARRAY_COUNT(t); i++) {
		struct vlapic a = fresh();
		struct vlapic_ipi ipi;
		assert_true(vlapic_write(&a, VLAPIC_ICR, t[i].icr, 0));
		assert_int_equal(vlapic_pending(&a), VLAPIC_NONE);
		assert_true(get(&a, VLAPIC_ICR, 0) == t[i].icr);
		assert_true(vlapic_ipi_decode(a.icr, &ipi));
		assert_int_equal(ipi.mode, t[i].mode);
		assert_int_equal(ipi.vector, (uint8_t)t[i].icr);
		for (uint32_t id = 0; id < 20; id++)
			assert_int_equal(vlapic_ipi_is_for(&ipi, id, 3), t[i].who >> id & 1);
	}
	struct vlapic_ipi none;
	assert_false(vlapic_ipi_decode(3ull << 32 | 0x0f, &none)); /* vectors below 16 are illegal */
	assert_false(vlapic_ipi_decode(3ull << 32 | 0x8500, &none)); /* INIT's level de-assert */
	struct vlapic a = fresh();
	assert_true(vlapic_write(&a, VLAPIC_SELF_IPI, 0x99, 0));
	assert_int_equal(vlapic_pending(&a), 0x99);
}

static void errors(void **state)
{
	(void)state;
	struct vlapic a = fresh();
	assert_true(vlapic_write(&a, VLAPIC_LVT_ERROR, 0xfe, 0));
	assert_true(vlapic_write(&a, VLAPIC_SELF_IPI, 5, 0));
	assert_int_equal(get(&a, VLAPIC_ESR, 0), 0); /* latched by a write only */
	assert_true(vlapic_write(&a, VLAPIC_ESR, 0, 0));
	assert_int_equal(get(&a, VLAPIC_ESR, 0), 0x20);
	assert_int_equal(vlapic_pending(&a), 0xfe);
	vlapic_raise(&a, 3);
	assert_true(vlapic_write(&a, VLAPIC_ESR, 0, 0));
	assert_int_equal(get(&a, VLAPIC_ESR, 0), 0x40);
}

static void what_is_refused(void **state)
{
	(void)state;
	struct vlapic a = fresh();
	uint64_t v;
	assert_false(vlapic_read(&a, VLAPIC_EOI, 0, &v));
	assert_false(vlapic_read(&a, VLAPIC_SELF_IPI, 0, &v));
	assert_false(vlapic_read(&a, 0x31, 0, &v)); /* xAPIC's upper half of the ICR */
	assert_false(vlapic_read(&a, 0xff, 0, &v));
	static const struct {
		uint32_t reg;
		uint64_t value;
	} bad[] = { { VLAPIC_ID, 0 }, { VLAPIC_VERSION, 0 }, { VLAPIC_TPR, 0x100 },
		{ VLAPIC_EOI, 1 }, { VLAPIC_SVR, 0x1000 }, { VLAPIC_ESR, 1 },
		{ VLAPIC_LVT_TIMER, 3u << 17 | 0x40 }, { VLAPIC_LVT_TIMER, 0x100 },
		{ VLAPIC_LVT_LINT0, 1ull << 32 }, { VLAPIC_TIMER_DIVIDE, 4 },
		{ VLAPIC_TIMER_INITIAL, 1ull << 32 }, { VLAPIC_TIMER_CURRENT, 0 },
		{ VLAPIC_ICR, 1u << 20 }, { VLAPIC_SELF_IPI, 0x100 }, { VLAPIC_IRR, 0 },
		{ VLAPIC_LVT_CMCI, 0 } };
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct vlapic before = a;
		assert_false(vlapic_write(&a, bad[i].reg, bad[i].value, 0));
		assert_memory_equal(&before, &a, sizeof(a));
	}
}

/* Whatever a guest writes: no crash, and a pending vector is always one that was raised. */
static void anything_goes(void **state)
{
	(void)state;
	uint64_t seed = 7, now = 0;
	struct vlapic a = fresh();
	for (int i = 0; i < 300000; i++) {
		uint64_t v, r = test_random(&seed);
		now += r >> 56;
		uint64_t value = test_random(&seed) >> (r >> 8 & 63);
		(void)!vlapic_write(&a, r & 0x3f, value, now);
		(void)!vlapic_read(&a, (uint32_t)(r >> 16) & 0x3f, now, &v);
		vlapic_tick(&a, now);
		int p = vlapic_pending(&a);
		if (p >= 0) {
			assert_in_range(p, 16, 255);
			assert_true(a.irr[p / 64] >> (p % 64) & 1);
			vlapic_accept(&a, (uint32_t)p);
			assert_int_equal(get(&a, VLAPIC_PPR, now) & 0xf0, p & 0xf0);
		}
		assert_true(a.timer_tsc > now || a.timer_tsc == VLAPIC_TIMER_OFF);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_reset), cmocka_unit_test(priorities),
		cmocka_unit_test(one_shot), cmocka_unit_test(divide), cmocka_unit_test(periodic),
		cmocka_unit_test(deadline), cmocka_unit_test(ipis), cmocka_unit_test(errors),
		cmocka_unit_test(what_is_refused), cmocka_unit_test(anything_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
