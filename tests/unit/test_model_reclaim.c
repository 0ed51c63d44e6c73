/*
 * One page on its way out and back, in every interleaving (mm/p2m_evict.c): the control plane holds, copies and
 * settles it, or moves it from the compressed store to swap; a vCPU touches it; another CPU takes it into the
 * balloon, gives it back, overwrites it whole. Meanwhile free frames become another guest's. Whoever has the
 * p2m's lock makes one step of all that he does with it, but where the lock is given up, and where a flush
 * is awaited. Each rule is left out once: the model must then fail.
 */
#include "tests/unit/interleave.h"

#define FRAMES 2u
#define SLOTS  2u /* of the compressed store and of swap alike */

enum entry { RAM, HELD, COMPRESSED, SWAPPED, EMPTY, BALLOON };
enum owner { NOBODY, US, ANOTHER };

static struct {
	uint8_t evictions, calls; /* bounds */
	bool two_holders;
	/* what is left out */
	bool no_flush, early_free, no_settle_check, no_recheck, no_generation, no_drop, keeps_frame;
} plan;

struct page_state {
	uint8_t entry, payload; /* a frame, or a slot with its generation */
	uint8_t owner[FRAMES], frame[FRAMES];
	uint8_t used[SLOTS], slot[SLOTS], generation[SLOTS];
	uint8_t truth;  /* what the guest would read; 0: zero */
	uint8_t locked; /* by one who waits for a flush */
	uint8_t cached; /* the vCPU's translation: frame + 1 */
	struct {
		uint8_t at, frame, copy, to, put, left;
	} c[2]; /* who holds: one, or, where the rule is broken, two */
	uint8_t v_at, v_payload, v_copy;
	uint8_t b_at, b_frame, b_left;
	uint8_t bad;
};

enum { FREED_TWICE = 1, STALE_READ, FREE_SLOT };
enum { C_IDLE, C_FLUSH, C_LOOK, C_COPY, C_PUT, C_SETTLE, C_MOVE_PUT, C_MOVE };

static int free_frame(struct page_state *s)
{
	for (int i = 0; i < (int)FRAMES; i++)
		if (s->owner[i] == NOBODY)
			return i;
	return -1;
}

/* Zeroed. -1: none. */
static int take_frame(struct page_state *s)
{
	int f = free_frame(s);

	if (f >= 0) {
		s->owner[f] = US;
		s->frame[f] = 0;
	}
	return f;
}

static void drop_frame(struct page_state *s, unsigned f)
{
	if (s->owner[f] != US)
		s->bad = FREED_TWICE;
	s->owner[f] = NOBODY;
}

static int put_slot(struct page_state *s, uint8_t content)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (s->used[i])
			continue;
		s->used[i] = 1;
		s->slot[i] = content;
		return (int)(i | (unsigned)s->generation[i] << 4);
	}
	return -1;
}

static void drop_slot(struct page_state *s, uint8_t payload)
{
	unsigned i = payload & 15u;

	if (!s->used[i])
		s->bad = FREE_SLOT;
	s->used[i] = 0;
	s->slot[i] = 0;
	s->generation[i] = plan.no_generation ? 0 : (s->generation[i] + 1) & 7;
}

static bool is_out(const struct page_state *s)
{
	return s->entry == COMPRESSED || s->entry == SWAPPED;
}

static void write_new(struct page_state *s, unsigned f)
{
	s->truth = s->truth == 1 ? 2 : 1;
	s->frame[f] = s->truth;
}

static void enter(struct page_state *s, uint8_t entry, uint8_t payload)
{
	s->entry = entry;
	s->payload = payload;
}

/* ---- the control plane ------------------------------------------------------------------------ */

static void c_done(struct page_state *s, unsigned i)
{
	uint8_t left = s->c[i].left;

	memset(&s->c[i], 0, sizeof(s->c[i]));
	s->c[i].left = (uint8_t)(left - 1);
}

static bool c_begin(struct page_state *s, unsigned i)
{
	if (s->locked || !s->c[i].left)
		return false;
	if (s->entry == RAM) {
		s->c[i].frame = s->payload;
		enter(s, HELD, s->payload);
		s->locked = !plan.no_flush;
		s->c[i].at = plan.no_flush ? C_LOOK : C_FLUSH;
		return true;
	}
	if (s->entry == COMPRESSED) {
		s->c[i].put = s->payload;
		s->c[i].copy = s->slot[s->payload & 15u];
		s->c[i].at = C_MOVE_PUT;
		return true;
	}
	return false;
}

static bool still_held(const struct page_state *s, unsigned i)
{
	return s->entry == HELD && s->payload == s->c[i].frame;
}

static bool c_settle(struct page_state *s, unsigned i)
{
	uint8_t put = s->c[i].put, to = s->c[i].to;

	if (s->locked)
		return false;
	if (still_held(s, i) || plan.no_settle_check) {
		enter(s, to, to == RAM ? s->c[i].frame : to == EMPTY ? 0 : put);
		if (to != RAM)
			drop_frame(s, s->c[i].frame);
	} else if ((to == COMPRESSED || to == SWAPPED) && !plan.no_drop) {
		drop_slot(s, put);
	}
	c_done(s, i);
	return true;
}

/* What the copy becomes; no lock. */
static bool c_put(struct page_state *s, unsigned i, bool swap)
{
	int put;

	if (s->c[i].copy == 0) {
		s->c[i].to = EMPTY;
	} else {
		put = put_slot(s, s->c[i].copy);
		s->c[i].to = put < 0 ? RAM : swap ? SWAPPED : COMPRESSED;
		s->c[i].put = put < 0 ? 0 : (uint8_t)put;
	}
	s->c[i].at = C_SETTLE;
	return true;
}

static bool c_move(struct page_state *s, unsigned i)
{
	if (s->locked)
		return false;
	if (s->entry == COMPRESSED && s->payload == s->c[i].put) {
		drop_slot(s, s->payload);
		enter(s, SWAPPED, s->c[i].to);
	} else {
		drop_slot(s, s->c[i].to);
	}
	c_done(s, i);
	return true;
}

static bool c_step(struct page_state *s, unsigned i, bool other)
{
	int put;

	if (other && s->c[i].at != C_PUT)
		return false;
	switch (s->c[i].at) {
	case C_IDLE:
		return c_begin(s, i);
	case C_FLUSH:
		s->cached = 0;
		s->locked = 0;
		s->c[i].at = C_LOOK;
		return true;
	case C_LOOK:
		if (s->locked)
			return false;
		if (still_held(s, i))
			s->c[i].at = C_COPY;
		else
			c_done(s, i);
		return true;
	case C_COPY: /* the frame may be anybody's by now */
		s->c[i].copy = s->frame[s->c[i].frame];
		s->c[i].at = C_PUT;
		return true;
	case C_PUT:
		return c_put(s, i, other);
	case C_SETTLE:
		return c_settle(s, i);
	case C_MOVE_PUT:
		put = put_slot(s, s->c[i].copy);
		if (put < 0) {
			c_done(s, i);
			return true;
		}
		s->c[i].to = (uint8_t)put;
		s->c[i].at = C_MOVE;
		return true;
	default:
		return c_move(s, i);
	}
}

/* ---- a vCPU ------------------------------------------------------------------------------------- */

static bool map_new(struct page_state *s, bool with_content)
{
	int f = take_frame(s);

	if (f < 0)
		return false; /* it waits */
	if (is_out(s)) {
		if (with_content)
			s->frame[f] = s->slot[s->payload & 15u];
		drop_slot(s, s->payload);
	}
	enter(s, RAM, (uint8_t)f);
	return true;
}

static bool v_fault(struct page_state *s)
{
	if (s->locked)
		return false;
	if (s->entry == COMPRESSED) { /* expanded with the lock given up */
		s->v_payload = s->payload;
		s->v_copy = s->slot[s->payload & 15u];
		s->v_at = 2;
		return true;
	}
	if (s->entry == HELD)
		enter(s, RAM, s->payload);
	else if (s->entry != RAM && !map_new(s, true))
		return false;
	s->v_at = 0;
	return true;
}

static bool v_expanded(struct page_state *s)
{
	if (s->locked)
		return false;
	if ((s->entry == COMPRESSED && s->payload == s->v_payload) || plan.no_recheck) {
		int f = take_frame(s);

		if (f < 0)
			return false;
		s->frame[f] = s->v_copy;
		drop_slot(s, s->v_payload);
		enter(s, RAM, (uint8_t)f);
	}
	s->v_at = s->v_payload = s->v_copy = 0;
	return true;
}

static bool v_step(struct page_state *s, bool write)
{
	if (s->v_at)
		return !write && (s->v_at == 1 ? v_fault(s) : v_expanded(s));
	if (!s->cached) { /* the processor's walk: no lock */
		if (write)
			return false;
		if (s->entry == RAM)
			s->cached = (uint8_t)(s->payload + 1);
		else
			s->v_at = 1;
		return true;
	}
	if (write) {
		write_new(s, s->cached - 1u);
		return true;
	}
	if (s->frame[s->cached - 1u] == s->truth)
		return false; /* a good read changes nothing */
	s->bad = STALE_READ;
	return true;
}

/* ---- another CPU's calls ------------------------------------------------------------------------ */

static bool inflate(struct page_state *s)
{
	uint8_t payload = s->payload, was = s->entry;

	if (was == BALLOON)
		return false;
	enter(s, BALLOON, 0);
	if (was == RAM) {
		s->b_frame = payload;
		s->b_at = 1;
		s->locked = 1;
		if (plan.early_free)
			drop_frame(s, payload);
		return true;
	}
	if (was == HELD && !plan.keeps_frame)
		drop_frame(s, payload);
	else if (was == COMPRESSED || was == SWAPPED)
		drop_slot(s, payload);
	s->truth = 0;
	return true;
}

static bool inflate_flush(struct page_state *s)
{
	s->cached = 0;
	s->locked = 0;
	s->truth = 0;
	if (!plan.early_free)
		drop_frame(s, s->b_frame);
	s->b_at = s->b_frame = 0;
	return true;
}

static bool overwrite(struct page_state *s)
{
	if (s->entry == HELD)
		enter(s, RAM, s->payload);
	else if (s->entry != RAM && !map_new(s, false))
		return false;
	write_new(s, s->payload);
	return true;
}

static bool b_step(struct page_state *s, unsigned what)
{
	bool did;

	if (s->b_at)
		return what == 0 && inflate_flush(s);
	if (s->locked || !s->b_left)
		return false;
	if (what == 0) {
		did = inflate(s);
	} else if (what == 1) {
		did = s->entry == BALLOON;
		if (did)
			enter(s, EMPTY, 0);
	} else {
		did = overwrite(s);
	}
	s->b_left = (uint8_t)(s->b_left - did);
	return did;
}

/* Another guest takes a free frame and writes to it, or gives it back. */
static bool others(struct page_state *s, unsigned f)
{
	if (s->owner[f] == US)
		return false;
	s->owner[f] = s->owner[f] == ANOTHER ? NOBODY : ANOTHER;
	s->frame[f] = 9;
	return true;
}

/* ---- the check ---------------------------------------------------------------------------------- */

enum { A_C = 0, A_V = 4, A_B = 6, A_OTHERS = 9, ACTIONS = A_OTHERS + FRAMES };

static bool page_step(void *state, unsigned a)
{
	struct page_state *s = state;

	if (a < A_V)
		return (a < 2 || plan.two_holders) && c_step(s, a / 2, a % 2);
	if (a < A_B)
		return v_step(s, a - A_V);
	if (a < A_OTHERS)
		return b_step(s, a - A_B);
	return others(s, a - A_OTHERS);
}

static const char *contents(const struct page_state *s)
{
	unsigned content = 0, frames = 0, slots = 0, want = 0;

	for (unsigned i = 0; i < FRAMES; i++)
		frames += s->owner[i] == US;
	for (unsigned i = 0; i < SLOTS; i++)
		slots += s->used[i];
	for (unsigned i = 0; i < 2; i++)
		want += (s->c[i].at == C_SETTLE && (s->c[i].to == COMPRESSED || s->c[i].to == SWAPPED)) ||
			s->c[i].at == C_MOVE;
	if (s->entry == RAM || s->entry == HELD) {
		if (s->owner[s->payload] != US)
			return "the page's frame is not the guest's";
		content = s->frame[s->payload];
	} else if (is_out(s)) {
		if (!s->used[s->payload & 15u])
			return "the page's slot is free";
		content = s->slot[s->payload & 15u];
	}
	if (content != s->truth)
		return "content is lost";
	if (frames != (s->entry == RAM || s->entry == HELD))
		return "a frame is left over";
	if (slots != is_out(s) + want)
		return "a slot is left over";
	if (s->cached && !(s->entry == RAM && s->payload == s->cached - 1))
		return "a translation is left over";
	return NULL;
}

static const char *page_wrong(const void *state)
{
	const struct page_state *s = state;

	if (s->bad == FREED_TWICE)
		return "a frame is freed twice";
	if (s->bad == FREE_SLOT)
		return "a slot is freed twice";
	if (s->bad)
		return "the guest reads what it did not write";
	return s->locked ? NULL : contents(s);
}

static const char *page_stuck(const void *state)
{
	(void)state;
	return "nobody can go on";
}

static struct verdict check_page(void)
{
	const struct model m = { sizeof(struct page_state), ACTIONS, page_step, page_wrong, page_stuck };
	struct page_state s;

	memset(&s, 0, sizeof(s));
	s.entry = EMPTY;
	for (unsigned i = 0; i < 2; i++)
		s.c[i].left = plan.evictions;
	s.b_left = plan.calls;
	return model_check(&m, &s);
}

static void expect(const char *name, bool right)
{
	struct verdict v = check_page();

	printf("a page out and back, %s: %llu states, %s\n", name, (unsigned long long)v.states,
		v.error ? v.error : "right");
	if (right && v.error)
		fail_msg("%s", v.error);
	assert_true(right == !v.error);
	memset(&plan, 0, sizeof(plan));
	plan.evictions = 3;
	plan.calls = 3;
}

static int set_plan(void **state)
{
	(void)state;
	memset(&plan, 0, sizeof(plan));
	plan.evictions = 3;
	plan.calls = 3;
	return 0;
}

static void content_is_never_lost(void **state)
{
	(void)state;
	expect("as it is", true);
}

static void each_rule_is_needed(void **state)
{
	(void)state;
	plan.no_flush = true;
	expect("held without a flush", false);
	plan.early_free = true;
	expect("freed before the flush", false);
	plan.no_settle_check = true;
	expect("settled unseen", false);
	plan.no_recheck = true;
	expect("expanded, and not looked at again", false);
	plan.no_generation = true;
	expect("handles that come back at once", false);
	plan.no_drop = true;
	expect("what was put away is not dropped", false);
	plan.keeps_frame = true;
	expect("a held frame is not freed by the balloon", false);
	plan.two_holders = true;
	plan.evictions = 1;
	expect("two hold and settle at a time", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(content_is_never_lost, set_plan),
		cmocka_unit_test_setup(each_rule_is_needed, set_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
