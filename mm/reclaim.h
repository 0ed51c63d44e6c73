/*
 * One guest's pages by the lower rungs of the ladder: zero pages, sharing, compression, swap. docs/reclaim.md.
 * Bounded steps; never waits and never needs memory: a page that cannot go now stays.
 * Owner of everything here: the control plane's CPU.
 */
#pragma once

#include "mm/merge.h"

enum reclaim_rung {
	RECLAIM_ZERO,     /* the page was all zero */
	RECLAIM_DROP,     /* its guest's own disk has it: mm/alias.h */
	RECLAIM_SHARE,    /* equal to another */
	RECLAIM_COMPRESS,
	RECLAIM_SWAP,
	RECLAIM_RUNGS
};
const char *reclaim_rung_name(enum reclaim_rung r); /* "zero", "drop", "share", "compress", "swap" */

#define RECLAIM_HELD_MAX 256u /* pages of a guest that lie held at a time */
#define RECLAIM_STEP     16u  /* pages that one step settles at most */

/* What a rung gave and took since boot, of one guest or of all. */
struct reclaim_counts {
	uint64_t pages[RECLAIM_RUNGS];
	uint64_t ticks[RECLAIM_RUNGS];
	uint64_t held, wanted_back; /* pages held; of these touched before they were settled */
	uint64_t split;             /* 2 MiB leaves broken for it */
};

/* Of one guest; zero is a good start but for `seed`. */
struct reclaim {
	uint64_t seed; /* of the choice of victims; not 0 */
	uint64_t hand; /* gfn where it looks next */
	uint64_t vain; /* pages that it has looked at since it last found one to hold */
	struct evict_page held[RECLAIM_HELD_MAX]; /* a ring, oldest first */
	uint64_t since[RECLAIM_HELD_MAX];         /* the clock when each was held */
	uint32_t first, count;
	uint64_t pause_until; /* nothing found room: not tried before this time of the clock */
	uint32_t pauses;      /* in a row */
	struct reclaim_counts n;
};

/* Why a step gave less than was asked for. */
enum reclaim_limit {
	RECLAIM_NOTHING, /* nothing stands in its way */
	RECLAIM_RESTING, /* pages are held and have not lain for long enough */
	RECLAIM_BUSY,    /* swap buffers are on their way to the disk */
	RECLAIM_FULL,    /* neither the compressed store nor swap has room, or there is no swap */
	RECLAIM_PINNED,  /* nothing was found that could go */
};

struct reclaim_order {
	uint64_t pages;      /* wanted */
	uint64_t now;        /* of `clock` */
	uint64_t rest_ticks; /* pages lie held for so long before they go; 0: at once */
	bool drop, compress, swap; /* allowed */
	uint64_t (*clock)(void); /* ticks */
	/* a step that found room for a page ends after so long: others wait for this CPU; 0: no bound */
	uint64_t most_ticks;
	merge_p2m_fn p2m_of;     /* for sharing, as far as the guest's p2m allows it; NULL: none */
};

/* A step: at most RECLAIM_STEP pages. *freed gets how many frames came free. */
enum reclaim_limit reclaim_step(
	struct reclaim *r, struct p2m *p, const struct reclaim_order *o, uint32_t *freed);

/* Those that are still held are mapped again: nothing is wanted of the guest any more. */
void reclaim_let_go(struct reclaim *r, struct p2m *p);

/*
 * Makes room in the compressed store: its coldest objects, at most `pages`, go to swap. `p2m_of` gives an
 * owner's p2m (NULL: gone). Returns how many went.
 */
uint32_t reclaim_write_back(uint32_t pages, struct p2m *(*p2m_of)(uint16_t owner));

/* Of all guests. */
extern struct reclaim_counts reclaim_total;
