/*
 * Nobody waits for ever (vmm/memwait.h, mm/swap.h), in every interleaving: guests at their limits, an instruction of
 * each needing all of its pages at once, fewer swap buffers than guests and a disk that takes its time. CPU 0's loop
 * is as it is: it looks after all who wait, in their order, then runs the next. From every state somebody must be
 * able to finish an instruction.
 */
#include "tests/unit/interleave.h"

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
		cmocka_unit_test(somebody_can_always_go_on),
		cmocka_unit_test(and_not_without_these),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
