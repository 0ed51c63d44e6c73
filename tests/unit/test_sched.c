/* The scheduler's loop, turn by turn: fairness, sleep, and waiting for memory (docs/adr/0003). */
#include "tests/unit/unit.h"

#include "tests/fake/hv.h"
#include "vmm/memwait.h"
#include "tests/fake/cpu.h"
#include "vmm/sched_cpu.h"

#define POOL 4096u /* 16 MiB */

/* What each guest's "code" does now. */
struct script {
	enum virt_exit_kind (*code)(struct fake_vcpu *v, struct script *s, uint64_t deadline);
	uint64_t next_gpa, end_gpa; /* touch: pages still to write */
	uint32_t interrupts;        /* taken */
	uint32_t entered;
	uint16_t disk_op;           /* of what it asks its disk for */
};
static struct script scripts[65536];

static enum virt_exit_kind run_script(struct fake_vcpu *v, uint64_t deadline)
{
	struct script *s = &scripts[v->virt.guest_id];

	s->entered++;
	while (fake_virt_take(v) >= 0)
		s->interrupts++;
	return s->code ? s->code(v, s, deadline) : VIRT_EXIT_HALT;
}

static enum virt_exit_kind spin(struct fake_vcpu *v, struct script *s, uint64_t deadline)
{
	(void)v, (void)s;
	fake_tsc = deadline;
	return VIRT_EXIT_DEADLINE;
}

static enum virt_exit_kind touch(struct fake_vcpu *v, struct script *s, uint64_t deadline)
{
	struct p2m *p = container_of(v->virt.slat, struct p2m, slat);

	uint64_t *page;

	/* Not zero, or the ladder would take it. */
	while (s->next_gpa < s->end_gpa && (page = fake_guest_access(p, GPA(s->next_gpa), P2M_WRITE))) {
		*page = s->next_gpa;
		s->next_gpa += PAGE_BYTES;
	}
	if (s->next_gpa < s->end_gpa)
		return fake_virt_fault(v, s->next_gpa, P2M_WRITE);
	return spin(v, s, deadline);
}

static struct script *script_of(struct guest *g)
{
	return &scripts[g->id];
}

static int setup(void **state)
{
	(void)state;
	memset(scripts, 0, sizeof(scripts));
	fake_hv_start(POOL);
	fake_virt_code = run_script;
	fake_tsc_step = 1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_hv_destroy_all();
	fake_tsc_step = 0;
	sched_set_poll(NULL);
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

static void passes(int n)
{
	while (n--) {
		if (!sched_pass())
			fake_tsc += 100000; /* what the loop would sleep: 1 ms */
	}
}

static void round_robin(void **state)
{
	struct guest *g[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		g[i] = fake_hv_guest((const char *[]){ "a", "b", "c", "d" }[i], 4);
		script_of(g[i])->code = spin;
	}
	passes(400);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(script_of(g[i])->entered, 100);
		assert_in_range(g[i]->vcpu[0].cpu_tsc, 100 * 100000, 101 * 100000);
	}
}

static void sleepers(void **state)
{
	struct guest *g = fake_hv_guest("a", 4), *busy = fake_hv_guest("b", 4);
	struct fake_vcpu *f = fake_vcpu(g->vcpu[0].virt);

	(void)state;
	script_of(busy)->code = spin;
	passes(20);
	assert_int_equal(script_of(g)->entered, 1);
	assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_HALTED);
	f->timer_tsc = fake_tsc + 550000;
	passes(5);
	assert_int_equal(script_of(g)->entered, 1);
	passes(3);
	assert_true(script_of(g)->entered >= 2);
	f->timer_tsc = UINT64_MAX;
	passes(3);
	uint32_t before = script_of(g)->entered;

	(void)fake_hv_call(g, AERO_HC_EVENT_SETUP, 50, 0, 0);
	guest_event(g, AERO_EVENT_SHUTDOWN);
	passes(2);
	assert_int_equal(script_of(g)->entered, before + 1);
	assert_int_equal(script_of(g)->interrupts, 1);
}

/* Asks the disk once for each time that it is let in, until it has had three requests done. */
static enum virt_exit_kind ask_disk(struct fake_vcpu *v, struct script *s, uint64_t deadline)
{
	if (s->next_gpa == 0) {
		struct p2m *p = container_of(v->virt.slat, struct p2m, slat);
		struct aero_block_req *r = fake_guest_access(p, GPA(MIB(1)), P2M_WRITE);

		if (!r)
			return fake_virt_fault(v, MIB(1), P2M_WRITE);
		*r = (struct aero_block_req){ .gpa = MIB(1), .op = s->disk_op,
			.sectors = s->disk_op != AERO_BLOCK_FLUSH };
		s->next_gpa = MIB(1);
	} else if (s->interrupts < 3 && v->virt.gpr[VIRT_RAX] == 1) {
		s->interrupts++; /* done */
	}
	return s->interrupts < 3 ? fake_virt_hypercall(v, AERO_HC_BLOCK_IO, MIB(1), 1, 0) :
				   spin(v, s, deadline);
}

/* What the hypervisor has at the disk is waited for asleep; others run, and each gets its turn. */
static void line_at_the_disk(void **state)
{
	struct guest *a = fake_hv_guest("a", 4), *b = fake_hv_guest("b", 4), *c = fake_hv_guest("c", 4);

	(void)state;
	script_of(a)->code = script_of(b)->code = ask_disk;
	script_of(a)->disk_op = script_of(b)->disk_op = AERO_BLOCK_FLUSH;
	script_of(c)->code = spin;
	fake_disk_unready = true;
	passes(100);
	assert_int_equal(vcpu_state(&a->vcpu[0]), VCPU_WAIT_DISK);
	assert_int_equal(vcpu_state(&b->vcpu[0]), VCPU_WAIT_DISK);
	assert_int_equal(fake_disk_flush_count, 0);
	assert_true(script_of(a)->entered < 5 && script_of(c)->entered > 80);
	fake_disk_unready = false;
	passes(100);
	assert_int_equal(script_of(a)->interrupts, 3);
	assert_int_equal(script_of(b)->interrupts, 3);
	assert_int_equal(fake_disk_flush_count, 6);
}

/* On another CPU, while CPU 0, which looks after the line, idles. */
static void the_control_plane_hears_who_waits(void **state)
{
	uint32_t kicks, idle, done;
	bool waited;

	(void)state;
	fake_cpu_count = 2;
	sched_init();
	struct guest *a = fake_hv_guest("a", 4);

	sched_set(&a->vcpu[0], 1000, 2);
	script_of(a)->code = ask_disk;
	script_of(a)->disk_op = AERO_BLOCK_FLUSH;
	fake_disk_unready = true;
	fake_cpu_index = 1;
	for (uint32_t i = 0; i < 100 && vcpu_state(&a->vcpu[0]) != VCPU_WAIT_DISK; i++) {
		sched_cpus[0].idle = 1;
		fake_kicks[0] = 0;
		(void)sched_pass();
	}
	waited = vcpu_state(&a->vcpu[0]) == VCPU_WAIT_DISK;
	kicks = fake_kicks[0];
	idle = sched_cpus[0].idle;
	fake_disk_unready = false;
	for (uint32_t i = 0; i < 40; i++) {
		fake_cpu_index = i % 2;
		(void)sched_pass();
	}
	done = script_of(a)->interrupts;
	/* A guest that still ran on CPU 1 could not be ended: all is looked at behind that. */
	for (uint32_t i = 0; i < 1000 && vcpu_state(&a->vcpu[0]) != VCPU_STOPPED; i++) {
		fake_cpu_index = 1;
		sched_stop(&a->vcpu[0]);
		(void)sched_pass();
	}
	fake_cpu_index = 0;
	fake_hv_destroy_all();
	fake_cpu_count = 1;
	sched_init();
	assert_true(waited);
	assert_int_equal(kicks, 1);
	assert_int_equal(idle, 0);
	assert_int_equal(done, 3);
}

/* What became of a vCPU's time: it stands still for what it reads and for frames, not for what it writes; it idles
 * while it halts or is paused. */
static void time_is_accounted_for(void **state)
{
	struct guest *reads = fake_hv_guest("r", 4), *writes = fake_hv_guest("w", 4), *halts = fake_hv_guest("h", 4);
	const struct vcpu *r = &reads->vcpu[0], *w = &writes->vcpu[0], *h = &halts->vcpu[0];

	(void)state;
	script_of(reads)->code = script_of(writes)->code = ask_disk;
	script_of(reads)->disk_op = AERO_BLOCK_READ;
	script_of(writes)->disk_op = AERO_BLOCK_WRITE;
	fake_disk_unready = true;
	passes(10);
	assert_int_equal(vcpu_state(r), VCPU_WAIT_DISK);
	assert_int_equal(vcpu_state(w), VCPU_WAIT_DISK);
	uint64_t since = fake_tsc, stalled = r->stalled_tsc, idle = h->idle_tsc;
	passes(100);
	uint64_t waited = fake_tsc - since;
	fake_disk_unready = false;
	passes(3);
	assert_in_range(r->stalled_tsc - stalled, waited, waited + waited / 10);
	assert_true(r->disk_tsc > 0 && r->disk_tsc <= r->cpu_tsc);
	assert_true(w->stalled_tsc < waited / 100 && w->disk_tsc > 0);
	assert_true(w->idle_tsc < waited / 100 && r->idle_tsc < waited / 100);
	assert_int_equal(guest_pause(halts), OK); /* it is counted when it leaves where it is */
	assert_true(h->idle_tsc - idle >= waited);
	idle = h->idle_tsc;
	since = fake_tsc;
	passes(10);
	assert_int_equal(guest_unpause(halts), OK);
	assert_true(h->idle_tsc > idle && h->idle_tsc - idle <= fake_tsc - since);
}

static void pause_keeps_sleep(void **state)
{
	struct guest *g = fake_hv_guest("a", 4);

	(void)state;
	passes(3);
	assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_HALTED);
	assert_int_equal(guest_pause(g), OK);
	passes(3);
	assert_int_equal(guest_unpause(g), OK);
	assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_HALTED);
	passes(3);
	assert_int_equal(script_of(g)->entered, 1);
}

/* A guest of `mib` that touches all it has from 1 MiB on. */
static struct guest *toucher(const char *name, uint64_t mib)
{
	struct guest *g = fake_hv_guest(name, mib);

	*script_of(g) = (struct script){ .code = touch, .next_gpa = MIB(2), .end_gpa = MIB(mib) };
	return g;
}

static void one_waits_others_go_on(void **state)
{
	struct guest *big = toucher("big", 32), *busy = fake_hv_guest("busy", 4);

	(void)state;
	script_of(busy)->code = spin;
	fake_vcpu(big->vcpu[0].virt)->cpl = 3;
	passes(400);
	assert_int_equal(vcpu_state(&big->vcpu[0]), VCPU_WAIT_MEMORY);
	assert_int_equal(big->vcpu[0].wait_count, 1);
	assert_true(big->vcpu[0].wait_since_ns != 0);
	assert_int_equal(big->state, GUEST_RUNNING);
	uint32_t busy_before = script_of(busy)->entered, big_before = script_of(big)->entered;

	passes(1000);
	assert_int_equal(script_of(busy)->entered, busy_before + 1000);
	assert_int_equal(script_of(big)->entered, big_before); /* tried without being entered */
	/* The policy is told who stands still. */
	passes(9000);
	assert_true(stall_permille(&big->stall.average) >= 950);
	assert_int_equal(stall_permille(&busy->stall.average), 0);
	assert_true(frame_pool_free() >= FAKE_HV_EMERGENCY); /* the reserve is whole */
	/* The busy guest's guarantee holds: all of its min is to be had. */
	for (uint64_t gpa = MIB(2); gpa < MIB(2) + busy->config.min_bytes / 2; gpa += PAGE_BYTES)
		assert_non_null(fake_hv_touch(busy, gpa, P2M_WRITE));
}

static void goes_on_when_memory_returns(void **state)
{
	struct guest *first = toucher("first", 16), *second = toucher("second", 16);

	(void)state;
	passes(400);
	assert_int_equal(vcpu_state(&first->vcpu[0]), VCPU_WAIT_MEMORY);
	assert_int_equal(vcpu_state(&second->vcpu[0]), VCPU_WAIT_MEMORY);
	guest_destroy(first);
	passes(400);
	assert_true(script_of(second)->next_gpa == MIB(16));
	assert_int_equal(second->vcpu[0].wait_since_ns, 0);
	assert_true(second->vcpu[0].stalled_tsc > 0);
	assert_true(second->vcpu[0].wait_ns_total > 0);
}

/* All wait, nothing comes: the host sleeps, and tries each at a low rate without entering it. */
static void all_wait_in_peace(void **state)
{
	struct guest *g[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		g[i] = toucher((const char *[]){ "a", "b", "c" }[i], 16);
	passes(1000);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(vcpu_state(&g[i]->vcpu[0]), VCPU_WAIT_MEMORY);
		assert_int_equal(g[i]->state, GUEST_RUNNING);
		script_of(g[i])->entered = 0;
	}
	int idle = 0;

	for (int i = 0; i < 1000; i++) {
		if (!sched_pass()) {
			idle++;
			fake_tsc += 100000;
		}
	}
	assert_int_equal(idle, 1000);
	for (int i = 0; i < 3; i++)
		assert_int_equal(script_of(g[i])->entered, 0);
}

/* A waiter takes interrupts where it stands, once a millisecond at most, and keeps its place. */
static void waiter_takes_interrupts(void **state)
{
	struct guest *a = toucher("a", 16), *b = toucher("b", 16);
	struct fake_vcpu *f = fake_vcpu(a->vcpu[0].virt);

	(void)state;
	f->cpl = 3;
	passes(1000);
	(void)fake_hv_call(a, AERO_HC_EVENT_SETUP, 40, 0, 0);
	script_of(a)->entered = 0;
	uint64_t since = a->vcpu[0].wait_since_ns;

	for (int i = 0; i < 50; i++) {
		guest_event(a, AERO_EVENT_BALLOON);
		passes(4);
	}
	assert_true(script_of(a)->interrupts >= 40);
	assert_in_range(script_of(a)->entered, 40, 60);
	assert_int_equal(vcpu_state(&a->vcpu[0]), VCPU_WAIT_MEMORY);
	assert_int_equal(a->vcpu[0].wait_since_ns, since);
	assert_int_equal(a->vcpu[0].wait_count, 1);
	/* Interrupts off, as it is found to have them when it waits again: pending ones do not get it
	 * entered. */
	f->interrupts = false;
	guest_event(a, AERO_EVENT_BALLOON);
	passes(50);
	script_of(a)->entered = 0;
	guest_event(a, AERO_EVENT_BALLOON);
	passes(50);
	assert_int_equal(script_of(a)->entered, 0);
	assert_int_equal(vcpu_state(&b->vcpu[0]), VCPU_WAIT_MEMORY);
}

static void grace_rules(void **state)
{
	struct guest *a = toucher("a", 32);
	struct fake_vcpu *f = fake_vcpu(a->vcpu[0].virt);

	(void)state;
	f->cpl = 3;
	assert_int_equal(fake_hv_call(a, AERO_HC_BALLOON_SETUP, MIB(2), 0, 0), 0);
	passes(200);
	assert_int_equal(vcpu_state(&a->vcpu[0]), VCPU_WAIT_MEMORY);
	assert_true(a->balloon.target_pages > 100); /* the policy's */
	assert_int_equal(a->grace_pages, 0); /* a process gets none */
	a->vcpu[0].wait_kernel = true;
	f->cpl = 0;
	passes(50);
	assert_int_equal(a->grace_pages, memwait_grace_limit(FAKE_HV_EMERGENCY, 1));
	assert_int_equal(vcpu_state(&a->vcpu[0]), VCPU_WAIT_MEMORY);
	assert_true(frame_pool_free() > 0);
	/* What never-touched pages it puts in the balloon pays nothing; frames do. */
	struct aero_range *r = fake_hv_touch(a, MIB(1), P2M_WRITE);

	r[0] = (struct aero_range){ .gfn = MIB(31) >> 12, .count = 8 };
	assert_int_equal(fake_hv_call(a, AERO_HC_BALLOON_INFLATE, MIB(1), 1, 0), 1);
	assert_int_equal(a->grace_pages, MEMWAIT_GRACE_MAX);
	r[0] = (struct aero_range){ .gfn = MIB(3) >> 12, .count = 5 };
	assert_int_equal(fake_hv_call(a, AERO_HC_BALLOON_INFLATE, MIB(1), 1, 0), 1);
	assert_int_equal(r[0].done, 5);
	assert_int_equal(a->grace_pages, MEMWAIT_GRACE_MAX - 5);
}

/* A hypercall whose buffer is not to be had waits in front of itself. */
static enum virt_exit_kind read_console(struct fake_vcpu *v, struct script *s, uint64_t deadline)
{
	fake_tsc += 10000;
	if (fake_tsc >= deadline)
		return spin(v, s, deadline);
	return fake_virt_hypercall(v, AERO_HC_CONSOLE_READ, MIB(15), 16, 0);
}

static void hypercall_waits(void **state)
{
	struct guest *a = toucher("a", 32), *b = fake_hv_guest("b", 16);
	struct fake_vcpu *f = fake_vcpu(b->vcpu[0].virt);

	(void)state;
	passes(20);
	for (uint64_t gpa = MIB(2); fake_hv_touch(b, gpa, P2M_WRITE); gpa += PAGE_BYTES)
		assert_true(gpa < MIB(14));
	f->cpl = 3;
	script_of(b)->code = read_console;
	(void)guest_console_input(b, "hi", 2);
	guest_event(b, AERO_EVENT_CONSOLE);
	sched_wake(&b->vcpu[0]);
	passes(20);
	assert_int_equal(vcpu_state(&b->vcpu[0]), VCPU_WAIT_MEMORY);
	assert_true(f->again_count >= 1);
	assert_int_equal(b->vcpu[0].wait_gpa.v, MIB(15));
	guest_destroy(a);
	script_of(b)->entered = 0;
	passes(3);
	assert_true(script_of(b)->entered > 0);
	assert_memory_equal(fake_hv_touch(b, MIB(15), P2M_READ), "hi", 2);
}

static int polls;
static bool poll(void)
{
	return ++polls % 2;
}

static void polls_each_turn(void **state)
{
	(void)state;
	polls = 0;
	sched_set_poll(poll);
	assert_true(sched_pass());
	assert_false(sched_pass());
	assert_int_equal(polls, 2);
}

static void grace_limit(void **state)
{
	(void)state;
	assert_int_equal(memwait_grace_limit(256, 1), 16);
	assert_int_equal(memwait_grace_limit(256, 10), 12);
	assert_int_equal(memwait_grace_limit(256, 64), 2);
	assert_int_equal(memwait_grace_limit(0, 0), 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(round_robin), TEST(sleepers), TEST(line_at_the_disk),
		TEST(the_control_plane_hears_who_waits),
		TEST(time_is_accounted_for), TEST(pause_keeps_sleep),
		TEST(one_waits_others_go_on), TEST(goes_on_when_memory_returns),
		TEST(all_wait_in_peace), TEST(waiter_takes_interrupts), TEST(grace_rules),
		TEST(hypercall_waits), TEST(polls_each_turn), TEST(grace_limit) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
