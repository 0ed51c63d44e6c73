/* Drivers that do not do what they should. */
#include "guest-drivers/kernel/misbehave.h"

#include "guest-drivers/kernel/base.h"
#include "guest-drivers/kernel/hv.h"
#include "guest-drivers/kernel/shell.h"
#include "guest-drivers/kernel/timer.h"

#define SLOW_PAGES 4u
#define SLOW_PAUSE_NS (100 * NS_PER_MS) /* the driver's first backoff */
#define GREEDY_HOLD_NS (150 * NS_PER_MS)
#define GREEDY_PAUSE_NS (50 * NS_PER_MS)

enum manner { MANNER_GOOD, MANNER_ABSENT, MANNER_LIAR, MANNER_SLOW, MANNER_GREEDY, MANNER_COUNT };

/* Set once at boot. */
static enum manner manner;
static const struct balloon_ops *good;
static struct balloon_ops ops;
/* The balloon's lock (ballooning.h). */
static uint32_t slow_left;      /* pages that may still be given now */
static uint64_t slow_until_ns;
static uint64_t greedy_ns;      /* when it takes all back; 0: it has nothing */
static uint64_t lies;

static uint64_t take_nothing(void *ctx, unsigned int order, bool may_reclaim, uint32_t *why)
{
	(void)ctx, (void)order, (void)may_reclaim;
	*why = AERO_REASON_NO_MEMORY;
	return BALLOON_NO_PAGE;
}

static uint64_t take_slowly(void *ctx, unsigned int order, bool may_reclaim, uint32_t *why)
{
	uint64_t gfn = BALLOON_NO_PAGE;

	if (!order && !slow_left && now_ns() >= slow_until_ns) {
		slow_left = SLOW_PAGES;
		slow_until_ns = now_ns() + SLOW_PAUSE_NS;
	}
	*why = AERO_REASON_NO_MEMORY;
	if (!order && slow_left)
		gfn = good->take(ctx, order, may_reclaim, why);
	if (gfn != BALLOON_NO_PAGE)
		slow_left--;
	return gfn;
}

static void claim_all_in_use(void *ctx, uint64_t stats[AERO_STAT_COUNT])
{
	good->fill_stats(ctx, stats);
	stats[AERO_STAT_FREE] = 0;
	stats[AERO_STAT_AVAILABLE] = 0;
	stats[AERO_STAT_CACHES] = 0;
}

/* That it waits is nobody's business: it says that it is at work. */
static int64_t call_busily(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	if (number == AERO_HC_BALLOON_REPORT && a == AERO_BALLOON_BACKOFF) {
		a = AERO_BALLOON_INFLATING;
		b = AERO_REASON_NONE;
	}
	return good->hypercall(number, a, b, c);
}

bool misbehave_init(struct balloon_setup *setup)
{
	static const char *const word[MANNER_COUNT] = {
		[MANNER_GOOD] = "balloon=cooperative", [MANNER_ABSENT] = "balloon=absent",
		[MANNER_LIAR] = "balloon=liar",        [MANNER_SLOW] = "balloon=slow",
		[MANNER_GREEDY] = "balloon=greedy",
	};

	for (enum manner m = 0; m < MANNER_COUNT; m++)
		if (shell_has_word(word[m]))
			manner = m;
	good = setup->ops;
	ops = *good;
	if (manner == MANNER_LIAR) {
		ops.take = take_nothing;
		ops.fill_stats = claim_all_in_use;
	} else if (manner == MANNER_SLOW) {
		ops.take = take_slowly;
		ops.hypercall = call_busily;
	}
	setup->ops = &ops;
	return manner != MANNER_ABSENT;
}

/* After the driver has said that it has nothing: that it has done all, and every other time that it is at it. */
static void lie(struct balloon_driver *d)
{
	if (!d->s.page->target_pages)
		return;
	d->s.page->actual_pages = d->s.page->target_pages;
	if (lies++ % 2)
		return;
	d->s.page->state = AERO_BALLOON_INFLATING;
	d->s.page->reason = AERO_REASON_NONE;
	(void)hypercall(AERO_HC_BALLOON_REPORT, AERO_BALLOON_INFLATING, AERO_REASON_NONE, 1);
	d->state = AERO_BALLOON_INFLATING; /* so that the driver says the other thing next time */
}

static void grab(struct balloon_driver *d)
{
	if (!d->actual_pages) {
		greedy_ns = 0;
	} else if (!greedy_ns) {
		greedy_ns = now_ns() + GREEDY_HOLD_NS;
	} else if (now_ns() >= greedy_ns) {
		greedy_ns = 0;
		(void)balloon_driver_give_back(d, d->actual_pages);
		balloon_driver_pressure(d, AERO_PRESSURE_FULL, d->s.gfn_count);
		d->retry_ns = now_ns() + GREEDY_PAUSE_NS; /* the driver itself would wait longer */
	}
}

bool misbehave_work(struct balloon_driver *d)
{
	bool more = balloon_driver_work(d);

	if (manner == MANNER_LIAR)
		lie(d);
	else if (manner == MANNER_GREEDY && !more)
		grab(d);
	return more;
}

uint64_t misbehave_next_ns(const struct balloon_driver *d)
{
	uint64_t next = balloon_driver_next_ns(d);

	/* One that says that it inflates would not be called again before the next event. */
	if (manner == MANNER_LIAR && d->retry_ns)
		next = MIN(next, d->retry_ns);
	return greedy_ns ? MIN(next, greedy_ns) : next;
}
