/* Pure. See mm/share_rate.h. */
#include "mm/share_rate.h"

#define SECOND_NS   1000000000ull
#define PPM         1000000u
#define SPENT_MAX   1000000000000ull /* of one step: 1000 s */
#define CREDIT_MAX  (1ll << 60)

void share_rate_init(struct share_rate *r, uint32_t budget_ppm, uint64_t pages, uint64_t now_ns)
{
	*r = (struct share_rate){
		.budget_ppm = MIN(budget_ppm, PPM),
		.rate = SHARE_RATE_FIRST,
		.first_pass = pages,
		.last_ns = now_ns,
	};
}

void share_rate_more(struct share_rate *r, uint64_t pages)
{
	r->first_pass = pages > UINT64_MAX - r->first_pass ? UINT64_MAX : r->first_pass + pages;
	r->rate = MAX(r->rate, SHARE_RATE_FIRST);
}

static uint64_t cost_of(const struct share_rate *r, uint64_t pages)
{
	return r->page_ns * pages / 16;
}

uint32_t share_rate_due(struct share_rate *r, uint64_t now_ns)
{
	uint64_t passed = now_ns > r->last_ns ? now_ns - r->last_ns : 0;
	uint64_t most = SHARE_RATE_STEP * SECOND_NS;

	if (r->budget_ppm == 0)
		return 0;
	r->last_ns += passed;
	/* Neither pages nor cost are saved up beyond one step's. */
	r->due = MIN(most, r->due + MIN(passed, SECOND_NS * SHARE_RATE_STEP) * r->rate);
	r->credit_ns = MIN((int64_t)cost_of(r, SHARE_RATE_STEP),
		r->credit_ns + (int64_t)(passed / PPM * r->budget_ppm + passed % PPM * r->budget_ppm / PPM));
	if (r->credit_ns < 0)
		return 0;
	uint64_t pages = r->due / SECOND_NS;

	if (r->page_ns)
		pages = MIN(pages, (uint64_t)r->credit_ns * 16 / r->page_ns);
	return (uint32_t)pages;
}

/* A batch is complete: what was it good for? */
static void adapt(struct share_rate *r)
{
	uint64_t yield = (uint64_t)r->batch_gained * 1000 / r->batch_scanned;

	if (yield >= SHARE_RATE_YIELD_HIGH)
		r->rate = MIN(r->rate * 2, SHARE_RATE_MAX);
	else if (yield < SHARE_RATE_YIELD_LOW && r->first_pass == 0)
		r->rate = MAX(r->rate - r->rate / 4, SHARE_RATE_MIN);
	r->batch_scanned = r->batch_gained = 0;
}

void share_rate_done(struct share_rate *r, uint32_t scanned, uint32_t gained, uint64_t spent_ns)
{
	uint64_t spent = MIN(spent_ns, SPENT_MAX);

	r->credit_ns = MAX(r->credit_ns - (int64_t)spent, -CREDIT_MAX);
	r->spent_ns += spent;
	if (scanned == 0)
		return;
	scanned = MIN(scanned, SHARE_RATE_STEP);
	gained = MIN(gained, scanned);
	uint64_t page = spent * 16 / scanned;

	/* Dearer is believed at once, cheaper by and by. */
	r->page_ns = page > r->page_ns ? page : r->page_ns - (r->page_ns - page) / 8;
	r->due -= MIN(r->due, scanned * SECOND_NS);
	r->first_pass -= MIN(r->first_pass, scanned);
	r->scanned += scanned;
	r->gained += gained;
	r->batch_scanned += scanned;
	r->batch_gained += gained;
	if (r->batch_scanned >= SHARE_RATE_BATCH)
		adapt(r);
}
