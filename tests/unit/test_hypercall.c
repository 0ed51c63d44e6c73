/* Hypercalls through the real dispatcher: results, bad arguments, and none that reaches further. */
#include "tests/unit/unit.h"

#include "tests/fake/hv.h"
#include "vmm/block.h"
#include "vmm/exit.h"
#include "vmm/memwait.h"
#include "vmm/sched.h"

#define BUFFER MIB(3)

static struct guest *g;

static int setup(void **state)
{
	(void)state;
	fake_hv_start(8192);
	g = fake_hv_guest("vm0", 16);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_hv_destroy_all();
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

static void *buffer(void)
{
	return fake_hv_touch(g, BUFFER, P2M_WRITE);
}

static void simple(void **state)
{
	(void)state;
	assert_int_equal(fake_hv_call(g, AERO_HC_NULL, 1, 2, 3), 0);
	assert_int_equal(g->vcpu[0].hypercalls[AERO_HC_NULL], 1);
	assert_int_equal(fake_hv_call(g, AERO_HC_COUNT, 0, 0, 0), -AERO_ENOSYS);
	assert_int_equal(fake_hv_call(g, UINT64_MAX, 0, 0, 0), -AERO_ENOSYS);
	assert_int_equal(g->vcpu[0].hypercall_errors, 2);
	assert_int_equal(fake_hv_call(g, AERO_HC_EVENT_SETUP, 300, 0, 0), -AERO_EINVAL);
}

static void console(void **state)
{
	char out[16] = "";

	(void)state;
	memcpy(buffer(), "hello", 5);
	assert_int_equal(fake_hv_call(g, AERO_HC_CONSOLE_WRITE, BUFFER, 5, 0), 5);
	assert_int_equal(gconsole_take(&g->console, out, sizeof(out)), 5);
	assert_string_equal(out, "hello");
	/* Across two pages, in chunks. */
	for (uint64_t i = 0; i < 4096; i++)
		*(char *)fake_hv_touch(g, BUFFER + 100 + i, P2M_WRITE) = (char)('a' + i % 26);
	assert_int_equal(fake_hv_call(g, AERO_HC_CONSOLE_WRITE, BUFFER + 100, 4096, 0), 4096);
	assert_int_equal(g->console.out_total, 5 + 4096);
	assert_int_equal(fake_hv_call(g, AERO_HC_CONSOLE_WRITE, MIB(16) - 2, 4, 0), -AERO_EFAULT);
	assert_int_equal(fake_hv_call(g, AERO_HC_CONSOLE_READ, BUFFER, 10, 0), 0);
	assert_int_equal(guest_console_input(g, "ls\n", 3), 3);
	assert_int_equal(fake_hv_call(g, AERO_HC_CONSOLE_READ, BUFFER, 2, 0), 2);
	assert_memory_equal(buffer(), "ls", 2);
	assert_int_equal(fake_hv_call(g, AERO_HC_CONSOLE_READ, BUFFER, 10, 0), 1);
}

static void block(void **state)
{
	struct aero_block_info *info = buffer();
	struct aero_block_req *r = buffer();

	(void)state;
	assert_int_equal(fake_hv_call(g, AERO_HC_BLOCK_INFO, BUFFER, 0, 0), 0);
	assert_int_equal(info->sector_count, 2048);
	assert_int_equal(info->sector_bytes, 512);
	r[0] = (struct aero_block_req){ .gpa = MIB(4), .sectors = 8, .op = AERO_BLOCK_WRITE };
	r[1] = (struct aero_block_req){ .gpa = MIB(4), .sectors = 8, .op = 9 };
	r[2] = (struct aero_block_req){ .sector = 2048, .gpa = MIB(4), .sectors = 8 };
	assert_int_equal(fake_hv_call(g, AERO_HC_BLOCK_IO, BUFFER, 3, 0), 3);
	assert_int_equal(r[0].status, 0);
	assert_int_equal(r[1].status, -AERO_EINVAL);
	assert_int_equal(r[2].status, -AERO_ERANGE);
	assert_int_equal(fake_hv_call(g, AERO_HC_BLOCK_IO, BUFFER, 0, 0), 0);
}

/* A list that moves more than a call may is cut between requests. */
static void block_is_bounded(void **state)
{
	struct aero_block_req *r = buffer();

	(void)state;
	for (int i = 0; i < 4; i++)
		r[i] = (struct aero_block_req){ .gpa = MIB(4), .sectors = 1500, .status = 77 };
	assert_int_equal(fake_hv_call(g, AERO_HC_BLOCK_IO, BUFFER, 4, 0), 2);
	assert_int_equal(r[1].status, 0);
	assert_int_equal(r[2].status, 77);
}

static void debug(void **state)
{
	(void)state;
	assert_int_equal(fake_hv_call(g, AERO_HC_DEBUG, AERO_DEBUG_FREE, 0, 0), -AERO_EPERM);
	g->config.debug = true;
	assert_true(fake_hv_call(g, AERO_HC_DEBUG, AERO_DEBUG_FREE, 0, 0) > 1000);
	assert_int_equal(fake_hv_call(g, AERO_HC_DEBUG, AERO_DEBUG_AUDIT, 0, 0), 0);
	assert_int_equal(fake_hv_call(g, AERO_HC_DEBUG, AERO_DEBUG_SCRUB, 10, 0), 10);
	assert_int_equal(fake_hv_call(g, AERO_HC_DEBUG, AERO_DEBUG_GUEST_PAGES, 0, 0),
		g->p2m.account.used_pages);
}

static void endings(void **state)
{
	struct guest *other = fake_hv_guest("vm1", 16);

	(void)state;
	(void)fake_hv_call(g, AERO_HC_SHUTDOWN, AERO_SHUTDOWN_POWEROFF, 0, 0);
	assert_int_equal(g->state, GUEST_SHUTDOWN);
	assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_STOPPED);
	(void)fake_hv_call(other, AERO_HC_SHUTDOWN, AERO_SHUTDOWN_CRASH, 42, 0);
	assert_int_equal(other->state, GUEST_CRASHED);
	assert_non_null(strstr(other->reason, "42"));
}

/* Another vCPU, or the console on another CPU, was quicker. */
static void endings_that_come_late(void **state)
{
	struct guest *other = fake_hv_guest("vm1", 16);
	struct fake_vcpu *f = fake_vcpu(other->vcpu[0].virt);

	(void)state;
	(void)fake_hv_call(g, AERO_HC_SHUTDOWN, AERO_SHUTDOWN_POWEROFF, 0, 0);
	(void)fake_hv_call(g, AERO_HC_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
	assert_int_equal(g->state, GUEST_SHUTDOWN);
	assert_false(g->reboot);
	assert_string_equal(g->reason, "powered off");
	assert_int_equal(guest_pause(other), OK);
	(void)fake_hv_call(other, AERO_HC_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
	assert_int_equal(other->state, GUEST_PAUSED);
	assert_false(other->reboot);
	assert_int_equal(f->again_count, 1); /* it asks again when it goes on */
}

/* Exits that are no hypercall. */
static void other_exits(void **state)
{
	struct fake_vcpu *f = fake_vcpu(g->vcpu[0].virt);

	(void)state;
	(void)fake_virt_fault(f, MIB(16), P2M_READ);
	assert_int_equal(exit_table[VIRT_EXIT_SLAT_FAULT](&g->vcpu[0]), EXIT_RESUME);
	assert_int_equal(f->gp_count, 1);
	(void)fake_virt_fault(f, UINT64_MAX, P2M_WRITE);
	assert_int_equal(exit_table[VIRT_EXIT_SLAT_FAULT](&g->vcpu[0]), EXIT_RESUME);
	assert_int_equal(f->gp_count, 2);
	assert_int_equal(g->vcpu[0].access_outside, 2);
	(void)fake_virt_fault(f, MIB(5), P2M_WRITE);
	assert_int_equal(exit_table[VIRT_EXIT_SLAT_FAULT](&g->vcpu[0]), EXIT_RESUME);
	assert_non_null(fake_guest_access(&g->p2m, GPA(MIB(5)), P2M_WRITE));
	assert_int_equal(exit_table[VIRT_EXIT_SHUTDOWN](&g->vcpu[0]), EXIT_YIELD);
	assert_int_equal(g->state, GUEST_CRASHED);
	assert_non_null(strstr(g->reason, "triple fault at rip 0x100000"));
}

static void failed_entry(void **state)
{
	(void)state;
	g->vcpu[0].virt->exit.text = "VM entry failed: invalid guest state";
	assert_int_equal(exit_table[VIRT_EXIT_FAILED](&g->vcpu[0]), EXIT_YIELD);
	assert_string_equal(g->reason, "VM entry failed: invalid guest state");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(simple), TEST(console), TEST(block),
		TEST(block_is_bounded), TEST(debug), TEST(endings), TEST(endings_that_come_late), TEST(other_exits),
		TEST(failed_entry) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
