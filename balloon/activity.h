/*
 * Pure. How much of its memory one guest really uses: an estimate by sampling, after Waldspurger,
 * "Memory Resource Management in VMware ESX Server" (OSDI'02), section 5.3.
 *
 * A round: a random sample of n of the guest's pages is made such that the next access is noticed
 * (accessed bits cleared, or mappings invalidated); one window of time later t of them have been
 * touched, and t / n estimates the active fraction. Three views of it are kept: a slow and a fast
 * exponentially weighted moving average over the rounds, and the fast one as it would be if the
 * round under way ended now (a touched page is never untouched again, so that it can only rise).
 * The estimate is the largest of the three: it rises at once and falls slowly.
 *
 * The window is always as long as configured, for a longer one would see more pages touched by the
 * same guest; what adapts to the cost is the time between two rounds, and then the sample's size.
 * All that was spent is at most `budget_ppm` of all the time that passed, and one round beyond.
 *
 * Time and cost are in nanoseconds of the hypervisor's clock. No locks: one owner (the control plane).
 */
#pragma once

#include "vmm/base/types.h"

#define ACTIVITY_SAMPLE_MIN  16u
#define ACTIVITY_SAMPLE_MAX  100u        /* ESX's: standard error at most 5% of memory */
#define ACTIVITY_WINDOW_NS   2000000000ull
#define ACTIVITY_INTERVAL_NS 30000000000ull /* rather a smaller sample than rounds further apart */
#define ACTIVITY_BUDGET_PPM  10000u      /* 1% of the time, for all guests together */

struct activity_config {
	uint64_t window_ns;   /* at least 1 ms; 0: ACTIVITY_WINDOW_NS */
	uint32_t budget_ppm;  /* this guest's part of the time; 0: it is never sampled */
};

enum activity_confidence {
	ACTIVITY_UNKNOWN, /* too few rounds: the estimate is "all of it" */
	ACTIVITY_ROUGH,   /* the slow average has not settled */
	ACTIVITY_GOOD,
};

/*
 * What the guest says of itself, beside what the hypervisor counts. MISFIT_EMPTY and _FREE are
 * claims that cannot be true; IDLE may be a guest that hoards as well as one that is honestly idle:
 * in both cases its claim is no reason to leave it the memory.
 */
enum activity_fit {
	ACTIVITY_FIT_UNKNOWN, /* no statistics, or no estimate */
	ACTIVITY_FITS,
	ACTIVITY_IDLE,         /* says that far more is in use than it touches */
	ACTIVITY_MISFIT_EMPTY, /* says that far more is in use than it ever wrote */
	ACTIVITY_MISFIT_FREE,  /* touches far more than it says is not free */
	ACTIVITY_FIT_COUNT
};

struct activity {
	/* constant after activity_init() but by activity_set_budget() */
	uint64_t window_ns;
	uint32_t budget_ppm;
	/* the sample */
	uint64_t random;     /* the generator's state, never 0 */
	bool sampling;       /* between begin and end */
	uint32_t sample;     /* pages in this round, or in the next */
	uint64_t due_ns;     /* when it ends, or when the next begins */
	uint64_t began_ns;   /* this round, or the last one */
	/* the averages, in 1 / ACTIVITY_ONE */
	uint32_t slow, fast, current;
	uint32_t rounds;     /* that counted; saturates */
	/* the cost */
	uint64_t settled_ns; /* up to when time has been credited */
	int64_t credit_ns;   /* of cost that may still be had */
	uint64_t page_ns;    /* cost of one sampled page, smoothed, times 16 */
	uint64_t spent_ns;   /* in all */
	/* the cross-check: how often each misfit was seen, less how often not */
	uint8_t seen[ACTIVITY_FIT_COUNT];
	enum activity_fit fit;
};

#define ACTIVITY_ONE 1024000u /* the fraction 1: permille, with ten bits below it */

/* What a round found. */
struct activity_round {
	uint32_t sampled;  /* pages that were watched to the end; 0: the round does not count */
	uint32_t touched;  /* of these */
	uint64_t spent_ns; /* by all that the round needed, faults that it caused included */
};

/* What there is to compare with. The first two are the guest's words, the others our own counts. */
struct activity_claim {
	uint64_t free_pages;      /* it says: neither used nor cache */
	uint64_t available_pages; /* it says: free, or could be at once */
	uint64_t size_pages;      /* its memory less its balloon */
	uint64_t written_pages;   /* of these not EMPTY: in RAM, shared, compressed or on disk */
};

/* `seed`: any; guests get different ones, and none that they could guess. */
void activity_init(struct activity *a, const struct activity_config *c, uint64_t seed, uint64_t now_ns);
/* Mixes in what the guest cannot know, such as the clock of a moment ago. */
void activity_stir(struct activity *a, uint64_t entropy);
/* Another guest came or went: this one's part of the budget is now another. */
void activity_set_budget(struct activity *a, uint32_t budget_ppm, uint64_t now_ns);

/* activity_begin() (or, if a.sampling, activity_end()) is due. When: a->due_ns; UINT64_MAX: never. */
static inline bool activity_is_due(const struct activity *a, uint64_t now_ns)
{
	return now_ns >= a->due_ns;
}
/* Begins a round; how many pages to watch. */
uint32_t activity_begin(struct activity *a, uint64_t now_ns);
/* A page to watch: evenly random in [0, pages); pages > 0. A round may name a page twice. */
uint64_t activity_pick(struct activity *a, uint64_t pages);
/* Within a round: what it would find if it ended now. Raises the estimate, never lowers it. */
void activity_progress(struct activity *a, uint32_t sampled, uint32_t touched);
void activity_end(struct activity *a, const struct activity_round *round, uint64_t now_ns);

/* The active fraction in permille; 1000 as long as nothing is known. */
uint32_t activity_permille(const struct activity *a);
/* The same of `pages`, which is what the sample was drawn from. Rounded up. */
uint64_t activity_pages(const struct activity *a, uint64_t pages);
enum activity_confidence activity_confidence(const struct activity *a);

/*
 * Once after each round for which fresh statistics are at hand: compares. A misfit has to be seen in
 * ACTIVITY_MISFIT_ROUNDS rounds more than not before it is held against the guest, and as often not
 * before that is forgotten. Returns the verdict in force (also a->fit).
 */
#define ACTIVITY_MISFIT_ROUNDS 4u
enum activity_fit activity_check(struct activity *a, const struct activity_claim *claim);
/* The claim cannot be true, whatever the guest does. */
static inline bool activity_is_lie(enum activity_fit fit)
{
	return fit == ACTIVITY_MISFIT_EMPTY || fit == ACTIVITY_MISFIT_FREE;
}

const char *activity_confidence_name(enum activity_confidence c);
const char *activity_fit_text(enum activity_fit fit); /* a phrase for people */
