/*
 * A hostile guest: any hypercalls with any arguments and any memory behind them, through the real
 * dispatcher, memory and balloon code. It must get answers; the auditor must find nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "mm/audit.h"
#include "tests/fake/hv.h"
#include "vmm/overcommit.h"

#define GUEST_MIB 4u
#define POOL      900u /* pages: fewer than the guest has, so it also meets a full pool */

struct input {
	const uint8_t *at;
	size_t left;
};

static uint64_t take(struct input *in, size_t bytes)
{
	uint64_t v = 0;
	size_t n = MIN(bytes, in->left);

	memcpy(&v, in->at, n);
	in->at += n;
	in->left -= n;
	return v;
}

/* Mostly what gets past the first check: small, in memory, near its end; else anything. */
static uint64_t argument(struct input *in)
{
	switch (take(in, 1) % 6) {
	case 0:
		return take(in, 1);
	case 1:
		return take(in, 2);
	case 2:
		return take(in, 2) * 8 % MIB(GUEST_MIB);
	case 3:
		return take(in, 2) * PAGE_BYTES % MIB(GUEST_MIB);
	case 4:
		return MIB(GUEST_MIB) - take(in, 1);
	default:
		return take(in, 8);
	}
}

static void write_memory(struct guest *g, struct input *in)
{
	uint64_t gpa = argument(in);
	uint8_t bytes[48] = { 0 };
	size_t n = MIN(sizeof(bytes), in->left);

	memcpy(bytes, in->at, n);
	in->at += n;
	in->left -= n;
	if (p2m_copy_to(&g->p2m, GPA(gpa), bytes, sizeof(bytes)) != OK)
		return;
}

static void step(struct guest *g, struct input *in)
{
	uint8_t what = (uint8_t)take(in, 1);

	if (what < 160) {
		uint64_t number = what < 150 ? what % AERO_HC_COUNT : argument(in);
		uint64_t a = argument(in), b = argument(in), c = argument(in);

		(void)fake_hv_call(g, number, a, b, c);
	} else if (what < 210) {
		write_memory(g, in);
	} else if (what < 240) {
		(void)fake_hv_touch(g, argument(in), what & 1 ? P2M_WRITE : P2M_READ);
	} else {
		fake_tsc += take(in, 2) * 1000;
		overcommit_poll(platform_ns());
	}
}

static struct p2m *nth(void *ctx, uint32_t i)
{
	return i == 0 ? &((struct guest *)ctx)->p2m : NULL;
}

static void audit(struct guest *g)
{
	struct audit_report report;

	audit_run(nth, g, false, &report);
	if (report.problems)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static bool started;
	struct input in = { data, bytes };

	if (!started)
		fake_hv_start(POOL);
	started = true;
	fake_tsc = 1;
	struct guest *g = fake_hv_guest("fuzz", GUEST_MIB);

	uint64_t first = take(&in, 1);

	g->config.debug = first & 1;
	while (in.left && g->state == GUEST_RUNNING)
		step(g, &in);
	if (first < 32) /* the whole machine is looked at: not for each input */
		audit(g);
	guest_destroy(g);
	return 0;
}
