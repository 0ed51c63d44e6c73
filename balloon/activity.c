/* Pure. The working-set estimator of one guest: see balloon/activity.h. */
#include "balloon/activity.h"

#define FAST_DIVISOR  2u /* the newest round's weight in the fast average is 1 / 2 */
#define SLOW_DIVISOR  8u
#define ROUNDS_ROUGH  2u /* before that nothing is known */
#define ROUNDS_GOOD   8u /* until then the slow average still holds much of the first round */
#define PPM           1000000u
#define TIME_MAX_NS   1000000000000ull /* of one round: times PPM it fits 64 bits */
#define CREDIT_MAX_NS (1ull << 60)
#define WINDOW_MIN_NS 1000000ull

/* ---- the generator ---------------------------------------------------------------------------- */

/* Marsaglia's xorshift with a multiplied output (Vigna's xorshift64*): its low bits are the weak ones. */
static uint64_t next_random(struct activity *a)
{
	uint64_t x = a->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	a->random = x;
	return x * 0x2545f4914f6cdd1dull;
}

/* Scrambles a seed, so that guests 1, 2, 3 do not get streams that are alike (splitmix64's finish). */
static uint64_t scramble(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

uint64_t activity_pick(struct activity *a, uint64_t pages)
{
	/* The high part of the product: no division, and a bias of pages / 2^64 at most. */
	return (uint64_t)((unsigned __int128)next_random(a) * pages >> 64);
}

/* ---- cost and time ---------------------------------------------------------------------------- */

static uint64_t round_cost(const struct activity *a, uint32_t pages)
{
	return a->page_ns * pages / 16;
}

/* The time in which so much cost may be had. */
static uint64_t time_for(const struct activity *a, uint64_t cost_ns)
{
	return MIN(cost_ns, TIME_MAX_NS) * PPM / a->budget_ppm;
}

/* Credits the time that has passed. A clock that goes back credits nothing twice. */
static void settle(struct activity *a, uint64_t now_ns)
{
	uint64_t passed = now_ns > a->settled_ns ? now_ns - a->settled_ns : 0;
	uint64_t credit = passed / PPM * a->budget_ppm + passed % PPM * a->budget_ppm / PPM;

	a->credit_ns = MIN(a->credit_ns + (int64_t)MIN(credit, CREDIT_MAX_NS), (int64_t)CREDIT_MAX_NS);
	a->settled_ns += passed;
}

/*
 * The next round: as large as can be had every ACTIVITY_INTERVAL_NS, and when it can be paid for.
 * Credit beyond its cost is lost: a guest that was not sampled for an hour is not to be sampled all
 * the more afterwards.
 */
static void plan(struct activity *a, uint64_t now_ns)
{
	if (a->budget_ppm == 0) {
		a->due_ns = UINT64_MAX;
		return;
	}
	uint64_t afford = ACTIVITY_INTERVAL_NS / PPM * a->budget_ppm;
	uint64_t pages = a->page_ns ? afford * 16 / a->page_ns : ACTIVITY_SAMPLE_MAX;

	a->sample = (uint32_t)MAX(ACTIVITY_SAMPLE_MIN, MIN(pages, ACTIVITY_SAMPLE_MAX));
	int64_t cost = (int64_t)round_cost(a, a->sample), lack;

	a->credit_ns = MIN(a->credit_ns, cost);
	lack = cost - a->credit_ns;
	a->due_ns = now_ns + (lack > 0 ? time_for(a, (uint64_t)lack) : 0);
}

void activity_init(struct activity *a, const struct activity_config *c, uint64_t seed, uint64_t now_ns)
{
	uint64_t random = scramble(seed);

	*a = (struct activity){
		.window_ns = c->window_ns ? MIN(MAX(c->window_ns, WINDOW_MIN_NS), TIME_MAX_NS)
					  : ACTIVITY_WINDOW_NS,
		.budget_ppm = MIN(c->budget_ppm, PPM),
		.random = random ? random : 1,
		.began_ns = now_ns,
		.settled_ns = now_ns,
	};
	plan(a, now_ns);
}

void activity_stir(struct activity *a, uint64_t entropy)
{
	uint64_t random = a->random ^ scramble(entropy);

	a->random = random ? random : 1;
}

void activity_set_budget(struct activity *a, uint32_t budget_ppm, uint64_t now_ns)
{
	settle(a, now_ns);
	a->budget_ppm = MIN(budget_ppm, PPM);
	if (!a->sampling)
		plan(a, now_ns);
}

/* ---- rounds ----------------------------------------------------------------------------------- */

uint32_t activity_begin(struct activity *a, uint64_t now_ns)
{
	a->sampling = true;
	a->began_ns = now_ns;
	a->due_ns = now_ns + a->window_ns;
	return a->sample;
}

static uint32_t fraction(uint32_t sampled, uint32_t touched)
{
	return (uint32_t)((uint64_t)MIN(touched, sampled) * ACTIVITY_ONE / sampled);
}

/* The average with one more round in it. Rounds to the nearest, else it would never reach 1 again. */
static uint32_t average(uint32_t old, uint32_t newest, uint32_t divisor)
{
	return (old * (divisor - 1) + newest + divisor / 2) / divisor;
}

void activity_progress(struct activity *a, uint32_t sampled, uint32_t touched)
{
	if (!a->sampling || sampled == 0 || a->rounds == 0)
		return;
	a->current = MAX(a->current, average(a->fast, fraction(sampled, touched), FAST_DIVISOR));
}

void activity_end(struct activity *a, const struct activity_round *round, uint64_t now_ns)
{
	uint64_t spent = MIN(round->spent_ns, TIME_MAX_NS);

	a->sampling = false;
	if (round->sampled) {
		uint32_t f = fraction(round->sampled, round->touched);
		uint64_t page = spent * 16 / round->sampled;

		a->fast = a->rounds ? average(a->fast, f, FAST_DIVISOR) : f;
		a->slow = a->rounds ? average(a->slow, f, SLOW_DIVISOR) : f;
		a->current = a->fast;
		a->rounds += a->rounds < UINT32_MAX;
		/* Dearer is believed at once, cheaper by and by. */
		a->page_ns = page > a->page_ns ? page : a->page_ns - (a->page_ns - page) / 4;
	}
	a->spent_ns += spent;
	settle(a, now_ns);
	a->credit_ns -= (int64_t)spent;
	if (a->credit_ns < -(int64_t)TIME_MAX_NS)
		a->credit_ns = -(int64_t)TIME_MAX_NS;
	plan(a, now_ns);
}

/* ---- the estimate ----------------------------------------------------------------------------- */

enum activity_confidence activity_confidence(const struct activity *a)
{
	if (a->rounds < ROUNDS_ROUGH)
		return ACTIVITY_UNKNOWN;
	return a->rounds < ROUNDS_GOOD ? ACTIVITY_ROUGH : ACTIVITY_GOOD;
}

static uint32_t highest(const struct activity *a)
{
	return MAX(MAX(a->slow, a->fast), a->current);
}

static uint64_t part_of(uint64_t pages, uint32_t f)
{
	return pages / ACTIVITY_ONE * f + (pages % ACTIVITY_ONE * f + ACTIVITY_ONE - 1) / ACTIVITY_ONE;
}

uint32_t activity_permille(const struct activity *a)
{
	if (activity_confidence(a) == ACTIVITY_UNKNOWN)
		return 1000;
	return (uint32_t)part_of(1000, highest(a));
}

uint64_t activity_pages(const struct activity *a, uint64_t pages)
{
	if (activity_confidence(a) == ACTIVITY_UNKNOWN)
		return pages;
	return part_of(pages, highest(a));
}

/* ---- the cross-check -------------------------------------------------------------------------- */

/*
 * What the claim looks like now. An eighth of its size is no misfit: it is more than three standard
 * errors of the smallest sample's slow average, and than what kernels hold back as reserves, which are
 * neither free nor ever written.
 *
 * MISFIT_FREE goes by the lowest of the averages, for one who has just freed much is honest, and
 * by what is not free rather than by what is in use: a cache that is read all the time is touched and
 * yet available. One whose free pages change all the time may look like it; nothing but its word
 * speaks against it, and nothing but a line in `mem-why` comes of it.
 */
static enum activity_fit compare(const struct activity *a, const struct activity_claim *c)
{
	uint64_t slack = c->size_pages / 8;
	uint64_t in_use = c->size_pages - MIN(c->available_pages, c->size_pages);
	uint64_t not_free = c->size_pages - MIN(c->free_pages, c->size_pages);
	uint64_t active = part_of(c->size_pages, highest(a));
	uint64_t at_least = part_of(c->size_pages, MIN(a->slow, a->fast));

	if (in_use > c->written_pages + slack)
		return ACTIVITY_MISFIT_EMPTY;
	if (at_least > not_free + slack)
		return ACTIVITY_MISFIT_FREE;
	if (in_use > 4 * active + slack)
		return ACTIVITY_IDLE;
	return ACTIVITY_FITS;
}

enum activity_fit activity_check(struct activity *a, const struct activity_claim *claim)
{
	if (activity_confidence(a) != ACTIVITY_GOOD || claim->size_pages == 0)
		return a->fit;
	enum activity_fit now = compare(a, claim);

	for (enum activity_fit f = ACTIVITY_IDLE; f < ACTIVITY_FIT_COUNT; f++) {
		if (f != now && a->seen[f])
			a->seen[f]--;
		if (f == now && a->seen[f] < ACTIVITY_MISFIT_ROUNDS)
			a->seen[f]++;
		if (f == now && a->seen[f] == ACTIVITY_MISFIT_ROUNDS)
			a->fit = f;
	}
	if (a->fit < ACTIVITY_IDLE || a->seen[a->fit] == 0)
		a->fit = ACTIVITY_FITS;
	return a->fit;
}

const char *activity_confidence_name(enum activity_confidence c)
{
	static const char *const name[] = { "unknown", "rough", "good" };

	return (uint32_t)c < ARRAY_COUNT(name) ? name[c] : "?";
}

const char *activity_fit_text(enum activity_fit fit)
{
	static const char *const text[ACTIVITY_FIT_COUNT] = {
		[ACTIVITY_FIT_UNKNOWN] = "not compared",
		[ACTIVITY_FITS] = "its statistics fit what it touches",
		[ACTIVITY_IDLE] = "says that far more is in use than it touches",
		[ACTIVITY_MISFIT_EMPTY] = "says that far more is in use than it ever wrote",
		[ACTIVITY_MISFIT_FREE] = "touches far more than it says is not free",
	};

	return (uint32_t)fit < ACTIVITY_FIT_COUNT ? text[fit] : "?";
}
