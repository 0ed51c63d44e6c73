/*
 * The scheduler with several CPUs, each a thread: guests that sleep, guests that never leave unless they
 * are kicked, events from everywhere, pauses, moves and parking. A wake-up that is lost is a guest that does
 * not take its interrupt; CPUs other than 0 have no tick that would hide it.
 */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "tests/fake/cpu.h"
#include "tests/fake/hv.h"
#include "vmm/sched.h"

#define CPUS    4u
#define GUESTS  6u
#define SPINNERS 3u /* vCPUs of one more guest */
#define WAKERS  2u
#define ROUNDS  4000u
#define LOST_S  20
#define VECTOR  50u

static struct guest *guests[GUESTS];
static uint32_t taken[GUESTS];	   /* atomic: interrupts */
static uint32_t inside[GUESTS];	   /* atomic: CPUs that run it */
static uint32_t in_guest;	   /* atomic: CPUs in any */
static bool done, lost, twice, parked_ran;
static uint32_t ran_on[GUESTS];	   /* atomic: mask */
static uint32_t finished;	   /* atomic: wakers */

static struct guest *spinners;
static uint32_t spinning[SPINNERS], spins[SPINNERS]; /* atomic: CPUs that run it; turns */

/* It wants another of its guest's vCPUs to run, and by and by it halts until an event comes. */
static enum virt_exit_kind spin(struct fake_vcpu *v)
{
	uint32_t i = v->virt.vcpu_id;

	__atomic_fetch_add(&in_guest, 1, __ATOMIC_SEQ_CST);
	if (__atomic_fetch_add(&spinning[i], 1, __ATOMIC_SEQ_CST))
		twice = true;
	while (fake_virt_take(v) >= 0)
		;
	sched_yield();
	uint32_t n = __atomic_add_fetch(&spins[i], 1, __ATOMIC_RELAXED);

	__atomic_fetch_sub(&spinning[i], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&in_guest, 1, __ATOMIC_SEQ_CST);
	if (n % 7 == 0)
		return fake_virt_hypercall(v, AERO_HC_YIELD, (i + 1) % SPINNERS, 0, 0);
	return n % 64 == 0 ? VIRT_EXIT_HALT : VIRT_EXIT_SPIN;
}

static uint32_t index_of(const struct fake_vcpu *v)
{
	for (uint32_t i = 0; i < GUESTS; i++)
		if (guests[i] && guests[i]->vcpu[0].virt == &v->virt)
			return i;
	return GUESTS - 1; /* its creation is not over */
}

/* Odd ones spin until they are kicked or their slice is over, even ones halt. */
static enum virt_exit_kind code(struct fake_vcpu *v, uint64_t deadline)
{
	uint32_t i = index_of(v);
	enum virt_exit_kind exit = VIRT_EXIT_HALT;

	if (v->virt.peers && v->virt.peer_count == SPINNERS)
		return spin(v);
	__atomic_fetch_add(&in_guest, 1, __ATOMIC_SEQ_CST);
	if (__atomic_fetch_add(&inside[i], 1, __ATOMIC_SEQ_CST))
		twice = true;
	__atomic_fetch_or(&ran_on[i], 1u << cpu_index(), __ATOMIC_RELAXED);
	while (fake_virt_take(v) >= 0)
		__atomic_fetch_add(&taken[i], 1, __ATOMIC_SEQ_CST);
	if (i & 1) {
		while (!fake_take_kick() && platform_tsc() < deadline)
			sched_yield();
		exit = platform_tsc() < deadline ? VIRT_EXIT_HOST_EVENT : VIRT_EXIT_DEADLINE;
	}
	__atomic_fetch_sub(&inside[i], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&in_guest, 1, __ATOMIC_SEQ_CST);
	return exit;
}

static void *cpu_thread(void *index)
{
	fake_cpu_index = (uint32_t)(uintptr_t)index;
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
		if (!sched_pass())
			sched_rest();
	return NULL;
}

static void wait_for(const uint32_t *count, uint32_t before)
{
	time_t end = time(NULL) + LOST_S;

	while (__atomic_load_n(count, __ATOMIC_SEQ_CST) == before) {
		if (time(NULL) > end) {
			__atomic_store_n(&lost, true, __ATOMIC_SEQ_CST);
			return;
		}
		sched_yield();
	}
}

static void wake_spinner(uint32_t i)
{
	virt_raise(spinners->vcpu[i].virt, VECTOR);
	sched_wake(&spinners->vcpu[i]);
}

/* One outstanding event a guest and waker: whoever sends waits until it was taken. */
static void *waker_thread(void *index)
{
	uint64_t seed = (uintptr_t)index;

	fake_cpu_index = (uint32_t)(uintptr_t)index;
	for (uint32_t n = 0; n < ROUNDS && !__atomic_load_n(&lost, __ATOMIC_RELAXED); n++) {
		uint32_t g = (uint32_t)(test_random(&seed) % GUESTS);
		uint32_t before = __atomic_load_n(&taken[g], __ATOMIC_SEQ_CST);

		if (n % 4 == 0)
			wake_spinner((uint32_t)(test_random(&seed) % SPINNERS));
		guest_event(guests[g], AERO_EVENT_CONSOLE);
		wait_for(&taken[g], before);
	}
	__atomic_fetch_add(&finished, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* On CPU 0, between vCPUs: what an operator does. */
static uint64_t operator_seed = 5;
static uint32_t operated;

static bool operate(void)
{
	uint32_t what = (uint32_t)(test_random(&operator_seed) % 16);
	uint32_t which = (uint32_t)(test_random(&operator_seed) % (GUESTS + 1));
	struct guest *g = which == GUESTS ? spinners : guests[which];

	operated++;
	switch (what) {
	case 0:
		assert_int_equal(guest_pause(g), OK);
		assert_int_equal(vcpu_state(&g->vcpu[0]), VCPU_STOPPED);
		assert_int_equal(guest_unpause(g), OK);
		return true;
	case 1:
		if (which == GUESTS)
			return false; /* places are exchanged by equals */
		sched_set(&g->vcpu[0], 1 + (uint32_t)(test_random(&operator_seed) % 2000),
			1 + test_random(&operator_seed) % ((1u << CPUS) - 1));
		return true;
	case 2:
		sched_park_others();
		if (__atomic_load_n(&in_guest, __ATOMIC_SEQ_CST))
			parked_ran = true;
		sched_unpark();
		return false;
	default:
		return false;
	}
}

static int setup(void **state)
{
	(void)state;
	fake_cpu_count = CPUS;
	fake_threads = true;
	done = lost = twice = parked_ran = false;
	memset(guests, 0, sizeof(guests));
	virt_caps.real_mode = true;
	fake_hv_start(16384);
	fake_virt_code = code;
	for (uint32_t i = 0; i < GUESTS; i++) {
		char name[8] = { 'g', (char)('0' + i) };

		guests[i] = fake_hv_guest(name, 4);
		(void)fake_hv_call(guests[i], AERO_HC_EVENT_SETUP, VECTOR, 0, 0);
		taken[i] = ran_on[i] = 0;
	}
	struct config_guest c = fake_hv_config("spin", 4);
	char error[CONFIG_ERROR_BYTES];

	c.vcpus = SPINNERS;
	assert_int_equal(guest_create(&c, &spinners, error), OK);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sched_set_poll(NULL);
	fake_hv_destroy_all();
	virt_caps.real_mode = false;
	fake_threads = false;
	fake_cpu_count = 1;
	assert_int_equal(fake_hv_audit(), 0);
	return 0;
}

/* CPU 0 is this thread. */
static void run_all(bool with_operator)
{
	pthread_t cpu[CPUS], waker[WAKERS];
	uint32_t ended = 0;

	operated = finished = 0;
	sched_set_poll(with_operator ? operate : NULL);
	for (uintptr_t i = 1; i < CPUS; i++)
		assert_int_equal(pthread_create(&cpu[i], NULL, cpu_thread, (void *)i), 0);
	for (uintptr_t i = 0; i < WAKERS; i++)
		assert_int_equal(pthread_create(&waker[i], NULL, waker_thread, (void *)(i + CPUS)), 0);
	while (ended < WAKERS) {
		if (!sched_pass())
			sched_rest();
		ended = __atomic_load_n(&finished, __ATOMIC_ACQUIRE);
	}
	for (uint32_t i = 0; i < WAKERS; i++)
		assert_int_equal(pthread_join(waker[i], NULL), 0);
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	for (uint32_t i = 1; i < CPUS; i++) {
		platform_kick(i);
		assert_int_equal(pthread_join(cpu[i], NULL), 0);
	}
	assert_false(lost);
	assert_false(twice);
	uint64_t gave_way = 0;

	for (uint32_t i = 0; i < SPINNERS; i++) {
		assert_true(spins[i] > 100);
		gave_way += spinners->vcpu[i].gave_way;
	}
	assert_true(gave_way > 100);
}

static void no_wake_up_is_lost(void **state)
{
	(void)state;
	run_all(false);
	for (uint32_t i = 0; i < GUESTS; i++)
		assert_true(taken[i] > 0);
}

static void nor_when_guests_are_paused_and_moved(void **state)
{
	(void)state;
	run_all(true);
	assert_false(parked_ran);
	assert_true(operated > 100);
}

/* A mask is kept to from the next move on. */
static void masks(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < GUESTS; i++)
		sched_set(&guests[i]->vcpu[0], 1000, 1u << (i % CPUS));
	run_all(false);
	for (uint32_t i = 0; i < GUESTS; i++)
		assert_int_equal(ran_on[i], 1u << (i % CPUS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_wake_up_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(nor_when_guests_are_paused_and_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(masks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
