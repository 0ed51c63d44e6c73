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

/* ---- no deadlock ------------------------------------------------------------------------------- */

/*
 * Guests at their limits, an instruction of each needing all of its pages at once, fewer swap buffers than guests
 * and a disk that takes its time. CPU 0's loop is as it is: it looks after all who wait, in their
 * order, then runs the next. From every state somebody must be able to finish an instruction.
 */
#define GUESTS  3u
#define NEEDS   2u /* pages of an instruction */
#define BUFFERS 2u

enum vcpu { READY, WAIT_DISK, WAIT_FRAME };
enum buffer { B_FREE, B_READING, B_CLEAN, B_WRITING };

static struct {
	uint8_t limit, frames, buffers;
	bool look_only;    /* who waits for the disk is told, not given his page */
	bool write_all;    /* writes may take all buffers */
	bool disk_is_gone; /* and writes never end */
} host;

struct host_state {
	uint8_t ram[GUESTS];   /* bit a page: mapped; else in swap */
	uint8_t vcpu[GUESTS], wants[GUESTS];
	uint8_t buffer[BUFFERS], whose[BUFFERS]; /* guest * NEEDS + page */
	uint8_t next;          /* whose turn it is */
	uint8_t finished;      /* by this step */
};

static unsigned resident(const struct host_state *s, unsigned g)
{
	return (unsigned)__builtin_popcount(s->ram[g]);
}

static bool frame_to_be_had(const struct host_state *s, unsigned g)
{
	unsigned all = 0;

	for (unsigned i = 0; i < GUESTS; i++)
		all += resident(s, i);
	return resident(s, g) < host.limit && all < host.frames;
}

/* The buffer with the page, or one that will have it; else a read begins if there is a buffer for it: a free one,
 * else a clean one, whoever's page is in it. */
static int buffer_of(struct host_state *s, unsigned g, unsigned page)
{
	int best = -1;

	for (int i = 0; i < host.buffers; i++)
		if ((s->buffer[i] == B_READING || s->buffer[i] == B_CLEAN) && s->whose[i] == g * NEEDS + page)
			return i;
	for (int i = 0; i < host.buffers; i++)
		if (s->buffer[i] == B_FREE || (s->buffer[i] == B_CLEAN && best < 0))
			best = i;
	if (best >= 0) {
		s->buffer[best] = B_READING;
		s->whose[best] = (uint8_t)(g * NEEDS + page);
	}
	return best;
}

/* p2m_fault(): READY if it is mapped now. */
static enum vcpu page_in(struct host_state *s, unsigned g, unsigned page)
{
	int b;

	if (s->ram[g] >> page & 1)
		return READY;
	b = buffer_of(s, g, page);
	if (b < 0 || s->buffer[b] != B_CLEAN)
		return WAIT_DISK;
	if (!frame_to_be_had(s, g))
		return WAIT_FRAME;
	s->ram[g] |= (uint8_t)(1u << page);
	s->buffer[b] = B_FREE;
	s->whose[b] = 0;
	return READY;
}

static void poll_waiter(struct host_state *s, unsigned g)
{
	unsigned page = s->wants[g];
	int b;

	if (s->vcpu[g] == WAIT_DISK && host.look_only) {
		b = buffer_of(s, g, page);
		if (b >= 0 && s->buffer[b] == B_CLEAN)
			s->vcpu[g] = READY;
		return;
	}
	if (s->vcpu[g] != READY)
		s->vcpu[g] = (uint8_t)page_in(s, g, page);
}

static void run_vcpu(struct host_state *s, unsigned g)
{
	for (unsigned page = 0; page < NEEDS; page++) {
		s->vcpu[g] = (uint8_t)page_in(s, g, page);
		s->wants[g] = (uint8_t)page;
		if (s->vcpu[g] != READY)
			return;
	}
	s->wants[g] = 0;
	s->finished = 1;
}

static bool pass(struct host_state *s)
{
	for (unsigned g = 0; g < GUESTS; g++)
		poll_waiter(s, g);
	for (unsigned i = 0; i < GUESTS; i++) {
		unsigned g = (s->next + i) % GUESTS;

		if (s->vcpu[g] != READY)
			continue;
		s->next = (uint8_t)((g + 1) % GUESTS);
		run_vcpu(s, g);
		break;
	}
	return true;
}

static bool disk_answers(struct host_state *s, unsigned b)
{
	if (b >= host.buffers)
		return false;
	if (s->buffer[b] == B_READING) {
		s->buffer[b] = B_CLEAN;
		return true;
	}
	if (s->buffer[b] != B_WRITING || host.disk_is_gone)
		return false;
	s->buffer[b] = B_FREE;
	return true;
}

/* The ladder takes any page of any guest, as if it owed: through a write buffer. */
static bool evict(struct host_state *s, unsigned g, unsigned page)
{
	unsigned writing = 0;
	int to = -1;

	for (int i = 0; i < host.buffers; i++) {
		writing += s->buffer[i] == B_WRITING;
		if (s->buffer[i] == B_FREE || (s->buffer[i] == B_CLEAN && to < 0))
			to = i;
	}
	if (!(s->ram[g] >> page & 1) || to < 0 ||
		(writing >= host.buffers / 2u && !host.write_all))
		return false;
	s->ram[g] &= (uint8_t)~(1u << page);
	s->buffer[to] = B_WRITING;
	s->whose[to] = 0;
	return true;
}

enum { H_PASS = 0, H_DISK = 1, H_EVICT = H_DISK + BUFFERS, H_ACTIONS = H_EVICT + GUESTS * NEEDS };

static bool host_step(void *state, unsigned a)
{
	struct host_state *s = state;

	s->finished = 0;
	if (a == H_PASS)
		return pass(s);
	if (a < H_EVICT)
		return disk_answers(s, a - H_DISK);
	return evict(s, (a - H_EVICT) / NEEDS, (a - H_EVICT) % NEEDS);
}

#define STATES (1u << 20)
#define EDGES  (STATES * 4u)

static uint32_t find_state(const struct state_set *set, const uint8_t *s, size_t bytes)
{
	uint64_t i = state_hash(s, bytes) & (set->slots - 1);

	while (memcmp(set->all + (set->slot[i] - 1) * bytes, s, bytes))
		i = (i + 1) & (set->slots - 1);
	return set->slot[i] - 1;
}

/* How many of the states that can be reached are such that nobody can ever finish from there. */
static uint64_t hopeless(uint64_t *states)
{
	struct state_set set = { .slots = STATES * 2, .room = STATES };
	uint32_t (*edge)[2] = malloc(EDGES * sizeof(*edge));
	uint64_t edges = 0, bad = 0;
	bool changed = true;
	struct host_state now, next;

	memset(&now, 0, sizeof(now));
	set.slot = calloc(set.slots, sizeof(*set.slot));
	set.all = malloc(set.room * sizeof(now));
	uint8_t *hope = calloc(STATES, 1);

	assert_true(set.slot && set.all && hope && edge);
	state_add(&set, (const uint8_t *)&now, sizeof(now));
	for (uint64_t done = 0; done < set.count; done++) {
		memcpy(&now, set.all + done * sizeof(now), sizeof(now));
		for (unsigned a = 0; a < H_ACTIONS; a++) {
			next = now;
			if (!host_step(&next, a))
				continue;
			state_add(&set, (const uint8_t *)&next, sizeof(next));
			assert_true(edges < EDGES);
			edge[edges][0] = (uint32_t)done;
			edge[edges++][1] = find_state(&set, (const uint8_t *)&next, sizeof(next));
		}
	}
	for (uint64_t i = 0; i < set.count; i++)
		hope[i] = ((const struct host_state *)(const void *)(set.all + i * sizeof(now)))->finished;
	while (changed) {
		changed = false;
		for (uint64_t e = edges; e-- > 0;)
			if (!hope[edge[e][0]] && hope[edge[e][1]])
				changed = (hope[edge[e][0]] = true);
	}
	for (uint64_t i = 0; i < set.count; i++)
		bad += !hope[i];
	*states = set.count;
	free(set.slot);
	free(set.all);
	free(hope);
	free(edge);
	return bad;
}

static void expect_hope(const char *name, bool right)
{
	uint64_t states, bad = hopeless(&states);

	printf("guests at their limits, %s: %llu states, %llu without hope\n", name, (unsigned long long)states,
		(unsigned long long)bad);
	assert_true(right == !bad);
}

static void somebody_can_always_go_on(void **state)
{
	(void)state;
	memset(&host, 0, sizeof(host));
	host.limit = NEEDS;
	host.frames = GUESTS * NEEDS;
	host.buffers = BUFFERS;
	expect_hope("a limit of just what an instruction needs", true);
	host.frames = NEEDS + GUESTS - 1;
	expect_hope("frames for one of them, and one each for the others", true);
	host.disk_is_gone = true;
	expect_hope("writes never end: half the buffers are left to read", true);
	host.disk_is_gone = false;
	host.buffers = 1;
	host.write_all = true;
	expect_hope("one buffer for all", true);
}

static void and_not_without_these(void **state)
{
	(void)state;
	memset(&host, 0, sizeof(host));
	host.limit = NEEDS - 1;
	host.frames = GUESTS * NEEDS;
	host.buffers = BUFFERS;
	expect_hope("a limit below what an instruction needs", false);
	host.limit = NEEDS;
	host.buffers = 1;
	host.write_all = true;
	host.look_only = true;
	expect_hope("who waits is told, and another takes his buffer", false);
	host.look_only = false;
	host.buffers = BUFFERS;
	host.disk_is_gone = true;
	expect_hope("writes never end, and may have all buffers", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(content_is_never_lost, set_plan),
		cmocka_unit_test_setup(each_rule_is_needed, set_plan),
		cmocka_unit_test(somebody_can_always_go_on),
		cmocka_unit_test(and_not_without_these),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
