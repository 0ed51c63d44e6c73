/* The guests' life cycle over the real memory code: create, refuse, destroy, and what is left. */
#include "tests/unit/unit.h"

#include <libfdt.h>

#include "tests/fake/hv.h"
#include "mm/heap.h"
#include "vmm/guest_build.h"
#include "vmm/sched.h"

#define POOL 8192u /* 32 MiB */

static char error[CONFIG_ERROR_BYTES];

static uint64_t pool_used(void)
{
	struct frame_counts n;

	frame_counts(&n);
	return n.pool_used;
}

static uint64_t heap_before;

static int setup(void **state)
{
	(void)state;
	fake_hv_start(POOL);
	heap_before = heap_used_bytes();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_hv_destroy_all();
	assert_int_equal(fake_virt_live, 0);
	assert_int_equal(pool_used(), 0);
	assert_int_equal(heap_used_bytes(), heap_before);
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

static void created(void **state)
{
	struct guest *g = fake_hv_guest("vm0", 16);
	char letters[7];

	(void)state;
	assert_int_equal(guest_count(), 1);
	assert_int_equal(g->state, GUEST_RUNNING);
	assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_RUNNABLE);
	assert_ptr_equal(guest_find("vm0"), g);
	assert_null(guest_find("vm"));
	char id[8];

	snprintf(id, sizeof(id), "%u", g->id);
	assert_ptr_equal(guest_find(id), g);
	guest_state_letters(g, letters);
	assert_string_equal(letters, "r-----");
	assert_int_equal(fake_hv_audit(), 0);

	/* What the guest finds: registers, image, identity map, tree. */
	const struct virt_boot *boot = &fake_vcpu(g->vcpu[0].virt)->boot;
	uint64_t entry;

	assert_int_equal(boot->entry, FAKE_HV_ENTRY);
	assert_string_equal(fake_hv_touch(g, 0x100000, P2M_EXEC), "code of the guest");
	assert_int_equal(p2m_copy_from(&g->p2m, GPA(boot->cr3 + 2 * PAGE_BYTES + 8 * 511), &entry, 8),
		OK);
	assert_int_equal(entry, 511ull << 21 | 0x83);
	assert_int_equal(fdt_check_header(fake_hv_touch(g, boot->rsi, P2M_READ)), 0);
}

static void tree(void **state)
{
	struct guest *g = fake_hv_guest("vm7", 16);
	static uint64_t buf[GUEST_DTB_MAX / 8];
	int length, node;

	(void)state;
	assert_true(guest_dtb(g, buf, sizeof(buf)) > 0);
	node = fdt_path_offset(buf, "/hypervisor");
	assert_true(node > 0);
	assert_int_equal(fdt_node_check_compatible(buf, node, "aerostat,hv"), 0);
	assert_string_equal(fdt_getprop(buf, node, "guest-name", &length), "vm7");
	node = fdt_path_offset(buf, "/chosen");
	assert_string_equal(fdt_getprop(buf, node, "bootargs", &length), "quiet");
	const fdt32_t *reg = fdt_getprop(buf, fdt_path_offset(buf, "/memory@0"), "reg", &length);

	assert_int_equal(length, 16);
	assert_int_equal(fdt32_to_cpu(reg[3]), MIB(16));
	assert_int_equal(fdt_num_mem_rsv(buf), 2);
	assert_true(guest_dtb(g, buf, 200) < 0);
}

static void refuse(const struct config_guest *c, status_t want, const char *text)
{
	uint32_t count = guest_count();
	uint64_t used = pool_used();

	assert_int_equal(guest_create(c, NULL, error), want);
	if (!strstr(error, text))
		fail_msg("\"%s\" lacks \"%s\"", error, text);
	assert_int_equal(guest_count(), count);
	assert_int_equal(pool_used(), used);
	assert_int_equal(fake_hv_audit(), 0);
}

static void refused(void **state)
{
	struct config_guest c = fake_hv_config("vm0", 16);

	(void)state;
	(void)fake_hv_guest("vm0", 16);
	refuse(&c, ERR_EXIST, "vm0 exists");
	strcpy(c.name, "vm1");
	strcpy(c.kernel, "other.elf");
	refuse(&c, ERR_NOENT, "no image other.elf");
	c = fake_hv_config("vm1", 64);
	c.min_bytes = MIB(64);
	refuse(&c, ERR_LIMIT, "its min of 64M cannot be guaranteed: the pool of 32M has 27.");
	c = fake_hv_config("vm1", 16);
	c.disk_bytes = MIB(100);
	refuse(&c, ERR_LIMIT, "disk of 100M, but disk 1 has");
	c = fake_hv_config("vm1", 16);
	fake_virt_no_memory = true;
	refuse(&c, ERR_NOMEM, "no memory for its CPU");
	fake_virt_no_memory = false;
}

static void bad_images(void **state)
{
	static const char junk[256] = "this is no program";
	struct config_guest c = fake_hv_config("vm0", 16);

	(void)state;
	guest_image_add("junk", junk, sizeof(junk));
	strcpy(c.kernel, "junk");
	refuse(&c, ERR_FORMAT, "image junk: ");
	guest_image_add("empty", junk, 0);
	strcpy(c.kernel, "empty");
	refuse(&c, ERR_FORMAT, "image empty: ");
}

/* Mins are promised in full: of 8 MiB each, three fit 32 MiB less reserve, the fourth does not. */
static void admission(void **state)
{
	struct config_guest c;
	char name[16];

	(void)state;
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "vm%d", i);
		c = fake_hv_config(name, 32);
		assert_int_equal(guest_create(&c, NULL, error), OK);
	}
	c = fake_hv_config("vm3", 32);
	refuse(&c, ERR_LIMIT, "its min of 8M cannot be guaranteed");
	c.min_bytes = MIB(1);
	assert_int_equal(guest_create(&c, NULL, error), OK);
}

static void states(void **state)
{
	struct guest *g = fake_hv_guest("vm0", 16);
	char letters[7];

	(void)state;
	assert_int_equal(guest_unpause(g), ERR_BUSY);
	assert_int_equal(guest_pause(g), OK);
	assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_STOPPED);
	assert_int_equal(guest_pause(g), ERR_BUSY);
	guest_state_letters(g, letters);
	assert_string_equal(letters, "--p---");
	assert_int_equal(guest_unpause(g), OK);
	assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_RUNNABLE);
	guest_crash(g, "for reason %d", 7);
	assert_int_equal(g->state, GUEST_CRASHED);
	assert_string_equal(g->reason, "for reason 7");
	guest_shutdown(g, "late", true); /* the first end counts */
	assert_string_equal(g->reason, "for reason 7");
	assert_int_equal(guest_unpause(g), ERR_BUSY);
	guest_state_letters(g, letters);
	assert_string_equal(letters, "----c-");
}

/* One guest writes all it can; the next in its frames finds zero everywhere it did not load. */
static void nothing_leaks(void **state)
{
	struct guest *g = fake_hv_guest("first", 16);

	(void)state;
	for (uint64_t gpa = MIB(2); gpa < MIB(16); gpa += PAGE_BYTES)
		memset(fake_hv_touch(g, gpa, P2M_WRITE), 0xee, PAGE_BYTES);
	guest_destroy(g);
	for (int i = 0; i < 2; i++) {
		g = fake_hv_guest(i ? "b" : "a", 16);
		for (uint64_t gpa = MIB(2); gpa < MIB(14); gpa += PAGE_BYTES) {
			const uint8_t *p = fake_hv_touch(g, gpa, P2M_WRITE);

			for (uint32_t at = 0; at < PAGE_BYTES; at++)
				assert_int_equal(p[at], 0);
		}
	}
	assert_int_equal(fake_hv_audit(), 0);
}

static void many(void **state)
{
	uint64_t seed = 3;
	char name[16];

	(void)state;
	for (uint32_t i = 0; i < 400; i++) {
		struct config_guest c;
		struct guest *g;

		snprintf(name, sizeof(name), "g%u", i);
		c = fake_hv_config(name, 4 + 2 * (test_random(&seed) % 8));
		c.disk_bytes = 0;
		if (guest_create(&c, &g, error) == OK) {
			uint64_t touch = test_random(&seed) % 300;

			while (touch--)
				(void)fake_hv_touch(g, test_random(&seed) % c.memory_bytes,
					test_random(&seed) & 1 ? P2M_WRITE : P2M_READ);
		}
		if (guest_count() > 6 || test_random(&seed) % 3 == 0) {
			g = guest_next(NULL);
			for (uint64_t skip = test_random(&seed) % guest_count(); skip--;)
				g = guest_next(g);
			guest_destroy(g);
		}
		if (i % 40 == 0)
			assert_int_equal(fake_hv_audit(), 0);
	}
	for (struct guest *g = guest_next(NULL); g && guest_next(g); g = guest_next(g))
		assert_true(g->id < guest_next(g)->id);
}

static void events(void **state)
{
	struct guest *g = fake_hv_guest("vm0", 16);
	struct fake_vcpu *f = fake_vcpu(g->vcpu[0].virt);

	(void)state;
	guest_event(g, AERO_EVENT_SHUTDOWN);
	assert_int_equal(fake_virt_take(f), -1); /* no vector yet */
	assert_int_equal(fake_hv_call(g, AERO_HC_EVENT_SETUP, 31, 0, 0), -AERO_EINVAL);
	assert_int_equal(fake_hv_call(g, AERO_HC_EVENT_SETUP, 64, 0, 0), 0);
	assert_int_equal(fake_virt_take(f), 64); /* what was pending is told at once */
	assert_int_equal(guest_console_input(g, "hello", 5), 5);
	assert_int_equal(fake_virt_take(f), 64);
	assert_int_equal(fake_hv_call(g, AERO_HC_EVENT_TAKE, 0, 0, 0),
		AERO_EVENT_SHUTDOWN | AERO_EVENT_CONSOLE);
	assert_int_equal(fake_hv_call(g, AERO_HC_EVENT_TAKE, 0, 0, 0), 0);
}

#define SECOND 100000000u /* of fake_tsc */

static void reboot(void **state)
{
	struct guest *g = fake_hv_guest("vm0", 16);
	uint16_t id = g->id;

	(void)state;
	memset(fake_hv_touch(g, MIB(3), P2M_WRITE), 1, PAGE_BYTES);
	(void)fake_hv_call(g, AERO_HC_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
	assert_int_equal(g->state, GUEST_SHUTDOWN);
	fake_tsc += SECOND;
	guest_poll();
	g = guest_find("vm0");
	assert_non_null(g);
	assert_true(g->id != id);
	assert_int_equal(g->state, GUEST_RUNNING);
	assert_int_equal(*(char *)fake_hv_touch(g, MIB(3), P2M_READ), 0);
}

/* One that does nothing but reboot keeps neither CPU 0 from the others nor the operator from his console. */
static void reboots_are_a_second_apart(void **state)
{
	struct guest *g = fake_hv_guest("vm0", 16);
	uint16_t id = g->id;
	uint32_t made = 0;

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		g = guest_find("vm0");
		assert_non_null(g);
		made += g->id != id;
		id = g->id;
		if (g->state == GUEST_RUNNING)
			(void)fake_hv_call(g, AERO_HC_SHUTDOWN, AERO_SHUTDOWN_REBOOT, 0, 0);
		guest_poll();
		fake_tsc += SECOND / 20;
	}
	assert_in_range(made, 4, 5);
}

static size_t lines;
static void count_line(const char *line, size_t bytes)
{
	(void)bytes;
	lines += strstr(line, "noisy: ") != NULL;
}

static void log_budget(void **state)
{
	struct guest *g = fake_hv_guest("noisy", 16);

	(void)state;
	fake_tsc = 400000000000;
	lines = 0;
	log_set_sink(count_line, LOG_DEBUG);
	for (int i = 0; i < 1000; i++)
		guest_log(g, LOG_WARN, "message %d", i);
	assert_int_equal(lines, GUEST_LOG_LINES);
	fake_tsc += 200000000;
	guest_log(g, LOG_WARN, "again");
	assert_int_equal(lines, GUEST_LOG_LINES + 2); /* how many were dropped, and this one */
	log_set_sink(NULL, LOG_DEBUG);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(created), TEST(tree), TEST(refused), TEST(bad_images),
		TEST(admission), TEST(states), TEST(nothing_leaks), TEST(many), TEST(events),
		TEST(reboot), TEST(reboots_are_a_second_apart), TEST(log_budget) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
