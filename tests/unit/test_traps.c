/* What the hypervisor's own exceptions and interrupts come to, as far as they come back. */
#include "tests/fake/x86_cpu.h"

#include "arch/x86/traps.c"

#include "tests/unit/unit.h"

const char cpu_idle_halt[1] = { 0 }, cpu_idle_behind[1] = { 0 };
static uint32_t ended;

struct pcpu boot_pcpu;

struct pcpu *smp_cpu(uint32_t index)
{
	(void)index;
	return &fake_pcpu;
}

void lapic_eoi(void)
{
	ended++;
}

bool dump_begin(void)
{
	return true;
}

bool dump_has_begun(void)
{
	return false;
}

void dump_line(const char *fmt, ...)
{
	(void)fmt;
}

void dump_backtrace(uint64_t sp)
{
	(void)sp;
}

void dump_stop(void)
{
	abort();
}

void machine_check_stop(void)
{
	abort();
}

static struct trap_frame trapped(uint64_t vector, uint64_t rip)
{
	struct trap_frame f = { .vector = vector, .rip = rip };
	trap_dispatch(&f);
	return f;
}

/*
 * "The inhibition ends after delivery of another event" (SDM vol. 2B, STI): an interrupt that waits is taken as soon as
 * the NMI's handler returns, and HLT would then sleep over what it brought.
 */
static void an_nmi_in_front_of_hlt_returns_behind_it(void **state)
{
	(void)state;
	uint64_t before = fake_pcpu.nmi_count;
	assert_int_equal(trapped(TRAP_NMI, (uintptr_t)cpu_idle_halt).rip, (uintptr_t)cpu_idle_behind);
	assert_int_equal(fake_pcpu.nmi_count, before + 1);
}

static void others_return_to_where_they_came(void **state)
{
	(void)state;
	assert_int_equal(trapped(TRAP_NMI, 0x1234).rip, 0x1234);
	assert_int_equal(trapped(TRAP_NMI, (uintptr_t)cpu_idle_behind).rip, (uintptr_t)cpu_idle_behind);
	ended = 0;
	assert_int_equal(trapped(VECTOR_KICK, 0x1234).rip, 0x1234);
	assert_int_equal(ended, 1);
	(void)trapped(VECTOR_SPURIOUS, 0x1234);
	assert_int_equal(ended, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_nmi_in_front_of_hlt_returns_behind_it),
		cmocka_unit_test(others_return_to_where_they_came),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
