/*
 * The hypervisor's side of one guest's balloon: the shared page, target and actual, what the driver
 * said, statistics stamped with the hypervisor's clock. Wire format: vmm/abi/aerostat.h.
 *
 * Locks: LOCK_RANK_BALLOON inside each call; calls into mm/p2m below it.
 */
#pragma once

#include "mm/p2m.h"
#include "vmm/abi/aerostat.h"

struct balloon {
	struct spinlock lock;
	struct p2m *p2m; /* constant */
	void (*notify)(void *ctx, uint32_t events); /* constant: raise AERO_EVENT_* in the guest */
	void *notify_ctx;
	/* guarded by lock */
	struct aero_balloon_page *page; /* pinned; NULL: no driver */
	gfn_t page_gfn;
	uint64_t target_pages;   /* in force: pages that should be in the balloon */
	uint64_t operator_pages; /* guest size set by mem-set, in pages of memory */
	uint64_t generation, stats_request;
	uint32_t state, reason;  /* last report; enum aero_balloon_* */
	uint64_t backoff_ns;     /* in BACKOFF since; 0: not in it */
	uint64_t progress_ns;    /* when a page last went into the balloon */
	uint64_t short_pages;
	uint64_t wanted_pages;   /* AERO_HC_PRESSURE, decays */
	uint32_t pressure;       /* enum aero_pressure */
	uint64_t pressure_ns;
	uint64_t stats[AERO_STAT_COUNT];
	uint64_t stats_ns;       /* hypervisor's clock when stats[] came in; 0: never */
	/* at that time, by the hypervisor's count: memory less balloon, and frames held */
	uint64_t stats_size_pages, stats_used_pages;
	uint64_t target_ns;      /* when target_pages last changed */
	uint64_t reached_ns;     /* when actual first met it; 0: not yet */
	uint64_t asked_ns;       /* when the target first moved after the driver's last call; 0: not since */
	bool dead;               /* the operator's: see balloon_set_dead() */
	bool silence_told;       /* balloon_first_silence() was true */
	/* After an urgent give-back the target stays at or below cap_pages until cap_ns, whoever sets
	 * it: else the next policy step would take back what saved a process. */
	uint64_t cap_pages, cap_ns;
	uint64_t spare_pages; /* the policy's: what pressure may be granted before its next step */
	/* counters */
	uint64_t inflate_ticks; /* the caller's: time in calls that inflate */
	uint64_t inflate_pages, inflate_2m, deflate_pages, deflate_urgent_pages, refused_ranges;
	uint64_t report_count, backoff_count, stats_count, pressure_count;
};

void balloon_init(struct balloon *b, struct p2m *p2m,
	void (*notify)(void *ctx, uint32_t events), void *ctx);
void balloon_fini(struct balloon *b); /* before p2m_destroy() */

static inline uint64_t balloon_actual_pages(const struct balloon *b)
{
	return b->p2m->pages[P2M_BALLOONED];
}

#define BALLOON_CAP_NS 10000000000ull /* how long an urgent give-back binds */

/*
 * The target in force from now on, clipped so that the guest keeps its account's min, and to the cap
 * of an urgent give-back. Publishes it in the page and notifies if it moved. `spare_pages`: how far
 * AERO_HC_PRESSURE may lower it on its own until the next call.
 */
void balloon_set_target(struct balloon *b, uint64_t target_pages, uint64_t spare_pages,
	uint64_t now_ns);
/*
 * mem-set: the guest's size in pages. Recorded; the next step of the policy sets the target (it may
 * set a higher one when the pool is short). Returns what was recorded: at least the account's min,
 * at most memory.
 */
uint64_t balloon_set_operator(struct balloon *b, uint64_t size_pages);

/* Asks for fresh statistics; they arrive as AERO_HC_STATS_REPORT. */
void balloon_request_stats(struct balloon *b);

/*
 * Fault injection: from now on the driver hears of nothing (no event, and its page stays as it is), and its calls
 * fail with -AERO_EIO and change nothing; but it may take pages back, and begin anew. false: it hears again.
 */
void balloon_set_dead(struct balloon *b, bool dead);
/* A driver is there, its target moved `patience_ns` ago or earlier, and it has not called since. No lock: a hint. */
bool balloon_is_silent(const struct balloon *b, uint64_t patience_ns, uint64_t now_ns);
/* The same, once for each driver: for the log. */
bool balloon_first_silence(struct balloon *b, uint64_t patience_ns, uint64_t now_ns);

/* The hypercalls, after the arguments were copied in and bounds-checked. Return >= 0 or -AERO_E*. */
int64_t balloon_hc_setup(struct balloon *b, gpa_t page, uint64_t flags, uint64_t now_ns);
int64_t balloon_hc_ranges(struct balloon *b, bool inflate, struct aero_range *ranges,
	uint32_t count, uint64_t flags, uint64_t now_ns); /* fills done and status of each */
int64_t balloon_hc_report(struct balloon *b, uint64_t state, uint64_t reason, uint64_t short_pages,
	uint64_t now_ns);
int64_t balloon_hc_stats(struct balloon *b, uint64_t request, uint64_t now_ns);
int64_t balloon_hc_pressure(struct balloon *b, uint64_t level, uint64_t pages, uint64_t now_ns);

const char *balloon_state_name(uint32_t state);
const char *balloon_reason_text(uint32_t reason); /* a phrase for people */
