/*
 * The store of compressed pages against a model that keeps every object's bytes in an array: contents, ages,
 * owners, counts, and the two equations of mm/zstore.h on the frames it may take, after every step.
 */
#include "mm/zstore_frame.h"
#include "tests/fake/audit.h"
#include "tests/fake/bug.h"
#include "tests/fake/cpu.h"
#include "tests/fake/slat.h"
#include "tests/unit/unit.h"

#include <pthread.h>

#define OBJECTS 1200u
#define OWNERS  5u

static struct object {
	uint64_t handle; /* 0: none */
	uint32_t seed, bytes, gfn;
	uint16_t owner;
	uint64_t order; /* of its put */
} model[OBJECTS];
static uint64_t put_order, chunks, objects, bytes, peak;

static const uint16_t owner_id[OWNERS] = { 1, 2, 65, 129, 0xfffd }; /* three of them want one place */

static void machine(uint64_t frames, uint64_t pool, uint64_t max)
{
	fake_machine(frames);
	assert_int_equal(frame_pool_init(pool, frames - pool - 64, 8), OK);
	assert_int_equal(zstore_init(max), OK);
	memset(model, 0, sizeof(model));
	put_order = chunks = objects = bytes = peak = 0;
}

static void fill(uint8_t *p, uint32_t n, uint32_t seed)
{
	for (uint32_t i = 0; i < n; i++)
		p[i] = (uint8_t)((seed += 0x9e3779b9u) >> 24 ^ i);
}

static void problem(void *ctx, const char *what, uint64_t counted, uint64_t found)
{
	(void)ctx;
	fprintf(stderr, "zstore: %s: counted %llu, found %llu\n", what, (unsigned long long)counted,
		(unsigned long long)found);
}

/* What is stated in mm/zstore.h. */
static void bound_holds(void)
{
	struct zstore_counts n;

	zstore_counts(&n);
	assert_int_equal(n.use.objects, objects);
	assert_int_equal(n.use.bytes, bytes);
	assert_int_equal(n.chunks, chunks);
	assert_int_equal(n.data_frames, (chunks + ZSTORE_CHUNKS_FRAME - 1) / ZSTORE_CHUNKS_FRAME);
	peak = objects ? MAX(peak, objects) : 0;
	assert_true(n.table_frames <= (peak + ZSTORE_OBJECTS_FRAME - 1) / ZSTORE_OBJECTS_FRAME);
	assert_int_equal(n.data_frames + n.table_frames, zstore_frames());
}

static status_t put(struct object *o, uint32_t size, uint32_t seed, uint32_t flags)
{
	uint8_t data[ZSTORE_MAX_BYTES];

	o->seed = seed;
	o->bytes = size;
	o->gfn = seed * 7;
	o->owner = owner_id[seed % OWNERS];
	fill(data, size, seed);
	status_t s = zstore_put(data, size, o->owner, o->gfn, flags, &o->handle);

	if (s != OK) {
		assert_int_equal(o->handle, 0);
		return s;
	}
	assert_true(o->handle != 0 && o->handle >> ZSTORE_HANDLE_BITS == 0);
	o->order = put_order++;
	objects++;
	bytes += size;
	chunks += chunks_for(size);
	return OK;
}

static void look(const struct object *o)
{
	static uint8_t got[ZSTORE_MAX_BYTES], want[ZSTORE_MAX_BYTES];
	struct zstore_object found;
	uint32_t n;

	zstore_get(o->handle, got, &n);
	assert_int_equal(n, o->bytes);
	fill(want, n, o->seed);
	assert_memory_equal(got, want, n);
	assert_int_equal(zstore_find(o->handle, &found), OK);
	assert_true(found.gfn == o->gfn && found.owner == o->owner && found.bytes == n &&
		    found.handle == o->handle);
}

static void drop(struct object *o)
{
	struct zstore_object found;

	look(o);
	zstore_free(o->handle);
	assert_int_equal(zstore_find(o->handle, &found), ERR_NOENT);
	objects--;
	bytes -= o->bytes;
	chunks -= chunks_for(o->bytes);
	o->handle = 0;
}

static int by_order(const void *a, const void *b)
{
	const struct object *x = *(struct object *const *)a, *y = *(struct object *const *)b;

	return x->order < y->order ? -1 : x->order > y->order;
}

/* The coldest of one owner, or of all, are those that were put first; and what each owner has. */
static void coldest_are_right(uint16_t owner)
{
	static struct object *live[OBJECTS];
	static struct zstore_object cold[64];
	struct zstore_use use;
	uint32_t count = 0;
	uint64_t held = 0;

	for (uint32_t i = 0; i < OBJECTS; i++) {
		if (!model[i].handle || (owner && model[i].owner != owner))
			continue;
		live[count++] = &model[i];
		held += model[i].bytes;
	}
	qsort(live, count, sizeof(live[0]), by_order);
	assert_int_equal(zstore_coldest(owner, cold, 64), MIN(count, 64u));
	for (uint32_t i = 0; i < MIN(count, 64u); i++) {
		assert_int_equal(cold[i].handle, live[i]->handle);
		assert_true(cold[i].gfn == live[i]->gfn && cold[i].owner == live[i]->owner);
	}
	if (!owner)
		return;
	zstore_owner_use(owner, &use);
	assert_int_equal(use.objects, count);
	assert_int_equal(use.bytes, held);
}

static void audit(void)
{
	assert_int_equal(zstore_audit(problem, NULL), 0);
	/* No p2m has the objects: that alone may it say. */
	uint64_t problems = fake_audit_problems(NULL, 0);

	assert_true(problems == 0 || (problems == 1 && fake_audit_said("compressed pages")));
	uint64_t parts = 0;

	for (uint32_t i = 0; i < OWNERS; i++) {
		coldest_are_right(owner_id[i]);
		parts += zstore_owner_frames(owner_id[i]);
	}
	coldest_are_right(0);
	if (parts) /* its last table frames stay until it is empty */
		assert_in_range(parts, zstore_frames(), zstore_frames() + OWNERS - 1);
}

static void drop_all(uint64_t *seed)
{
	uint32_t start = (uint32_t)(test_random(seed) % OBJECTS);

	for (uint32_t i = 0; i < OBJECTS; i++)
		if (model[(start + i * 7) % OBJECTS].handle)
			drop(&model[(start + i * 7) % OBJECTS]);
	bound_holds();
	assert_int_equal(zstore_frames(), 0);
}

/* A million steps: it grows, shrinks, is emptied, and is refused for want of room. */
static void random_steps(void **state)
{
	uint64_t seed = 5;
	uint32_t refused = 0, emptied = 0;

	(void)state;
	machine(1024, 700, 330);
	for (uint32_t step = 0; step < 1000000; step++) {
		uint64_t r = test_random(&seed);
		struct object *o = &model[r % OBJECTS];
		uint32_t phase = step / 4000 % 4; /* growing, level, shrinking, level */
		uint32_t size = (uint32_t)(r >> 20) % (step / 50000 % 2 ? 600 : ZSTORE_MAX_BYTES) + 1;

		if (!o->handle && (phase != 2 || (r >> 50) % 4 == 0)) {
			status_t s = put(o, size, (uint32_t)(r >> 32), 0);

			assert_true(s == OK || s == ERR_LIMIT);
			refused += s != OK;
		} else if (o->handle && ((r >> 40) % 3 == 0 || (phase == 0 && (r >> 40) % 3 == 1))) {
			look(o);
		} else if (o->handle) {
			drop(o);
		}
		bound_holds();
		if (step % 5000 == 0)
			audit();
		if (step % 90000 == 89999) {
			drop_all(&seed);
			emptied++;
		}
	}
	assert_true(refused > 1000 && emptied == 11);
	audit();
	drop_all(&seed);
}

/* The figures of mm/zstore.h. */
static void stated_overhead(void **state)
{
	static const struct { uint32_t low, high, most_permille; } of[] = {
		{ 1, 3072, 135 }, { 513, 513, 395 }, { 1025, 1025, 235 }, { 2049, 2049, 155 }, { 1400, 1400, 100 },
		{ 3072, 3072, 85 },
	};
	uint64_t seed = 9;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_COUNT(of); i++) {
		struct zstore_counts n;

		machine(2048, 1900, 1900);
		for (uint32_t k = 0; k < OBJECTS; k++) {
			uint64_t r = test_random(&seed);

			assert_int_equal(put(&model[k], of[i].low + (uint32_t)(r % (of[i].high - of[i].low + 1)),
						 (uint32_t)(r >> 32), 0), OK);
		}
		zstore_counts(&n);
		print_message("zstore: %u objects of %u..%u bytes: overhead %llu permille\n", OBJECTS, of[i].low,
			of[i].high, (unsigned long long)n.overhead_permille);
		assert_true(n.overhead_permille <= of[i].most_permille);
		drop_all(&seed);
	}
}

static void sizes_that_do_not_pay(void **state)
{
	static const uint8_t data[ZSTORE_MAX_BYTES + 1];
	uint64_t handle = 0;

	(void)state;
	machine(1024, 700, 100);
	assert_int_equal(zstore_put(data, 0, 1, 1, 0, &handle), ERR_INVAL);
	assert_int_equal(zstore_put(data, ZSTORE_MAX_BYTES + 1, 1, 1, 0, &handle), ERR_INVAL);
	assert_int_equal(handle, 0);
	assert_int_equal(zstore_frames(), 0);
	assert_int_equal(zstore_put(data, ZSTORE_MAX_BYTES, 1, UINT32_MAX, 0, &handle), OK);
	assert_int_equal(zstore_frames(), 2);
	zstore_free(handle);
	assert_int_equal(zstore_frames(), 0);
	fake_audit_clean(NULL, 0);
}

/* At its max and with an empty pool: refused without a trace, and on again once there is room. */
static void exhaustion(void **state)
{
	struct frame_account other;
	mfn_t mfn;
	uint32_t n = 0;
	uint64_t seed = 3;

	(void)state;
	machine(1024, 100, 20);
	while (put(&model[n], 3000, n, 0) == OK)
		n++;
	assert_int_equal(n, 19 * 30 / 24); /* one frame is the table */
	assert_int_equal(put(&model[n], 3000, n, 0), ERR_LIMIT);
	assert_int_equal(zstore_frames(), 20);
	bound_holds();
	assert_int_equal(put(&model[n], 3000, n, FRAME_ALLOC_EMERGENCY), OK);
	assert_int_equal(zstore_frames(), 21);
	audit();
	drop(&model[0]);
	zstore_set_max(UINT64_MAX);
	assert_int_equal(frame_account_open(&other, 7, 0, NULL), OK);
	while (frame_alloc(&other, FRAME_TABLE, 0, GFN(0), MFN_NONE, 0, &mfn) == OK)
		;
	for (n = 100; put(&model[n], 3000, n, 0) == OK; n++)
		;
	assert_int_equal(put(&model[n], 3000, n, 0), ERR_NOMEM);
	bound_holds();
	drop_all(&seed);
	/* Data but no table to be had: the frame of data goes back. */
	while (zstore_frames() == 0 && frame_alloc(&other, FRAME_TABLE, 0, GFN(0), MFN_NONE, 0, &mfn) == OK)
		;
	frame_free(&other, mfn, 0);
	assert_int_equal(put(&model[0], 3000, 0, 0), ERR_NOMEM);
	assert_int_equal(zstore_frames(), 0);
}

/* Each stale handle is found, also when its entry has a new object, or its frame another use. */
static void stale_handles(void **state)
{
	static uint8_t buf[ZSTORE_MAX_BYTES];
	struct zstore_object found;
	uint64_t old[3000];
	uint32_t n;

	(void)state;
	machine(1024, 700, 300);
	for (uint32_t i = 0; i < 2000; i++) { /* one entry, used again and again */
		assert_int_equal(put(&model[0], 100, i, 0), OK);
		assert_int_equal(put(&model[1], 100, i, 0), OK);
		if (i)
			zstore_free(model[2].handle);
		for (uint32_t k = 0; k < i; k += k + 97 < i ? 97 : 1) /* where a new object is now */
			assert_int_equal(zstore_find(old[k], &found), ERR_NOENT);
		old[i] = model[0].handle;
		zstore_free(old[i]);
		model[2] = model[1];
		model[0].handle = model[1].handle = 0;
	}
	zstore_free(model[2].handle);
	assert_int_equal(zstore_frames(), 0);
	assert_int_equal(zstore_find(model[2].handle, &found), ERR_NOENT);
	assert_int_equal(zstore_find(0, &found), ERR_NOENT);
	assert_int_equal(zstore_find((1ull << ZSTORE_HANDLE_BITS) - 1, &found), ERR_NOENT);
	for (uint32_t i = 0; i < 300; i++)
		model[i].handle = 0;
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(put(&model[i], 3000, i, 0), i < 297 * 30 / 24 ? OK : ERR_LIMIT);
	for (uint32_t i = 0; i < 2000; i++)
		assert_int_equal(zstore_find(old[i] ^ 1ull << 30, &found), ERR_NOENT);
	assert_true(FAKE_BUG_REACHED(zstore_get(model[2].handle ^ 1ull << 45, buf, &n)));
}

static void stale_free_is_found(void **state)
{
	(void)state;
	fake_cpu_index = 1; /* CPU 0 still holds the lock of the test before */
	machine(1024, 700, 300);
	assert_int_equal(put(&model[0], 100, 1, 0), OK);
	zstore_free(model[0].handle);
	assert_true(FAKE_BUG_REACHED(zstore_free(model[0].handle)));
}

/* The auditors notice what is wrong. */
static void audit_can_fail(void **state)
{
	uint64_t ref;

	(void)state;
	machine(1024, 700, 300);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(put(&model[i], 3000, i, 0), OK);
	audit();
	struct zobject *o = zstore_object(model[3].handle, &ref);
	uint64_t first = object_first(o);
	struct frame *f = frame_known(ref_mfn(first));

	o->bytes -= 200;
	assert_true(zstore_audit(NULL, NULL) >= 2);
	o->bytes += 200;
	object_set_first(o, object_first(zstore_object(model[4].handle, &ref)));
	assert_true(zstore_audit(NULL, NULL) >= 1);
	object_set_first(o, first);
	o->sequence += 10;
	assert_int_equal(zstore_audit(NULL, NULL), 1);
	o->sequence -= 10;
	f->u.zpool.used--;
	assert_true(zstore_audit(NULL, NULL) >= 2);
	f->u.zpool.used++;
	zstore.n.use.objects++;
	assert_true(zstore_audit(NULL, NULL) >= 2);
	assert_true(fake_audit_problems(NULL, 0) >= 2);
	assert_true(fake_audit_said("compressed pages of all guests"));
	zstore.n.use.objects--;
	zstore.account.used_pages--;
	assert_true(fake_audit_problems(NULL, 0) >= 2);
	assert_true(fake_audit_said("pool used"));
	zstore.account.used_pages++;
	audit();
}

/* Four CPUs put, read and free at once. */
#define THREADS 4u

static void *worker(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;
	uint64_t seed = me + 77, handle[100] = { 0 };
	uint32_t key[100], n;
	uint8_t data[ZSTORE_MAX_BYTES], got[ZSTORE_MAX_BYTES];

	fake_cpu_index = me;
	for (uint32_t step = 0; step < 60000; step++) {
		uint64_t r = test_random(&seed);
		uint32_t i = (uint32_t)(r % 100);

		if (!handle[i]) {
			key[i] = (uint32_t)(r >> 32);
			fill(data, key[i] % ZSTORE_MAX_BYTES + 1, key[i]);
			if (zstore_put(data, key[i] % ZSTORE_MAX_BYTES + 1, (uint16_t)(me + 1), i, 0,
				    &handle[i]) != OK)
				handle[i] = 0;
			continue;
		}
		zstore_get(handle[i], got, &n);
		fill(data, n, key[i]);
		if (n != key[i] % ZSTORE_MAX_BYTES + 1 || memcmp(data, got, n))
			abort();
		if (r >> 40 & 1) {
			zstore_free(handle[i]);
			handle[i] = 0;
		}
	}
	for (uint32_t i = 0; i < 100; i++)
		if (handle[i])
			zstore_free(handle[i]);
	return NULL;
}

static void four_cpus(void **state)
{
	pthread_t thread[THREADS];

	(void)state;
	machine(1024, 700, 80); /* refusals, too */
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, worker, (void *)(uintptr_t)i), 0);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	bound_holds();
	assert_int_equal(zstore_frames(), 0);
	fake_audit_clean(NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_that_do_not_pay),
		cmocka_unit_test(exhaustion),
		cmocka_unit_test(stated_overhead),
		cmocka_unit_test(random_steps),
		cmocka_unit_test(audit_can_fail),
		cmocka_unit_test(four_cpus),
		cmocka_unit_test(stale_handles),
		cmocka_unit_test(stale_free_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
